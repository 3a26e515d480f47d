"""Tests of the read-through cache."""

from __future__ import annotations

import asyncio

import pytest

from tests.simulation.virtual_clock import simulated
from worker.errors import AWSUnavailableError
from worker.repository.cache import ReadThroughCache


class _Source:
    def __init__(self, **values: str) -> None:
        self.values = values
        self.reads: list[str] = []
        self.fails = False

    async def __call__(self, key: str) -> str | None:
        self.reads.append(key)
        await asyncio.sleep(0.1)
        if self.fails:
            raise AWSUnavailableError("down")
        return self.values.get(key)


def _cache(source: _Source, *, max_entries: int = 100) -> ReadThroughCache[str]:
    return ReadThroughCache[str](source, seconds=300, absence_seconds=2, max_entries=max_entries)


@simulated
async def test_concurrent_callers_share_one_read() -> None:
    source = _Source(a="A")
    cache = _cache(source)
    assert set(await asyncio.gather(*(cache.get("a") for _ in range(100)))) == {"A"}
    assert source.reads == ["a"]


@simulated
async def test_value_is_read_again_after_its_ttl() -> None:
    source = _Source(a="A")
    cache = _cache(source)
    await cache.get("a")
    source.values["a"] = "B"
    await asyncio.sleep(299)
    assert await cache.get("a") == "A"
    await asyncio.sleep(2)
    assert await cache.get("a") == "B"
    assert len(source.reads) == 2


@simulated
async def test_known_value_is_returned_without_a_read_until_its_ttl_ends() -> None:
    source = _Source(a="A")
    cache = _cache(source)
    assert cache.known("a") is None
    await cache.get("a")
    await cache.get("absent")
    assert cache.known("absent") is None
    await asyncio.sleep(299)
    assert cache.known("a") == "A"
    await asyncio.sleep(1)
    assert cache.known("a") is None
    assert source.reads == ["a", "absent"]


@simulated
async def test_known_value_counts_as_used() -> None:
    source = _Source(a="A", b="B", c="C")
    cache = _cache(source, max_entries=2)
    await cache.get("a")
    await cache.get("b")
    assert cache.known("a") == "A"
    await cache.get("c")
    assert (cache.known("a"), cache.known("b")) == ("A", None)


@simulated
async def test_absence_has_a_shorter_ttl() -> None:
    source = _Source()
    cache = _cache(source)
    assert await cache.get("a") is None
    source.values["a"] = "A"
    await asyncio.sleep(1)
    assert await cache.get("a") is None
    assert len(source.reads) == 1
    await asyncio.sleep(1.1)
    assert await cache.get("a") == "A"


@simulated
async def test_cancelling_the_first_caller_does_not_fail_the_others() -> None:
    source = _Source(a="A")
    cache = _cache(source)
    first = asyncio.create_task(cache.get("a"))
    second = asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0.05)
    first.cancel()
    assert await second == "A"
    assert first.cancelled()
    assert source.reads == ["a"]


@simulated
async def test_recheck_reads_a_value_that_is_older_than_an_absence_may_be() -> None:
    source = _Source(a="A")
    cache = _cache(source)
    await cache.get("a")
    source.values["a"] = "B"
    await asyncio.sleep(1)
    assert await cache.get("a", recheck=True) == "A"
    await asyncio.sleep(1.1)
    assert await cache.get("a") == "A"
    source.fails = True
    with pytest.raises(AWSUnavailableError):
        await cache.get("a", recheck=True)
    assert await cache.get("a") == "A"
    source.fails = False
    assert set(await asyncio.gather(*(cache.get("a", recheck=True) for _ in range(9)))) == {"B"}
    assert await cache.get("a", recheck=True) == await cache.get("a") == "B"
    assert len(source.reads) == 3


@simulated
async def test_stale_value_is_returned_when_the_refresh_fails() -> None:
    source = _Source(a="A")
    cache = _cache(source)
    await cache.get("a")
    await asyncio.sleep(301)
    source.fails = True
    assert set(await asyncio.gather(cache.get("a"), cache.get("a"))) == {"A"}
    assert len(source.reads) == 2
    source.fails = False
    source.values["a"] = "B"
    assert await cache.get("a") == "B"


@simulated
async def test_stale_absence_is_not_returned_when_the_refresh_fails() -> None:
    source = _Source()
    cache = _cache(source)
    await cache.get("a")
    await asyncio.sleep(3)
    source.fails = True
    with pytest.raises(AWSUnavailableError):
        await cache.get("a")


@simulated
async def test_failed_first_read_fails_all_callers_and_is_not_cached() -> None:
    source = _Source(a="A")
    source.fails = True
    cache = _cache(source)
    results = await asyncio.gather(cache.get("a"), cache.get("a"), return_exceptions=True)
    assert all(isinstance(result, AWSUnavailableError) for result in results)
    source.fails = False
    assert await cache.get("a") == "A"


@simulated
async def test_failed_read_without_callers_is_not_reported() -> None:
    source = _Source()
    source.fails = True
    cache = _cache(source)
    caller = asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0.05)
    caller.cancel()
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    await asyncio.sleep(1)
    assert reports == []


@simulated
async def test_invalidated_key_is_read_again() -> None:
    source = _Source(a="A", b="B")
    cache = _cache(source)
    await asyncio.gather(cache.get("a"), cache.get("b"))
    cache.invalidate("a")
    await asyncio.gather(cache.get("a"), cache.get("b"))
    assert source.reads == ["a", "b", "a"]


@simulated
async def test_least_recently_used_key_is_evicted_beyond_the_limit() -> None:
    source = _Source(a="A", b="B", c="C")
    cache = _cache(source, max_entries=2)
    for key in "abac":
        await cache.get(key)
    assert source.reads == ["a", "b", "c"]
    await cache.get("a")
    assert source.reads == ["a", "b", "c"]
    await cache.get("b")
    assert source.reads == ["a", "b", "c", "b"]
