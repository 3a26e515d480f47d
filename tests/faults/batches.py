"""Batches of which only a part succeeds, or is said to."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import Any

from tests.faults.answers import Answer, failed_entry, failed_statement, unreadable

Forward = Callable[[bytes], Awaitable[Answer]]


async def fail_entries(body: bytes, forward: Forward, random: Random, *, done: bool) -> Answer:
    """Report some entries of an SQS batch as failed.

    Args:
        body: the request.
        forward: passes a request on.
        random: chooses the entries.
        done: whether they are passed on all the same.
    """
    request = json.loads(body)
    entries = request["Entries"]
    chosen = {entry["Id"]: entry for entry in _some(entries, random)}
    passed = [entry for entry in entries if done or entry["Id"] not in chosen]
    answer = await _answered(request | {"Entries": passed}, forward, any_left=bool(passed))
    if answer.status != 200:
        return answer
    told: dict[str, Any] = json.loads(answer.body)
    for part in ("Successful", "Failed"):
        told[part] = [each for each in told.get(part, []) if each["Id"] not in chosen]
    told["Failed"] += [failed_entry(entry, random) for entry in chosen.values()]
    return replace(answer, body=json.dumps(told).encode())


async def fail_statements(body: bytes, forward: Forward, random: Random, *, done: bool) -> Answer:
    """Report some statements of a PartiQL batch as failed; as `fail_entries`."""
    request = json.loads(body)
    statements = list(enumerate(request["Statements"]))
    chosen = {index for index, _ in _some(statements, random)}
    passed = [each for index, each in statements if done or index not in chosen]
    answer = await _answered(request | {"Statements": passed}, forward, any_left=bool(passed))
    if answer.status != 200:
        return answer
    told: dict[str, Any] = json.loads(answer.body)
    responses = iter(told.get("Responses", []))
    merged = []
    for index, _ in statements:
        response = next(responses) if done or index not in chosen else None
        merged.append(failed_statement(random) if index in chosen else response)
    return replace(answer, body=json.dumps(told | {"Responses": merged}).encode())


async def _answered(request: dict[str, Any], forward: Forward, *, any_left: bool) -> Answer:
    if not any_left:
        return unreadable(b"{}")
    return await forward(json.dumps(request).encode())


def _some(entries: list[Any], random: Random) -> list[Any]:
    return random.sample(entries, random.randint(1, len(entries)))
