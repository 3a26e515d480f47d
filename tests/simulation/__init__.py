"""Simulation of the worker on a virtual clock, against simulated services that inject faults."""
