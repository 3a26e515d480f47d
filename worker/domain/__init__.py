"""Facts and formats, without input or output."""
