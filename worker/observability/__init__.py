"""What shows the service to those who operate it: endpoints, metrics, supervisors."""
