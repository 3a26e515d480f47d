"""Fault injection between the worker and AWS by a proxy, and tests under these faults."""
