"""Send the worker what nobody should send, and see every body end where it belongs."""
