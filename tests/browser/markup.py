"""Markup of a page, without a browser."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Final

_ADDRESSES: Final = {"action", "data", "formaction", "href", "src", "srcset", "xlink:href"}
_FOREIGN: Final = {"base", "embed", "iframe", "object"}


class Markup(HTMLParser):
    """Tags and attributes of a page.

    Args:
        text: The page.

    Attributes:
        problems: Markup that none of our pages has.
        words: Text between the tags.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag in _FOREIGN or (tag == "script" and not named.get("src")):
            self.problems.append(f"<{tag}>")
        for name, value in attrs:
            is_address = name in _ADDRESSES and not _is_ours(value or "")
            if name.startswith("on") or name in {"style", "srcdoc"} or is_address:
                self.problems.append(f"<{tag} {name}={value!r}>")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def _is_ours(address: str) -> bool:
    """Return whether an address is a path or a part of this page."""
    is_path = address.startswith("/") and not address.startswith(("//", "/\\"))
    return is_path or not address or address.startswith(("?", "#"))
