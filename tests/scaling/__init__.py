"""Simulation of the scaling policy on a model of the service, with results and a chart."""
