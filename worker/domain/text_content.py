"""Content of a policy's text, as published and as a person reads it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Final

_BLOCKS: Final = frozenset(
    {
        "address", "article", "aside", "blockquote", "body", "br", "caption", "dd", "details",
        "div", "dl", "dt", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "head",
        "header", "hr", "html", "li", "main", "nav", "ol", "p", "pre", "section", "summary",
        "table", "title", "tr", "ul",
    }
)  # fmt: skip
_HIDDEN: Final = frozenset({"script", "style", "template", "noscript"})
_SPACE: Final = re.compile(r"[ \t\r\n\f]+")


@dataclass(frozen=True, slots=True)
class TextContent:
    """Content of a policy's text, exactly as it was published.

    Attributes:
        content: The bytes of the published file.
        media_type: Media type, such as `text/html`.
    """

    content: bytes
    media_type: str

    @property
    def sha256(self) -> str:
        """SHA-256 of the content in lower-case hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    def source(self) -> str | None:
        """Return the content as text; None if it is not UTF-8, such as a PDF."""
        try:
            return self.content.decode("utf-8-sig")
        except UnicodeDecodeError:
            return None

    def readable(self) -> str | None:
        """Return the text as a person reads it, without markup; None if it is not text."""
        source = self.source()
        if source is None or self.media_type not in {"text/html", "application/xhtml+xml"}:
            return source
        parser = _TextOfHTML()
        parser.feed(source)
        parser.close()
        return parser.text()


class _TextOfHTML(HTMLParser):
    """Paragraphs of an HTML document, one per line; scripts and styles are omitted."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._lines: list[str] = []
        self._line = ""
        self._hidden = 0

    def handle_starttag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        if tag in _HIDDEN:
            self._hidden += 1
        elif tag in _BLOCKS:
            self._end_line()
            self._line = "- " if tag == "li" else ""
        elif tag in {"td", "th"}:
            self._line += " "

    def handle_endtag(self, tag: str) -> None:
        if tag in _HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        elif tag in _BLOCKS:
            self._end_line()

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._line += data

    def _end_line(self) -> None:
        line = _SPACE.sub(" ", self._line).strip()
        if line and line != "-":
            self._lines.append(line)
        self._line = ""

    def text(self) -> str:
        self._end_line()
        return "".join(f"{line}\n" for line in self._lines)
