"""What the worker costs, against plainer ways to do the same work."""
