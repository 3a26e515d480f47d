"""How we call AWS: client configuration, a deadline on every call, and errors by what to do."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from typing import Any, Final, TypeVar

import aioboto3
import aiohttp
from aiobotocore.config import AioConfig
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)

from worker import __version__
from worker.errors import (
    AWSDeniedError,
    AWSError,
    AWSNotFoundError,
    AWSRejectedError,
    AWSThrottledError,
    AWSUnavailableError,
    LeaseLostError,
    SettingsError,
)

ClientT = TypeVar("ClientT")

# Amazon SQS and DynamoDB API references, "Common errors" and each action's "Errors".
_THROTTLED: Final = {
    "KmsThrottled", "KMS.ThrottlingException", "LimitExceededException", "OverLimit",
    "ProvisionedThroughputExceeded", "ProvisionedThroughputExceededException",
    "RequestLimitExceeded", "RequestThrottled", "RequestThrottledException", "SlowDown",
    "Throttling", "ThrottlingError", "ThrottlingException", "TooManyRequestsException",
    "TransactionConflict", "TransactionConflictException",
}  # fmt: skip
_DENIED: Final = {
    "AccessDenied", "AccessDeniedException", "AuthFailure", "ExpiredToken",
    "ExpiredTokenException", "IncompleteSignature", "InvalidAccessKeyId", "InvalidClientTokenId",
    "InvalidSecurity", "InvalidSignatureException", "KMS.AccessDeniedException",
    "KMS.DisabledException", "KMS.InvalidStateException", "KMS.NotFoundException",
    "KMS.OptInRequired", "KmsAccessDenied", "KmsDisabled", "KmsInvalidState", "KmsNotFound",
    "KmsOptInRequired", "MissingAuthenticationToken", "NotAuthorized", "OptInRequired",
    "RequestExpired", "RequestTimeTooSkewed", "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}  # fmt: skip
_NOT_FOUND: Final = {
    "InvalidAddress", "NonExistentQueue", "QueueDoesNotExist", "ResourceNotFound",
    "ResourceNotFoundException", "TableNotFoundException",
}  # fmt: skip
_LEASE_LOST: Final = {"InvalidReceiptHandle", "MessageNotInflight", "ReceiptHandleIsInvalid"}
_REJECTED: Final = {
    "413", "BatchEntryIdsNotDistinct", "BatchRequestTooLong", "ConditionalCheckFailed",
    "ConditionalCheckFailedException", "DuplicateItem", "InvalidAttributeName",
    "InvalidAttributeValue", "InvalidMessageContents", "InvalidParameterCombination",
    "InvalidParameterValue", "ItemCollectionSizeLimitExceeded",
    "ItemCollectionSizeLimitExceededException", "MalformedQueryString", "MissingParameter",
    "ResourceInUseException",
    "SerializationException", "UnsupportedOperation", "ValidationError", "ValidationException",
}  # fmt: skip
_BY_CODE: Final[dict[str, type[AWSError]]] = {
    code: error
    for error, codes in (
        (AWSThrottledError, _THROTTLED),
        (AWSDeniedError, _DENIED),
        (AWSNotFoundError, _NOT_FOUND),
        (LeaseLostError, _LEASE_LOST),
        (AWSRejectedError, _REJECTED),
    )
    for code in codes
}
_CLOCK: Final = {"RequestExpired", "RequestTimeTooSkewed", "InvalidSignatureException"}


def error_of(code: str, message: str) -> AWSError:
    """Turn AWS's error code into the error that says what to do.

    Args:
        code: as in `Error.Code`, or of one entry of a batch; namespaces are dropped.
        message: AWS's own words.

    Returns:
        An unknown code counts as passing: the call is tried again.
    """
    short = code.rsplit("#", maxsplit=1)[-1]
    kind = _BY_CODE.get(short) or _BY_CODE.get(short.rsplit(".", maxsplit=1)[-1])
    hint = "; check this machine's clock" if short in _CLOCK else ""
    return (kind or AWSUnavailableError)(f"{short}: {' '.join(message.split())[:300]}{hint}")


def _translate(error: Exception) -> AWSError:
    if isinstance(error, ClientError):
        known = error.response.get("Error", {})
        code = str(known.get("Code", "Unknown"))
        message = str(known.get("Message", ""))
        query_code = str(error.response.get("QueryErrorCode", "")).split(";")[0]
        found = error_of(code, message)
        if type(found) is AWSUnavailableError and query_code:
            found = error_of(query_code, message)
        return found
    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return AWSDeniedError(f"no usable AWS credentials: {error}")
    return AWSUnavailableError(" ".join(str(error).split())[:300] or type(error).__name__)


@contextmanager
def translating(operation: str) -> Iterator[None]:
    """Translate what the SDK raises.

    Raises:
        AWSError: of the subclass that says what to do; its text names the operation.
        SettingsError: region or profile are missing or wrong.
    """
    try:
        yield
    except (NoRegionError, InvalidRegionError, ProfileNotFound) as error:
        raise SettingsError([f"{error} Set AWS_REGION (or AWS_PROFILE)."]) from None
    except (ClientError, BotoCoreError, aiohttp.ClientError, OSError) as error:
        found = _translate(error)
        raise type(found)(f"{operation}: {found}") from error


@asynccontextmanager
async def calling(
    operation: str,
    timeout_seconds: float,
    calls: Counter[str] | None = None,
    *,
    target: str = "",
) -> AsyncIterator[None]:
    """Put one call to AWS under a deadline and translate what it raises.

    Args:
        operation: AWS's name of the call.
        timeout_seconds: when the call is abandoned, its retries included.
        calls: where the call is counted.
        target: the queue or table, named in errors.

    Raises:
        AWSError: of the subclass that says what to do; its text names operation and target.
        SettingsError: region or profile are missing or wrong.
    """
    if calls is not None:
        calls[operation] += 1
    what = f"{operation} {target}" if target else operation
    try:
        async with asyncio.timeout(timeout_seconds):
            with translating(what):
                yield
    except TimeoutError:
        raise AWSUnavailableError(f"{what}: no answer within {timeout_seconds:g} s") from None


@asynccontextmanager
async def opened(
    context: AbstractAsyncContextManager[ClientT], service: str
) -> AsyncIterator[ClientT]:
    """Open a client or resource of the SDK, and close it at the end.

    Raises:
        AWSError: credentials cannot be had.
        SettingsError: region or profile are missing or wrong.
    """
    async with AsyncExitStack() as stack:
        with translating(service):
            client = await stack.enter_async_context(context)
        yield client


class NoAnswerError(BotoCoreError):
    """HTTP says that all went well, but the body is no answer of AWS's."""

    fmt = "HTTP {status_code}, but no JSON object: {start!r}"


def new_session() -> aioboto3.Session:
    """Make a session that believes no answer which AWS cannot have given.

    The SDK takes a page of HTML, or nothing, for an answer without fields: so a write that never
    happened would have succeeded, and a policy would be absent. And what is no text it raises past
    every handler of its errors.
    """
    session = aioboto3.Session()
    for service in ("sqs", "dynamodb"):
        session.events.register(f"before-parse.{service}", _check_answer)
    return session


def _check_answer(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    body, status_code = response_dict["body"], response_dict["status_code"]
    if not body and operation_model.output_shape is None:
        return
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict):
        return
    text = body.decode(errors="replace")
    if status_code < 300:  # noqa: PLR2004 - the successes of HTTP
        raise NoAnswerError(status_code=status_code, start=text[:100])
    # An error is believed whatever it says; only in JSON does the SDK read it for certain.
    response_dict["body"] = json.dumps({"message": text}).encode()


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
    )
