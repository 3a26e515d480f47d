"""Keep the items of one table and notice when one changes or vanishes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.simulation.dynamodb_values import size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Key = tuple[str, str]

_MOST_ITEM_BYTES = 400 * 1024


class KeyMismatchError(ValueError):
    """An item or key does not fit the table's key schema."""


class LedgerChangedError(AssertionError):
    """An item that must stay as it was written has changed or vanished."""


@dataclass(frozen=True, slots=True)
class Record:
    """Hold an item and the moment at which it was written."""

    item: dict[str, Any]
    written_at: float


class SimulatedTable:
    """Hold items by partition and sort key, both strings.

    Args:
        description: The answer of CreateTable.
        amendable: Whether items may be replaced and updated.
    """

    def __init__(self, description: dict[str, Any], *, amendable: bool) -> None:
        self.description = description
        self.key_names = tuple(
            element["AttributeName"]
            for element in sorted(description["KeySchema"], key=lambda e: e["KeyType"])
        )
        self.partitions: dict[str, dict[str, Record]] = {}
        self.violations: list[str] = []
        self._amendable = amendable
        self._journal: dict[Key, dict[str, Any]] = {}

    @property
    def name(self) -> str:
        """Return the table's name."""
        name: str = self.description["TableName"]
        return name

    def __len__(self) -> int:
        return len(self._journal)

    def items(self) -> list[dict[str, Any]]:
        """Return every item, in the order of first writing, to look at."""
        return [
            self.partitions[partition][sort].item
            for partition, sort in self._journal
            if sort in self.partitions.get(partition, {})
        ]

    def key_of(self, item: Mapping[str, Any]) -> Key:
        """Return an item's key."""
        values = []
        for name in self.key_names:
            value = item.get(name)
            if value is None:
                raise KeyMismatchError(f"Missing the key {name} in the item")
            if type(value) is not str:
                raise KeyMismatchError(f"Type mismatch for key {name}: expected S")
            if not value:
                raise KeyMismatchError(f"Empty string value for the key {name}")
            values.append(value)
        return values[0], values[1] if len(values) > 1 else ""

    def exact_key(self, key: Mapping[str, Any]) -> Key:
        """Return a request's `Key`, which must hold the key's attributes and no more."""
        if set(key) != set(self.key_names):
            raise KeyMismatchError("The provided key element does not match the schema")
        return self.key_of(key)

    def find(self, key: Key) -> Record | None:
        """Return the record with a key."""
        partition = self.partitions.get(key[0])
        return partition.get(key[1]) if partition else None

    def put(self, key: Key, item: dict[str, Any]) -> None:
        """Write an item, over another one if need be."""
        if len(item) > 1000 or size(item) > _MOST_ITEM_BYTES:
            raise KeyMismatchError("Item size has exceeded the maximum allowed size")
        before = self.find(key)
        if before is not None and before.item != item and not self._amendable:
            self._violated(f"{self.name}: the item {key} was overwritten")
        record = Record(item, asyncio.get_running_loop().time())
        self.partitions.setdefault(key[0], {})[key[1]] = record
        self._journal[key] = dict(item)

    def select(self, within: Callable[[Key], bool], partitions: Sequence[str]) -> list[Record]:
        """Return records in order of their keys."""
        return [
            record
            for partition in partitions
            for sort, record in sorted(self.partitions.get(partition, {}).items(), key=_by_key)
            if within((partition, sort))
        ]

    def verify(self) -> None:
        """Check every item against what was written, and raise on the first difference."""
        if self.violations:
            raise LedgerChangedError("; ".join(self.violations))
        for key, written in self._journal.items():
            record = self.find(key)
            if record is None:
                raise LedgerChangedError(f"{self.name}: the item {key} has vanished")
            if record.item != written:
                raise LedgerChangedError(f"{self.name}: the item {key} has changed")

    def _violated(self, message: str) -> None:
        # Noted as well as raised: the program under test may swallow the exception.
        self.violations.append(message)
        raise LedgerChangedError(message)


def _by_key(entry: tuple[str, Record]) -> str:
    return entry[0]
