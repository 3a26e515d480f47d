"""Verification, export, coverage and erasure of recorded acceptances."""
