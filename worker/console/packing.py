"""Compact forms of dead letters, of which the console may keep many thousands."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any, Final

import msgspec

from worker.domain.dead_letter import Replays
from worker.domain.message import ReceivedMessage
from worker.operations.dead_letters.dead_letter import DeadLetter

_TEXTS_MAX: Final = 10_000
# zlib without header and checksum, with small buffers: most messages have less than a kibibyte.
_WINDOW_BITS: Final = -13
_MEMORY_LEVEL: Final = 5
_LEVEL: Final = 3
_DICTIONARY_MAX_BYTES: Final = 4096
_NO_MESSAGE: Final = ReceivedMessage("", "", "")
_NO_REPLAYS: Final = Replays()
# Attributes of a dead letter that many others share.
_REPEATED: Final = ("reason", "detail", "policy_id", "version")


class Packer:
    """Compact forms of dead letters, of which there may be many thousands.

    Dead letters resemble each other: equal texts are kept once, and contents are compressed with
    the first one as a dictionary.
    """

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._dictionary = b""

    def summary(self, dead_letter: DeadLetter) -> DeadLetter:
        """Return a copy without message, whose content is packed separately."""
        if len(self._texts) > _TEXTS_MAX:
            self._texts.clear()
        texts: dict[str, Any] = {name: self._once(getattr(dead_letter, name)) for name in _REPEATED}
        history = dead_letter.history
        return replace(
            dead_letter,
            message=_NO_MESSAGE,
            history=_NO_REPLAYS if history == _NO_REPLAYS else history,
            **texts,
        )

    def _once(self, text: str | None) -> str | None:
        return None if text is None else self._texts.setdefault(text, text)

    def pack(self, dead_letter: DeadLetter) -> bytes | None:
        """Return the compressed message; None if it cannot be packed."""
        message = msgspec.structs.replace(dead_letter.message, receipt_handle="", date="")
        try:
            plain = msgspec.msgpack.encode(message)
        except UnicodeEncodeError:  # a lone surrogate
            return None
        if not self._dictionary:
            self._dictionary = plain[:_DICTIONARY_MAX_BYTES]
        compressor = zlib.compressobj(
            _LEVEL, memLevel=_MEMORY_LEVEL, wbits=_WINDOW_BITS, zdict=self._dictionary
        )
        return compressor.compress(plain) + compressor.flush()

    def unpack(self, summary: DeadLetter, content: bytes) -> DeadLetter:
        """Return a dead letter with its message."""
        decompressor = zlib.decompressobj(wbits=_WINDOW_BITS, zdict=self._dictionary)
        plain = decompressor.decompress(content) + decompressor.flush()
        return replace(summary, message=msgspec.msgpack.decode(plain, type=ReceivedMessage))
