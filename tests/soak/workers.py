"""The installed worker as processes that are killed, stopped and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.servers import parts
from tests.soak.place import MAX_RECEIVES

COMMAND: Final = Path(sys.executable).with_name("aup-worker")
LEASE_SECONDS: Final = 5
# After SIGTERM; AUP_STOP_TIMEOUT_SECONDS and a little for a busy machine.
_OVERRUN_SECONDS: Final = 15.0
# A process that has not begun to poll has little to lose; but some must die on the way there.
_YOUTH_SECONDS: Final = 4.0
_FIRST_LINES_BYTES: Final = 8_192
_LEASH: Final = Path(parts.SOURCES, "die_with_parent.py")


def environment(sqs_url: str, dynamodb_url: str, names: Mapping[str, str]) -> dict[str, str]:
    """Write a worker's settings: everything short, so that much happens."""
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
    """One worker that is started again whenever it has ended.

    Args:
        settings: its environment.
        log: where it tells what it does, all of its processes one after the other.

    Attributes:
        figures: kills, terms, stops, and the exits of each code.
    """

    def __init__(self, settings: Mapping[str, str], log: Path, figures: Counter[str]) -> None:
        self.log = log
        self.figures = figures
        self._settings = dict(settings)
        self._resume_at: float | None = None
        self._asked_at: float | None = None
        self._ending = False
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._started_at = time.monotonic()
        self._asked_at = None
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            return subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), str(COMMAND), "run"],
                env=self._settings,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    @property
    def process_id(self) -> int:
        """The process that runs now."""
        return self._process.pid

    @property
    def is_prey(self) -> bool:
        """Say whether it is at work, neither stopped nor about to end."""
        if self._resume_at is not None or self._asked_at is not None:
            return False
        grown = time.monotonic() - self._started_at >= _YOUTH_SECONDS
        return (grown or self._has_started()) and self._process.poll() is None

    def _has_started(self) -> bool:
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return b'"event": "started"' in log.read(_FIRST_LINES_BYTES)

    def kill(self) -> None:
        """End it without a word."""
        self.figures["killed"] += 1
        self._process.kill()
        self._process.wait()

    def ask_to_end(self) -> None:
        """Send SIGTERM; it drains meanwhile."""
        self.figures["terminated"] += 1
        self._asked_at = time.monotonic()
        self._process.send_signal(signal.SIGTERM)

    def stop(self, seconds: float) -> None:
        """Suspend it for a while."""
        self.figures["stops"] += 1
        self._resume_at = time.monotonic() + seconds
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on where it was suspended."""
        if self._resume_at is not None:
            self._resume_at = None
            self._process.send_signal(signal.SIGCONT)

    def tend(self) -> None:
        """Resume it when its time has come, and start it again when it has ended."""
        now = time.monotonic()
        if self._resume_at is not None and now >= self._resume_at:
            self.resume()
        if self._asked_at is not None and now - self._asked_at > _OVERRUN_SECONDS:
            self.figures["overran"] += 1
            self._process.kill()
            self._process.wait()
        code = self._process.poll()
        if code is None:
            return
        if self._asked_at is None and code != -signal.SIGKILL:
            self.figures[f"ended by itself with {code}"] += 1
        elif self._asked_at is not None:
            self.figures[f"drained with {code}"] += 1
        self._process = self._start()

    def end(self) -> None:
        """End it for good, kindly first."""
        self.resume()
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(_OVERRUN_SECONDS)
        except subprocess.TimeoutExpired:
            self.figures["overran"] += 1
            self._process.kill()
            self._process.wait()
