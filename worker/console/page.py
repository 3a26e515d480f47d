"""A page of the console: its address in the navigation, its routes, and its responses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import structlog
from aiohttp import web

from worker.console.context import ConsoleContext
from worker.console.rendering import Renderer

Handler = Callable[[ConsoleContext, web.Request], Awaitable[web.StreamResponse]]
CONTEXT: Final = web.AppKey("context", ConsoleContext)
RENDERER: Final = web.AppKey("renderer", Renderer)
# Name of the page by handler.
PAGE_NAMES: Final = web.AppKey("page_names", dict[Any, str])
_log: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Route:
    """One route of a page.

    Attributes:
        method: HTTP method. Only a POST may disclose or change anything.
        path: Path as aiohttp matches it, such as `/evidence/{user}`.
        handler: Called with the context and the request. An AUPError that it raises becomes a page
            with the error's text.
        sends: Whether it sends or changes messages, and so requires `--allow-replay`.
        streams: Whether the response may take longer than a request normally may.
    """

    method: Literal["GET", "POST"]
    path: str
    handler: Handler
    sends: bool = False
    streams: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the console.

    Attributes:
        name: Short name, unique.
        title: Title in the navigation.
        path: Path of the navigation's link.
        routes: All routes of the page.
    """

    name: str
    title: str
    path: str
    routes: tuple[Route, ...]


def render(
    request: web.Request, template: str, /, *, http_status: int = 200, **values: Any
) -> web.Response:
    """Return a page rendered from a template, inside the common layout.

    Args:
        request: Request to respond to.
        template: File in `templates`.
        http_status: Status of the response.
        values: Variables of the template.
    """
    return web.Response(
        text=fragment(request, template, **values),
        status=http_status,
        content_type="text/html",
        charset="utf-8",
    )


def fragment(request: web.Request, template: str, /, **values: Any) -> str:
    """Return a rendered template as text, such as a part of a page for the live script."""
    renderer = request.app[RENDERER]
    return renderer.render(template, active=page_name(request), **values)


def page_name(request: web.Request) -> str:
    """Return the name of the page that a request belongs to; empty for none."""
    return request.app[PAGE_NAMES].get(request.match_info.handler, "")


def log_action(request: web.Request, action: str, **fields: Any) -> None:
    """Log an action of the operator.

    Args:
        request: Request of the action.
        action: What was done, as a past-tense phrase such as `field disclosed`.
        fields: What it was done to, such as the filter; never a personal value of a message.
    """
    context = request.app[CONTEXT]
    identity = context.identity
    _log.info(
        action,
        operator=context.options.operator,
        identity=None if identity is None else identity.found,
        page=page_name(request),
        **fields,
    )
