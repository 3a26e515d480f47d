"""Install a lock file: `install.py LOCK [UV]`, with progress on a terminal.

`UV` is the path of uv, which takes a tenth of the processor time of pip. Without it, or if it
fails, pip installs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

_PACKAGE = re.compile(r"^[\w.-]+(\[[\w,-]+\])?==", re.MULTILINE)
# What pip prints for each line of a lock file.
_DONE = re.compile(r"^(?:Collecting|Requirement already satisfied:|Ignoring) ([\w.-]+)")
_PIP_OPTIONS = ("--disable-pip-version-check", "--no-color", "install", "--progress-bar", "off")
_UV_OPTIONS = ("pip", "install", "--quiet", "--python", sys.executable)
# Variables of uv, and those of pip that they default to here.
_SETTINGS = (("UV_DEFAULT_INDEX", "PIP_INDEX_URL"), ("SSL_CERT_FILE", "PIP_CERT"))
_LINES_SHOWN_MAX = 40


def install(lock: Path, uv: Path | None = None) -> int:
    """Install the packages of a lock file, and return the exit code of pip or uv."""
    total = len(_PACKAGE.findall(lock.read_text(encoding="utf-8")))
    started_at = time.monotonic()
    _print(f"installing {total} packages from {lock}")
    # A lock is complete, and may override what a package pins.
    options = ("--require-hashes", "--no-deps", "-r", str(lock))
    code = 1
    if uv and uv.is_file():
        code = _run_uv((str(uv), *_UV_OPTIONS, *options), started_at)
    if code:
        code = _run_pip(options, total, started_at)
    if not code:
        _print(f"installed in {time.monotonic() - started_at:.0f} s")
    return code


def _run_uv(command: tuple[str, ...], started_at: float) -> int:
    """Run uv, and print its output if it fails."""
    settings = {ours: os.environ[of_pip] for ours, of_pip in _SETTINGS if of_pip in os.environ}
    with subprocess.Popen(  # noqa: S603 - uv that the Makefile installed
        command,
        env=settings | os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as uv:
        while True:
            try:
                output, _ = uv.communicate(timeout=1)
                break
            except subprocess.TimeoutExpired:
                _show(f"  {time.monotonic() - started_at:.0f} s")
    _show("")
    if uv.returncode:
        sys.stderr.write(f"{output}uv failed; installing with pip\n")
    return uv.returncode


def _run_pip(options: tuple[str, ...], total: int, started_at: float) -> int:
    """Run pip of this interpreter, and print its last lines if it fails."""
    last: deque[str] = deque(maxlen=_LINES_SHOWN_MAX)
    if find_spec("pip") is None:
        subprocess.run((sys.executable, "-m", "ensurepip"), stdout=subprocess.DEVNULL, check=True)
    with subprocess.Popen(  # noqa: S603 - pip of this interpreter
        (sys.executable, "-m", "pip", *_PIP_OPTIONS, *options),
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
        sys.exit(install(*map(Path, sys.argv[1:3])))
    except KeyboardInterrupt:
        sys.exit("interrupted; run it again to continue")
