"""Report of a dry run of a replay."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.dry_run import Verdict
from worker.operations.dead_letters.journal import read_journal
from worker.operations.dead_letters.replay import replay_dry_run
from worker.operations.dead_letters.replay_request import OpenReplay, ReplayRequest
from worker.runtime.clock import utc_now


@dataclass(slots=True)
class DryRunReport:
    """Result of a dry run.

    Attributes:
        dead_letters: Dead letters as they would be replayed, each with its verdict.
        unreadable: Why the policies cannot be read; empty if they can.
        missing: Number of ids that are not among the dead letters.
        unseen: Dead letters that SQS reports but did not return.
    """

    dead_letters: list[tuple[DeadLetter, Verdict]] = field(default_factory=list)
    unreadable: str = ""
    missing: int = 0
    unseen: int = 0

    @property
    def verdicts(self) -> Counter[str]:
        """Number of dead letters by verdict code."""
        return Counter(verdict.code for _, verdict in self.dead_letters)

    @property
    def outcomes(self) -> Counter[tuple[str, str]]:
        """Number of dead letters by reason and verdict code."""
        return Counter((each.reason, verdict.code) for each, verdict in self.dead_letters)

    def report(self) -> dict[str, Any]:
        """Return the JSON report."""
        at = utc_now()
        return {
            "matched": len(self.dead_letters),
            "dry_run": True,
            "verdicts": dict(self.verdicts.most_common()),
            "policies_unreadable": self.unreadable,
            "missing": self.missing,
            "not_seen": self.unseen,
            "dead_letters": [
                {**each.summary(at), "verdict": verdict.code, "verdict_detail": verdict.detail}
                for each, verdict in self.dead_letters
            ],
        }


async def run_dry(
    dead_letters: AsyncIterable[DeadLetter],
    request: ReplayRequest,
    replay: OpenReplay,
    progress: Callable[[int], object] = lambda _: None,
) -> DryRunReport:
    """Predict the outcome of each message that a replay would send; send nothing.

    Args:
        dead_letters: Dead letters of the queue, such as an open scan.
        request: The requested replay.
        replay: The same, with its queues and tables.
        progress: Called with the number of dead letters selected so far.

    Returns:
        The report, without the number of dead letters not seen.
    """
    report, missing = DryRunReport(), set(request.selected.ids)
    options = replace(replay.options, dry_run=replay.dry_run)
    sent = read_journal(*replay.journal)
    predictions = replay_dry_run(dead_letters, request.selected, options, sent=sent)
    async for dead_letter, verdict in predictions:
        missing -= {dead_letter.message_id, dead_letter.original_message_id}
        report.dead_letters.append((dead_letter.without_content(), verdict))
        progress(len(report.dead_letters))
    report.unreadable = replay.dry_run.error
    report.missing = len(missing)
    return report
