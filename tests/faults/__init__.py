"""A proxy that lets AWS fail, and what must hold while it does."""
