"""Untrusted text without characters that could deceive a reader or change a terminal."""

from __future__ import annotations

from typing import Final

_C1: Final = range(0x7F, 0xA0)
# Characters that reorder or break a line, or are invisible, although they are not control
# characters: bidirectional marks, embeddings, overrides and isolates, separators of lines and
# paragraphs, and the byte order mark.
_LAYOUT: Final = (
    0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF
)  # fmt: skip
# A lone surrogate cannot be encoded as UTF-8.
_SURROGATES: Final = range(0xD800, 0xE000)
# Control characters below 32 are escaped in JSON anyway.
_JSON_ESCAPES: Final = {code: f"\\u{code:04x}" for code in (*_C1, *_LAYOUT, *_SURROGATES)}
_ESCAPES: Final = {
    **_JSON_ESCAPES,
    **{code: f"\\x{code:02x}" for code in (*range(32), *_C1) if code != ord("\t")},
    ord("\n"): "\\n",
}
# For text of several lines, whose ends may be those of Windows.
_LINE_ESCAPES: Final = {code: text for code, text in _ESCAPES.items() if chr(code) not in "\r\n"}


def one_line(text: str) -> str:
    """Return text on one line, with hidden characters and line ends as escapes."""
    return text.translate(_ESCAPES)


def lines(text: str) -> str:
    """Return text of several lines, with hidden characters as escapes."""
    return text.translate(_LINE_ESCAPES)


def in_json(text: str) -> str:
    """Return JSON text with hidden characters as escapes of JSON."""
    return text.translate(_JSON_ESCAPES)
