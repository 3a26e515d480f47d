"""Run the worker on a virtual clock, against simulated services that fail on purpose."""
