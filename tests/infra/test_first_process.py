"""The worker as process 1 of a container, for which the kernel has special signal handling."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.infra.host import wait_until
from tests.process.environment import COMMAND

_UNSHARE = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child"]


def _reason_unavailable() -> str | None:
    if not shutil.which("unshare"):
        return "unshare is missing (Debian: apt-get install util-linux)"
    done = subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False)  # noqa: S603
    return "the kernel allows no namespaces here" if done.returncode else None


@pytest.mark.skipif(
    _reason_unavailable() is not None, reason=f"cannot create a process 1: {_reason_unavailable()}"
)
def test_sigterm_during_startup_is_not_lost() -> None:
    with subprocess.Popen(  # noqa: S603 - our own command
        [*_UNSHARE, COMMAND, "run"],
        env={"PATH": os.environ["PATH"], "AWS_REGION": "us-east-1"},
        stderr=subprocess.DEVNULL,
    ) as unshare:
        try:
            children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children")

            def loads() -> bool:
                first = children.read_text().split()
                return bool(first) and "pydantic_core" in Path(f"/proc/{first[0]}/maps").read_text()

            wait_until(loads, "loading has begun")
            os.kill(int(children.read_text()), signal.SIGTERM)
            # 0 if the service had started before the signal was sent.
            assert unshare.wait(10) in {0, 128 + signal.SIGTERM}
        finally:
            unshare.kill()
