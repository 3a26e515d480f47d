"""JSON Canonicalization Scheme (RFC 8785) of an object whose values are strings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache

from pydantic_core import to_json


def canonical(fields: Mapping[str, str]) -> bytes:
    """Return the canonical JSON of an object.

    Raises:
        ValueError: A text has a lone surrogate, which UTF-8 cannot express.

    Source: RFC 8785, sections 3.2.2.2 (strings) and 3.2.3 (order of names).
    """
    return to_json({name: fields[name] for name in _in_order(tuple(fields))})


@lru_cache(maxsize=1024)  # the records of one producer have the same attributes
def _in_order(names: tuple[str, ...]) -> list[str]:
    return sorted(names, key=lambda name: name.encode("utf-16-be", "surrogatepass"))


def sha256(fields: Mapping[str, str]) -> bytes:
    """Return the SHA-256 of the canonical JSON of an object."""
    return hashlib.sha256(canonical(fields)).digest()
