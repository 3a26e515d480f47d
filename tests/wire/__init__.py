"""Comparison of the signed fast path with the SDK: requests, responses and errors."""
