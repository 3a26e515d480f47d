"""What the records prove: checked, shown, counted, and kept when private values go."""
