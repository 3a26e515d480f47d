"""Faults in what is seen of queues and workers: its cost, its truth, and how it ends."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_CLOUDWATCH: Final = "worker/aws/cloudwatch.py"
_SCRAPE: Final = "worker/operations/status/scrape.py"
_STATUS: Final = "worker/operations/status/observer.py"
_STATUS_TESTS: Final = ("tests/unit/operations/status/test_observer.py",)

MUTANTS: Final = (
    Mutant(
        "CloudWatch asked at every look",
        _STATUS,
        "now - self._ages_at >= AGES_INTERVAL_SECONDS",
        "now >= self._ages_at",
        _STATUS_TESTS,
    ),
    Mutant(
        "dead letters looked through without a bound",
        _STATUS,
        "counts.total() >= limit or ",
        "",
        _STATUS_TESTS,
    ),
    Mutant(
        "dead letters looked through while others hold some",
        _STATUS,
        " and not dead.in_flight",
        "",
        _STATUS_TESTS,
    ),
    Mutant(
        "a look that counts against the letters of a queue with a redrive policy",
        _STATUS,
        "if dead.max_receive_count is not None:",
        "if dead.max_receive_count == 0:",
        _STATUS_TESTS,
    ),
    Mutant(
        "an interruption that reaches a look",
        _STATUS,
        "await asyncio.shield(asyncio.gather(*self._background.values()))",
        "await asyncio.gather(*self._background.values())",
        _STATUS_TESTS,
    ),
    Mutant(
        "rates over the new start of a worker",
        _SCRAPE,
        "if seconds <= 0 or min(increases.values()) < 0:",
        "if seconds <= 0:",
        ("tests/unit/operations/status/test_scrape.py",),
    ),
    Mutant(
        "AWS asked about queues that are elsewhere",
        _CLOUDWATCH,
        "return host is None or host.endswith(_AWS_HOSTS) or named",
        "return True",
        ("tests/unit/aws/test_cloudwatch.py",),
    ),
    Mutant(
        "a zsh that completes from the second Tab on",
        "worker/cli/completion.py",
        "  _aup_worker_completion\nelse",
        "  true\nelse",
        ("tests/unit/cli/test_completion.py",),
    ),
)
