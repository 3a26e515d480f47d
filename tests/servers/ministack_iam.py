"""Run ministack with the authorization of DynamoDB writes that AWS documents.

By default, ministack authorizes PartiQL as `dynamodb:BatchExecuteStatement` on everything, and
fills `dynamodb:Attributes` only from projections. On AWS each statement needs the action of its
verb on its table, and the key contains every top-level attribute that the request names. Runs as a
program in the virtual environment of ministack.

Sources: Service Authorization Reference, "Amazon DynamoDB"; DynamoDB developer guide, "Using IAM
policy conditions for fine-grained access control" and "IAM security policies with PartiQL".
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

from ministack.app import main  # type: ignore[import-not-found] # installed in another environment
from ministack.core import iam_actions  # type: ignore[import-not-found] # the same

_STATEMENT: Final = re.compile(
    r"""\s*(INSERT\s+INTO|UPDATE|DELETE\s+FROM|SELECT\b.*?\bFROM)\s+"([\w.-]+)"(.*)""",
    re.IGNORECASE | re.DOTALL,
)
_WORD: Final = re.compile(r"""["']?([#A-Za-z_][\w-]*)""")
_PLACEHOLDER: Final = re.compile(r":\w+")
_LITERAL: Final = re.compile(r"'[^']*'")
_KEYWORDS: Final = frozenset(
    {"ADD", "ALL", "AND", "AS", "BETWEEN", "DELETE", "EXISTS", "IN", "IS", "MISSING", "NEW", "NOT",
     "NULL", "OLD", "OR", "REMOVE", "RETURNING", "SET", "VALUE", "WHERE", "ATTRIBUTE_EXISTS",
     "ATTRIBUTE_NOT_EXISTS", "ATTRIBUTE_TYPE", "BEGINS_WITH", "CONTAINS", "IF_NOT_EXISTS",
     "LIST_APPEND", "SIZE"}
)  # fmt: skip
_EXPRESSIONS: Final = ("UpdateExpression", "ConditionExpression")
_MAPS: Final = ("Key", "Item", "AttributeUpdates", "Expected")


def _request(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body or b"{}")
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _statements(data: dict[str, Any]) -> list[str]:
    several = [*data.get("Statements", []), *data.get("TransactStatements", [])]
    return [each["Statement"] for each in (*several, data) if "Statement" in each]


def _words(text: str) -> Iterator[str]:
    for word in _WORD.findall(_PLACEHOLDER.sub("", text)):
        if word.upper() not in _KEYWORDS:
            yield word


def _attributes(data: dict[str, Any]) -> list[str]:
    names: set[str] = set()
    for statement in _statements(data):
        found = _STATEMENT.fullmatch(statement)
        rest = found[3] if found else statement
        # In an INSERT, names have the quotes that enclose values elsewhere.
        is_insert = statement.lstrip()[:6].upper() == "INSERT"
        names.update(_words(rest if is_insert else _LITERAL.sub("", rest)))
    aliases = data.get("ExpressionAttributeNames", {})
    for expression in _EXPRESSIONS:
        names.update(aliases.get(word, word) for word in _words(data.get(expression, "")))
    for each in _MAPS:
        names.update(data.get(each, {}))
    return sorted(names)


def _context(original: Callable[[bytes], dict[str, Any]]) -> Callable[[bytes], dict[str, Any]]:
    def context(body: bytes) -> dict[str, Any]:
        found = original(body)
        if names := _attributes(_request(body)):
            found["dynamodb:Attributes"] = sorted({*names, *found.get("dynamodb:Attributes", [])})
        return found

    return context


def _checks(original: Callable[..., list[tuple[str, str]]]) -> Callable[..., list[tuple[str, str]]]:
    def checks(action: str, body: bytes, region: str, account: str) -> list[tuple[str, str]]:
        found = []
        for statement in _statements(_request(body)):
            parts = _STATEMENT.fullmatch(statement)
            # Statements that are not understood are denied.
            verb = parts[1].split()[0].capitalize() if parts else "Unknown"
            table = parts[2] if parts else "*"
            arn = f"arn:aws:dynamodb:{region}:{account}:table/{table}"
            found.append((f"dynamodb:PartiQL{verb}", arn))
        return found or original(action, body, region, account)

    return checks


if __name__ == "__main__":
    iam_actions.dynamodb_service_context = _context(iam_actions.dynamodb_service_context)
    iam_actions.dynamodb_transaction_checks = _checks(iam_actions.dynamodb_transaction_checks)
    sys.exit(main())
