"""Install a lock file with pip, showing progress on a terminal: `install.py LOCK`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

_PACKAGE = re.compile(r"^[\w.-]+(\[[\w,-]+\])?==", re.MULTILINE)
# What pip prints for each line of a lock file.
_DONE = re.compile(r"^(?:Collecting|Requirement already satisfied:|Ignoring) ([\w.-]+)")
_OPTIONS = ("--disable-pip-version-check", "--no-color", "install", "--progress-bar", "off")
_LINES_SHOWN_MAX = 40


def install(lock: Path) -> int:
    """Install the packages of a lock file, and return the exit code of pip."""
    total = len(_PACKAGE.findall(lock.read_text(encoding="utf-8")))
    started_at = time.monotonic()
    _print(f"installing {total} packages from {lock}")
    # A lock is complete, and may override what a package pins.
    options = ("--require-hashes", "--no-deps", "-r", str(lock))
    command = (sys.executable, "-m", "pip", *_OPTIONS, *options)
    last: deque[str] = deque(maxlen=_LINES_SHOWN_MAX)
    with subprocess.Popen(  # noqa: S603 - pip of this interpreter
        command,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as pip:
        assert pip.stdout is not None  # noqa: S101 - a pipe
        for text in _steps(pip.stdout, total, last):
            _show(f"{text}, {time.monotonic() - started_at:.0f} s")
    _show("")
    if pip.returncode:
        sys.stderr.write("".join(last))
    else:
        _print(f"installed in {time.monotonic() - started_at:.0f} s")
    return pip.returncode


def _steps(lines: Iterator[str], total: int, last: deque[str]) -> Iterator[str]:
    """Yield what pip does, and keep its last lines for a failure."""
    count = 0
    for line in lines:
        last.append(line)
        found = _DONE.match(line)
        if found:
            count += 1
            yield f"  {min(count, total)} of {total}: {found[1]}"
        elif line.startswith("Installing collected packages"):
            yield f"  {total} of {total}: unpacking"


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _show(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


if __name__ == "__main__":
    try:
        sys.exit(install(Path(sys.argv[1])))
    except KeyboardInterrupt:
        sys.exit("interrupted; run it again to continue")
