"""Code that does not await can be limited in time, even within the module re."""

from __future__ import annotations

import re
import signal
import threading
import time

import pytest

from worker.runtime.time_limit import time_limit


def test_search_that_would_never_end_is_interrupted() -> None:
    started_at = time.monotonic()
    with pytest.raises(TimeoutError), time_limit(0.05):
        re.search("(a|a)+$", "a" * 60 + "b")
    assert time.monotonic() - started_at < 5


def test_timer_and_handler_are_those_of_before() -> None:
    handler, before = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    with time_limit(10):
        assert signal.getsignal(signal.SIGALRM) is not handler
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL)[0] == pytest.approx(before[0], abs=5)


def test_other_threads_have_no_limit() -> None:
    passed = threading.Event()

    def limited() -> None:
        with time_limit(0.001):
            time.sleep(0.01)
            passed.set()

    thread = threading.Thread(target=limited)
    thread.start()
    thread.join()
    assert passed.is_set()
