"""What went wrong in other consumers of queues, and must not here."""
