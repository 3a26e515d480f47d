"""The guided run: the whole job on an embedded AWS, with the service that `run` runs."""
