"""Texts about responses and exceptions without personal data."""

from __future__ import annotations

import hashlib
import re
import traceback
from types import TracebackType
from typing import Final

_DIGEST_CHARACTERS: Final = 12
# Exceptions whose texts name an endpoint, a provider or a local fault, and never quote a response.
# Listed by name, so that logging does not import the AWS libraries.
_CLIENT_ERROR: Final = "botocore.exceptions.ClientError"
_SAFE: Final = frozenset(
    {
        "aiohttp.client_exceptions.ClientConnectorError",
        "botocore.exceptions.ConnectTimeoutError",
        "botocore.exceptions.ConnectionClosedError",
        "botocore.exceptions.CredentialRetrievalError",
        "botocore.exceptions.EndpointConnectionError",
        "botocore.exceptions.NoAuthTokenError",
        "botocore.exceptions.NoCredentialsError",
        "botocore.exceptions.PartialCredentialsError",
        "botocore.exceptions.ProxyConnectionError",
        "botocore.exceptions.ReadTimeoutError",
        "botocore.exceptions.SSLError",
        "builtins.OSError",
        "builtins.RuntimeError",
    }
)
# The exception: botocore quotes the response of a metadata service.
_METADATA: Final = re.compile(r"(?<=from container metadata: ).+", re.DOTALL)
# botocore rejects an address from the environment before it sends a request.
_SAFE_START: Final = "Unsupported host"
_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9.]{0,99}|\d{3}")
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def digest(content: bytes | str) -> str:
    """Return length and digest as a substitute for content that may be personal data."""
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return f"{len(raw):,} bytes, SHA-256 {hashlib.sha256(raw).hexdigest()[:_DIGEST_CHARACTERS]}…"


def error_code(code: str) -> str:
    """Return an AWS error code, or a digest if the text does not look like one."""
    return code if _CODE.fullmatch(code) else f"invalid code ({digest(code)})"


def error_text(error: BaseException) -> str:
    """Return an exception's text if it cannot quote a response; otherwise its type and a digest."""
    text, name = str(error), type(error).__name__
    if not text:
        return name
    classes = {f"{each.__module__}.{each.__qualname__}" for each in type(error).__mro__}
    if _CLIENT_ERROR in classes:
        known = error.response.get("Error")  # type: ignore[attr-defined] # ClientError has it
        return f"{name} {error_code(str(known.get('Code', '')) if known else '')}"
    if getattr(error, "quotes_no_response", False):
        return text
    if classes & _SAFE or text.startswith(_SAFE_START):
        return _METADATA.sub(lambda found: digest(found[0]), text)
    return f"{name} (text of {digest(text)})"


def format_exception(exc_info: ExcInfo) -> str:
    """Format an exception and its causes as Python does, without texts that may be private."""
    parts: list[str] = []
    error: BaseException | None = exc_info[1]
    while error is not None and len(parts) < 10:  # noqa: PLR2004 - the chain may be circular
        parts.append(_formatted(error))
        cause = error.__cause__
        error = cause or (None if error.__suppress_context__ else error.__context__)
    return "\n\nwhich led to:\n\n".join(reversed(parts))


def _formatted(error: BaseException) -> str:
    lines = ["Traceback (most recent call last):\n", *traceback.format_tb(error.__traceback__)]
    lines.append(f"{type(error).__module__}.{type(error).__qualname__}: {error_text(error)}")
    if isinstance(error, BaseExceptionGroup):
        lines += [f"\n  one of {len(error.exceptions)}: {_formatted(e)}" for e in error.exceptions]
    return "".join(lines)
