"""Batches with failed entries, or with entries falsely reported as failed."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import Any

from tests.faults.responses import HTTPResponse, failed_entry, failed_statement, unreadable

Forward = Callable[[bytes], Awaitable[HTTPResponse]]


async def fail_entries(
    body: bytes, forward: Forward, random: Random, *, applied: bool
) -> HTTPResponse:
    """Report some entries of an SQS batch as failed.

    Args:
        body: Request body.
        forward: Forwards a request.
        random: Source of the choice of entries.
        applied: Whether these entries are forwarded nevertheless.
    """
    request = json.loads(body)
    entries = request["Entries"]
    chosen = {entry["Id"]: entry for entry in _some(entries, random)}
    passed = [entry for entry in entries if applied or entry["Id"] not in chosen]
    response = await _forwarded(request | {"Entries": passed}, forward, any_left=bool(passed))
    if response.status != 200:
        return response
    content: dict[str, Any] = json.loads(response.body)
    for part in ("Successful", "Failed"):
        content[part] = [each for each in content.get(part, []) if each["Id"] not in chosen]
    content["Failed"] += [failed_entry(entry, random) for entry in chosen.values()]
    return replace(response, body=json.dumps(content).encode())


async def fail_statements(
    body: bytes, forward: Forward, random: Random, *, applied: bool
) -> HTTPResponse:
    """Report some statements of a PartiQL batch as failed; see `fail_entries`."""
    request = json.loads(body)
    statements = list(enumerate(request["Statements"]))
    chosen = {index for index, _ in _some(statements, random)}
    passed = [each for index, each in statements if applied or index not in chosen]
    response = await _forwarded(request | {"Statements": passed}, forward, any_left=bool(passed))
    if response.status != 200:
        return response
    content: dict[str, Any] = json.loads(response.body)
    responses = iter(content.get("Responses", []))
    merged = []
    for index, _ in statements:
        result = next(responses) if applied or index not in chosen else None
        merged.append(failed_statement(random) if index in chosen else result)
    return replace(response, body=json.dumps(content | {"Responses": merged}).encode())


async def _forwarded(request: dict[str, Any], forward: Forward, *, any_left: bool) -> HTTPResponse:
    if not any_left:
        return unreadable(b"{}")
    return await forward(json.dumps(request).encode())


def _some(entries: list[Any], random: Random) -> list[Any]:
    return random.sample(entries, random.randint(1, len(entries)))
