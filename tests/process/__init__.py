"""Tests of the installed command in its own processes."""
