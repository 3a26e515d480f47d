"""Event loop with virtual time that jumps from timer to timer."""

from __future__ import annotations

import asyncio
import functools
import gc
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
_CANCEL_TIMEOUT_SECONDS = 3600.0


class DeadlockError(RuntimeError):
    """Nothing is ready and no timer is set: the program would wait forever."""


class WallClock:
    """Clock that follows virtual time plus an adjustable skew."""

    def __init__(self, skew: timedelta = timedelta()) -> None:
        self.skew = skew

    def now(self) -> datetime:
        """Return the date and time in UTC, skew included."""
        return START + timedelta(seconds=asyncio.get_running_loop().time()) + self.skew


def never_busy() -> float:
    """Return the seconds in which the loop was busy: code takes no virtual time."""
    return 0.0


class _JumpingSelector(selectors.SelectSelector):
    """Selector that moves the time forward instead of waiting."""

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
    """Task hashed by creation order, so that sets of tasks have a fixed order."""

    def __init__(self, coro: Coroutine[Any, Any, Any], number: int, **options: Any) -> None:
        self.number = number  # before Task.__init__, which puts the task into a set
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self.number


class VirtualEventLoop(asyncio.SelectorEventLoop):
    """Event loop whose order depends only on the program and its seeds."""

    def __init__(self) -> None:
        self._jumping_selector = _JumpingSelector()
        super().__init__(self._jumping_selector)
        self._task_numbers = itertools.count()
        self.set_task_factory(self._create_task)

    def time(self) -> float:
        return self._jumping_selector.time

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        # A thread would respond at a time that the seed does not decide.
        del executor
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - set on the future, as an executor does
            future.set_exception(error)
        return future

    def _create_task(
        self,
        _loop: asyncio.AbstractEventLoop,
        coro: Any,
        **options: Any,
    ) -> asyncio.Task[Any]:
        return _NumberedTask(coro, next(self._task_numbers), loop=self, **options)


def run(main: Callable[[], Coroutine[Any, Any, T]], *, seed: int | None = None) -> T:
    """Run a coroutine function on a new virtual loop and end the tasks that it leaves.

    Args:
        main: Coroutine function without arguments.
        seed: Seed of the global `random` during the run; its state is restored afterwards.

    Returns:
        The result of the coroutine.

    Raises:
        DeadlockError: All tasks wait and nothing can wake them.
    """
    loop = VirtualEventLoop()
    with _seeded_random(seed), _one_collection():
        try:
            return loop.run_until_complete(main())
        except DeadlockError as error:
            raise DeadlockError(f"{error}; waiting: {_waiting(loop)}") from None
        finally:
            _close(loop)


def simulated(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a coroutine test on a virtual loop."""

    @functools.wraps(test)
    def run_test(*args: P.args, **kwargs: P.kwargs) -> None:
        run(lambda: test(*args, **kwargs))

    return run_test


async def abandon(task: asyncio.Task[Any]) -> None:
    """Cancel a task repeatedly until it ends, because a killed process does not clean up."""
    for _ in range(_MAX_CANCELS):
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_TIMEOUT_SECONDS)
        if task.done():
            if not task.cancelled():
                task.exception()  # retrieved, so that asyncio does not warn
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


@contextmanager
def _one_collection() -> Iterator[None]:
    """Collect garbage only at the end of the block.

    Errors keep thousands of tasks in reference cycles. Collections during a run find them alive,
    and asyncio's set of all tasks is slow with those of earlier runs, whose hashes are the same.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.collect(0)  # contains all that was created since
        if was_enabled:
            gc.enable()


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
            # A task that calls a killed session in its clean-up hangs and is cancelled again.
            with suppress(DeadlockError):
                loop.run_until_complete(asyncio.wait(tasks, timeout=_CANCEL_TIMEOUT_SECONDS))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
