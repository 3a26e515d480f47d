"""Call AWS over a client of the SDK, but past most of the SDK.

The open client gives address, credentials, connections and time limits. What every call needs is
done here: a prepared form is filled in, signed and sent, and a good answer read. Anything else that
comes back is handed to the client as if it had sent the request itself: so errors, hooks, retries
and their quota are the SDK's own. Hooks on the client see nothing of a call that succeeds at once.
"""

from __future__ import annotations

import contextlib
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Final, Protocol, Self

import aiohttp
import structlog
from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.client import AioBaseClient
from botocore import xform_name
from botocore.exceptions import (
    BotoCoreError,
    ChecksumError,
    NoCredentialsError,
    ParamValidationError,
)

from worker.aws.connection import StrictSession
from worker.aws.fast_path.bodies import SAMPLES, read_answer, request_body
from worker.aws.fast_path.exchange import Answer, Exchange
from worker.aws.fast_path.signature import Credentials, RequestForm, UnsupportedClientError

_log: Final = structlog.get_logger()

_CRC32: Final = "x-amz-crc32"
_FIRST_FAILURE: Final = 300
# A failure may take ten from the SDK's quota of retries, and each success that the SDK sees gives
# back one (botocore/retries/standard.py): so many calls go its way after a failure.
_STOCK_CALLS_AFTER_FAILURE: Final = 10


class Caller(Protocol):
    """Call AWS by an operation's name."""

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Call.

        Args:
            operation: AWS's name of it.
            request: what the client's method takes.

        Raises:
            ClientError: AWS refused.
            BotoCoreError: there was no answer, or none that can be believed.
        """


async def open_caller(client: Any, operations: Iterable[str], *, fast: bool = True) -> Caller:
    """Find the fastest way that a client allows.

    Args:
        client: an open client of the SDK; for DynamoDB that of a resource. The caller ends with it.
        operations: all that will be called.
        fast: whether to look for another way than the SDK's own.

    Raises:
        BotoCoreError: credentials cannot be had.
    """
    if fast:
        try:
            return await SignedCaller.open(client, operations)
        except UnsupportedClientError as error:
            _log.warning("calls to AWS take the SDK's own, slower way", reason=str(error))
    return StockCaller(client)


class StockCaller:
    """Call as the SDK does."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Call."""
        answer: dict[str, Any] = await getattr(self._client, xform_name(operation))(**request)
        return answer


class _SampledError(Exception):
    """Keeps the SDK from sending, and the request that it would have sent."""

    request: Any = None


# What became of the request that the SDK is about to send.
_outcomes: Final[ContextVar[list[Answer | Exception] | None]] = ContextVar(
    "_outcomes", default=None
)


class SignedCaller:
    """Call by requests that are signed here, as the module tells. Made by `open`."""

    def __init__(self, client: AioBaseClient, clock: Callable[[], float]) -> None:
        inside: Any = client
        self._credentials_of = inside._get_credentials  # noqa: SLF001 - there is no other way
        self._http = inside._endpoint.http_session  # noqa: SLF001 - the same
        self._events: Any = client.meta.events
        self._service_model: Any = client.meta.service_model
        self._service_id = self._service_model.service_id.hyphenize()
        self._stock = StockCaller(client)
        self._ways: dict[str, tuple[RequestForm, Exchange, frozenset[str] | None]] = {}
        self._clock = clock
        self._stamped = (0, "")
        self._stock_calls_due = 0

    @classmethod
    async def open(
        cls, client: Any, operations: Iterable[str], *, clock: Callable[[], float] = time.time
    ) -> Self:
        """Prepare the operations by what the SDK itself would send, and compare.

        Args:
            client: as `open_caller` takes it.
            operations: all that will be called, of `SAMPLES`.
            clock: gives the seconds since 1970.

        Raises:
            UnsupportedClientError: we would not send the same, or cannot send it.
            BotoCoreError: credentials cannot be had.
        """
        if not isinstance(client, AioBaseClient):
            raise UnsupportedClientError(f"{type(client).__name__} is no client of aiobotocore")
        try:
            caller = cls(client, clock)
            for operation in operations:
                await caller._prepare(operation)
        except (AttributeError, TypeError, ValueError, KeyError, ParamValidationError) as error:
            raise UnsupportedClientError(f"the SDK is not as we know it: {error!r}") from error
        return caller

    async def _prepare(self, operation: str) -> None:
        hooks: dict[str, Any] = {
            f"before-send.{self._service_id}.{operation}": self._send_instead,
            f"after-call.{self._service_id}.{operation}": _check_crc32,
        }
        for event, hook in hooks.items():
            self._events.register_first(event, hook, unique_id=f"{__name__}.{event}")
        sampled = _SampledError()
        with contextlib.suppress(_SampledError):
            await self._stock_call(operation, SAMPLES[operation], sampled)
        sample = sampled.request
        headers = {name: _text(value) for name, value in sample.headers.items()}
        body = request_body(operation, SAMPLES[operation])
        form = RequestForm(sample.url, headers, body, await self._credentials())
        exchange = Exchange(await self._session(form.url), form.url)
        self._ways[operation] = form, exchange, self._members(operation)

    def _members(self, operation: str) -> frozenset[str] | None:
        shape = self._service_model.operation_model(operation).output_shape
        return frozenset(shape.members) if shape is not None else None

    async def _session(self, url: str) -> aiohttp.ClientSession:
        proxies, session_of = self._http._proxy_config, self._http._get_session  # noqa: SLF001 - there is no other way
        if type(self._http) is not StrictSession or proxies.proxy_url_for(url) is not None:
            raise UnsupportedClientError("requests go through a proxy, or another HTTP library")
        session: aiohttp.ClientSession = await session_of(None)
        return session

    async def _credentials(self) -> Credentials:
        credentials = self._credentials_of()
        if credentials is None:
            raise NoCredentialsError
        frozen: Credentials = await credentials.get_frozen_credentials()
        return frozen

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Call."""
        if self._stock_calls_due > 0:
            self._stock_calls_due -= 1
            return await self._stock.call(operation, request)
        outcome = await self._send(operation, request_body(operation, request))
        if isinstance(outcome, Answer) and outcome.status < _FIRST_FAILURE and _is_intact(outcome):
            members = self._ways[operation][2]
            answer = read_answer(operation, members, outcome.status, outcome.body)
            return answer | _metadata(outcome)
        self._stock_calls_due = _STOCK_CALLS_AFTER_FAILURE
        return await self._stock_call(operation, request, outcome)

    async def _send(self, operation: str, body: bytes) -> Answer | BotoCoreError:
        form, exchange, _ = self._ways[operation]
        credentials = await self._credentials()
        request = form.fill(credentials, self._stamp(), str(uuid.uuid4()), body)
        try:
            return await exchange.post(request)
        except BotoCoreError as error:
            return error

    def _stamp(self) -> str:
        now = int(self._clock())
        if now != self._stamped[0]:
            self._stamped = (now, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)))
        return self._stamped[1]

    async def _stock_call(
        self, operation: str, request: Mapping[str, Any], outcome: Answer | Exception
    ) -> dict[str, Any]:
        """Let the SDK call, and believe that its first request had this outcome."""
        token = _outcomes.set([outcome])
        try:
            return await self._stock.call(operation, request)
        finally:
            _outcomes.reset(token)

    async def _send_instead(self, request: Any, **_: Any) -> AioAWSResponse | None:
        """Give the SDK an answer or error in place of sending; None where it is to send."""
        outcome: Answer | Exception
        if known := _outcomes.get():
            outcome = known.pop()
        else:
            return None
        if isinstance(outcome, _SampledError):
            outcome.request = request
        if isinstance(outcome, Exception):
            raise outcome
        headers: Any = {name.lower(): value for name, value in outcome.headers.items()}
        return AioAWSResponse(request.url, outcome.status, headers, outcome)


def _is_intact(answer: Answer) -> bool:
    stated = answer.headers.get(_CRC32)
    return stated is None or (stated.isdecimal() and int(stated) == zlib.crc32(answer.body))


async def _check_crc32(http_response: Any, **_: Any) -> None:
    """Refuse what the SDK believes when its attempts are used up."""
    if http_response.status_code < _FIRST_FAILURE:
        body = await http_response.content
        answer = Answer(http_response.status_code, http_response.headers, body)
        if not _is_intact(answer):
            raise ChecksumError(
                checksum_type="crc32",
                expected_checksum=answer.headers[_CRC32],
                actual_checksum=str(zlib.crc32(body)),
            )


def _metadata(answer: Answer) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "HTTPStatusCode": answer.status,
        "HTTPHeaders": answer.headers,  # whatever the case of its names, they are found
        "RetryAttempts": 0,
    }
    request_id = answer.headers.get("x-amzn-requestid")
    if request_id is not None:
        metadata["RequestId"] = request_id
    return {"ResponseMetadata": metadata}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
