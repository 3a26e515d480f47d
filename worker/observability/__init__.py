"""Monitoring of the service: endpoints, metrics, traces, systemd and ECS."""
