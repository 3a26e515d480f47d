"""From a message on the queue to a settled delivery, stage by stage."""
