"""Conditional updates of one existing item, by PartiQL or by UpdateItem.

PartiQL's UPDATE never creates an item, so `dynamodb:PartiQLUpdate` with `dynamodb:Attributes` lets
a role change some attributes of existing items and nothing else. UpdateItem would create a missing
item; it is used only where `AUP_WRITE_API=put` says that the server has no PartiQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Update:
    """Update that fails unless the item exists and has the expected attributes.

    Attributes:
        table_name: Table of the item.
        key: Key attributes with their values.
        added: Attributes to set; none of them may exist yet.
        removed: Attributes to remove, with the values that they must have.
    """

    table_name: str
    key: Mapping[str, str]
    added: Mapping[str, Any] = field(default_factory=dict)
    removed: Mapping[str, Any] = field(default_factory=dict)

    def execute_statement(self) -> dict[str, Any]:
        """Return the request of ExecuteStatement."""
        changes = [*(f'SET "{name}" = ?' for name in self.added)]
        changes += [f'REMOVE "{name}"' for name in self.removed]
        conditions = [f'"{name}" = ?' for name in (*self.key, *self.removed)]
        conditions += [f'"{name}" IS MISSING' for name in self.added]
        where = " AND ".join(conditions)
        return {
            "Statement": f'UPDATE "{self.table_name}" {" ".join(changes)} WHERE {where}',
            "Parameters": [*self.added.values(), *self.key.values(), *self.removed.values()],
        }

    def update_item(self) -> dict[str, Any]:
        """Return the request of UpdateItem."""
        names = {name: f"#{number}" for number, name in enumerate((*self.added, *self.removed))}
        values = {**self.added, **self.removed}
        changes = []
        if self.added:
            added = ", ".join(f"{names[name]} = :{names[name][1:]}" for name in self.added)
            changes.append(f"SET {added}")
        if self.removed:
            changes.append(f"REMOVE {', '.join(names[name] for name in self.removed)}")
        conditions = [f"attribute_exists({next(iter(self.key))})"]
        conditions += [f"attribute_not_exists({names[name]})" for name in self.added]
        conditions += [f"{names[name]} = :{names[name][1:]}" for name in self.removed]
        return {
            "TableName": self.table_name,
            "Key": dict(self.key),
            "UpdateExpression": " ".join(changes),
            "ConditionExpression": " AND ".join(conditions),
            "ExpressionAttributeNames": {short: name for name, short in names.items()},
            "ExpressionAttributeValues": {
                f":{names[name][1:]}": value for name, value in values.items()
            },
        }
