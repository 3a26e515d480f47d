"""Demonstration of the complete workflow on an embedded AWS, with the real service."""
