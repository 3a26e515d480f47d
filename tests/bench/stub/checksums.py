"""MD5 checksums of SQS."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Mapping
from typing import Any


def md5(content: bytes) -> str:
    """Return the MD5 in hexadecimal, as SQS does."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def md5_of_attributes(attributes: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the MD5 of message attributes in the JSON protocol of SQS.

    Source: Amazon SQS developer guide, "Calculating the MD5 message digest for message attributes".
    """
    parts = []
    for name, attribute in sorted(attributes.items()):
        binary = "BinaryValue" in attribute
        value = (
            base64.b64decode(attribute["BinaryValue"])
            if binary
            else str(attribute["StringValue"]).encode()
        )
        parts += [_counted(name.encode()), _counted(attribute["DataType"].encode())]
        parts += [b"\2" if binary else b"\1", _counted(value)]
    return md5(b"".join(parts))


def _counted(content: bytes) -> bytes:
    return struct.pack("!I", len(content)) + content
