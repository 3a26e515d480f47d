"""HTTP requests to servers nearby: the agent of ECS, and the endpoints of workers."""

from __future__ import annotations

import json
import os
from http import HTTPStatus
from typing import Any, Final

import aiohttp

from worker.runtime.redaction import error_text

_RESPONSE_MAX_BYTES: Final = 1_048_576


async def request(
    method: str, url: str, timeout_seconds: float, *, content: Any = None
) -> tuple[int, bytes]:
    """Send a request without following redirects, and read the response.

    Args:
        method: HTTP method.
        url: URL of the server.
        timeout_seconds: limit of connecting, sending and reading together.
        content: what to send as JSON; None for nothing.

    Returns:
        Status and body.

    Raises:
        ConnectionError: there was no complete response in time; its text quotes no response.
        ValueError: the body exceeds 1 MiB.
    """
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, url, json=content, allow_redirects=False) as response,
        ):
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _RESPONSE_MAX_BYTES:
                    raise ValueError("response exceeds the size limit")
            return response.status, bytes(body)
    except TimeoutError:
        raise ConnectionError(f"no response within {timeout_seconds:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else None
        raise ConnectionError(f"no response ({reason or error_text(error)})") from None


async def get_json(url: str, timeout_seconds: float) -> Any:
    """Return the parsed JSON of a response with status 200.

    Raises:
        ConnectionError: there was no such response; see `request`.
        ValueError: the body is not JSON, or exceeds 1 MiB.
    """
    status, body = await request("GET", url, timeout_seconds)
    if status != HTTPStatus.OK:
        raise ConnectionError(f"HTTP {status}")
    return json.loads(body)


def reason_of(error: OSError) -> str | None:
    """Return the reason of the operating system, without the address that event loops add."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
