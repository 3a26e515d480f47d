"""Dead letters by reason over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from worker.console.bars import Bars
from worker.console.scans import Snapshot

_BARS_MAX: Final = 30
_DAY: Final = 86_400
_WEEK: Final = 7 * _DAY
# Widths of a bar in seconds, with the format of its label.
_WIDTHS: Final = (
    (60, "%H:%M"), (300, "%H:%M"), (900, "%H:%M"), (3600, "%d %b %H:%M"),
    (4 * 3600, "%d %b %H:%M"), (12 * 3600, "%d %b %H:%M"), (_DAY, "%d %b"), (_WEEK, "%d %b"),
)  # fmt: skip


class Timeline:
    """Bars of the latest scan, computed once for all viewers: a scan may have many dead letters."""

    def __init__(self) -> None:
        self._key: tuple[int, int, int] | None = None
        self._bars: tuple[Bars, int] = Bars((), {}), 0

    def bars(self, snapshot: Snapshot, now: datetime) -> tuple[Bars, int]:
        """Return the bars of a scan, and the width of one in seconds.

        Args:
            snapshot: The latest scan.
            now: Current time, timezone-aware.
        """
        key = snapshot.number, len(snapshot.dead_letters), int(now.timestamp()) // _WIDTHS[0][0]
        if key != self._key:
            summaries = (each.summary for each in snapshot.dead_letters.values())
            self._bars = timeline(((each.dead_at, each.reason) for each in summaries), now)
            self._key = key
        return self._bars


def timeline(deaths: Iterable[tuple[datetime, str]], now: datetime) -> tuple[Bars, int]:
    """Count dead letters by reason and time, in bars of equal width until now.

    Args:
        deaths: When each entered the dead-letter queue, and its reason.
        now: Current time, timezone-aware.

    Returns:
        The bars, and the width of one in seconds.
    """
    counts = Counter((int(at.timestamp()), reason) for at, reason in deaths)
    until = max([int(now.timestamp()), *(at for at, _ in counts)])
    since = min((at for at, _ in counts), default=until)
    width, label = next(
        (each for each in _WIDTHS if (until - since) / each[0] <= _BARS_MAX - 1), _WIDTHS[-1]
    )
    first, last = since // width, until // width
    series = {reason: [0] * (last - first + 1) for _, reason in counts}
    for (at, reason), count in counts.items():
        series[reason][at // width - first] += count
    labels = [
        datetime.fromtimestamp(number * width, UTC).strftime(label)
        for number in range(first, last + 1)
    ]
    return Bars(labels, series), width
