"""A fast stub of AWS for benchmarks; not a test double."""
