"""A temporary host: an overlay over the root of this machine, with its own systemd.

`AUP_HOST_ROOT` selects another root, such as one that debootstrap created from another Debian. It
needs systemd, python3-venv and the certificates of this machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

ROOT: Final = Path(__file__).parents[2]
CLONE: Final = "/mnt/clone"
_BOOT: Final = Path(__file__).with_name("boot.sh")
_DIE_WITH_PARENT: Final = ROOT / "tests" / "servers" / "die_with_parent.py"
_SYSTEMD: Final = Path("/lib/systemd/systemd")
_CGROUPS: Final = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))  # hybrid and unified
_PYTHON: Final = (
    "/usr/bin/python3",
    "-c",
    "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))",
)
_BOOT_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.05
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT_VARIABLES: Final = ("PIP_",)


def reason_unavailable() -> str | None:
    """Return why this machine cannot boot a host, or None if it can."""
    if os.geteuid() != 0:
        return "a host needs root"
    if not _SYSTEMD.exists() or not Path(_PYTHON[0]).exists():
        return "a host needs systemd and Python (Debian: apt-get install systemd python3-venv)"
    if missing := [each for each in ("unshare", "nsenter") if not shutil.which(each)]:
        return f"a host needs {missing[0]} (Debian: apt-get install util-linux)"
    if subprocess.run(_PYTHON, capture_output=True, check=False).returncode:  # noqa: S603
        return "a host needs Python 3.11 with venv (Debian: apt-get install python3-venv)"
    unshare = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "true"]
    if subprocess.run(unshare, capture_output=True, check=False).returncode:  # noqa: S603
        return "a host needs namespaces, which the kernel does not allow here"
    return None


def wait_until(reached: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Wait for a condition under a deadline."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(_PAUSE_SECONDS)


class Host:
    """A booted host; it shares only the network with this machine."""

    def __init__(self, init: int) -> None:
        self._init = init

    def run(
        self, *command: str, stdin: str = "", source: IO[bytes] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the host as root, and wait for it to exit.

        Args:
            command: The program and its arguments.
            stdin: Text for its stdin.
            source: Open file for its stdin, instead of a text.
            check: Whether it must succeed.
        """
        environment = {"PATH": _PATH, "LANG": "C.UTF-8"} | {
            name: text for name, text in os.environ.items() if name.startswith(_KEPT_VARIABLES)
        }
        enter = ["nsenter", "--target", str(self._init)]
        enter += ["--mount", "--pid", "--uts", "--ipc", "--cgroup", "--root", "--wd"]
        done = subprocess.run(  # noqa: S603 - the commands are those of the tests
            [*enter, *command],
            env=environment,
            **({"input": stdin} if source is None else {"stdin": source}),
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def shell(self, script: str) -> str:
        """Run a shell script, which exits at the first command that fails."""
        return self.run("sh", "-eu", "-c", script).stdout

    def write(self, path: str, text: str) -> None:
        """Write a file."""
        self.run("tee", path, stdin=text)

    def show(self, unit: str, what: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--property", what, "--value", unit).stdout.strip()


@contextmanager
def booted() -> Iterator[Host]:
    """Boot a host, and remove it at the end of the block."""
    group = _own_cgroup()
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile() as output:
        # The host is killed when this process exits.
        prefix = [sys.executable, "-I", "-S", str(_DIE_WITH_PARENT), str(os.getpid())]
        command = [*prefix, "sh", str(_BOOT), scratch, str(ROOT), str(group)]
        process = subprocess.Popen(  # noqa: S603 - our own script
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield _wait_for_boot(process)
        except AssertionError:
            output.seek(0)
            print(output.read().decode(errors="replace"))  # noqa: T201 - pytest shows it
            raise
        finally:
            process.kill()
            process.wait()
            _remove(group)


def _own_cgroup() -> Path:
    """Create a control group for the host, so that its systemd manages no other group."""
    group = next(each for each in _CGROUPS if (each / "cgroup.procs").exists())
    own = group / f"aup-host-{os.getpid()}"
    own.mkdir(exist_ok=True)
    return own


def _remove(group: Path) -> None:
    def removed() -> bool:
        for each in [*sorted(group.rglob("*/"), reverse=True), group]:
            with suppress(OSError):
                each.rmdir()
        return not group.exists()

    wait_until(removed, "all processes of the host have exited")


def _wait_for_boot(process: subprocess.Popen[bytes]) -> Host:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

    def is_booted() -> bool:
        assert process.poll() is None, "the host exited before it had booted"
        init = children.read_text().split()
        if not init or Path(f"/proc/{init[0]}/comm").read_text() != "systemd\n":
            return False
        state = Host(int(init[0])).run("systemctl", "is-system-running", check=False)
        return state.stdout.strip() in {"running", "degraded"}

    wait_until(is_booted, "systemd is up", _BOOT_SECONDS)
    return Host(int(children.read_text().split()[0]))
