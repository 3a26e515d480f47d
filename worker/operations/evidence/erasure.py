"""Erasure of private values from records that remain verifiable."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worker.domain.evidence import ERASABLE, verify
from worker.errors import AWSError
from worker.repository import AUPRepository


@dataclass(slots=True)
class Erasure:
    """Erasure of fields of one record.

    Attributes:
        item: The record before the erasure.
        fields: Names of the fields to erase.
        elsewhere: Those of `fields` whose value also occurs in another attribute, which is not
            erased.
        problem: Why the fields were not erased; empty if they were or if erasure is pending.
        done: Whether the fields were erased and the record was verified afterwards.
    """

    item: Mapping[str, Any]
    fields: list[str]
    elsewhere: list[str]
    problem: str = ""
    done: bool = False

    def summary(self) -> dict[str, Any]:
        """Return the erasure for JSON, without the erased values."""
        return {
            "policy_version": self.item["policy_version"],
            "fields": self.fields,
            "also_elsewhere": self.elsewhere,
            "erased": self.done,
            "problem": self.problem or None,
        }


def plan(items: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> list[Erasure]:
    """Return the erasures of the given fields; records without any of them are omitted.

    A record that does not verify is not changed: an erasure could hide how it was altered.
    """
    erasures = []
    for item in items:
        # A remaining salt would allow guessing the value.
        present = [name for name in fields if name in item or f"{name}_salt" in item]
        if present:
            elsewhere = [name for name in present if _elsewhere(item, name)]
            erasures.append(Erasure(item, present, elsewhere, "; ".join(verify(item))))
    return erasures


def _elsewhere(item: Mapping[str, Any], name: str) -> bool:
    value = item.get(name)
    if not isinstance(value, str) or not value:
        return False
    forms = (value, json.dumps(value, ensure_ascii=False)[1:-1])  # `extra` and `edits` are JSON
    others = [text for other, text in item.items() if other not in ERASABLE]
    others.append(_usual_json(item.get("extra")))
    return any(form in text for text in others if isinstance(text, str) for form in forms)


def _usual_json(text: object) -> str | None:
    """Return JSON with the usual escapes: a producer may write any character as an escape."""
    try:
        value = json.loads(str(text), parse_int=str, parse_float=str)
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):  # absent, or written by another program
        return None


async def erase(repository: AUPRepository, erasure: Erasure) -> None:
    """Erase fields of one record, verify the rest, and store the result in the erasure."""
    if erasure.problem:
        erasure.problem += "; not changed"
        return
    try:
        erased = await repository.erase(erasure.item, erasure.fields)
    except AWSError as error:
        erasure.problem = str(error)
    else:
        erasure.problem = "; ".join(verify(erased))
        erasure.done = not erasure.problem
