"""Check the set-up before the service does, and say what to mend."""
