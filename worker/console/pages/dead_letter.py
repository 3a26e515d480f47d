"""One dead letter: its body with the offending place marked, edits, and the policy beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

from aiohttp import web

from worker.console.context import ConsoleContext
from worker.console.live import Event, stream
from worker.console.masking import is_personal, mask_attributes, mask_body, mask_text
from worker.console.page import Route, log_action, render
from worker.console.pages.policies import Address
from worker.console.replays import DryRunResult
from worker.console.selection import Selection, address, read_selection
from worker.domain.acceptance import Acceptance
from worker.domain.envelope import unwrap
from worker.domain.policy import Policy
from worker.errors import AUPError, AWSError, EditError, RefusedError, UsageError
from worker.operations.dead_letters.body_view import format_body
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.edit import edit_fields
from worker.operations.dead_letters.replay_request import ReplayTexts
from worker.operations.dead_letters.sentences import not_found

_WAIT_SECONDS: Final = 1.0
_VALUE_MAX_CHARACTERS: Final = 200
_SETS_MAX: Final = 50
_VERSIONS_SHOWN: Final = 10
_POLICY_MAX_CHARACTERS: Final = 20_000


@dataclass(frozen=True, slots=True)
class EditableField:
    """A field of the body that can be edited.

    Attributes:
        path: Its name for an assignment, such as `data.version`.
        value: Its value as shown; None if the body does not have it.
        is_personal: Whether the value is masked.
        new: The value to set; empty for none.
        is_usual: Whether operators usually edit it.
    """

    path: str
    value: str | None
    is_personal: bool
    new: str
    is_usual: bool


async def show(context: ConsoleContext, request: web.Request) -> web.Response:
    """Return the page of a dead letter, with the dry run of the edits in the query string."""
    return await _page(context, request, frozenset())


async def disclose(context: ConsoleContext, request: web.Request) -> web.Response:
    """Return the page with a personal value, which is logged."""
    form = await request.post()
    field = str(form.get("field", ""))
    shown = [each for each in str(form.get("shown", "")).split("\n") if each]
    # Also those that the page has shown before, because the form could name any.
    for each in dict.fromkeys((field, *shown)):
        log_action(
            request, "field disclosed", dead_letter=request.match_info["message_id"], field=each
        )
    return await _page(context, request, frozenset((field, *shown)))


async def live(context: ConsoleContext, request: web.Request) -> web.StreamResponse:
    """Wait for the first scan, after which the page is loaded again."""

    async def events() -> AsyncIterator[Event]:
        while context.scans.snapshot.scanned_at is None and not context.scans.error:
            yield Event({})
            await asyncio.sleep(_WAIT_SECONDS)
        yield Event({}, "done")

    return await stream(request, events())


async def _page(
    context: ConsoleContext, request: web.Request, disclosed: frozenset[str]
) -> web.Response:
    message_id = request.match_info["message_id"]
    query = request.query.items()
    sets = _assignments(query)
    if any(name.startswith("set.") for name, _ in query):
        raise web.HTTPSeeOther(_address(message_id, sets, request.query.get("from", "")))
    origin = read_selection(parse_qsl(request.query.get("from", "")))
    values: dict[str, Any] = {
        "message_id": message_id,
        "back": address("/dead-letters", origin),
        "origin": origin,
    }
    dead_letter = await _find(context, message_id)
    if dead_letter is None:
        return _absent(context, request, values)
    dry_run, problem = await _predict(context, dead_letter, sets)
    values |= {
        "letter": dead_letter,
        "parts": [each.shortened() for each in mask_body(format_body(dead_letter), disclosed)],
        "attributes": list(mask_attributes(dead_letter.message, disclosed)),
        "disclosed": "\n".join(sorted(disclosed)),
        "action": _address(message_id, sets, origin.query),
        "sets": sets,
        "fields": list(_fields(dead_letter, sets)),
        "why_not_editable": _why_not_editable(dead_letter),
        "dry_run": dry_run,
        "problem": problem,
        "command": Selection(ids=(message_id,)).command(
            "replay", options=[part for each in sets for part in ("--set", each)]
        ),
        **await _policy(context, dead_letter, sets),
    }
    return render(request, "dead_letter.html", **values)


def _assignments(query: Iterable[tuple[str, str]]) -> list[str]:
    """Return the assignments of a query string; those of the form are `set.FIELD`."""
    sets: dict[str, str] = {}
    for name, value in query:
        field, _, new = value.partition("=") if name == "set" else (name[4:], "", value)
        if (name == "set" or name.startswith("set.")) and field and new.strip():
            sets[field] = new.strip()
    return [f"{field}={new}" for field, new in list(sets.items())[:_SETS_MAX]]


def _address(message_id: str, sets: Sequence[str], origin: str) -> str:
    pairs = [("set", each) for each in sets] + ([("from", origin)] if origin else [])
    return f"/dead-letters/{quote(message_id, safe='')}" + (f"?{urlencode(pairs)}" if pairs else "")


async def _find(context: ConsoleContext, message_id: str) -> DeadLetter | None:
    """Return the dead letter, after a short wait for the first scan."""
    scans = context.scans
    scans.look()
    if scans.snapshot.scanned_at is None:
        await asyncio.wait([asyncio.ensure_future(scans.settle())], timeout=_WAIT_SECONDS)
    if scans.snapshot.scanned_at is None and message_id not in scans.snapshot.dead_letters:
        return None
    return await scans.find(message_id)


def _absent(context: ConsoleContext, request: web.Request, values: dict[str, Any]) -> web.Response:
    scans = context.scans
    values |= {
        "is_scanning": scans.snapshot.scanned_at is None and not scans.error,
        "error": scans.error,
        "text": not_found(str(values["message_id"]), scans.snapshot.unseen),
    }
    status = 200 if values["is_scanning"] else 404
    return render(request, "dead_letter_absent.html", http_status=status, **values)


async def _predict(
    context: ConsoleContext, dead_letter: DeadLetter, sets: Sequence[str]
) -> tuple[DryRunResult | None, str]:
    """Return the dry run of a dead letter, or why there is none."""

    async def only() -> AsyncIterator[DeadLetter]:
        yield dead_letter

    texts = ReplayTexts(
        ids=(dead_letter.message_id,), set_=tuple(sets), operator=context.options.operator
    )
    try:
        return await context.replays.run_dry(texts, only()), ""
    except AUPError as error:
        return None, str(error)


def _why_not_editable(dead_letter: DeadLetter) -> str:
    """Return why fields of a dead letter cannot be set; empty if they can."""
    try:
        edit_fields(())(dead_letter.message)
    except EditError as error:
        return str(error)
    return ""


def _fields(dead_letter: DeadLetter, sets: Sequence[str]) -> Iterator[EditableField]:
    """Yield the fields of an acceptance, then those that are set besides."""
    try:
        payload, path = unwrap(dead_letter.message.body)
    except RefusedError:
        payload, path = {}, ""
    new = dict(each.split("=", 1) for each in sets)
    for name, field in Acceptance.model_fields.items():
        value = payload.get(name)
        yield EditableField(
            f"{path}{name}",
            None if value is None else mask_text(str(value)[:_VALUE_MAX_CHARACTERS]),
            is_personal(name),
            new.pop(f"{path}{name}", ""),
            field.is_required() or name in payload,
        )
    for name, value in new.items():
        yield EditableField(name, None, is_personal(name), value, True)


async def _policy(
    context: ConsoleContext, dead_letter: DeadLetter, sets: Sequence[str]
) -> dict[str, Any]:
    """Return the policy version that the message names, its text, and other versions."""
    values: dict[str, Any] = {
        "policy": None, "policy_text": None, "versions": (), "policy_error": "", "named": ("", "")
    }  # fmt: skip
    named = _named(dead_letter, sets)
    if named is None:
        return values
    values["named"] = named
    try:
        policy = await context.repository.policy(*named)
        values["policy"] = policy
        if policy is None:
            versions = await context.repository.policies(named[0])
            values["versions"] = [
                (each.version, Address(each.policy_id, each.version).path())
                for each in versions[-_VERSIONS_SHOWN:]
            ]
        else:
            values["policy_path"] = Address(*named).path()
            values["policy_text"] = await _text(context, policy, dead_letter)
    except (AWSError, UsageError) as error:
        values["policy_error"] = str(error)
    return values


def _named(dead_letter: DeadLetter, sets: Sequence[str]) -> tuple[str, str] | None:
    """Return the policy and the version of the message that would be sent."""
    new = {name.rsplit(".", 1)[-1]: value for name, _, value in (e.partition("=") for e in sets)}
    policy_id = new.get("policy_id", dead_letter.policy_id)
    version = new.get("version", dead_letter.version)
    return (policy_id, version) if policy_id and version else None


async def _text(context: ConsoleContext, policy: Policy, dead_letter: DeadLetter) -> dict[str, Any]:
    """Return the text that the user probably saw: of the stated language, or the default."""
    try:
        locale = unwrap(dead_letter.message.body)[0].get("locale")
    except RefusedError:
        locale = None
    text = next(policy.texts_for(locale if isinstance(locale, str) else None))
    content = await context.repository.policy_text(text.sha256)
    readable = None if content is None else content.readable()
    return {
        "locale": text.locale,
        "sha256": text.sha256,
        "text": None if readable is None else readable[:_POLICY_MAX_CHARACTERS],
        "is_cut": readable is not None and len(readable) > _POLICY_MAX_CHARACTERS,
        "is_stored": content is not None,
    }


ROUTES: Final = (
    Route("GET", "/dead-letters/{message_id}", show),
    Route("GET", "/dead-letters/{message_id}/live", live, streams=True),
    Route("POST", "/dead-letters/{message_id}", disclose),
)
