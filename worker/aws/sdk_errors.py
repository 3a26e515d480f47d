"""Translation of exceptions of the AWS SDK into errors of this program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import DecimalException
from typing import Final

import aiohttp
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

from worker.aws.error_codes import (
    CREDENTIALS_ADVICE,
    PROFILE_ADVICE,
    REGION_ADVICE,
    error_of,
    one_line,
)
from worker.aws.sdk_files import config_problems
from worker.errors import (
    AWSDeniedError,
    AWSError,
    AWSRejectedError,
    AWSUnavailableError,
    SettingsError,
)
from worker.runtime.redaction import error_text

WRONG_SETTINGS: Final = (NoRegionError, InvalidRegionError, ProfileNotFound, ConfigParseError)
CREDENTIALS_MISSING: Final = (
    NoCredentialsError, PartialCredentialsError, CredentialRetrievalError,
)  # fmt: skip
NO_CREDENTIALS: Final = "no usable AWS credentials"
# Exceptions raised while a response of an unexpected shape is read, in the SDK and in this code.
_UNREADABLE: Final = (
    AttributeError, DecimalException, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip


@contextmanager
def translating(operation: str) -> Iterator[None]:
    """Translate exceptions of the SDK and of reading a malformed response.

    Args:
        operation: AWS's name of the operation; starts the text of the error.

    Raises:
        AWSError: Of the subclass for the failure.
        SettingsError: The region or profile is missing or wrong.
    """
    try:
        yield
    except (*WRONG_SETTINGS, NoCredentialsError) as error:
        # Credentials are missing only in the first call: a source that once provided some fails
        # differently.
        problems = config_problems()
        if not problems and not isinstance(error, NoCredentialsError):
            problems = [f"{str(error).removesuffix('.')}: {_advice(error)}"]
        if problems:
            raise SettingsError(problems) from None
        raise _named(operation, error) from error
    except ResponseParserError:
        # The text of the exception quotes the response, which may hold private data.
        raise AWSUnavailableError(f"{operation}: the response is not XML") from None
    except (ClientError, BotoCoreError, aiohttp.ClientError, OSError, *_UNREADABLE) as error:
        raise _named(operation, error) from error


def _advice(error: Exception) -> str:
    if isinstance(error, ProfileNotFound):
        return PROFILE_ADVICE
    return "correct this file" if isinstance(error, ConfigParseError) else REGION_ADVICE


def _named(operation: str, error: Exception) -> AWSError:
    found = _translate(error)
    return type(found)(f"{operation}: {found}")


def _translate(error: Exception) -> AWSError:
    if isinstance(error, ClientError):
        known = error.response.get("Error", {})
        message = str(known.get("Message", ""))
        found = error_of(str(known.get("Code", "Unknown")), message)
        # For SQS, `Code` is the code of the old query protocol; the current code is separate.
        other_code = known.get("QueryErrorCode")
        if type(found) is AWSUnavailableError and other_code:
            found = error_of(str(other_code), message)
        return found
    text = one_line(error_text(error))
    if isinstance(error, CREDENTIALS_MISSING):
        return AWSDeniedError(f"{NO_CREDENTIALS}: {text}; {CREDENTIALS_ADVICE}")
    if isinstance(error, ParamValidationError):
        return AWSRejectedError(text)
    if isinstance(error, _UNREADABLE) and not isinstance(error, OSError):
        text = f"the response cannot be read: {text}"
    return AWSUnavailableError(text)


def code_of(error: AWSError) -> str:
    """Return the AWS error code of an error raised by `translating`; empty if it has none."""
    cause = error.__cause__
    return str(cause.response["Error"]["Code"]) if isinstance(cause, ClientError) else ""
