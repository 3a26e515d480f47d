"""JSON Canonicalization Scheme (RFC 8785) of an object whose values are strings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

# They write strings as RFC 8785 does. One keeps the order of names, the other sorts them by code
# point, which for ASCII names is the order of RFC 8785.
_encode: Final = msgspec.json.Encoder().encode
_encode_sorted: Final = msgspec.json.Encoder(order="sorted").encode


def canonical(fields: Mapping[str, str]) -> bytes:
    """Return the canonical JSON of an object.

    Raises:
        ValueError: A text has a lone surrogate, which UTF-8 cannot express.

    Source: RFC 8785, sections 3.2.2.2 (strings) and 3.2.3 (order of names).
    """
    encoded = _encode_sorted(fields)
    if encoded.isascii() or "".join(fields).isascii():
        return encoded
    names = sorted(fields, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
    return _encode({name: fields[name] for name in names})


def sha256(fields: Mapping[str, str]) -> bytes:
    """Return the SHA-256 of the canonical JSON of an object."""
    return hashlib.sha256(canonical(fields)).digest()
