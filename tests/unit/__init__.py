"""One file a module; no servers, no waiting."""
