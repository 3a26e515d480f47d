"""How many users accepted a version, by day: a parallel scan that keeps to a rate."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, date
from typing import Final, Protocol

from worker.aws.prices import shipped
from worker.domain.acceptance import parse_time
from worker.errors import AWSError, AWSThrottledError, AWSUnavailableError
from worker.repository import ScanKey, ScanPage, TableSize
from worker.runtime.backoff import full_jitter

# DynamoDB developer guide, "Read consistency" and "Provisioned capacity mode": an eventually
# consistent read of 4 KB takes half a unit, of a page's items together.
_BYTES_OF_A_UNIT: Final = 2 * 4096
_PAGE_BYTES_MAX: Final = 1024 * 1024
_ITEM_BYTES: Final = 1024  # where the table does not know its size yet
_FAILURES_MAX: Final = 12
_BASE_SECONDS: Final = 0.5
_CAP_SECONDS: Final = 15.0

Sleep = Callable[[float], Awaitable[None]]


class AcceptanceScanner(Protocol):
    """What a coverage needs of the repository."""

    async def scan_acceptances(
        self, policy_version: str, *, segment: int, segments: int, items: int, after: ScanKey | None
    ) -> ScanPage:
        """Read one page."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a scan will read and cost, about.

    Attributes:
        items: in the table.
        read_units: of eventually consistent reads.
        usd: their list price on demand in us-east-1.
        seconds: at the rate asked for.
    """

    items: int
    read_units: float
    usd: float
    seconds: float


@dataclass(slots=True)
class Coverage:
    """What the scan found so far.

    Attributes:
        days: users who accepted, by day in UTC.
        undated: users whose `accepted_at` is no time, which only an altered record can have.
        scanned: items read.
        read_units: what that cost.
        throttled: how often the table asked for fewer reads.
    """

    days: Counter[date] = field(default_factory=Counter)
    undated: int = 0
    scanned: int = 0
    read_units: float = 0.0
    throttled: int = 0

    @property
    def users(self) -> int:
        """Count those who accepted: the table's key holds a user and a version once."""
        return self.days.total() + self.undated

    def add(self, page: ScanPage) -> None:
        """Count in what a page gave."""
        self.scanned += page.scanned
        self.read_units += page.read_units
        for text in page.accepted_at:
            day = _day(text)
            if day is None:
                self.undated += 1
            else:
                self.days[day] += 1


def _day(text: str) -> date | None:
    """Give the day in UTC on which the user accepted.

    Not that of `recorded_at`: a backlog or a replay would look like a rush of users.
    """
    try:
        return parse_time(text).astimezone(UTC).date()
    except (ValueError, OverflowError):
        return None


def estimate(size: TableSize, units_per_second: float) -> Estimate:
    """Say what scanning a table of this size takes."""
    units = max(0.5, math.ceil(2 * size.items * _item_bytes(size) / _BYTES_OF_A_UNIT) / 2)
    return Estimate(
        size.items,
        units,
        units / 1e6 * shipped().prices.dynamodb_million_read_units,
        units / units_per_second,
    )


def _item_bytes(size: TableSize) -> float:
    return size.bytes / size.items if size.items and size.bytes else _ITEM_BYTES


class _Allowance:
    """Let reads through at a rate; each is paid for after it, when its cost is known."""

    def __init__(self, units_per_second: float, clock: Callable[[], float], sleep: Sleep) -> None:
        self._rate = units_per_second
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()

    async def wait(self) -> None:
        while (left := self._free_at - self._clock()) > 0:
            await self._sleep(left)

    def spend(self, units: float) -> None:
        self._free_at = max(self._free_at, self._clock()) + units / self._rate


class CoverageScan:
    """Read all segments of the table at once, within one allowance.

    Args:
        table: what reads.
        policy_version: which acceptances count.
        size: of the table; pages are cut so that one of each segment takes about a second's units.
        units_per_second: read units, over all segments.
        segments: read in parallel.
        progress: told after each page.
        sleep: waits seconds.
    """

    def __init__(
        self,
        table: AcceptanceScanner,
        policy_version: str,
        size: TableSize,
        *,
        units_per_second: float,
        segments: int,
        progress: Callable[[Coverage], None] = lambda _: None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.coverage = Coverage()
        self._table = table
        self._policy_version = policy_version
        self._segments = segments
        self._progress = progress
        self._sleep = sleep
        self._allowance = _Allowance(units_per_second, asyncio.get_running_loop().time, sleep)
        page_bytes = min(_PAGE_BYTES_MAX, units_per_second / segments * _BYTES_OF_A_UNIT)
        self._page_items = max(1, int(page_bytes / _item_bytes(size)))

    async def run(self) -> Coverage:
        """Read everything.

        Raises:
            AWSError: the table cannot be read, or still throttles after many tries.
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
            page = await self._page(segment, after)
            self.coverage.add(page)
            self._progress(self.coverage)
            if page.next_key is None:
                return
            after = page.next_key

    async def _page(self, segment: int, after: ScanKey | None) -> ScanPage:
        failures = 0
        while True:
            await self._allowance.wait()
            try:
                page = await self._table.scan_acceptances(
                    self._policy_version,
                    segment=segment,
                    segments=self._segments,
                    items=self._page_items,
                    after=after,
                )
            except (AWSThrottledError, AWSUnavailableError) as error:
                failures += 1
                await self._back_off(failures, error)
            else:
                self._allowance.spend(page.read_units)
                return page

    async def _back_off(self, failures: int, error: AWSError) -> None:
        if failures >= _FAILURES_MAX:
            raise error
        self.coverage.throttled += isinstance(error, AWSThrottledError)
        await self._sleep(
            full_jitter(failures, base_seconds=_BASE_SECONDS, cap_seconds=_CAP_SECONDS)
        )
