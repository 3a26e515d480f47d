"""Run the real service on real connections against real servers, and read back past it."""
