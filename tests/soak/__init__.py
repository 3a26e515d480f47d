"""Soak test: workers are killed for minutes on failing servers, then every message is checked."""
