"""Dead letters: looked at, kept in files, mended, sent back, deleted."""
