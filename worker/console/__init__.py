"""Web console for dead letters, evidence and health."""
