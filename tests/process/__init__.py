"""The installed command in processes of its own."""
