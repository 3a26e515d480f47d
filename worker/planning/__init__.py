"""Estimates of tasks, quotas and cost for a message rate."""
