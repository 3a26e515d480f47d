"""An AWS that only has to be fast: a load source for measuring, and no test double."""
