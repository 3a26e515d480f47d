"""Verbs for dead letters: scans, reports and dry runs."""
