"""Selections of dead letters in the query string: filters and ids, in the words of the CLI."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import urlencode

from worker.console.masking import mask_text
from worker.console.scans import DeadLetterScans, KnownDeadLetter
from worker.errors import UsageError
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.filter_texts import FilterTexts, parse_moment, parse_pattern
from worker.runtime.clock import utc_now

_LISTS: Final = ("reason", "user", "policy", "version")
_TEXTS: Final = ("since", "until", "grep", "limit")
_TEXT_MAX_CHARACTERS: Final = 512
_VALUES_MAX: Final = 200
_LIMIT_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters a page is about.

    Attributes:
        texts: Texts of the filter, as far as they are valid.
        ids: Ids that were chosen; all that match the filter if empty.
        problems: Why fields of the filter are invalid, by the name of the field.
        given: Texts of invalid fields, so that they can be corrected.
    """

    texts: FilterTexts = field(default_factory=FilterTexts)
    ids: tuple[str, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Names and values of the query string."""
        pairs: list[tuple[str, str]] = []
        for name in _LISTS:
            pairs += [(name, each) for each in getattr(self.texts, name) or ()]
        for name in _TEXTS:
            value = getattr(self.texts, name)
            if value is not None:
                pairs.append((name, str(value)))
        return pairs + [("id", each) for each in self.ids]

    @property
    def query(self) -> str:
        """The query string, without question mark."""
        return urlencode(self.pairs)

    @property
    def is_empty(self) -> bool:
        """Whether every dead letter is selected."""
        return not self.pairs

    def text(self, name: str) -> str:
        """Return the text of a field that has one value."""
        value = getattr(self.texts, name)
        return self.given.get(name, "" if value is None else str(value))

    def with_reasons(self, reasons: Sequence[str]) -> Selection:
        """Return the same filter with other reasons."""
        return replace(self, texts=replace(self.texts, reason=list(reasons) or None), ids=())

    def for_counts(self) -> Selection:
        """Return the filter without reasons and limit, for the counts by reason."""
        return replace(self, texts=replace(self.texts, reason=None, limit=None), ids=())

    def logged(self) -> str:
        """Return the filter for a log line, with personal values masked."""
        return mask_text(self.described())

    def described(self) -> str:
        """Return the filter as options of the CLI, for a person; `all` without any."""
        parts = [f"--{name} {shlex.quote(value)}" for name, value in self.pairs if name != "id"]
        if self.ids:
            parts.append(f"{len(self.ids):,} chosen" if len(self.ids) > 1 else self.ids[0])
        return " ".join(parts) or "all"

    def command(self, verb: str, *, options: Iterable[str] = ()) -> str:
        """Return the command of the CLI that selects the same dead letters."""
        words = ["aup-worker", *verb.split(), *self.ids]
        for name, value in self.pairs:
            if name != "id":
                words += [f"--{name}", value]
        return " ".join(map(shlex.quote, [*words, *options]))

    def parsed(self) -> DeadLetterFilter:
        """Return the filter.

        Raises:
            UsageError: A field is invalid.
        """
        for problem in self.problems.values():
            raise UsageError(problem)
        return self.texts.dead_letter_filter(self.ids)


def address(path: str, selection: Selection) -> str:
    """Return the address of a page about a selection."""
    return f"{path}?{selection.query}" if selection.query else path


def read_selection(query: Iterable[tuple[str, str]]) -> Selection:
    """Return the selection in a query string or form; names that do not belong to it are ignored.

    Args:
        query: Names and values.
    """
    lists: dict[str, list[str]] = {name: [] for name in (*_LISTS, "id")}
    texts: dict[str, str] = {}
    for name, value in query:
        text = value.strip()
        if name in lists and text and len(lists[name]) < _VALUES_MAX:
            lists[name].append(text[:_TEXT_MAX_CHARACTERS])
        elif name in _TEXTS and text:
            texts[name] = text[:_TEXT_MAX_CHARACTERS]
    ids = tuple(dict.fromkeys(lists.pop("id")))
    problems = {name: problem for name, text in texts.items() if (problem := _problem(name, text))}
    valid = {name: text for name, text in texts.items() if name not in problems}
    limit = valid.pop("limit", None)
    reason, user, policy, version = (list(dict.fromkeys(lists[name])) or None for name in _LISTS)
    found = FilterTexts(
        reason=reason,
        user=user,
        policy=policy,
        version=version,
        since=valid.get("since"),
        until=valid.get("until"),
        grep=valid.get("grep"),
        limit=None if limit is None else int(limit),
    )
    return Selection(found, ids, problems, {name: texts[name] for name in problems})


def _problem(name: str, text: str) -> str:
    """Return why the text of a field is invalid; empty if it is valid."""
    try:
        if name in {"since", "until"}:
            parse_moment(name, text, utc_now())
        elif name == "grep":
            parse_pattern(name, text)
        elif not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= _LIMIT_MAX):
            return f"{name} {text}: expected a number from 1 to {_LIMIT_MAX:,}"
    except UsageError as error:
        return str(error)
    return ""


async def select(scans: DeadLetterScans, selection: Selection) -> list[KnownDeadLetter]:
    """Return the selected dead letters of the last scan, soonest to expire first.

    Args:
        scans: Scans of the dead-letter queue.
        selection: Filter and ids, whose limit applies.

    Raises:
        UsageError: A field is invalid.
    """
    wanted = selection.parsed()
    of_summary = replace(wanted, grep=None)
    found = [each for each in scans.snapshot.by_expiry() if of_summary.matches(each.summary)]
    if wanted.grep is not None:
        only = DeadLetterFilter(grep=wanted.grep)
        ids = await scans.matching(wanted.grep.pattern, only.matches)
        found = [each for each in found if each.summary.message_id in ids]
    return found[: wanted.limit]
