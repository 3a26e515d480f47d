"""Status of queues and workers for operators."""
