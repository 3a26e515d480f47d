"""Sentences about scans and replays of dead letters."""

from __future__ import annotations

from datetime import datetime, timedelta

from worker.operations.dead_letters.journal import Progress
from worker.operations.dead_letters.replay import ReplayFigures
from worker.runtime.quantities import counted


def unseen(count: int) -> str:
    """Return the sentence about dead letters that a scan did not see."""
    return (
        f"{counted(count, 'dead letter')} not seen: in flight in another scan or replay, or beyond "
        "the SQS limit of 120,000 messages in flight; run this again later"
    )


def missing(count: int) -> str:
    """Return the sentence about ids that are not among the dead letters."""
    return f"ids not found among the dead letters, so not sent: {count}"


def not_found(message_id: str, unseen_count: int) -> str:
    """Return the sentence about a dead letter that a scan did not find."""
    if unseen_count:
        return (
            f"dead letter {message_id} not found, but {counted(unseen_count, 'dead letter')} not "
            "seen: in flight in another scan or replay; run this again later"
        )
    return f"dead letter {message_id} not found"


def no_matches(seen: int) -> str:
    """Return the sentence about a filter that no dead letter matches."""
    others = f" match; {seen:,} others seen" if seen else ""
    return f"no dead letters{others}"


def dry_run_result(selected: int, succeeding: int) -> str:
    """Return the result of a dry run."""
    return f"{selected:,} selected, {succeeding:,} would succeed; nothing was sent"


def unreadable_policies(why: str) -> str:
    """Return the sentence about a dry run that could not read the policies."""
    return f"cannot read the policies, so some outcomes are unknown: {why}"


def continued(earlier: Progress, now: datetime) -> list[str]:
    """Return the sentences about earlier runs that a replay continues.

    Args:
        earlier: Progress of the earlier runs.
        now: Current time, timezone-aware.
    """
    lines = []
    if earlier.runs or earlier.outstanding:
        left = len(earlier.outstanding)
        undeleted = f", {left:,} sent but not yet deleted" if left else ""
        lines.append(f"continuing an earlier run: {len(earlier.done):,} replayed{undeleted}")
    if hidden_seconds := earlier.hidden_seconds(now):
        lines.append(
            "the earlier run was killed; the messages it received become visible at "
            f"{_clock_time(now + timedelta(seconds=hidden_seconds))}, and this run waits for them"
        )
    return lines


def waiting(until: datetime) -> str:
    """Return why a replay waits."""
    return f"waiting until {_clock_time(until)} for messages received by a killed run"


def _clock_time(moment: datetime) -> str:
    return f"{moment.astimezone():%H:%M:%S}"


def replayed(figures: ReplayFigures, seconds: float) -> str:
    """Return the result of a replay.

    Args:
        figures: Counts at its end.
        seconds: Its duration.
    """
    parts = [f"replayed {figures.replayed:,} of {figures.matched:,} in {seconds:.1f} s"]
    if figures.earlier:
        parts.append(f"{figures.earlier:,} of them by an earlier run")
    too_many = figures.skipped - figures.held_back
    if too_many:
        parts.append(f"{too_many} skipped, maximum number of replays reached")
    if figures.held_back:
        parts.append(
            f"{figures.held_back} skipped, would be dead-lettered again (--force sends them)"
        )
    if figures.failed:
        parts.append(
            f"{figures.failed} failed, still in the dead-letter queue ({figures.last_error})"
        )
    if figures.undeleted:
        parts.append(f"{figures.undeleted} sent but not deleted ({figures.last_error})")
    return "; ".join(parts)
