"""Server-sent events: parts of a page that replace the ones shown."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import structlog
from aiohttp import web

from worker.console.page import CONTEXT, page_name

_RETRY_MILLISECONDS: Final = 2000
# A client that reads nothing for so long is disconnected.
_WRITE_SECONDS: Final = 10.0
# `EventSource` connects again by itself.
_STREAM_SECONDS: Final = 300.0
# The script keeps relative times current; a part in which only these differ is not sent again.
_RELATIVE: Final = re.compile(r"(<time [^>]*data-relative[^>]*>)[^<]*")
_log: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Event:
    """An event for the live script.

    Attributes:
        data: For `parts`, HTML by the id of the element whose content it replaces. For `news`, the
            `count` of new rows, which the page offers to show. For `done`, nothing: the script
            reloads the page.
        name: `parts`, `news` or `done`.
    """

    data: Mapping[str, Any]
    name: str = "parts"

    def encoded(self) -> bytes:
        """Return the event in the format of the stream."""
        return f"event: {self.name}\ndata: {json.dumps(self.data)}\n\n".encode()


async def stream(request: web.Request, events: AsyncIterator[Event]) -> web.StreamResponse:
    """Send events until they end, the client disconnects or the console stops.

    Args:
        request: Request of the live script.
        events: Events to send; closed at the end.
    """
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
    )
    await response.prepare(request)
    closing = asyncio.create_task(request.app[CONTEXT].closing.wait())
    sending = asyncio.create_task(_send(response, events))
    try:
        await asyncio.wait(
            (closing, sending),
            timeout=_STREAM_SECONDS,
            return_when=asyncio.FIRST_COMPLETED,
        )
    finally:
        for task in (closing, sending):
            task.cancel()
        _, error = await asyncio.gather(closing, sending, return_exceptions=True)
    # A client may disconnect or stop reading at any time.
    if isinstance(error, Exception) and not isinstance(error, ConnectionError | TimeoutError):
        _log.error("console stream failed", page=page_name(request), exc_info=error)
    return response


async def _send(response: web.StreamResponse, events: AsyncIterator[Event]) -> None:
    async with asyncio.timeout(_WRITE_SECONDS):
        await response.write(f"retry: {_RETRY_MILLISECONDS}\n\n".encode())
    before: dict[str, str] = {}
    async with aclosing(events) as opened:  # type: ignore[type-var] # a generator has aclose
        async for event in opened:
            data = event.data
            if event.name == "parts":
                compared = {id_: _RELATIVE.sub(r"\1", html) for id_, html in data.items()}
                data = {id_: data[id_] for id_ in data if before.get(id_) != compared[id_]}
                before = compared
            # Without changes an empty event shows that the console still answers.
            async with asyncio.timeout(_WRITE_SECONDS):
                await response.write(Event(data, event.name).encoded())
