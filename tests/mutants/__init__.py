"""Mutation tests: deliberate faults in the worker, each of which must make a test fail."""
