"""Tasks of operators outside the running service."""
