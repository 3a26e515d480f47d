"""State what SingletonMeta guarantees."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest

from tests.unit.fakes import in_child
from worker.errors import SingletonConflictError
from worker.repository.singleton import SingletonMeta

_FORKS = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


class _Slow(metaclass=SingletonMeta):
    """Takes a while to construct, as whatever opens things does."""

    made: ClassVar[int] = 0

    def __init__(self, size: int = 1, *, name: str = "") -> None:
        time.sleep(0.02)
        type(self).made += 1
        self.size = size
        self.name = name


class _Other(metaclass=SingletonMeta):
    pass


class _Broken(metaclass=SingletonMeta):
    fails: ClassVar[bool] = True

    def __init__(self) -> None:
        if type(self).fails:
            raise OSError("no luck")


def test_threads_that_race_to_construct_get_one_instance() -> None:
    before = _Slow.made
    barrier = threading.Barrier(16)

    def construct(_: int) -> _Slow:
        barrier.wait()
        return _Slow(3)

    with ThreadPoolExecutor(16) as pool:
        instances = set(pool.map(construct, range(16)))
    assert len(instances) == 1
    assert _Slow.made == before + 1


def test_threads_that_race_with_other_arguments_get_the_winner_or_an_error() -> None:
    barrier = threading.Barrier(8)

    def construct(size: int) -> int | None:
        barrier.wait()
        try:
            return _Slow(size).size
        except SingletonConflictError:
            return None

    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(construct, range(8)))
    assert [size for size in sizes if size is not None] == [_current().size]


def _current() -> _Slow:
    current = SingletonMeta.current(_Slow)
    assert isinstance(current, _Slow)
    return current


def test_equal_arguments_give_the_instance_however_they_are_passed() -> None:
    instance = _Slow(1, name="")
    assert _Slow() is instance
    assert _Slow(1) is instance
    assert _Slow(size=1, name="") is instance


def test_other_arguments_are_refused_and_named() -> None:
    _Slow(1)
    with pytest.raises(
        SingletonConflictError, match=r"_Slow already exists with different size, name"
    ):
        _Slow(2, name="n")
    with pytest.raises(SingletonConflictError, match=r"different name;"):
        _Slow(1, name="n")


def test_wrong_arguments_are_a_type_error_even_where_the_instance_exists() -> None:
    _Slow(1)
    with pytest.raises(TypeError, match="colour"):
        _Slow(colour="red")  # type: ignore[call-arg] # the point


def test_each_class_has_its_own_instance() -> None:
    first, second = _Slow(), _Other()
    assert first is not second  # type: ignore[comparison-overlap] # the point
    SingletonMeta.forget(_Other)
    assert _Slow() is first
    assert _Other() is not second


def test_a_constructor_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="no luck"):
        _Broken()
    assert SingletonMeta.current(_Broken) is None
    monkeypatch.setattr(_Broken, "fails", False)
    assert _Broken() is _Broken()


def test_after_forget_the_next_construction_makes_a_new_one() -> None:
    first = _Slow(1)
    SingletonMeta.forget(_Slow)
    assert SingletonMeta.current(_Slow) is None
    assert _Slow(2) is not first


@_FORKS
def test_a_forked_child_starts_empty() -> None:
    parents = _Slow(1)

    def check() -> bool:
        return SingletonMeta.current(_Slow) is None and _Slow(2) is not parents

    assert in_child(check)
    assert _Slow(1) is parents


@_FORKS
def test_a_child_forked_while_a_thread_constructs_does_not_deadlock() -> None:
    holds, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with SingletonMeta._lock:
            holds.set()
            may_end.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    holds.wait(10)
    try:
        assert in_child(lambda: _Slow(2).size == 2)
    finally:
        may_end.set()
        thread.join()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_instance_leaks_from_one_test_into_the_next(size: int) -> None:
    assert SingletonMeta.current(_Slow) is None
    assert _Slow(size).size == size
