"""What the verbs for dead letters draw, and how they look through the queue."""
