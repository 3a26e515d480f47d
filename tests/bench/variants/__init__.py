"""Comparison of the worker with simpler implementations on any server."""
