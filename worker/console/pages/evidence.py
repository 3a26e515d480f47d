"""What a user accepted: each record verified, with the exact text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from worker.console.context import ConsoleContext
from worker.console.page import Page, Route, log_action, render
from worker.console.security import content_hash
from worker.domain.evidence import ERASABLE
from worker.errors import PolicyNotFoundError, UsageError
from worker.operations.evidence.document import as_json, document, readable
from worker.operations.evidence.page import STYLE, page
from worker.operations.evidence.sentences import LABELS, sentences, verdicts
from worker.operations.evidence.verification import (
    Verdict,
    Verification,
    accepted_sha256,
    verify_records,
)
from worker.operations.names import check_recorded

# Unknown fields of the message may repeat personal ones.
PERSONAL: Final = (*ERASABLE, "extra")
# A salt makes the commitment of an erased field guessable.
_NEVER_SHOWN: Final = frozenset(f"{name}_salt" for name in ERASABLE)
_KINDS: Final = {
    Verdict.SOUND: "ok",
    Verdict.SOUND_WITH_REMARKS: "warn",
    Verdict.ALTERED: "fail",
}
_PRINTABLE_POLICY: Final = (
    f"default-src 'none'; style-src '{content_hash(STYLE)}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class Query:
    """What the form asks for.

    Attributes:
        user: User id; empty if none is stated.
        policy: The only policy to show; None for all.
        problems: Error of each field, in the words of the CLI.
    """

    user: str
    policy: str | None
    problems: dict[str, str]

    @property
    def is_complete(self) -> bool:
        """Whether there is something to look up."""
        return bool(self.user) and not self.problems


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a record.

    Attributes:
        name: Name in the record.
        label: Name for a person.
        value: Its value; None if it was erased.
        masked: Whether the value is personal and not disclosed yet; then `value` is empty.
    """

    name: str
    label: str
    value: str | None
    masked: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """A verified record as the page shows it.

    Attributes:
        verification: Result of the verification.
        disclosed: Names of the personal fields to show.
    """

    verification: Verification
    disclosed: frozenset[str]

    @property
    def key(self) -> str:
        """Policy and version, unique for a user."""
        return str(self.verification.item.get("policy_version", ""))

    @property
    def title(self) -> str:
        """Title of the policy; its id if it has none."""
        policy = self.verification.policy
        return (policy.title if policy else "") or str(self.verification.item.get("policy_id", ""))

    @property
    def kind(self) -> str:
        """Class of the verdict."""
        return _KINDS[self.verification.verdict]

    @property
    def values(self) -> dict[str, str]:
        """The record as text, without the personal fields that are not disclosed."""
        hidden = frozenset(PERSONAL) - self.disclosed
        return {
            name: value
            for name, value in readable(self.verification.item).items()
            if name not in hidden and name not in _NEVER_SHOWN
        }

    @property
    def said(self) -> str:
        """What the record says, in sentences."""
        policy = self.verification.policy
        return " ".join(sentences(self.values, policy.title if policy else ""))

    @property
    def verdicts(self) -> list[str]:
        """The result of the verification in sentences, the verdict first."""
        return verdicts(self.verification.result())

    @property
    def sha256(self) -> str | None:
        """Hash of the accepted text; None if the record does not state it."""
        return accepted_sha256(self.verification.item)

    @property
    def text(self) -> str | None:
        """The text as a person reads it; None if it is not stored or is a file."""
        content = self.verification.content
        return None if content is None else content.readable()

    def fields(self, *, technical: bool) -> Iterator[Field]:
        """Yield the fields in the order in which a person asks, or all others."""
        item, values = self.verification.item, self.values
        erased = set(self.verification.erased)
        others = (name for name in sorted(item) if name not in LABELS)
        for name in others if technical else LABELS:
            label = LABELS.get(name, name)
            if name in values:
                yield Field(name, label, values[name])
            elif name in item and name not in _NEVER_SHOWN:
                yield Field(name, label, "", masked=True)
            elif name in erased:
                yield Field(name, label, None)


async def show(context: ConsoleContext, request: web.Request) -> web.Response:
    """Return the page: the form, and the records of the user if one is stated."""
    return await _page(context, request, _parsed(request.query.get), frozenset())


async def disclose(context: ConsoleContext, request: web.Request) -> web.Response:
    """Return the page with personal fields disclosed, and log which."""
    form = await request.post()
    query = _parsed(form.get)
    wanted = _disclosures([str(each) for each in form.getall("field", [])])
    if not query.is_complete:
        raise UsageError("user: state whose field to disclose")
    for key, name in sorted(wanted):
        log_action(request, "field disclosed", user=query.user, record=key, field=name)
    return await _page(context, request, query, wanted)


async def export(context: ConsoleContext, request: web.Request) -> web.Response:
    """Return the evidence as a file or as a printable page, which contain personal fields."""
    form = await request.post()
    query = _parsed(form.get)
    if not query.is_complete:
        raise UsageError("user: state whose evidence to export")
    verifications = await _verified(context, query)
    is_page = form.get("format") == "html"
    log_action(
        request,
        "evidence exported",
        user=query.user,
        policy=query.policy,
        format="html" if is_page else "json",
        records=len(verifications),
    )
    content = document(query.user, verifications, context.now())
    if is_page:
        return web.Response(
            body=page(content).encode(errors="backslashreplace"),
            content_type="text/html",
            charset="utf-8",
            headers={"Content-Security-Policy": _PRINTABLE_POLICY},
        )
    return web.Response(
        body=as_json(content).encode(errors="backslashreplace"),
        content_type="application/json",
        headers={"Content-Disposition": 'attachment; filename="evidence.json"'},
    )


def _parsed(get: Any) -> Query:
    """Return the query of a form or an address, with the problems of its fields."""
    user, policy = str(get("user") or "").strip(), str(get("policy") or "").strip() or None
    problems = {}
    for name, values in (("user", (user, None)), ("policy", ("-", policy))):
        try:
            if user:
                check_recorded(*values, options=("user", "policy", "version"))
        except UsageError as error:
            problems[name] = str(error).removeprefix(f"{name}: ")
    return Query(user, policy, problems)


def _disclosures(stated: Sequence[str]) -> frozenset[tuple[str, str]]:
    """Return the key of the record and the name of each field to disclose.

    Raises:
        UsageError: One is not a personal field.
    """
    pairs = [each.partition(" ") for each in stated]
    if any(name not in PERSONAL for name, _, _ in pairs):
        raise UsageError(f"field: expected one of {', '.join(PERSONAL)} and a record")
    return frozenset((key, name) for name, _, key in pairs)


async def _verified(context: ConsoleContext, query: Query) -> list[Verification]:
    repository = context.repository
    items = [item async for item in repository.acceptances(query.user, query.policy)]
    return await verify_records(repository, items, context.settings.clock_skew_seconds)


async def _page(
    context: ConsoleContext,
    request: web.Request,
    query: Query,
    disclosed: frozenset[tuple[str, str]],
) -> web.Response:
    records = None
    current = None
    if query.is_complete:
        records = [
            Record(each, frozenset(name for key, name in disclosed if key == _key(each)))
            for each in await _verified(context, query)
        ]
        if query.policy is not None:
            with suppress(PolicyNotFoundError):
                current = await context.repository.has_accepted(query.user, query.policy)
    return render(
        request,
        "evidence.html",
        query=query,
        records=records,
        current=current,
        disclosed=[f"{name} {key}" for key, name in sorted(disclosed)],
    )


def _key(verification: Verification) -> str:
    return str(verification.item.get("policy_version", ""))


PAGE: Final = Page(
    "evidence",
    "Evidence",
    "/evidence",
    (
        Route("GET", "/evidence", show),
        Route("POST", "/evidence", disclose),
        Route("POST", "/evidence/export", export),
    ),
)
