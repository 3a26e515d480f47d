"""The worker as the first process of a container, which the kernel treats in a way of its own."""

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


def _why_not() -> str | None:
    if not shutil.which("unshare"):
        return "unshare is missing (Debian: apt-get install util-linux)"
    done = subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False)  # noqa: S603
    return "the kernel gives no namespaces here" if done.returncode else None


@pytest.mark.skipif(_why_not() is not None, reason=f"no process is the first: {_why_not()}")
def test_a_stop_while_it_still_loads_is_not_lost() -> None:
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

            wait_until(loads, "it began to load")
            os.kill(int(children.read_text()), signal.SIGTERM)
            # 0 where the machine was so slow to look that the service already drained.
            assert unshare.wait(10) in {0, 128 + signal.SIGTERM}
        finally:
            unshare.kill()
