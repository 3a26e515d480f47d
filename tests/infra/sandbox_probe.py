"""Probe that attempts, in place of the worker, what the unit must deny; prints JSON."""

import ctypes
import json
import mmap
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

_CLONE_NEWUSER = 0x10000000


def _attempt(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return error.strerror or str(error)
    return "allowed"


def _libc(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _run_written_program() -> None:
    program = Path("/tmp/program")  # noqa: S108 - of the sandbox alone
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    subprocess.run([program], check=True)  # noqa: S603


def _list_other_processes() -> None:
    others = [each for each in Path("/proc").iterdir() if each.name.isdecimal()]
    if {int(each.name) for each in others} == {os.getpid()}:
        raise OSError(0, "only this process is visible")


def _status(name: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def _expect_status(name: str, wanted: str) -> str:
    found = _status(name)
    return found if found == wanted else "allowed"


def main() -> None:
    """Print the result of each attempt: "allowed", or why it was denied."""
    keys = Path(os.environ["AWS_SHARED_CREDENTIALS_FILE"])
    found: dict[str, object] = {
        f"write {path}": _attempt((Path(path) / "written").touch)
        for path in ("/", "/etc", "/usr", "/var", "/opt/aup-worker", "/mnt", str(keys.parent))
    }
    found |= {
        "read settings": _attempt(Path("/etc/aup-worker/aup-worker.env").read_text),
        "read the stored keys": _attempt(
            Path("/etc/credstore/aup-worker.aws-credentials").read_text
        ),
        "become root": _attempt(lambda: os.setuid(0)),
        "open a netlink socket": _attempt(
            lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
        ),
        "send raw packets": _attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW)),
        "map writable and executable memory": _attempt(
            lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        ),
        "run a written program": _attempt(_run_written_program),
        "see other processes": _attempt(_list_other_processes),
        "raise the priority": _attempt(lambda: os.nice(-5)),
        "new privileges": _expect_status("NoNewPrivs", "1"),
        "any system call": _expect_status("Seccomp", "2"),
        "capabilities": _expect_status("CapBnd", "0" * 16),
        "uid": os.getuid(),
        "keys": keys.read_text(),
        # Last, because it changes everything else where it is allowed.
        "create a namespace": _attempt(lambda: _libc("unshare", _CLONE_NEWUSER)),
    }
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
