"""Failures of other queue consumers that must not occur here."""
