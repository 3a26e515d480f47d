"""Processes of the installed worker that are killed, suspended and restarted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Final

from tests.servers import parts
from tests.soak.environment import MAX_RECEIVES

COMMAND: Final = Path(sys.executable).with_name("aup-worker")
LEASE_SECONDS: Final = 5
# After SIGTERM: AUP_STOP_TIMEOUT_SECONDS plus a margin for a busy machine.
_OVERRUN_SECONDS: Final = 15.0
# Time after which a worker may be killed even if it has not started polling.
_STARTUP_SECONDS: Final = 4.0
_FIRST_LINES_BYTES: Final = 8_192
_LEASH: Final = Path(parts.SOURCES, "die_with_parent.py")


def worker_environment(sqs_url: str, dynamodb_url: str, names: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of a worker, with short times."""
    return {
        "PATH": os.environ["PATH"],
        "AWS_ENDPOINT_URL_SQS": sqs_url,
        "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        **names,
        "AUP_CALL_TIMEOUT_SECONDS": "1",
        "AUP_VISIBILITY_TIMEOUT_SECONDS": str(LEASE_SECONDS),
        "AUP_MAX_ATTEMPTS": str(MAX_RECEIVES - 100),
        "AUP_WAIT_SECONDS": "1",
        "AUP_DRAIN_TIMEOUT_SECONDS": "4",
        "AUP_STOP_TIMEOUT_SECONDS": "6",
        "AUP_BACKOFF_BASE_SECONDS": "0.2",
        "AUP_BACKOFF_CAP_SECONDS": "2",
        "AUP_UNKNOWN_POLICY_SECONDS": "4",
        "AUP_SLOTS": "60",
        "AUP_POLL_CONCURRENCY": "2",
        "AUP_WRITE_CONCURRENCY": "2",
        "AUP_SUMMARY_SECONDS": "10",
        "AUP_LOG_FORMAT": "json",
    }


class Worker:
    """Worker that is restarted whenever it ends.

    Args:
        settings: Environment variables.
        log: Log file shared by its successive processes.

    Attributes:
        figures: Number of kills, terminations, suspensions and exits by code.
    """

    def __init__(self, settings: Mapping[str, str], log: Path, figures: Counter[str]) -> None:
        self.log = log
        self.figures = figures
        self._settings = dict(settings)
        self._resume_at: float | None = None
        self._terminated_at: float | None = None
        self._ending = False
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._started_at = time.monotonic()
        self._terminated_at = None
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            return subprocess.Popen(  # noqa: S603 - fixed command
                [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), str(COMMAND), "run"],
                env=self._settings,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    @property
    def process_id(self) -> int:
        """Id of the current process."""
        return self._process.pid

    @property
    def can_be_killed(self) -> bool:
        """Whether it is running, neither suspended nor terminating."""
        if self._resume_at is not None or self._terminated_at is not None:
            return False
        is_started = time.monotonic() - self._started_at >= _STARTUP_SECONDS
        return (is_started or self._has_started()) and self._process.poll() is None

    def _has_started(self) -> bool:
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return b'"event": "started"' in log.read(_FIRST_LINES_BYTES)

    def kill_child(self, random: Random) -> None:
        """Send SIGKILL to one of its processes; the parent restarts it."""
        children = Path(f"/proc/{self.process_id}/task/{self.process_id}/children")
        with suppress(OSError):  # it has just exited
            ids = [int(each) for each in children.read_text().split()]
            if ids:
                os.kill(random.choice(ids), signal.SIGKILL)
                self.figures["children killed"] += 1

    def kill(self) -> None:
        """Send SIGKILL to the parent; the children drain."""
        self.figures["killed"] += 1
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """Send SIGTERM without waiting for the drain."""
        self.figures["terminated"] += 1
        self._terminated_at = time.monotonic()
        self._process.send_signal(signal.SIGTERM)

    def stop(self, seconds: float) -> None:
        """Suspend it for a time."""
        self.figures["stops"] += 1
        self._resume_at = time.monotonic() + seconds
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume it if it is suspended."""
        if self._resume_at is not None:
            self._resume_at = None
            self._process.send_signal(signal.SIGCONT)

    def maintain(self) -> None:
        """Resume it when its suspension is over, and restart it when it has ended."""
        now = time.monotonic()
        if self._resume_at is not None and now >= self._resume_at:
            self.resume()
        if self._terminated_at is not None and now - self._terminated_at > _OVERRUN_SECONDS:
            self.figures["overran"] += 1
            self._process.kill()
            self._process.wait()
        code = self._process.poll()
        if code is None:
            return
        if self._terminated_at is None and code != -signal.SIGKILL:
            self.figures[f"ended by itself with {code}"] += 1
        elif self._terminated_at is not None:
            self.figures[f"drained with {code}"] += 1
        self._process = self._start()

    def end(self) -> None:
        """Stop it for good, with SIGTERM first."""
        self.resume()
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(_OVERRUN_SECONDS)
        except subprocess.TimeoutExpired:
            self.figures["overran"] += 1
            self._process.kill()
            self._process.wait()
