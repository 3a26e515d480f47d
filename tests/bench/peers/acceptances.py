"""The write that every peer makes: an acceptance as an item, on the condition that it is new.

It runs in the environment of each peer, so it imports only the standard library.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

TABLE: Final = os.environ.get("AUP_USER_TABLE", "aup-acceptances")
QUEUE: Final = os.environ.get("AUP_QUEUE", "aup-acceptances")
NOT_RECORDED: Final = "attribute_not_exists(user_id)"
# Limits of ReceiveMessage and BatchExecuteStatement.
PER_POLL: Final = 10
PER_WRITE: Final = 25
WAIT_SECONDS: Final = 20

Item = dict[str, dict[str, str]]


def item_of(body: str) -> Item:
    """Return the item of a message with string attributes only, without validation."""
    fields = json.loads(body)
    item = {name: {"S": value} for name, value in fields.items() if isinstance(value, str)}
    item["policy_version"] = {"S": f"{fields['policy_id']}#{fields['version']}"}
    item["recorded_at"] = {"S": datetime.now(UTC).isoformat()}
    return item


def put_of(body: str) -> dict[str, Any]:
    """Return the arguments of PutItem for a message."""
    return {"TableName": TABLE, "Item": item_of(body), "ConditionExpression": NOT_RECORDED}


def statement_of(body: str) -> dict[str, Any]:
    """Return the PartiQL statement that inserts the item of a message; it fails on a duplicate."""
    item = item_of(body)
    names = ", ".join(f"'{name}': ?" for name in item)
    return {
        "Statement": f'INSERT INTO "{TABLE}" VALUE {{{names}}}',
        "Parameters": list(item.values()),
    }


def written(responses: Sequence[dict[str, Any]]) -> list[bool]:
    """Return whether each item of a batch is in the table now, written earlier included."""
    return [
        "Error" not in response or response["Error"].get("Code") == "DuplicateItem"
        for response in responses
    ]
