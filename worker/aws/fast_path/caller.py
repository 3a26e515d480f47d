"""Callers of AWS: the signed fast path, and the SDK.

The signed fast path uses the endpoint, credentials, connections and timeouts of an open SDK client.
It fills in and signs a prepared request, sends it and reads a successful response itself. Any other
outcome is passed to the client as if the client had sent the request: errors, hooks, retries and
the retry quota are those of the SDK. Hooks of the client do not see a call that succeeds at the
first attempt.
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
from worker.aws.fast_path.bodies import SAMPLES, read_response, request_body
from worker.aws.fast_path.exchange import Exchange, Response
from worker.aws.fast_path.signature import (
    RequestTemplate,
    SigningCredentials,
    UnsupportedClientError,
)

_log: Final = structlog.get_logger()

_CRC32: Final = "x-amz-crc32"
_FIRST_FAILURE: Final = 300
# A failure may take ten tokens from the SDK's retry quota, and a success that the SDK sees returns
# one (botocore/retries/standard.py). So this many calls go through the SDK after a failure.
_SDK_CALLS_AFTER_FAILURE: Final = 10


class Caller(Protocol):
    """Caller of AWS operations by name."""

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Call an operation and return its response.

        Args:
            operation: AWS's name of the operation.
            request: Arguments of the client's method.

        Raises:
            ClientError: AWS returned an error.
            BotoCoreError: There was no response, or AWS cannot have sent it.
        """


async def open_caller(client: Any, operations: Iterable[str], *, fast: bool = True) -> Caller:
    """Open the fastest caller that a client supports.

    Args:
        client: Open client of the SDK; for DynamoDB, the client of a resource. The caller can be
            used until the client is closed.
        operations: All operations that will be called.
        fast: Whether to use the signed fast path if possible.

    Raises:
        BotoCoreError: Credentials cannot be retrieved.
    """
    if fast:
        try:
            return await SignedCaller.open(client, operations)
        except UnsupportedClientError as error:
            _log.warning("signed fast path unavailable, using the slower SDK", reason=str(error))
    return SDKCaller(client)


class SDKCaller:
    """Caller that uses the methods of an SDK client.

    Args:
        client: Open client of the SDK.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Call an operation; see `Caller`."""
        response: dict[str, Any] = await getattr(self._client, xform_name(operation))(**request)
        return response


class _SampledError(Exception):
    """Raised in place of sending a request; holds the request that the SDK would have sent."""

    request: Any = None


# Outcome of the request that the SDK is about to send again.
_outcomes: Final[ContextVar[list[Response | Exception] | None]] = ContextVar(
    "_outcomes", default=None
)


class SignedCaller:
    """Caller on the signed fast path; see the module. Created by `open`."""

    def __init__(self, client: AioBaseClient, clock: Callable[[], float]) -> None:
        private: Any = client
        self._credentials_of = private._get_credentials  # noqa: SLF001 - no public interface
        self._http = private._endpoint.http_session  # noqa: SLF001 - the same
        self._events: Any = client.meta.events
        self._service_model: Any = client.meta.service_model
        self._service_id = self._service_model.service_id.hyphenize()
        self._sdk = SDKCaller(client)
        self._prepared: dict[str, tuple[RequestTemplate, Exchange, frozenset[str] | None]] = {}
        self._clock = clock
        self._timestamp_cache = (0, "")
        self._sdk_calls_due = 0

    @classmethod
    async def open(
        cls, client: Any, operations: Iterable[str], *, clock: Callable[[], float] = time.time
    ) -> Self:
        """Prepare operations from sample requests of the SDK and compare the signatures.

        Args:
            client: Open client of the SDK; see `open_caller`.
            operations: All operations that will be called; each one of `SAMPLES`.
            clock: Returns the time in seconds since 1970.

        Raises:
            UnsupportedClientError: The requests would differ from the SDK's, or cannot be sent.
            BotoCoreError: Credentials cannot be retrieved.
        """
        if not isinstance(client, AioBaseClient):
            raise UnsupportedClientError(f"{type(client).__name__} is not a client of aiobotocore")
        try:
            caller = cls(client, clock)
            for operation in operations:
                await caller._prepare(operation)
        except (AttributeError, TypeError, ValueError, KeyError, ParamValidationError) as error:
            raise UnsupportedClientError(
                f"this version of the SDK is not supported: {error!r}"
            ) from error
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
            await self._sdk_call(operation, SAMPLES[operation], sampled)
        sample = sampled.request
        headers = {name: _text(value) for name, value in sample.headers.items()}
        body = request_body(operation, SAMPLES[operation])
        template = RequestTemplate(sample.url, headers, body, await self._credentials())
        exchange = Exchange(await self._session(template.url), template.url)
        self._prepared[operation] = template, exchange, self._members(operation)

    def _members(self, operation: str) -> frozenset[str] | None:
        shape = self._service_model.operation_model(operation).output_shape
        return frozenset(shape.members) if shape is not None else None

    async def _session(self, url: str) -> aiohttp.ClientSession:
        proxies, session_of = self._http._proxy_config, self._http._get_session  # noqa: SLF001 - no public interface
        if type(self._http) is not StrictSession or proxies.proxy_url_for(url) is not None:
            raise UnsupportedClientError("requests go through a proxy or another HTTP library")
        session: aiohttp.ClientSession = await session_of(None)
        return session

    async def _credentials(self) -> SigningCredentials:
        credentials = self._credentials_of()
        if credentials is None:
            raise NoCredentialsError
        frozen: SigningCredentials = await credentials.get_frozen_credentials()
        return frozen

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Call an operation; see `Caller`."""
        if self._sdk_calls_due > 0:
            self._sdk_calls_due -= 1
            return await self._sdk.call(operation, request)
        outcome = await self._send(operation, request_body(operation, request))
        if (
            isinstance(outcome, Response)
            and outcome.status < _FIRST_FAILURE
            and _is_intact(outcome)
        ):
            members = self._prepared[operation][2]
            response = read_response(operation, members, outcome.status, outcome.body)
            return response | _metadata(outcome)
        self._sdk_calls_due = _SDK_CALLS_AFTER_FAILURE
        return await self._sdk_call(operation, request, outcome)

    async def _send(self, operation: str, body: bytes) -> Response | BotoCoreError:
        template, exchange, _ = self._prepared[operation]
        credentials = await self._credentials()
        request = template.fill(credentials, self._timestamp(), str(uuid.uuid4()), body)
        try:
            return await exchange.post(request)
        except BotoCoreError as error:
            return error

    def _timestamp(self) -> str:
        now = int(self._clock())
        if now != self._timestamp_cache[0]:
            self._timestamp_cache = (now, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)))
        return self._timestamp_cache[1]

    async def _sdk_call(
        self, operation: str, request: Mapping[str, Any], outcome: Response | Exception
    ) -> dict[str, Any]:
        """Call through the SDK, whose first request ends with the given outcome."""
        token = _outcomes.set([outcome])
        try:
            return await self._sdk.call(operation, request)
        finally:
            _outcomes.reset(token)

    async def _send_instead(self, request: Any, **_: Any) -> AioAWSResponse | None:
        """Return or raise the known outcome in place of sending; return None to send."""
        outcome: Response | Exception
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


def _is_intact(response: Response) -> bool:
    stated = response.headers.get(_CRC32)
    return stated is None or (stated.isdecimal() and int(stated) == zlib.crc32(response.body))


async def _check_crc32(http_response: Any, **_: Any) -> None:
    """Raise ChecksumError where the SDK accepts a wrong CRC-32: after its last attempt."""
    if http_response.status_code < _FIRST_FAILURE:
        body = await http_response.content
        response = Response(http_response.status_code, http_response.headers, body)
        if not _is_intact(response):
            raise ChecksumError(
                checksum_type="crc32",
                expected_checksum=response.headers[_CRC32],
                actual_checksum=str(zlib.crc32(body)),
            )


def _metadata(response: Response) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "HTTPStatusCode": response.status,
        "HTTPHeaders": response.headers,  # case-insensitive
        "RetryAttempts": 0,
    }
    request_id = response.headers.get("x-amzn-requestid")
    if request_id is not None:
        metadata["RequestId"] = request_id
    return {"ResponseMetadata": metadata}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
