"""A coverage scan keeps its rate limit, backs off when throttled, and counts by day."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any, cast

import pytest

from tests.simulation.virtual_clock import simulated
from worker.errors import AWSDeniedError, AWSError, AWSThrottledError
from worker.operations.evidence.coverage import CoverageScan, estimate
from worker.repository import AUPRepository, ScanKey, ScanPage, TableSize

ITEM_BYTES = 1024
ITEMS = 8_000
SIZE = TableSize(ITEMS, ITEMS * ITEM_BYTES)


class _Table:
    """A table with its items spread evenly over the segments, and scripted failures."""

    def __init__(self, *failures: AWSError) -> None:
        self.failures = list(failures)
        self.pages: list[tuple[int, int]] = []

    async def scan_acceptances(
        self, policy_version: str, *, segment: int, segments: int, items: int, after: ScanKey | None
    ) -> ScanPage:
        assert policy_version == "aup#1"
        await asyncio.sleep(0.01)
        if self.failures:
            raise self.failures.pop()
        begin = after["at"] if after else 0
        end = min(ITEMS // segments, begin + items)
        self.pages.append((segment, begin))
        units = (end - begin) * ITEM_BYTES / 8192
        accepted_at = ["2026-01-01T23:30:00-01:00"] * (end - begin)
        key = {"at": end} if end < ITEMS // segments else None
        return ScanPage(accepted_at, end - begin, units, key)


def _scan(table: Any, size: TableSize = SIZE, **options: Any) -> CoverageScan:
    return CoverageScan(cast("AUPRepository", table), "aup#1", size, **options)


@simulated
async def test_scan_reads_every_item_once_within_its_rate() -> None:
    table = _Table()
    reported: list[int] = []
    clock = asyncio.get_running_loop().time
    started_at = clock()
    found = await _scan(
        table,
        units_per_second=100,
        segments=4,
        progress=lambda found: reported.append(found.scanned),
    ).run()
    assert found.days == {date(2026, 1, 2): ITEMS}
    assert (found.users, found.scanned, reported[-1]) == (ITEMS, ITEMS, ITEMS)
    assert len(table.pages) == len(set(table.pages))
    assert found.read_units == estimate(SIZE, 100).read_units == 1000
    # 1,000 units at 100 per second; nothing waits for the cost of the last pages.
    assert 8.5 <= clock() - started_at <= 10.5


@simulated
async def test_throttled_scan_backs_off_and_skips_no_page() -> None:
    table = _Table(*(AWSThrottledError("slow down") for _ in range(10)))
    found = await _scan(table, units_per_second=1e6, segments=4).run()
    assert (found.scanned, found.throttled) == (ITEMS, 10)


@simulated
async def test_permanent_error_ends_the_scan() -> None:
    with pytest.raises(AWSDeniedError, match="Scan: no"):
        await _scan(_Table(AWSDeniedError("Scan: no")), units_per_second=10, segments=4).run()
    forever = _Table(*(AWSThrottledError("slow down") for _ in range(100)))
    with pytest.raises(AWSThrottledError):
        await _scan(forever, units_per_second=10, segments=2).run()


@simulated
async def test_acceptance_without_a_valid_time_is_counted_as_undated() -> None:
    class _Altered:
        async def scan_acceptances(self, *_: object, **__: object) -> ScanPage:
            return ScanPage(["never", "", "0001-01-01T00:00:00+14:00"], 3, 0.5, None)

    found = await _scan(_Altered(), TableSize(0, 0), units_per_second=1, segments=1).run()
    assert (found.users, found.undated, dict(found.days)) == (3, 3, {})


def test_estimate_counts_half_a_unit_per_four_kilobytes() -> None:
    assert estimate(TableSize(0, 0), 10).read_units == 0.5
    assert estimate(TableSize(16, 0), 10).read_units == 2  # the size of the table is not known yet
    large = estimate(TableSize(10**7, 6 * 10**9), 200)
    assert large.read_units == pytest.approx(732_422, abs=1)
    assert large.usd == pytest.approx(0.0916, abs=0.0001)
    assert large.seconds == pytest.approx(3662, abs=1)
