"""Checks of the configuration: before the service starts, and on request (`doctor`)."""
