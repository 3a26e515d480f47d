"""Untrusted text without characters that could deceive a reader."""

from __future__ import annotations

from typing import Final

# Control characters, bidirectional marks, separators of lines and paragraphs, and lone surrogates,
# which cannot be encoded.
_HIDDEN: Final = (
    *range(32), *range(127, 160), 0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F),
    *range(0x2066, 0x206A), 0xFEFF, *range(0xD800, 0xE000),
)  # fmt: skip
_ESCAPES: Final = {code: f"\\u{code:04x}" for code in _HIDDEN}
# For text of several lines, whose ends may be those of Windows.
_LINE_ESCAPES: Final = {code: text for code, text in _ESCAPES.items() if chr(code) not in "\t\r\n"}


def one_line(text: str) -> str:
    """Return text on one line, with hidden characters and line ends as escapes."""
    return text.translate(_ESCAPES)


def lines(text: str) -> str:
    """Return text of several lines, with hidden characters as escapes."""
    return text.translate(_LINE_ESCAPES)
