"""Break the worker on purpose, one fault at a time, and see a test notice each."""
