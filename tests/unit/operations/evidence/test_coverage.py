"""State how a coverage keeps to its rate, backs off and counts days."""

from __future__ import annotations

import asyncio
from datetime import date

import pytest

from tests.simulation.virtual_clock import simulated
from worker.errors import AWSDeniedError, AWSError, AWSThrottledError
from worker.operations.evidence.coverage import CoverageScan, estimate
from worker.repository import ScanKey, ScanPage, TableSize

ITEM_BYTES = 1024
ITEMS = 8_000
SIZE = TableSize(ITEMS, ITEMS * ITEM_BYTES)


class _Table:
    """Hold a fourth of the items in each segment; fail as told."""

    def __init__(self, *failures: AWSError) -> None:
        self.failures = list(failures)
        self.asked: list[tuple[int, int]] = []

    async def scan_acceptances(
        self, policy_version: str, *, segment: int, segments: int, items: int, after: ScanKey | None
    ) -> ScanPage:
        assert policy_version == "aup#1"
        await asyncio.sleep(0.01)
        if self.failures:
            raise self.failures.pop()
        begin = after["at"] if after else 0
        end = min(ITEMS // segments, begin + items)
        self.asked.append((segment, begin))
        units = (end - begin) * ITEM_BYTES / 8192
        accepted_at = ["2026-01-01T23:30:00-01:00"] * (end - begin)
        key = {"at": end} if end < ITEMS // segments else None
        return ScanPage(accepted_at, end - begin, units, key)


@simulated
async def test_a_scan_reads_everything_once_and_keeps_to_its_rate() -> None:
    table = _Table()
    told: list[int] = []
    clock = asyncio.get_running_loop().time
    begun = clock()
    scan = CoverageScan(
        table, "aup#1", SIZE, units_per_second=100, segments=4,
        progress=lambda found: told.append(found.scanned),
    )  # fmt: skip
    found = await scan.run()
    assert found.days == {date(2026, 1, 2): ITEMS}
    assert (found.users, found.scanned, told[-1]) == (ITEMS, ITEMS, ITEMS)
    assert len(table.asked) == len(set(table.asked))
    assert found.read_units == estimate(SIZE, 100).read_units == 1000
    # 1,000 units at 100 a second, but for what the last pages cost, which nothing waits for.
    assert 8.5 <= clock() - begun <= 10.5


@simulated
async def test_a_throttled_scan_backs_off_and_loses_no_page() -> None:
    table = _Table(*(AWSThrottledError("slow down") for _ in range(10)))
    found = await CoverageScan(table, "aup#1", SIZE, units_per_second=1e6, segments=4).run()
    assert (found.scanned, found.throttled) == (ITEMS, 10)


@simulated
async def test_what_does_not_pass_ends_the_scan_with_its_own_error() -> None:
    with pytest.raises(AWSDeniedError, match="CoverageScan: no"):
        await CoverageScan(
            _Table(AWSDeniedError("CoverageScan: no")),
            "aup#1",
            SIZE,
            units_per_second=10,
            segments=4,
        ).run()
    forever = _Table(*(AWSThrottledError("slow down") for _ in range(100)))
    with pytest.raises(AWSThrottledError):
        await CoverageScan(forever, "aup#1", SIZE, units_per_second=10, segments=2).run()


@simulated
async def test_a_time_that_is_none_is_counted_apart() -> None:
    class _Altered:
        async def scan_acceptances(self, *_: object, **__: object) -> ScanPage:
            return ScanPage(["never", "", "0001-01-01T00:00:00+14:00"], 3, 0.5, None)

    found = await CoverageScan(
        _Altered(), "aup#1", TableSize(0, 0), units_per_second=1, segments=1
    ).run()
    assert (found.users, found.undated, dict(found.days)) == (3, 3, {})


def test_an_estimate_counts_half_a_unit_for_four_kilobytes() -> None:
    assert estimate(TableSize(0, 0), 10).read_units == 0.5
    assert estimate(TableSize(16, 0), 10).read_units == 2  # it does not know its size yet
    large = estimate(TableSize(10**7, 6 * 10**9), 200)
    assert large.read_units == pytest.approx(732_422, abs=1)
    assert large.usd == pytest.approx(0.0916, abs=0.0001)
    assert large.seconds == pytest.approx(3662, abs=1)
