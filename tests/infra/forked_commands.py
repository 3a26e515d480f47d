"""`aws` and `aup-worker` as programs whose commands run in forks; see `fork_server`.

Starting each takes half a second of CPU, nearly all of it for imports. `tests/servers` starts the
AWS CLI itself, and `tests/process` the installed `aup-worker`.
"""

from __future__ import annotations

import atexit
import os
import pkgutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from tests.infra import fork_server
from tests.servers import parts
from tests.servers.launch import aws_command

ROOT: Final = Path(__file__).parents[2]
_SERVER: Final = Path(fork_server.__file__)
_DIE_WITH_PARENT: Final = parts.SOURCES / "die_with_parent.py"
# The home directory decides where the credentials of a role are cached.
_AWS: Final = (
    "awscli.clidriver:main", "-awscli.handlers", "-awscli.customizations.assumerole",
)  # fmt: skip
_START_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.02


@cache
def program_directory() -> Path:
    """Return a directory with both programs, which work until this process exits."""
    stack = ExitStack()
    atexit.register(stack.close)
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="commands-")))
    for name, python, modules in (
        ("aws", str(aws_command().with_name("python")), _AWS),
        ("aup-worker", sys.executable, ("worker.__main__:main", *_verbs())),
    ):
        stack.enter_context(_server(directory / f"{name}.socket", python, modules))
        program = directory / name
        program.write_text(fork_server.client(sys.executable, directory / f"{name}.socket"))
        program.chmod(0o755)
    return directory


def _verbs() -> Iterator[str]:
    import worker.cli  # noqa: PLC0415 -- only to find its modules

    yield from (each.name for each in pkgutil.walk_packages(worker.cli.__path__, "worker.cli."))
    yield "tests.process.preloaded"


@contextmanager
def _server(address: Path, python: str, modules: tuple[str, ...]) -> Iterator[None]:
    """Run a fork server until the block ends."""
    with subprocess.Popen(  # noqa: S603 -- our own script
        [
            sys.executable, "-I", "-S", str(_DIE_WITH_PARENT), str(os.getpid()),
            python, str(_SERVER), str(address), *modules,
        ],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(address.parent),  # not that of the user
        },
        stdin=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not address.exists():
                assert process.poll() is None, "the fork server exited"
                assert time.monotonic() < deadline, "the fork server does not listen"
                time.sleep(_PAUSE_SECONDS)
            yield
        finally:
            process.terminate()
