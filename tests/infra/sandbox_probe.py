"""Try what the unit must not allow, in the worker's place; JSON on stdout."""

import ctypes
import json
import mmap
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

_CLONE_NEWUSER = 0x10000000


def _refused(attempt: Callable[[], object]) -> str:
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


def _run_what_was_written() -> None:
    program = Path("/tmp/program")  # noqa: S108 - of the sandbox alone
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    subprocess.run([program], check=True)  # noqa: S603


def _see_others() -> None:
    others = [each for each in Path("/proc").iterdir() if each.name.isdecimal()]
    if {int(each.name) for each in others} == {os.getpid()}:
        raise OSError(0, "sees itself alone")


def _status(name: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def _expect(name: str, wanted: str) -> str:
    found = _status(name)
    return found if found == wanted else "allowed"


def main() -> None:
    """Report what each attempt met: "allowed", or why it was refused."""
    keys = Path(os.environ["AWS_SHARED_CREDENTIALS_FILE"])
    found: dict[str, object] = {
        f"write {path}": _refused((Path(path) / "written").touch)
        for path in ("/", "/etc", "/usr", "/var", "/opt/aup-worker", "/mnt", str(keys.parent))
    }
    found |= {
        "read settings": _refused(Path("/etc/aup-worker/aup-worker.env").read_text),
        "read keys at their place": _refused(
            Path("/etc/credstore/aup-worker.aws-credentials").read_text
        ),
        "become root": _refused(lambda: os.setuid(0)),
        "talk to the kernel": _refused(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
        "send raw packets": _refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW)),
        "memory to write and run": _refused(
            lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        ),
        "run what was written": _refused(_run_what_was_written),
        "see other processes": _refused(_see_others),
        "be urgent": _refused(lambda: os.nice(-5)),
        "new privileges": _expect("NoNewPrivs", "1"),
        "any system call": _expect("Seccomp", "2"),
        "capabilities": _expect("CapBnd", "0" * 16),
        "uid": os.getuid(),
        "keys": keys.read_text(),
        # Last, for where it is allowed nothing is as it was.
        "make a namespace": _refused(lambda: _libc("unshare", _CLONE_NEWUSER)),
    }
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
