"""Run the commands of a Python program in forks of a process that has already imported it.

Run as a script: `python fork_server.py SOCKET MODULE:FUNCTION [MODULE…] [-MODULE…]` imports modules
and listens on a Unix socket. A client sends its arguments, environment, directory and standard
streams; the fork has them and calls the function. It imports modules after a `-` again, because
these read the environment. This file imports only the standard library, because programs have
environments of their own.
"""

import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

_SIZE_BYTES = 8
_STREAMS = 3


def client(interpreter: str, address: Path) -> str:
    """Return the text of a program that has the command run, and exits like it.

    Args:
        interpreter: Path of Python.
        address: Path of the socket.
    """
    return f"""#!{interpreter} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({str(address)!r})
    request = json.dumps([sys.argv, dict(os.environ), os.getcwd()]).encode()
    socket.send_fds(server, [len(request).to_bytes({_SIZE_BYTES}, "big")], range({_STREAMS}))
    server.sendall(request)
    code = server.recv(1)
sys.exit(code[0] if code else "the fork server has exited")
"""


def main() -> None:
    """Import the program, and run it in a fork for every connection."""
    address, function, *modules = sys.argv[1:]
    before = dict(os.environ)
    for name in modules:
        import_module(name.removeprefix("-"))
    start = getattr(import_module(function.partition(":")[0]), function.partition(":")[2])
    added = dict(os.environ.items() - before.items())  # by the import
    for name in modules:
        if name.startswith("-"):
            del sys.modules[name.removeprefix("-")]
    gc.freeze()  # a collection in a fork would copy all memory that it shares
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forks exit without being waited for
        while True:
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    listener.close()
                    sys.exit(_serve(connection, start, added))


def _serve(
    connection: socket.socket, start: Callable[[], str | int | None], added: dict[str, str]
) -> str | int | None:
    """Send the exit code of a fork of this process, or be this fork and return it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(connection, _SIZE_BYTES, _STREAMS)
    with connection.makefile("rb") as received:
        request = received.read(int.from_bytes(size, "big"))
    child = os.fork()
    if child == 0:
        connection.close()
        _become(streams, *json.loads(request))
        os.environ.update(added)
        return start()
    for each in streams:
        os.close(each)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connection.sendall(bytes([code if code >= 0 else 128 - code]))
    os._exit(0)


def _become(
    streams: list[int], arguments: list[str], environment: dict[str, str], directory: str
) -> None:
    for descriptor, stream in enumerate(streams):
        os.dup2(stream, descriptor)
        os.close(stream)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as Python opens it
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as Python opens it
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as Python opens it
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments


if __name__ == "__main__":
    main()
