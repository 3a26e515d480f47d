"""Fuzzing: every body ends recorded or dead-lettered, whatever it contains."""
