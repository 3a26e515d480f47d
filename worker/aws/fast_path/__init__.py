"""Signed fast path: the calls that every message needs, without the overhead of the SDK."""
