"""The real service on real servers; results are read back without the worker's code."""
