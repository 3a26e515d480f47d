"""Responses of DynamoDB."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from tests.bench.stub.messages import CONTENT_SHA256, POLICY_ID, VERSION
from tests.bench.stub.tally import Tally

_STATEMENT: Final = b'"Statement"'
# The probe of the worker at startup does not count as a write.
_PROBE: Final = b'"aup-worker-probe"'
_TABLE: Final = re.compile(rb'INSERT INTO \\"([^\\"]+)\\"')
_ATTRIBUTE: Final = re.compile(r"'([^']+)': \?")
_WEIGH_EVERY: Final = 64
_UNIT_BYTES: Final = 1024
_POLICY: Final = {
    "policy_id": POLICY_ID,
    "version": VERSION,
    "title": "Acceptable use",
    "content_sha256": CONTENT_SHA256,
    "published_at": "2026-01-01T00:00:00.000Z",
    "effective_at": "2026-01-01T00:00:00.000Z",
}
_POLICY_ANSWER: Final = json.dumps(
    {"Item": {name: {"S": value} for name, value in _POLICY.items()}}
).encode()
_POLICY_KEYS: Final = (f'"{POLICY_ID}"'.encode(), f'"{VERSION}"'.encode())


class DynamoDB:
    """Responds to each operation; every insert succeeds.

    Args:
        tally: Counts items, and measures the size of those of some calls.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._writes = 0

    def execute_batch(self, body: bytes) -> bytes:
        """Insert an item for each statement."""
        count = body.count(_STATEMENT)
        if _PROBE in body:
            return _responses(b"", count)
        self._tally.items_written += count
        if self._is_weighed():
            for statement in json.loads(body)["Statements"]:
                names = _ATTRIBUTE.findall(statement["Statement"])
                self._weigh(dict(zip(names, statement["Parameters"], strict=True)))
        found = _TABLE.search(body)
        return _responses(found[1] if found else b"", count)

    def put(self, body: bytes) -> bytes:
        """Insert an item."""
        if _PROBE in body:
            return b"{}"
        self._tally.items_written += 1
        if self._is_weighed():
            self._weigh(json.loads(body)["Item"])
        return b"{}"

    def get(self, body: bytes) -> bytes:
        """Return the published policy, and no other item."""
        return _POLICY_ANSWER if all(key in body for key in _POLICY_KEYS) else b"{}"

    def _is_weighed(self) -> bool:
        self._writes += 1
        return self._writes % _WEIGH_EVERY == 1

    def _weigh(self, item: Mapping[str, Mapping[str, Any]]) -> None:
        self._tally.items_weighed += 1
        self._tally.units_weighed += math.ceil(item_bytes(item) / _UNIT_BYTES)


def item_bytes(item: Mapping[str, Mapping[str, Any]]) -> int:
    """Return the size of an item of strings and bytes in the JSON of DynamoDB.

    Source: Amazon DynamoDB developer guide, "DynamoDB item sizes and formats".
    """
    total = 0
    for name, value in item.items():
        content = base64.b64decode(value["B"]) if "B" in value else value["S"].encode()
        total += len(name.encode()) + len(content)
    return total


@lru_cache(maxsize=256)
def _responses(table: bytes, count: int) -> bytes:
    return b'{"Responses":[%b]}' % b",".join([b'{"TableName":"%b"}' % table] * count)
