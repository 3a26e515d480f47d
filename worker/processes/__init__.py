"""The service in several processes: a parent without AWS clients, and children that process."""
