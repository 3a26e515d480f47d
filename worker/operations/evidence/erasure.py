"""Erase values from evidence that stays provable."""

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
    """What is erased of one record, and how that went.

    Attributes:
        item: the record before.
        fields: what of it is to be erased.
        elsewhere: those of them whose value stands in another attribute too, which is not touched.
        problem: why it was not erased.
        done: whether it was, and the record verified afterwards.
    """

    item: Mapping[str, Any]
    fields: list[str]
    elsewhere: list[str]
    problem: str = ""
    done: bool = False

    def summary(self) -> dict[str, Any]:
        """Give it for JSON, without any value that is erased."""
        return {
            "policy_version": self.item["policy_version"],
            "fields": self.fields,
            "also_elsewhere": self.elsewhere,
            "erased": self.done,
            "problem": self.problem or None,
        }


def plan(items: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> list[Erasure]:
    """Say what is to be erased of which records; those that hold none of the fields are left out.

    A record that does not verify is not touched: erasing could hide how it was altered.
    """
    erasures = []
    for item in items:
        # A salt alone would still let values be tried out.
        present = [name for name in fields if name in item or f"{name}_salt" in item]
        if present:
            elsewhere = [name for name in present if _elsewhere(item, name)]
            erasures.append(Erasure(item, present, elsewhere, "; ".join(verify(item))))
    return erasures


def _elsewhere(item: Mapping[str, Any], name: str) -> bool:
    value = item.get(name)
    if not isinstance(value, str) or not value:
        return False
    forms = (value, json.dumps(value, ensure_ascii=False)[1:-1])  # `extra` is JSON
    others = [text for other, text in item.items() if other not in ERASABLE]
    return any(form in text for text in others if isinstance(text, str) for form in forms)


async def erase(repository: AUPRepository, erasure: Erasure) -> None:
    """Erase the fields of one record and verify what is left; the outcome is noted in it."""
    if erasure.problem:
        erasure.problem += "; not touched"
        return
    try:
        left = await repository.erase(erasure.item, erasure.fields)
    except AWSError as error:
        erasure.problem = str(error)
    else:
        erasure.problem = "; ".join(verify(left))
        erasure.done = not erasure.problem
