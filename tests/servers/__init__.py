"""Run the real local servers that tests talk to."""
