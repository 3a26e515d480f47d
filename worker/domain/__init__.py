"""Domain models and data formats, without I/O."""
