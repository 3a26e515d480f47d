"""Faults in the status of queues and workers: cost, correctness and exit."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_CLOUDWATCH: Final = "worker/aws/cloudwatch.py"
_SCRAPE: Final = "worker/operations/status/scrape.py"
_STATUS: Final = "worker/operations/status/observer.py"
_STATUS_TESTS: Final = ("tests/unit/operations/status/test_observer.py",)

MUTANTS: Final = (
    Mutant(
        "CloudWatch is called in every interval",
        _STATUS,
        "now - self._ages_at >= AGES_INTERVAL_SECONDS",
        "now >= self._ages_at",
        _STATUS_TESTS,
    ),
    Mutant(
        "scans of dead letters are unlimited",
        _STATUS,
        "counts.total() >= limit or ",
        "",
        _STATUS_TESTS,
    ),
    Mutant(
        "dead letters are scanned while another scan holds some",
        _STATUS,
        " and not dead.in_flight",
        "",
        _STATUS_TESTS,
    ),
    Mutant(
        "a scan counts as a receive on a queue with a redrive policy",
        _STATUS,
        "if dead.max_receive_count is not None:",
        "if dead.max_receive_count == 0:",
        _STATUS_TESTS,
    ),
    Mutant(
        "an interruption reaches a scan",
        _STATUS,
        "await asyncio.shield(asyncio.gather(*self._background.values()))",
        "await asyncio.gather(*self._background.values())",
        _STATUS_TESTS,
    ),
    Mutant(
        "rates are calculated across a restart of a worker",
        _SCRAPE,
        "if seconds <= 0 or min(increases.values()) < 0:",
        "if seconds <= 0:",
        ("tests/unit/operations/status/test_scrape.py",),
    ),
    Mutant(
        "CloudWatch is called for queues on another endpoint",
        _CLOUDWATCH,
        "return host is None or host.endswith(_AWS_HOSTS) or configured",
        "return True",
        ("tests/unit/aws/test_cloudwatch.py",),
    ),
    Mutant(
        "zsh completes only from the second Tab",
        "worker/cli/completion.py",
        "  _aup_worker_completion\nelse",
        "  true\nelse",
        ("tests/unit/cli/test_completion.py",),
    ),
)
