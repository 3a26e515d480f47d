"""Verbs that run in forks of a process that has already imported them.

Starting the installed command takes most of a second of CPU, nearly all of it for imports. A fork
has its own memory, environment, descriptors, signals and exit code like any other process, without
that cost. What depends on the start itself (interpreter options, locale, missing descriptors) is
tested with the installed command.
"""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from typing import Final

import worker.cli

# Prefixes of variables that the interpreter reads only when it starts.
AT_START: Final = ("PYTHON", "LC_", "LANG")
_CONTEXT: Final = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "pytest",
        __name__,
        *(each.name for each in pkgutil.walk_packages(worker.cli.__path__, "worker.cli.")),
    ]
)


def run(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    stdin: bytes,
    timeout_seconds: float,
    constants: Mapping[str, float],
) -> CompletedProcess[bytes]:
    """Run a verb and wait for it to exit.

    Args:
        arguments: The verb and its options.
        environment: The complete environment.
        stdin: Content of stdin.
        timeout_seconds: Time limit.
        constants: Values that replace those of constants, by `module:name`.

    Raises:
        TimeoutExpired: The verb did not exit in time and was killed.
    """
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name, each) for each in ("stdin", "stdout", "stderr")]
        paths[0].write_bytes(stdin)
        process = _CONTEXT.Process(
            target=_verb,
            args=(list(arguments), dict(environment), list(map(str, paths)), dict(constants)),
        )
        process.start()
        process.join(timeout_seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutExpired(list(arguments), timeout_seconds)
        out, err = (path.read_bytes() for path in paths[1:])
        return CompletedProcess(list(arguments), process.exitcode, out, err)


def _verb(
    arguments: list[str],
    environment: dict[str, str],
    paths: list[str],
    constants: dict[str, float],
) -> None:
    # Imported in the fork, because the fork server preloads it and the test process need not.
    from worker.__main__ import main  # noqa: PLC0415

    os.environ.clear()
    os.environ.update(environment)
    for descriptor, path in enumerate(paths):
        flags = os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - opened as Python opens it
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - the same
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - the same
    for path, value in constants.items():
        module, _, name = path.partition(":")
        assert isinstance(getattr(sys.modules[module], name), float)
        setattr(sys.modules[module], name, value)
    sys.argv = ["aup-worker", *arguments]
    main()
