"""A repository that owns one DynamoDB resource and lends it."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

import aioboto3

from worker.aws.client import client_config, new_session
from worker.aws.fast_path.caller import Caller, open_caller
from worker.aws.sdk_errors import translating
from worker.errors import RepositoryClosedError, RepositoryLoopError
from worker.repository.singleton import SingletonMeta
from worker.settings import AWSSettings

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBServiceResource

# Under way at most; beyond them a read waits for its turn and not for a connection.
POLICY_READS: Final = 4


@dataclass(eq=False, slots=True)
class _Borrower:
    """Task that uses the resource now."""

    task: asyncio.Task[Any]
    cancelling: int
    interrupted: bool = False


class DynamoDBRepository(metaclass=SingletonMeta):
    """Own the session and the one open resource of a process.

    The resource is opened by its first user and closed by `aclose`. It belongs to the event loop
    that opened it: once that loop is closed, the next loop opens a new one.

    Args:
        aws_settings: region, endpoint, deadlines and concurrency.
        session: instead of one from the environment.
    """

    def __init__(self, aws_settings: AWSSettings, session: aioboto3.Session | None = None) -> None:
        self.aws_settings = aws_settings
        self.calls: Counter[str] = Counter()
        self._session = session
        self._process_id = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: asyncio.Task[DynamoDBServiceResource] | None = None
        self._resource: DynamoDBServiceResource | None = None
        self._caller: Caller | None = None
        self._stack = AsyncExitStack()
        self._borrowers: set[_Borrower] = set()
        self._closed = False

    @asynccontextmanager
    async def dynamodb_resource(self) -> AsyncIterator[DynamoDBServiceResource]:
        """Lend the shared resource; it stays open afterwards.

        Raises:
            RepositoryClosedError: `aclose` was called, before or while it was lent.
            RepositoryLoopError: another running loop, or the parent of this process, owns it.
            AWSError: credentials cannot be had.
        """
        self._check_owner()
        resource = await self._open_once() if self._resource is None else self._resource
        with self._borrowed():
            yield resource

    @contextmanager
    def _borrowed(self) -> Iterator[None]:
        """Let `aclose` end what the current task does, by an error and not by a cancellation."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in a coroutine
        borrower = _Borrower(task, task.cancelling())
        self._borrowers.add(borrower)
        cancelled = False
        try:
            yield
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            self._borrowers.discard(borrower)
            if borrower.interrupted and task.uncancel() <= borrower.cancelling and cancelled:
                raise self._closed_error() from None

    @asynccontextmanager
    async def dynamodb_caller(self) -> AsyncIterator[Caller]:
        """Lend the short way to the shared resource's writes.

        Raises:
            As `dynamodb_resource`.
        """
        async with self.dynamodb_resource():
            if self._caller is None:
                raise RepositoryClosedError(f"{type(self).__name__} is not open")
            yield self._caller

    def _closed_error(self) -> RepositoryClosedError:
        return RepositoryClosedError(
            f"{type(self).__name__} was closed: construct it anew after aclose()"
        )

    def _check_owner(self) -> None:
        if self._closed:
            raise self._closed_error()
        if self._process_id != os.getpid():
            raise RepositoryLoopError(
                f"{type(self).__name__} belongs to process {self._process_id}, from which this one "
                "was forked: construct it anew here"
            )
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None and not self._loop.is_closed():
            raise RepositoryLoopError(
                f"{type(self).__name__} is in use on another event loop: call it from that one"
            )
        self._adopt(loop)

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start afresh on a loop; the sockets of a closed one cannot be used any more."""
        self._loop = loop
        self._resource = None
        self._opening = None
        self._stack = AsyncExitStack()
        self._borrowers = set()

    async def _open_once(self) -> DynamoDBServiceResource:
        # A task of its own: a first caller that is cancelled does not fail the others.
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
            self._opening.add_done_callback(self._opening_ended)
        opening = self._opening
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            if opening.cancelled() and self._closed:
                self._check_owner()  # tells that it was closed meanwhile
            raise

    def _opening_ended(self, task: asyncio.Task[DynamoDBServiceResource]) -> None:
        # Where it failed, the next caller tries anew.
        if self._opening is task and (task.cancelled() or task.exception() is not None):
            self._opening = None

    async def _open(self) -> DynamoDBServiceResource:
        settings = self.aws_settings
        session = self._session or new_session()
        with translating("DynamoDB"):
            context: Any = session.resource(
                "dynamodb",
                region_name=settings.region,
                endpoint_url=settings.dynamodb_endpoint_url,
                config=client_config(
                    # Writes, as many lookups of duplicates, and a few reads of policies.
                    pool=2 * settings.write_concurrency + POLICY_READS,
                    read_timeout_seconds=settings.call_timeout_seconds,
                    attempts=3,
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
        """Close the resource; the object is then unusable and its class is free for a new one.

        Calls in flight are abandoned: they raise RepositoryClosedError, and no task is cancelled.
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
        for borrower in self._borrowers:
            if borrower.task is not asyncio.current_task():
                borrower.interrupted = True
                borrower.task.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _refuse_copy(self, *_: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is one per process and cannot be copied or pickled")

    __copy__ = __deepcopy__ = __reduce_ex__ = _refuse_copy
