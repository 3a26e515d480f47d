"""Number of users who accepted a policy version, by day, from a rate-limited parallel scan."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date
from typing import Final

from worker.aws.prices import shipped
from worker.domain.acceptance import parse_time
from worker.errors import AWSError, AWSThrottledError
from worker.repository import AUPRepository, ScanKey, ScanPage, TableSize
from worker.runtime.retry import RetryPolicy, retry

# DynamoDB developer guide, "Read consistency" and "Provisioned capacity mode": an eventually
# consistent read of 4 KB consumes half a unit; the items of a page are summed before rounding.
_BYTES_PER_UNIT: Final = 2 * 4096
_PAGE_BYTES_MAX: Final = 1024 * 1024
_ITEM_BYTES: Final = 1024  # if the size of the table is not known yet
# A pace that leaves most of a small table's capacity to the worker.
READ_UNITS_PER_SECOND: Final = 200
SEGMENTS: Final = 4
# More days are grouped by month.
DAYS_SHOWN_MAX: Final = 92
# For one page.
PAGE_RETRIES: Final = RetryPolicy(attempts=12, base_seconds=0.5, cap_seconds=15.0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimated size, cost and duration of a scan.

    Attributes:
        items: Number of items in the table.
        read_units: Read units for eventually consistent reads.
        usd: On-demand list price of the read units in us-east-1.
        seconds: Duration at the requested rate.
    """

    items: int
    read_units: float
    usd: float
    seconds: float


@dataclass(slots=True)
class Coverage:
    """Result of a scan so far.

    Attributes:
        days: Number of users who accepted, by day in UTC.
        undated: Users whose `accepted_at` is not a time, which only occurs in altered records.
        scanned: Number of items read.
        read_units: Read units consumed.
        throttled: Number of throttled reads.
    """

    days: Counter[date] = field(default_factory=Counter)
    undated: int = 0
    scanned: int = 0
    read_units: float = 0.0
    throttled: int = 0

    @property
    def users(self) -> int:
        """Number of users who accepted; the key of the table has each user and version once."""
        return self.days.total() + self.undated

    def add(self, page: ScanPage) -> None:
        """Add the acceptances of a page."""
        self.scanned += page.scanned
        self.read_units += page.read_units
        for text in page.accepted_at:
            day = _day(text)
            if day is None:
                self.undated += 1
            else:
                self.days[day] += 1


def _day(text: str) -> date | None:
    """Return the day in UTC of `accepted_at`.

    With `recorded_at` instead, a backlog or a replay would look like a peak of acceptances.
    """
    try:
        return parse_time(text).astimezone(UTC).date()
    except (ValueError, OverflowError):
        return None


def estimate(size: TableSize, units_per_second: float) -> Estimate:
    """Estimate the scan of a table of the given size."""
    units = max(0.5, math.ceil(2 * size.items * _item_bytes(size) / _BYTES_PER_UNIT) / 2)
    return Estimate(
        size.items,
        units,
        units / 1e6 * shipped().prices.dynamodb_million_read_units,
        units / units_per_second,
    )


def _item_bytes(size: TableSize) -> float:
    return size.bytes / size.items if size.items and size.bytes else _ITEM_BYTES


def by_period(days: Mapping[date, int], *, months: bool) -> dict[str, int]:
    """Return the number of users by day or by month, oldest first."""
    rows: Counter[str] = Counter()
    for day in sorted(days):
        rows[f"{day:%Y-%m}" if months else day.isoformat()] += days[day]
    return rows


class CoverageScan:
    """Parallel scan of all segments of the table, within one rate limit.

    Args:
        repository: Repository of the acceptances.
        policy_version: Key of the acceptances to count, `{policy_id}#{version}`.
        size: Size of the table. Pages are limited so that one page of each segment consumes about
            one second's read units.
        units_per_second: Maximum rate of read units, for all segments together.
        segments: Number of segments read in parallel.
        progress: Called after each page.
    """

    def __init__(
        self,
        repository: AUPRepository,
        policy_version: str,
        size: TableSize,
        *,
        units_per_second: float,
        segments: int,
        progress: Callable[[Coverage], None] = lambda _: None,
    ) -> None:
        self.coverage = Coverage()
        self._repository = repository
        self._policy_version = policy_version
        self._segments = segments
        self._progress = progress
        self._clock = asyncio.get_running_loop().time
        self._units_per_second = units_per_second
        # The cost of a read is charged once it is known.
        self._free_at = self._clock()
        page_bytes = min(_PAGE_BYTES_MAX, units_per_second / segments * _BYTES_PER_UNIT)
        self._page_items = max(1, int(page_bytes / _item_bytes(size)))

    async def run(self) -> Coverage:
        """Scan the table and return the coverage.

        Raises:
            AWSError: The table cannot be read, or it still throttles after all attempts.
        """
        try:
            async with asyncio.TaskGroup() as reading:
                for segment in range(self._segments):
                    reading.create_task(self._read(segment))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        return self.coverage

    async def _read(self, segment: int) -> None:
        after: ScanKey | None = None
        while True:
            page = await retry(PAGE_RETRIES, self._page, segment, after, on_retry=self._count)
            self.coverage.add(page)
            self._progress(self.coverage)
            if page.next_key is None:
                return
            after = page.next_key

    async def _page(self, segment: int, after: ScanKey | None) -> ScanPage:
        # A loop, because other segments consume units during the wait.
        while (left := self._free_at - self._clock()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)
        page = await self._repository.scan_acceptances(
            self._policy_version,
            segment=segment,
            segments=self._segments,
            items=self._page_items,
            after=after,
        )
        seconds = page.read_units / self._units_per_second
        self._free_at = max(self._free_at, self._clock()) + seconds
        return page

    def _count(self, error: AWSError, _delay_seconds: float) -> None:
        self.coverage.throttled += isinstance(error, AWSThrottledError)
