"""Ports for servers that cannot choose their own."""

import random
import socket

# Below the range of outgoing connections on Linux and macOS, so that the client of another test
# cannot use the port while its server is starting.
_FIRST, _LAST = 20_000, 32_000
_ATTEMPTS = 100

# A separate generator, because test plugins seed the shared one equally in every process.
_chance = random.SystemRandom()


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on."""
    for _ in range(_ATTEMPTS):
        port = _chance.randint(_FIRST, _LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port found in {_ATTEMPTS} attempts")
