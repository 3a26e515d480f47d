"""Base of a repository that owns one shared DynamoDB resource."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

import aioboto3

from worker.aws.client import SDK_ATTEMPTS, client_config, new_session
from worker.aws.fast_path.caller import Caller, open_caller
from worker.aws.sdk_errors import translating
from worker.errors import RepositoryClosedError, RepositoryLoopError
from worker.repository.singleton import SingletonMeta
from worker.settings import AWSSettings

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBServiceResource

# Maximum concurrent policy reads: further ones wait here instead of for a connection.
POLICY_READS: Final = 4


@dataclass(eq=False, slots=True)
class _Use:
    """Use of the resource by one task."""

    task: asyncio.Task[Any]
    cancelling: int
    interrupted: bool = False


class _Forks:
    """Number of forks from the first process to this one; comparing it needs no system call."""

    count = 0


def _count_fork() -> None:
    _Forks.count += 1


os.register_at_fork(after_in_child=_count_fork)


class DynamoDBRepository(metaclass=SingletonMeta):
    """Owner of the session and of the only open resource of a process.

    The first use opens the resource and `aclose` closes it. It belongs to the event loop that
    opened it; once that loop is closed, the next loop opens a new resource.

    Args:
        aws_settings: Region, endpoint, deadlines and concurrency.
        session: Session to use instead of one from the environment.
    """

    def __init__(self, aws_settings: AWSSettings, session: aioboto3.Session | None = None) -> None:
        self.aws_settings = aws_settings
        self.calls: Counter[str] = Counter()
        self._session = session
        self._open_session: aioboto3.Session | None = None
        self._process_id = os.getpid()
        self._forks = _Forks.count
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0  # of the thread that runs the loop
        self._closed = False

    @property
    def session(self) -> aioboto3.Session:
        """Session of the SDK for the current event loop; other clients may share it.

        Raises:
            AUPError: As `check_owner` and `new_session` raise.
        """
        self.check_owner()
        if self._open_session is None:
            self._open_session = self._session or new_session()
        return self._open_session

    @asynccontextmanager
    async def dynamodb_resource(self) -> AsyncIterator[DynamoDBServiceResource]:
        """Yield the shared resource; it stays open afterwards.

        Raises:
            RepositoryClosedError: `aclose` was called before or during the use.
            RepositoryLoopError: The resource belongs to another running event loop, or to the
                parent process.
            AWSError: No credentials are available.
        """
        self.check_owner()
        resource = await self._open_once() if self._resource is None else self._resource
        with self._in_use():
            yield resource

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """Turn an interruption by `aclose` into an error instead of a cancellation."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - called from a coroutine
        use = _Use(task, task.cancelling())
        self._uses.add(use)
        cancelled = False
        try:
            yield
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            self._uses.discard(use)
            if use.interrupted and task.uncancel() <= use.cancelling and cancelled:
                raise self._closed_error() from None

    @asynccontextmanager
    async def dynamodb_caller(self) -> AsyncIterator[Caller]:
        """Yield the caller that sends writes on the signed fast path where possible.

        Raises:
            AUPError: As `dynamodb_resource` raises.
        """
        async with self.dynamodb_resource():
            yield self._caller

    def _closed_error(self) -> RepositoryClosedError:
        return RepositoryClosedError(
            f"{type(self).__name__} is closed; construct a new one after aclose()"
        )

    def check_owner(self) -> None:
        """Raise unless the caller may use the repository; bind it to a new event loop.

        Raises:
            RepositoryClosedError: `aclose` was called.
            RepositoryLoopError: Another event loop or the parent process owns the repository.
        """
        if self._closed:
            raise self._closed_error()
        if self._forks != _Forks.count:
            raise RepositoryLoopError(
                f"{type(self).__name__} belongs to process {self._process_id}, which forked this "
                "one; construct a new one in this process"
            )
        # Each call passes here, and `get_running_loop` is slow: it calls getpid.
        if self._thread_id == get_ident() and self._loop is not None and self._loop.is_running():
            return
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            self._thread_id = get_ident()
            return
        if self._loop is not None and not self._loop.is_closed():
            raise RepositoryLoopError(
                f"{type(self).__name__} is in use on another event loop; use it on that loop only"
            )
        self._bind(loop)

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Reset for a new event loop; the sockets of a closed loop are unusable."""
        self._loop = loop
        self._open_session = None
        self._thread_id = get_ident()
        self._resource: DynamoDBServiceResource | None = None
        self._opening: asyncio.Task[DynamoDBServiceResource] | None = None
        self._stack = AsyncExitStack()
        self._uses: set[_Use] = set()

    async def _open_once(self) -> DynamoDBServiceResource:
        # A separate task: cancelling the first caller must not fail the others.
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
            self._opening.add_done_callback(self._opening_ended)
        opening = self._opening
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            if opening.cancelled() and self._closed:
                self.check_owner()  # raises RepositoryClosedError
            raise

    def _opening_ended(self, task: asyncio.Task[DynamoDBServiceResource]) -> None:
        # After a failure the next caller tries again.
        if self._opening is task and (task.cancelled() or task.exception() is not None):
            self._opening = None

    async def _open(self) -> DynamoDBServiceResource:
        settings = self.aws_settings
        session = self.session
        with translating("DynamoDB"):
            context: Any = session.resource(
                "dynamodb",
                region_name=settings.region,
                endpoint_url=settings.dynamodb_endpoint_url,
                config=client_config(
                    # Writes, as many look-ups of duplicates, and a few reads of policies.
                    pool=2 * settings.write_concurrency + POLICY_READS,
                    read_timeout_seconds=settings.call_timeout_seconds,
                    attempts=SDK_ATTEMPTS,
                ),
            )
            async with AsyncExitStack() as stack:
                resource: DynamoDBServiceResource = await stack.enter_async_context(context)
                self._caller = await open_caller(
                    resource.meta.client,
                    ("BatchExecuteStatement", "PutItem"),
                    fast=settings.fast_calls,
                )
                self._stack = stack.pop_all()
        self._resource = resource
        return resource

    async def aclose(self) -> None:
        """Close the resource; the object is then unusable and a new one can be constructed.

        Calls in flight raise RepositoryClosedError; their tasks are not cancelled.
        """
        if self._closed:
            return
        self._closed = True
        if SingletonMeta.current(type(self)) is self:
            SingletonMeta.forget(type(self))
        if self._process_id == os.getpid() and self._loop is asyncio.get_running_loop():
            if self._opening is not None and not self._opening.done():
                self._opening.cancel()
                await asyncio.gather(self._opening, return_exceptions=True)
            self._interrupt()
            await self._stack.aclose()
        self._resource = None

    def _interrupt(self) -> None:
        for use in self._uses:
            if use.task is not asyncio.current_task():
                use.interrupted = True
                use.task.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _refuse_copy(self, *_: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is a singleton and cannot be copied or pickled")

    __copy__ = __deepcopy__ = __reduce_ex__ = _refuse_copy
