"""Keep an event loop whose time never passes by itself: it jumps from timer to timer."""

from __future__ import annotations

import asyncio
import functools
import itertools
import math
import random
import selectors
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, TypeVarTuple, Unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from concurrent.futures import Executor

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
P = ParamSpec("P")

START = datetime(2026, 11, 22, 10, tzinfo=UTC)
_MAX_CANCELS = 50
_CANCEL_PATIENCE_SECONDS = 3600.0


class DeadlockError(RuntimeError):
    """Nothing is ready and no timer is set: the program would wait for ever."""


class WallClock:
    """Tell the date by virtual time, wrong by a skew that can be set at any moment."""

    def __init__(self, skew: timedelta = timedelta()) -> None:
        self.skew = skew

    def now(self) -> datetime:
        """Return the date and time in UTC, skew included."""
        return START + timedelta(seconds=asyncio.get_running_loop().time()) + self.skew


class _JumpingSelector(selectors.SelectSelector):
    """Stand in for the operating system: instead of waiting, move the time forward."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise DeadlockError("nothing is ready and no timer is set")
        # One step further than asked: where floats are coarser than the loop's resolution, a
        # timer that is due exactly now would never fire.
        self.time = math.nextafter(self.time + timeout, math.inf)
        return []


class _NumberedTask(asyncio.Task[Any]):
    """Hash by order of creation: sets of tasks, as in TaskGroup, then have one order."""

    def __init__(self, coro: Coroutine[Any, Any, Any], number: int, **options: Any) -> None:
        self.number = number  # before Task.__init__, which puts the task into a set
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self.number


class VirtualEventLoop(asyncio.SelectorEventLoop):
    """Run callbacks in one order that depends on nothing but the program and its seeds."""

    def __init__(self) -> None:
        self._jumping_selector = _JumpingSelector()
        super().__init__(self._jumping_selector)
        self._task_numbers = itertools.count()
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self._jumping_selector.time

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        # A thread would answer at a moment that no seed decides.
        del executor
        answer: asyncio.Future[T] = self.create_future()
        try:
            answer.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - the executor hands on whatever was raised
            answer.set_exception(error)
        return answer

    def _make_task(
        self,
        _loop: asyncio.AbstractEventLoop,
        coro: Any,
        **options: Any,
    ) -> asyncio.Task[Any]:
        return _NumberedTask(coro, next(self._task_numbers), loop=self, **options)


def run(main: Callable[[], Coroutine[Any, Any, T]], *, seed: int | None = None) -> T:
    """Run a coroutine function on a fresh virtual loop and end whatever it leaves behind.

    Args:
        main: Called without arguments, inside the loop.
        seed: Seeds the global `random` for the run; its state is put back afterwards.

    Returns:
        What the coroutine returned.

    Raises:
        DeadlockError: When all tasks wait for something that nobody will do.
    """
    loop = VirtualEventLoop()
    with _seeded_random(seed):
        try:
            return loop.run_until_complete(main())
        except DeadlockError as error:
            raise DeadlockError(f"{error}; waiting: {_waiting(loop)}") from None
        finally:
            _close(loop)


def simulated(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Turn a coroutine test into a plain one that runs on a virtual loop."""

    @functools.wraps(test)
    def run_test(*args: P.args, **kwargs: P.kwargs) -> None:
        run(lambda: test(*args, **kwargs))

    return run_test


async def abandon(task: asyncio.Task[Any]) -> None:
    """Cancel a task again and again until it ends, as its dead process would not clean up."""
    for _ in range(_MAX_CANCELS):
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_PATIENCE_SECONDS)
        if task.done():
            if not task.cancelled():
                task.exception()  # looked at, so that asyncio does not complain
            return
    raise RuntimeError(f"{task.get_name()} outlived {_MAX_CANCELS} cancellations")


@contextmanager
def _seeded_random(seed: int | None) -> Iterator[None]:
    if seed is None:
        yield
        return
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _tasks(loop: VirtualEventLoop) -> list[asyncio.Task[Any]]:
    return sorted(asyncio.all_tasks(loop), key=hash)


def _waiting(loop: VirtualEventLoop) -> str:
    return ", ".join(
        f"{task.get_name()} ({getattr(task.get_coro(), '__qualname__', '?')})"
        for task in _tasks(loop)
    )


def _close(loop: VirtualEventLoop) -> None:
    try:
        for _ in range(_MAX_CANCELS):
            tasks = _tasks(loop)
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            # A task that calls a dead session while it cleans up hangs: cancelled once more.
            with suppress(DeadlockError):
                loop.run_until_complete(asyncio.wait(tasks, timeout=_CANCEL_PATIENCE_SECONDS))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
