"""How we call AWS: client configuration, a deadline on every call, and errors by what to do."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from decimal import DecimalException
from types import TracebackType
from typing import Any, Final, TypeVar

import aioboto3
import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioCredentials, AioRefreshableCredentials
from aiobotocore.session import AioSession
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    CredentialRetrievalError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)
from botocore.parsers import ResponseParserError

from worker import __version__
from worker.aws.connection import StrictSession
from worker.aws.sdk_files import certificate_problem, config_problems, token_problems
from worker.errors import (
    AWSDeniedError,
    AWSError,
    AWSNotFoundError,
    AWSRejectedError,
    AWSThrottledError,
    AWSUnavailableError,
    AWSUnsupportedError,
    LeaseLostError,
    SettingsError,
)
from worker.runtime.redaction import digest, error_code, error_text

ClientT = TypeVar("ClientT")
EntryT = TypeVar("EntryT")
ResultT = TypeVar("ResultT")
Calling = Callable[..., AbstractAsyncContextManager[None]]

# It has no handler of its own: without one Python prints what it logs, traceback and all, each time
# that credentials cannot be renewed. Whoever calls gets the same as an error.
logging.getLogger("aiobotocore").addHandler(logging.NullHandler())

# Amazon SQS and DynamoDB API references, "Common errors" and each action's "Errors".
_THROTTLED: Final = {
    "KmsThrottled", "KMS.ThrottlingException", "LimitExceededException", "OverLimit",
    "ProvisionedThroughputExceeded", "ProvisionedThroughputExceededException",
    "RequestLimitExceeded", "RequestThrottled", "RequestThrottledException", "SlowDown",
    "Throttling", "ThrottlingError", "ThrottlingException", "TooManyRequestsException",
    "TransactionConflict", "TransactionConflictException",
}  # fmt: skip
_NO_PERMISSION: Final = {"AccessDenied", "AccessDeniedException", "NotAuthorized"}
_STALE_CREDENTIALS: Final = {
    "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId",
    "UnrecognizedClientException",
}  # fmt: skip
_SKEWED_CLOCK: Final = {"RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"}
_DENIED: Final = _NO_PERMISSION | _STALE_CREDENTIALS | _SKEWED_CLOCK | {
    "401", "403", "407", "AuthFailure", "IncompleteSignature", "IncompleteSignatureException",
    "InvalidSecurity", "InvalidSignatureException", "KMS.AccessDeniedException",
    "KMS.DisabledException", "KMS.InvalidStateException", "KMS.NotFoundException",
    "KMS.OptInRequired", "KmsAccessDenied", "KmsDisabled", "KmsInvalidState", "KmsNotFound",
    "KmsOptInRequired", "MissingAuthenticationToken", "MissingAuthenticationTokenException",
    "OptInRequired", "SignatureDoesNotMatch",
}  # fmt: skip
_NOT_FOUND: Final = {
    "InvalidAddress", "NonExistentQueue", "QueueDoesNotExist", "ResourceNotFound",
    "ResourceNotFoundException", "TableNotFoundException",
}  # fmt: skip
_LEASE_LOST: Final = {"InvalidReceiptHandle", "MessageNotInflight", "ReceiptHandleIsInvalid"}
_REJECTED: Final = {
    "413", "BatchEntryIdsNotDistinct", "BatchRequestTooLong", "ConditionalCheckFailed",
    "ConditionalCheckFailedException", "DuplicateItem", "EmptyBatchRequest",
    "InvalidAttributeName",
    "InvalidAttributeValue", "InvalidMessageContents", "InvalidParameterCombination",
    "InvalidParameterValue", "ItemCollectionSizeLimitExceeded",
    "ItemCollectionSizeLimitExceededException", "MalformedQueryString", "MissingParameter",
    "ResourceInUseException",
    "SerializationException", "ValidationError", "ValidationException",
}  # fmt: skip
# Servers other than AWS: an operation that they lack (PartiQL, for one).
_UNSUPPORTED: Final = {
    "501", "InvalidAction", "NotImplemented", "UnknownOperation", "UnknownOperationException",
    "UnsupportedOperation", "UnsupportedOperationException",
}  # fmt: skip
_BY_CODE: Final[dict[str, type[AWSError]]] = {
    code: error
    for error, codes in (
        (AWSThrottledError, _THROTTLED),
        (AWSDeniedError, _DENIED),
        (AWSNotFoundError, _NOT_FOUND),
        (AWSUnsupportedError, _UNSUPPORTED),
        (LeaseLostError, _LEASE_LOST),
        (AWSRejectedError, _REJECTED),
    )
    for code in codes
}
_WRONG_SETTINGS: Final = (NoRegionError, InvalidRegionError, ProfileNotFound, ConfigParseError)
_CREDENTIALS_MISSING: Final = (
    NoCredentialsError, PartialCredentialsError, CredentialRetrievalError,
)  # fmt: skip
# What AWS writes under codes that a wrong key has too; in both services' common errors.
_CLOCK_WORDS: Final = ("signature expired", "signature not yet current")
_KMS_DENIED: Final = {"KMS.AccessDeniedException", "KmsAccessDenied"}
_KMS_UNUSABLE: Final = {
    "KMS.DisabledException", "KMS.InvalidStateException", "KMS.NotFoundException", "KmsDisabled",
    "KmsInvalidState", "KmsNotFound",
}  # fmt: skip
# AWS Key Management Service developer guide, "Troubleshooting key access".
_KMS_KEY: Final = re.compile(
    r"perform: (?P<action>kms:\w{1,40})(?: on (?:the )?resource: (?P<key>[\w:/.-]{1,200}[\w]))?"
)
KMS_ADVICE: Final = "; allow "
GRANT_ADVICE: Final = "; grant the permissions that the README lists"
_NO_CREDENTIALS: Final = "no usable AWS credentials"
# botocore.credentials: with less than that left to credentials, calls wait for new ones.
_HELD_BACK_SECONDS: Final = 600
# How long a failure to fetch them answers for the next calls too.
_PAUSE_SECONDS: Final = 1.0
# What reading a response raises whose shape is not the operation's, in the SDK and in this code.
_UNREADABLE: Final = (
    AttributeError, DecimalException, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip
# AWS quotes the value that it finds wrong, which may be a message's own.
_QUOTED: Final = re.compile(r"(?<!\w)([\"'`]).*\1(?!\w)|(?<=Value ).*(?= for parameter)", re.DOTALL)
_MEMBER: Final = re.compile(r"'[A-Z][A-Za-z]{2,30}'")
_NEVER_QUOTING: Final = (AWSDeniedError, AWSNotFoundError)
_OK: Final = 200
_FIRST_ERROR: Final = 300
# Operations of which an empty body says as much as an empty object, and loses nothing.
_HARMLESS_IF_EMPTY: Final = {"ReceiveMessage"}
_GIVE_CREDENTIALS: Final = "give this process a role, a profile or keys that work"


def error_of(code: str, message: str) -> AWSError:
    """Turn AWS's error code into the error that says what to do.

    Args:
        code: as in `Error.Code`, or of one entry of a batch; namespaces are dropped.
        message: AWS's own words; values that it quotes are left out where they may be private.

    Returns:
        An unknown code counts as passing: the call is tried again.
    """
    short = code.rsplit("#", maxsplit=1)[-1]
    kind = _BY_CODE.get(short) or _BY_CODE.get(short.rsplit(".", maxsplit=1)[-1])
    kind = kind or AWSUnavailableError
    words = message if kind in _NEVER_QUOTING else _QUOTED.sub("…", message)
    return kind(f"{error_code(short)}: {_line(words) or 'no message'}{_hint(short, message)}")


def code_of(error: AWSError) -> str:
    """Return AWS's code of an error that `translating` raised; empty if it had none."""
    cause = error.__cause__
    return str(cause.response["Error"]["Code"]) if isinstance(cause, ClientError) else ""


def _line(text: str) -> str:
    return " ".join(text.split())[:300]


def _hint(code: str, message: str) -> str:
    """Say what to do where AWS does not."""
    if code in _SKEWED_CLOCK or any(words in message.lower() for words in _CLOCK_WORDS):
        return "; check this machine's clock"
    if code in _STALE_CREDENTIALS:
        return f"; {_GIVE_CREDENTIALS}, and check its clock"
    key = _KMS_KEY.search(message)
    if code in _KMS_DENIED or key:
        action, arn = (key["action"], key["key"]) if key else ("", "")
        actions = action or "kms:Decrypt to receive or read, kms:GenerateDataKey to send"
        return f"{KMS_ADVICE}{actions} on {arn or 'the KMS key of the queue or table'}"
    if code in _KMS_UNUSABLE:
        return "; see whether the KMS key of the queue or table exists and is enabled"
    if code in _NO_PERMISSION:
        return GRANT_ADVICE
    return ""


def _translate(error: Exception) -> AWSError:
    if isinstance(error, ClientError):
        known = error.response.get("Error", {})
        code = str(known.get("Code", "Unknown"))
        message = str(known.get("Message", ""))
        # SQS names an error twice, by its code of old and by today's, which the SDK keeps aside.
        other_code = str(known.get("QueryErrorCode", ""))
        found = error_of(code, message)
        if type(found) is AWSUnavailableError and other_code:
            found = error_of(other_code, message)
        return found
    if isinstance(error, _CREDENTIALS_MISSING):
        return AWSDeniedError(f"{_NO_CREDENTIALS}: {_line(error_text(error))}; {_GIVE_CREDENTIALS}")
    if isinstance(error, ParamValidationError):
        return AWSRejectedError(_line(error_text(error)))
    if isinstance(error, _UNREADABLE) and not isinstance(error, OSError):
        return AWSUnavailableError(f"the response cannot be read: {_line(error_text(error))}")
    return AWSUnavailableError(_line(error_text(error)))


@contextmanager
def translating(operation: str) -> Iterator[None]:
    """Translate what the SDK raises, and what reading a malformed response raises.

    Raises:
        AWSError: of the subclass that says what to do; its text names the operation.
        SettingsError: region or profile are missing or wrong.
    """
    try:
        yield
    except _WRONG_SETTINGS as error:
        problem = f"{error} Set AWS_REGION (or AWS_PROFILE)."
        raise SettingsError(config_problems() or [problem]) from None
    except NoCredentialsError as error:
        # Never at a later call: what once gave credentials fails in another way.
        problems = config_problems()
        if problems:
            raise SettingsError(problems) from None
        raise _named(operation, error) from error
    except ResponseParserError:
        # Its text holds the response, which may be anything.
        raise AWSUnavailableError(f"{operation}: a response that is not XML") from None
    except (ClientError, BotoCoreError, aiohttp.ClientError, OSError, *_UNREADABLE) as error:
        raise _named(operation, error) from error


def _named(operation: str, error: Exception) -> AWSError:
    found = _translate(error)
    return type(found)(f"{operation}: {found}")


class calling:  # noqa: N801 - used like a function; a generator would cost three times as much
    """Context of one call to AWS: a deadline, and errors that say what to do.

    Args:
        operation: AWS's name of the call.
        timeout_seconds: when the call is abandoned, its retries included.
        calls: where the call is counted.
        target: the queue or table, named in errors.

    Raises:
        AWSError: of the subclass that says what to do; its text names operation and target.
        SettingsError: region or profile are missing or wrong.
    """

    __slots__ = ("_calls", "_deadline", "_operation", "_seconds", "_target")

    def __init__(
        self,
        operation: str,
        timeout_seconds: float,
        calls: Counter[str] | None = None,
        *,
        target: str = "",
    ) -> None:
        self._operation = operation
        self._seconds = timeout_seconds
        self._calls = calls
        self._target = target

    async def __aenter__(self) -> None:
        if self._calls is not None:
            self._calls[self._operation] += 1
        self._deadline = asyncio.timeout(self._seconds)
        await self._deadline.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            await self._deadline.__aexit__(None, None, None)
            return
        what = f"{self._operation} {self._target}" if self._target else self._operation
        try:
            try:
                with translating(what):
                    raise error  # noqa: TRY301 - to be translated
            except BaseException as found:
                await self._deadline.__aexit__(type(found), found, found.__traceback__)
                raise
        except TimeoutError as late:
            if _NO_CREDENTIALS in getattr(late.__cause__, "__notes__", ()):
                raise AWSDeniedError(
                    f"{what}: {_NO_CREDENTIALS}: none came within {self._seconds:g} s; "
                    f"{_GIVE_CREDENTIALS}"
                ) from None
            raise AWSUnavailableError(f"{what}: no answer within {self._seconds:g} s") from None


async def split_if_rejected(
    call: Callable[[Sequence[EntryT]], Awaitable[Sequence[ResultT]]], entries: Sequence[EntryT]
) -> list[ResultT | AWSError]:
    """Call with all entries, and in halves where they are rejected together.

    One entry can cause the rejection of a whole batch: halved again and again, it fails alone. One
    half follows the other, because the caller counts on one call in flight.

    Args:
        call: Takes entries, returns one result for each, in order.
        entries: The batch.

    Returns:
        One result or error for each entry, in order.

    Raises:
        AWSError: The call failed for another reason, or has no entries to separate.
    """
    try:
        return list(await call(entries))
    except (AWSRejectedError, LeaseLostError):
        if len(entries) <= 1:
            raise
    middle = len(entries) // 2
    results: list[ResultT | AWSError] = []
    for half in (entries[:middle], entries[middle:]):
        try:
            results += await split_if_rejected(call, half)
        except AWSError as error:
            results += [error] * len(half)
    return results


@asynccontextmanager
async def opened(
    context: AbstractAsyncContextManager[ClientT], service: str
) -> AsyncIterator[ClientT]:
    """Open a client or resource of the SDK, and close it at the end.

    Raises:
        AWSError: credentials cannot be had.
        SettingsError: region, profile or endpoint are missing or wrong.
    """
    async with AsyncExitStack() as stack:
        with translating(service):
            try:
                client = await stack.enter_async_context(context)
            except ValueError as error:  # an endpoint of the profile that the SDK cannot call
                raise SettingsError([f"{service}: {error}: correct endpoint_url"]) from None
        yield client


class NoResponseError(BotoCoreError):
    """HTTP reports success, but AWS cannot have sent this response."""

    fmt = "HTTP {status_code}, but no response of AWS: {digest}"
    quotes_no_response = True

    def __init__(self, status_code: int, body: bytes) -> None:
        super().__init__(status_code=status_code, digest=digest(body))


class _Session(AioSession):
    """Hand out credentials that are ours to fetch."""

    _shared: _SharedCredentials | None = None

    async def get_credentials(  # type: ignore[override] # no subclass, but a stand-in
        self,
    ) -> AioCredentials | _SharedCredentials | None:
        if self._shared is not None:
            return self._shared
        with _seeking_credentials():
            found: (
                AioCredentials | AioRefreshableCredentials | None
            ) = await super().get_credentials()
        if isinstance(found, AioRefreshableCredentials):
            self._shared = _SharedCredentials(found)
            return self._shared
        return found


class _SharedCredentials:
    """Credentials renewed once for all the calls that wait for them.

    The SDK lets each of a hundred calls ask a failing source anew, one after the other, and raises
    what its providers happen to stumble over: KeyError for an answer without a key, RuntimeError
    for credentials that come expired.
    """

    def __init__(self, credentials: AioRefreshableCredentials) -> None:
        self._credentials = credentials
        self._renewing: asyncio.Task[ReadOnlyCredentials] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._credentials, name)

    async def get_account_id(self) -> str | None:
        """Give the account, as the SDK's own do."""
        return (await self.get_frozen_credentials()).account_id

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Give what a call is signed with.

        Raises:
            CredentialRetrievalError: it cannot be had; or could not, a moment ago.
        """
        with _seeking_credentials():
            if not self._credentials.refresh_needed(_HELD_BACK_SECONDS):
                # Good for a while: the SDK renews them in one call only, and forgives a failure.
                return await self._credentials.get_frozen_credentials()
            if self._renewing is None:
                self._renewing = asyncio.get_running_loop().create_task(self._renew())
            return await asyncio.shield(self._renewing)

    async def _renew(self) -> ReadOnlyCredentials:
        pause_seconds = _PAUSE_SECONDS
        try:
            renewed = await self._credentials.get_frozen_credentials()
            pause_seconds = 0.0
        finally:
            asyncio.get_running_loop().call_later(pause_seconds, self._may_renew)
        return renewed

    def _may_renew(self) -> None:
        renewing, self._renewing = self._renewing, None
        if renewing is not None and not renewing.cancelled():
            renewing.exception()  # looked at, for all who waited may have been cancelled


def _said(error: Exception) -> str:
    text = error_text(error)
    if isinstance(error, KeyError) and _MEMBER.fullmatch(str(error)):
        text = str(error)  # what a provider of the SDK looked for, and not what it found
    return text if text.startswith(type(error).__name__) else f"{type(error).__name__}: {text}"


@contextmanager
def _seeking_credentials() -> Iterator[None]:
    try:
        yield
    except asyncio.CancelledError as cancelled:
        cancelled.add_note(_NO_CREDENTIALS)  # for the deadline, should it be its doing
        raise
    except (*_WRONG_SETTINGS, *_CREDENTIALS_MISSING):
        raise
    except Exception as error:
        raise CredentialRetrievalError(provider="their source", error_msg=_said(error)) from error


def new_session() -> aioboto3.Session:
    """Make a session that believes no answer which AWS cannot have given.

    The SDK takes a page of HTML, or nothing, for an answer without fields: so a write that never
    happened would have succeeded, and a policy would be absent. And what is no text it raises past
    every handler of its errors, as it does with what goes wrong on the way to credentials.

    Raises:
        SettingsError: the profile does not exist; or its file, that of certificates or that of a
            token cannot be read.
    """
    with translating("AWS"):
        core = _Session()
        session = aioboto3.Session(botocore_session=core)
        _check_files(core)
    for service in ("sqs", "dynamodb"):
        session.events.register(f"before-parse.{service}", _check_answer)
    return session


def _check_files(core: _Session) -> None:
    bundle = core.get_config_variable("ca_bundle")
    name = "AWS_CA_BUNDLE" if os.environ.get("AWS_CA_BUNDLE") else "ca_bundle of the profile"
    if not bundle:
        bundle, name = os.environ.get("REQUESTS_CA_BUNDLE"), "REQUESTS_CA_BUNDLE"
        # An empty variable would turn off the verification of certificates.
        core.set_config_variable("ca_bundle", bundle or True)
    problems = token_problems()
    problem = certificate_problem(name, bundle) if bundle else None
    if problem or problems:
        raise SettingsError([*([problem] if problem else []), *problems])


def _check_answer(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    body, status_code = response_dict["body"], response_dict["status_code"]
    shape = operation_model.output_shape
    if not body and shape is None:
        return
    if status_code < _FIRST_ERROR:
        members = frozenset(shape.members) if shape is not None else None
        response_dict["body"] = checked_body(operation_model.name, members, status_code, body)
    elif not isinstance(_json(body), dict):
        # An error is an error whatever its body says; the SDK reads it reliably only as JSON.
        text = f"no JSON object: {digest(body)}"
        response_dict["body"] = json.dumps({"message": text}).encode()


def _json(body: bytes) -> Any:
    """Return what a body says in JSON; None if it is not JSON."""
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError):
        return None


def is_foreign(answer: dict[str, Any], members: frozenset[str] | None) -> bool:
    """Return whether an object holds something, but nothing that the operation's response has."""
    return bool(answer) and members is not None and members.isdisjoint(answer)


def is_empty(operation: str, status_code: int, body: bytes) -> bool:
    """Return whether a response says nothing, where that is as good as an empty object."""
    return not body and status_code == _OK and operation in _HARMLESS_IF_EMPTY


def checked_body(
    operation: str, members: frozenset[str] | None, status_code: int, body: bytes
) -> bytes:
    """Check that AWS can have sent a response of success.

    Args:
        operation: AWS's name of it.
        members: what its response may hold; None where nothing is specified.
        status_code: of HTTP, below 300.
        body: of the response.

    Returns:
        A body that the SDK can read. It fails a whole response to ReceiveMessage for one malformed
        message; in the place of that one stands here what whoever reads the message refuses.

    Raises:
        NoAnswerError: AWS cannot have sent it.
    """
    if is_empty(operation, status_code, body):
        return body
    answer = _json(body)
    if status_code != _OK or not isinstance(answer, dict) or is_foreign(answer, members):
        raise NoResponseError(status_code, body)
    messages = answer.get("Messages") if operation == "ReceiveMessage" else None
    if messages is None:
        return body
    if not isinstance(messages, list):
        raise NoResponseError(status_code, body)
    if all(map(_is_readable, messages)):
        return body
    kept = [each if _is_readable(each) else _identified(each) for each in messages]
    return json.dumps({**answer, "Messages": kept}).encode()


def _is_readable(message: Any) -> bool:
    if not isinstance(message, dict):
        return False
    system, attributes = message.get("Attributes"), message.get("MessageAttributes")
    if not isinstance(system, dict | None) or not isinstance(attributes, dict | None):
        return False
    return all(map(_is_readable_attribute, (attributes or {}).values()))


def _is_readable_attribute(attribute: Any) -> bool:
    if not isinstance(attribute, dict):
        return False
    try:
        base64.b64decode(attribute.get("BinaryValue") or "")
    except (TypeError, ValueError):
        return False
    return True


def _identified(message: Any) -> dict[str, Any]:
    found = message.get("MessageId") if isinstance(message, dict) else None
    return {"MessageId": found} if isinstance(found, str) else {}


def client_config(*, pool: int, read_timeout_seconds: float, attempts: int) -> Any:
    """Configure one client.

    Args:
        pool: connections at most; as many as calls may be under way.
        read_timeout_seconds: must exceed the wait of a long poll.
        attempts: tries of the SDK itself, the first included.
    """
    return AioConfig(
        connect_timeout=3,
        read_timeout=read_timeout_seconds,
        max_pool_connections=pool,
        retries={"mode": "standard", "total_max_attempts": attempts},
        tcp_keepalive=True,
        user_agent_extra=f"aup-worker/{__version__}",
        http_session_cls=StrictSession,
    )
