"""From a received message to its settlement, stage by stage."""
