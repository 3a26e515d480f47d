"""Items of one table, with detection of changed and missing items."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.simulation.dynamodb_values import size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Key = tuple[str, str]

_MAX_ITEM_BYTES = 400 * 1024


class KeyMismatchError(ValueError):
    """An item or key does not fit the table's key schema."""


class RecordsChangedError(AssertionError):
    """An immutable item has changed or is missing."""


@dataclass(frozen=True, slots=True)
class Record:
    """Item with the time at which it was written."""

    item: dict[str, Any]
    written_at: float


class SimulatedTable:
    """Items by partition and sort key, both strings.

    Args:
        description: Response of CreateTable.
        mutable: Whether items may be replaced and updated.
    """

    def __init__(self, description: dict[str, Any], *, mutable: bool) -> None:
        self.description = description
        self.key_names = tuple(
            element["AttributeName"]
            for element in sorted(description["KeySchema"], key=lambda e: e["KeyType"])
        )
        self.partitions: dict[str, dict[str, Record]] = {}
        self.violations: list[str] = []
        self._mutable = mutable
        self._written: dict[Key, dict[str, Any]] = {}

    @property
    def name(self) -> str:
        """Name of the table."""
        name: str = self.description["TableName"]
        return name

    def __len__(self) -> int:
        return len(self._written)

    def items(self) -> list[dict[str, Any]]:
        """Return all items in the order of their first write."""
        return [
            self.partitions[partition][sort].item
            for partition, sort in self._written
            if sort in self.partitions.get(partition, {})
        ]

    def key_of(self, item: Mapping[str, Any]) -> Key:
        """Return the key of an item."""
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
        """Return the key of a request; `key` must contain exactly the key attributes."""
        if set(key) != set(self.key_names):
            raise KeyMismatchError("The provided key element does not match the schema")
        return self.key_of(key)

    def find(self, key: Key) -> Record | None:
        """Return the record with a key; None if there is none."""
        partition = self.partitions.get(key[0])
        return partition.get(key[1]) if partition else None

    def written_at(self, item: Mapping[str, Any]) -> float:
        """Return the time at which an item was written."""
        partition, sort = self.key_of(item)
        return self.partitions[partition][sort].written_at

    def put(self, key: Key, item: dict[str, Any]) -> None:
        """Write an item; overwriting a different item is a violation unless mutable."""
        if len(item) > 1000 or size(item) > _MAX_ITEM_BYTES:
            raise KeyMismatchError("Item size has exceeded the maximum allowed size")
        before = self.find(key)
        if before is not None and before.item != item and not self._mutable:
            self._violated(f"{self.name}: the item {key} was overwritten")
        record = Record(item, asyncio.get_running_loop().time())
        self.partitions.setdefault(key[0], {})[key[1]] = record
        self._written[key] = dict(item)

    def select(self, within: Callable[[Key], bool], partitions: Sequence[str]) -> list[Record]:
        """Return the selected records in key order."""
        return [
            record
            for partition in partitions
            for sort, record in sorted(self.partitions.get(partition, {}).items(), key=_by_key)
            if within((partition, sort))
        ]

    def verify(self) -> None:
        """Raise RecordsChangedError if an item differs from what was written."""
        if self.violations:
            raise RecordsChangedError("; ".join(self.violations))
        for key, written in self._written.items():
            record = self.find(key)
            if record is None:
                raise RecordsChangedError(f"{self.name}: the item {key} is missing")
            if record.item != written:
                raise RecordsChangedError(f"{self.name}: the item {key} has changed")

    def _violated(self, message: str) -> None:
        # Noted as well as raised: the program under test may swallow the exception.
        self.violations.append(message)
        raise RecordsChangedError(message)


def _by_key(entry: tuple[str, Record]) -> str:
    return entry[0]
