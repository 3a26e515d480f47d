"""The state of queues and workers, for operators."""
