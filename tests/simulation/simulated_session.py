"""Simulated aioboto3.Session that can be killed without clean-up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from botocore.exceptions import HTTPClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from tests.simulation.simulated_dynamodb import SimulatedDynamoDB
    from tests.simulation.simulated_sqs import SimulatedSQS

T = TypeVar("T")

_OPENING_SECONDS = 0.05


class SimulatedSession:
    """Session of one process; sessions may share services.

    Args:
        sqs: The simulated SQS.
        dynamodb: The simulated DynamoDB.
    """

    def __init__(self, sqs: SimulatedSQS, dynamodb: SimulatedDynamoDB) -> None:
        self.killed = False
        self.openings: list[tuple[str, str, dict[str, Any]]] = []
        self.open_count = 0
        self._services: dict[str, Any] = {"sqs": sqs, "dynamodb": dynamodb}

    def client(self, service_name: str, **options: Any) -> Opening[SimulatedClient]:
        """Return an async context manager that opens a client."""
        self.openings.append(("client", service_name, options))
        client = SimulatedClient(self._services[service_name], self)
        return Opening(client, client, self)

    def resource(self, service_name: str, **options: Any) -> Opening[SimulatedResource]:
        """Return an async context manager that opens a resource with a `meta.client`."""
        self.openings.append(("resource", service_name, options))
        client = SimulatedClient(self._services[service_name], self)
        return Opening(SimulatedResource(SimulatedMeta(client)), client, self)

    def kill(self) -> None:
        """Kill the session: its calls neither take effect nor return any more."""
        self.killed = True


class SimulatedClient:
    """Client that forwards calls to a simulated service until the process is killed."""

    def __init__(self, service: Any, session: SimulatedSession) -> None:
        self._service = service
        self._session = session
        self._is_open = False

    def __getattr__(self, operation: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        if operation.startswith("_"):
            raise AttributeError(operation)
        call = partial(self._call, getattr(self._service, operation))
        setattr(self, operation, call)
        return call

    async def _call(self, operation: Callable[..., Any], **request: Any) -> Any:
        if not self._is_open:
            raise HTTPClientError(error="Session is closed")
        return await _KillableCall(operation(**request), self._session)


@dataclass(frozen=True, slots=True)
class SimulatedMeta:
    """`meta` of a resource, with its client."""

    client: SimulatedClient


@dataclass(slots=True)
class SimulatedResource:
    """Simulated DynamoDB resource."""

    meta: SimulatedMeta


@dataclass(slots=True, eq=False)
class Opening(Generic[T]):
    """Context manager that opens and closes a client or resource."""

    opened: T
    _client: SimulatedClient = field(repr=False)
    _session: SimulatedSession = field(repr=False)

    async def __aenter__(self) -> T:
        await _KillableCall(asyncio.sleep(_OPENING_SECONDS), self._session)
        self._client._is_open = True
        self._session.open_count += 1
        return self.opened

    async def __aexit__(self, *_: object) -> None:
        if self._client._is_open:
            self._client._is_open = False
            self._session.open_count -= 1
        await asyncio.sleep(0)


class _KillableCall:
    """Awaitable that runs a call step by step and stops when the process is killed."""

    def __init__(self, call: Coroutine[Any, Any, Any], session: SimulatedSession) -> None:
        self._call = call
        self._session = session

    def __await__(self) -> Generator[Any, Any, Any]:
        call = self._call
        error: BaseException | None = None
        while not self._session.killed:
            try:
                awaited = call.send(None) if error is None else call.throw(error)
            except StopIteration as end:
                return end.value
            error = None
            try:
                yield awaited
            except GeneratorExit:
                call.close()
                raise
            except BaseException as thrown:  # noqa: BLE001 - thrown into the call next
                error = thrown
        call.close()
        if error is not None:
            raise error
        return (yield from asyncio.get_running_loop().create_future())
