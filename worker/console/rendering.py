"""HTML from templates: everything is escaped unless a filter of this module wrote it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from worker import __version__
from worker.aws.sqs import queue_name
from worker.console import charts
from worker.console.context import ConsoleContext
from worker.domain.acceptance import parse_time
from worker.runtime import visible_text
from worker.runtime.quantities import counted, duration

_HASH_CHARACTERS: Final = 12
UNKNOWN: Final = Markup('<span class="none" title="not known">-</span>')
NONE: Final = Markup('<span class="none">-</span>')
_ARN_PARTS: Final = 6
_RELATIVE: Final = Markup('<time datetime="{0}" title="{1}" data-relative{3}>{2}</time>')
_ABSOLUTE: Final = Markup('<time datetime="{}" title="{}">{}</time>')


class Renderer:
    """Templates of the console, with the variables that every page has.

    Args:
        context: Context of the console.
        navigation: Name, title and path of each page.
    """

    def __init__(self, context: ConsoleContext, navigation: list[tuple[str, str, str]]) -> None:
        self._context = context
        self._environment = Environment(
            loader=PackageLoader("worker.console"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_finalize,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals |= {
            "version": __version__,
            "navigation": navigation,
            "styles": asset_url("console.css"),
            "script": asset_url("console.js"),
            "sparkline": charts.sparkline,
            "stacked_bars": charts.stacked_bars,
            "legend": charts.legend,
            "colour": charts.colour,
        }
        self._environment.filters |= {
            "when": self.when,
            "time": self.time,
            "left": self.left,
            "hash": short_hash,
            "number": number,
            "change": change,
            "rate": rate,
            "counted": counted,
            "duration": duration,
            "lines": _lines,
        }

    def render(self, template: str, **values: Any) -> str:
        """Return a rendered template."""
        context = self._context
        return self._environment.get_template(template).render(
            queue_name=queue_name(context.settings.queue),
            read_only=not context.options.allow_replay,
            region=context.region,
            caller=_caller(context),
            **values,
        )

    def when(self, value: datetime | str | None) -> Markup:
        """Return a time relative to now; its title is the absolute time."""
        time = _parsed(value)
        if time is None:
            return _unparsed(value)
        return _RELATIVE.format(time.isoformat(), absolute(time), self._relative(time), "")

    def time(self, value: datetime | str | None) -> Markup:
        """Return an absolute time in UTC; its title is the time relative to now."""
        time = _parsed(value)
        if time is None:
            return _unparsed(value)
        return _ABSOLUTE.format(time.isoformat(), self._relative(time), absolute(time))

    def left(self, value: datetime | None) -> Markup:
        """Return the time left until a moment, marked if it is less than a day."""
        if value is None:
            return _unparsed(value)
        soon = " class=soon" if (value - self._context.now()).days < 1 else ""
        return _RELATIVE.format(value.isoformat(), absolute(value), self._relative(value), soon)

    def _relative(self, time: datetime) -> str:
        seconds = (self._context.now() - time).total_seconds()
        return f"in {duration(-seconds)}" if seconds < 0 else f"{duration(seconds)} ago"


def asset_url(name: str) -> str:
    """Return the URL of a file in `static`, which changes with its content."""
    return f"/static/{name}?{hashlib.sha256(asset(name)).hexdigest()[:_HASH_CHARACTERS]}"


def asset(name: str) -> bytes:
    """Return a file in `static`."""
    return (resources.files("worker.console") / "static" / name).read_bytes()


def absolute(time: datetime) -> str:
    """Return a time in UTC, to the second."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def short_hash(value: str | None, name: str = "hash") -> Markup:
    """Return the first twelve characters of a hash, with the whole as title and to copy.

    Args:
        value: The hash, or another long id.
        name: What is copied, for the label of the button.
    """
    if not value:
        return NONE
    shown = visible_text.one_line(value)
    return Markup(
        '<span class="hash"><code title="{0}">{1}</code>'
        '<button type="button" class="copy" data-copy="{0}" hidden title="Copy" '
        'aria-label="Copy the {2}"></button></span>'
    ).format(shown, shown[:_HASH_CHARACTERS], name)


def number(value: float | None, digits: int = 0) -> str | Markup:
    """Return a number with separators; `unknown` for None."""
    return UNKNOWN if value is None else f"{value:,.{digits}f}"


def rate(value: float | None) -> str | Markup:
    """Return a rate per second; `unknown` for None."""
    return UNKNOWN if value is None else f"{value:,.1f}/s"


def change(value: float | None) -> str | Markup:
    """Return a change per second with its sign; `unknown` for None."""
    if value is None:
        return UNKNOWN
    return f"{value:+,.1f}" if round(value, 1) else "0.0"


def _finalize(value: Any) -> Any:
    """Return what a template prints: text of one line without hidden characters, or HTML."""
    if value is None:
        return NONE
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return visible_text.one_line(value)


def _lines(text: str) -> Markup:
    """Return text of several lines as HTML, with hidden characters as escapes."""
    return Markup.escape(visible_text.lines(text))


def _parsed(value: datetime | str | None) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    try:
        return parse_time(value).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _unparsed(value: object) -> Markup:
    return UNKNOWN if value is None else Markup.escape(visible_text.one_line(str(value)))


def _caller(context: ConsoleContext) -> dict[str, str]:
    """Return account and role from the ARN of the caller, or why they are unknown."""
    identity = context.identity
    arn = "" if identity is None else identity.found.partition(" ")[0]
    parts = arn.split(":", _ARN_PARTS - 1)
    if len(parts) < _ARN_PARTS or parts[0] != "arn":
        return {"account": "", "role": "", "unknown": "" if identity is None else identity.found}
    path = parts[5].split("/")
    # arn:aws:sts::account:assumed-role/role/session
    return {"account": parts[4], "role": path[1] if len(path) > 1 else path[0], "unknown": ""}
