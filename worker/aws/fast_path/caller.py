"""Callers of AWS: the signed fast path, and the SDK.

The signed fast path uses the endpoint, credentials, connections and timeouts of an open SDK client.
It fills in and signs a prepared request, sends it and reads a successful response itself. Any other
outcome is passed to the client as if the client had sent the request: errors, hooks, retries and
the retry quota are those of the SDK. Hooks of the client do not see a call that succeeds at the
first attempt.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import aiohttp
import structlog
from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.client import AioBaseClient
from aiobotocore.credentials import AioCredentials
from botocore import xform_name
from botocore.exceptions import (
    BotoCoreError,
    ChecksumError,
    NoCredentialsError,
    ParamValidationError,
)

from worker.aws.connection import StrictSession
from worker.aws.fast_path.bodies import SAMPLES, read_response, request_body
from worker.aws.fast_path.exchange import Exchange
from worker.aws.fast_path.reader import Response
from worker.aws.fast_path.signature import RequestTemplate, UnsupportedClientError

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials
    from botocore.model import OperationModel

_log: Final = structlog.get_logger()

_CRC32: Final = "x-amz-crc32"
_OK: Final = 200
_FIRST_FAILURE: Final = 300
# A failure may take ten tokens from the SDK's retry quota, and a success that the SDK sees returns
# one (botocore/retries/standard.py). So this many calls go through the SDK after a failure.
_SDK_CALLS_AFTER_FAILURE: Final = 10
# Invocation ids have the form of a UUID: random digits of the process and the number of the call.
_PROCESS: Final = str(uuid.uuid4())[:-12]
_invocations: Final = itertools.count(1)
ResultT = TypeVar("ResultT")
# Reads a body and its headers; returns None if the response has to be read as any other.
ReadUsual = Callable[[bytes, Mapping[str, str]], ResultT | None]


class Caller:
    """Caller of AWS operations by name, through the methods of an SDK client.

    Args:
        client: Open client of the SDK.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    async def call(
        self,
        operation: str,
        request: Mapping[str, Any],
        read_usual: ReadUsual[ResultT] | None = None,  # noqa: ARG002 - the SDK reads responses
    ) -> dict[str, Any] | ResultT:
        """Call an operation and return its response.

        Args:
            operation: AWS's name of the operation.
            request: Arguments of the client's method.
            read_usual: Reader of a successful response, which some callers use to save time. What
                it returns, if not None, is returned in place of the response.

        Raises:
            ClientError: AWS returned an error.
            BotoCoreError: There was no response, or AWS cannot have sent it.
        """
        response: dict[str, Any] = await getattr(self._client, xform_name(operation))(**request)
        return response


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
    return Caller(client)


class _SampledError(Exception):
    """Raised in place of sending a request; holds the request that the SDK would have sent."""

    request: Any = None


# Outcome of the request that the SDK is about to send again.
_outcomes: Final[ContextVar[list[Response | Exception] | None]] = ContextVar(
    "_outcomes", default=None
)


class SignedCaller(Caller):
    """Caller on the signed fast path; see the module. Created by `open`."""

    def __init__(self, client: Any, clock: Callable[[], float]) -> None:
        super().__init__(client)
        self._credentials_of = client._get_credentials  # noqa: SLF001 - no public interface
        self._prepared: dict[str, tuple[RequestTemplate, Exchange, OperationModel]] = {}
        self._clock = clock
        self._second = -1
        self._formatted = ""
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
        meta = self._client.meta
        service_id = meta.service_model.service_id.hyphenize()
        for name, hook in (("before-send", self._send_instead), ("after-call", _check_crc32)):
            event = f"{name}.{service_id}.{operation}"
            meta.events.register_first(event, hook, unique_id=f"{__name__}.{event}")
        sampled = _SampledError()
        with contextlib.suppress(_SampledError):
            await self._sdk_call(operation, SAMPLES[operation], sampled)
        sample = sampled.request
        headers = {name: _text(value) for name, value in sample.headers.items()}
        if json.loads(request_body(operation, SAMPLES[operation])) != json.loads(sample.body):
            raise UnsupportedClientError(f"the SDK sends another {operation}")
        template = RequestTemplate(sample.url, headers, sample.body, await self._credentials())
        exchange = Exchange(await self._session(sample.url), sample.url)
        model = meta.service_model.operation_model(operation)
        self._prepared[operation] = template, exchange, model

    async def _session(self, url: str) -> aiohttp.ClientSession:
        http = self._client._endpoint.http_session  # noqa: SLF001 - no public interface
        proxies, session_of = http._proxy_config, http._get_session  # noqa: SLF001 - the same
        if type(http) is not StrictSession or proxies.proxy_url_for(url) is not None:
            raise UnsupportedClientError("requests go through a proxy or another HTTP library")
        session: aiohttp.ClientSession = await session_of(None)
        return session

    async def _credentials(self) -> ReadOnlyCredentials:
        credentials = self._credentials_of()
        if credentials is None:
            raise NoCredentialsError
        frozen: ReadOnlyCredentials = await credentials.get_frozen_credentials()
        return frozen

    async def call(
        self,
        operation: str,
        request: Mapping[str, Any],
        read_usual: ReadUsual[ResultT] | None = None,
    ) -> dict[str, Any] | ResultT:
        """Call an operation; see `Caller`."""
        if self._sdk_calls_due > 0:
            self._sdk_calls_due -= 1
            return await super().call(operation, request)
        template, exchange, model = self._prepared[operation]
        body = request_body(operation, request)
        credentials = self._credentials_of()
        if type(credentials) is not AioCredentials:  # static ones are read without awaiting
            credentials = await self._credentials()
        invocation_id = f"{_PROCESS}{next(_invocations):012x}"
        signed = template.fill(credentials, self._timestamp(), invocation_id, body)
        outcome: Response | BotoCoreError
        try:
            outcome = await exchange.post(signed)
        except BotoCoreError as error:
            outcome = error
        else:
            if outcome.status < _FIRST_FAILURE and _is_intact(outcome.headers, outcome.body):
                if read_usual is not None and outcome.status == _OK:
                    result = read_usual(outcome.body, outcome.headers)
                    if result is not None:
                        return result
                response = read_response(model, outcome.status, outcome.body)
                response["ResponseMetadata"] = _metadata(outcome)
                return response
        self._sdk_calls_due = _SDK_CALLS_AFTER_FAILURE
        return await self._sdk_call(operation, request, outcome)

    def _timestamp(self) -> str:
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._formatted = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        return self._formatted

    async def _sdk_call(
        self, operation: str, request: Mapping[str, Any], outcome: Response | Exception
    ) -> dict[str, Any]:
        """Call through the SDK, whose first request ends with the given outcome."""
        token = _outcomes.set([outcome])
        try:
            return await super().call(operation, request)
        finally:
            _outcomes.reset(token)

    async def _send_instead(self, request: Any, **_: object) -> AioAWSResponse | None:
        """Return or raise the known outcome in place of sending; return None to send."""
        known = _outcomes.get()
        if not known:
            return None
        outcome = known.pop()
        if isinstance(outcome, _SampledError):
            outcome.request = request
        if isinstance(outcome, Exception):
            raise outcome
        headers: Any = outcome.headers
        return AioAWSResponse(request.url, outcome.status, headers, outcome)


def _is_intact(headers: Mapping[str, str], body: bytes) -> bool:
    stated = headers.get(_CRC32)
    return stated is None or (stated.isdecimal() and int(stated) == zlib.crc32(body))


async def _check_crc32(http_response: Any, **_: object) -> None:
    """Raise ChecksumError where the SDK accepts a wrong CRC-32: after its last attempt."""
    headers, body = http_response.headers, await http_response.content
    if http_response.status_code < _FIRST_FAILURE and not _is_intact(headers, body):
        raise ChecksumError(
            checksum_type="crc32",
            expected_checksum=headers[_CRC32],
            actual_checksum=str(zlib.crc32(body)),
        )


def _metadata(response: Response) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "HTTPStatusCode": response.status,
        "HTTPHeaders": response.headers,
        "RetryAttempts": 0,
    }
    request_id = response.headers.get("x-amzn-requestid")
    if request_id is not None:
        metadata["RequestId"] = request_id
    return metadata


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
