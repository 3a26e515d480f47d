"""Pick ports for servers that cannot pick their own."""

import random
import socket

# Below the range that Linux and macOS give to outgoing connections: a client of another test
# cannot take the port while its server is still starting.
_FIRST, _LAST = 20_000, 32_000
_ATTEMPTS = 100

# Its own source of chance: test plugins seed the shared one, alike in every worker.
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
