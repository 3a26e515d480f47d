"""Tests of SingletonMeta."""

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
    """Singleton that is slow to construct."""

    constructed: ClassVar[int] = 0

    def __init__(self, size: int = 1, *, name: str = "") -> None:
        time.sleep(0.02)
        type(self).constructed += 1
        self.size = size
        self.name = name


class _Other(metaclass=SingletonMeta):
    pass


class _Broken(metaclass=SingletonMeta):
    fails: ClassVar[bool] = True

    def __init__(self) -> None:
        if type(self).fails:
            raise OSError("no luck")


def test_racing_threads_get_one_instance() -> None:
    before = _Slow.constructed
    barrier = threading.Barrier(16)

    def construct(_: int) -> _Slow:
        barrier.wait()
        return _Slow(3)

    with ThreadPoolExecutor(16) as pool:
        instances = set(pool.map(construct, range(16)))
    assert len(instances) == 1
    assert _Slow.constructed == before + 1


def test_racing_threads_with_other_arguments_get_an_error() -> None:
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


def test_equal_arguments_return_the_instance_however_passed() -> None:
    instance = _Slow(1, name="")
    assert _Slow() is instance
    assert _Slow(1) is instance
    assert _Slow(size=1, name="") is instance


def test_error_names_the_arguments_that_differ() -> None:
    _Slow(1)
    with pytest.raises(
        SingletonConflictError, match=r"_Slow already exists with different size, name"
    ):
        _Slow(2, name="n")
    with pytest.raises(SingletonConflictError, match=r"different name;"):
        _Slow(1, name="n")


def test_wrong_arguments_are_a_type_error_even_if_the_instance_exists() -> None:
    _Slow(1)
    with pytest.raises(TypeError, match="colour"):
        _Slow(colour="red")  # type: ignore[call-arg] # intended


def test_each_class_has_its_own_instance() -> None:
    first, second = _Slow(), _Other()
    assert first is not second  # type: ignore[comparison-overlap] # intended
    SingletonMeta.forget(_Other)
    assert _Slow() is first
    assert _Other() is not second


def test_failed_constructor_leaves_no_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="no luck"):
        _Broken()
    assert SingletonMeta.current(_Broken) is None
    monkeypatch.setattr(_Broken, "fails", False)
    assert _Broken() is _Broken()


def test_construction_after_forget_creates_a_new_instance() -> None:
    first = _Slow(1)
    SingletonMeta.forget(_Slow)
    assert SingletonMeta.current(_Slow) is None
    assert _Slow(2) is not first


@_FORKS
def test_forked_child_starts_without_instances() -> None:
    parents = _Slow(1)

    def check() -> bool:
        return SingletonMeta.current(_Slow) is None and _Slow(2) is not parents

    assert in_child(check)
    assert _Slow(1) is parents


@_FORKS
def test_child_forked_during_construction_does_not_deadlock() -> None:
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
def test_instance_does_not_leak_between_tests(size: int) -> None:
    assert SingletonMeta.current(_Slow) is None
    assert _Slow(size).size == size
