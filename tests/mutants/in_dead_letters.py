"""Faults in what operators do with dead letters: look, choose, edit, replay, purge."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_FILE: Final = "worker/dead_letters/letter_file.py"
_FORECAST: Final = "worker/dead_letters/forecast.py"
_JOURNAL: Final = "worker/dead_letters/journal.py"
_LOOK: Final = "worker/cli/dead_letters/look.py"
_PURGE: Final = "worker/dead_letters/purge.py"
_REPAIR: Final = "worker/dead_letters/repair.py"
_REPLAY: Final = "worker/dead_letters/replay.py"
_WALK: Final = "worker/dead_letters/walk.py"
_CHOOSING_TESTS: Final = ("tests/unit/test_choosing.py",)
_FILE_TESTS: Final = ("tests/unit/test_letter_file.py",)
_JOURNAL_TESTS: Final = ("tests/unit/test_journal.py",)
_PURGE_TESTS: Final = ("tests/unit/test_purge.py",)
_REPAIR_TESTS: Final = ("tests/unit/test_repair.py",)
_REPLAY_TESTS: Final = ("tests/unit/test_replay.py",)
_VERBS_TESTS: Final = ("tests/unit/test_letter_verbs.py",)
_WALK_TESTS: Final = ("tests/unit/test_dead_letters.py",)

_LOOKING: Final = (
    Mutant(
        "what polls under way bring at the end stays hidden",
        _WALK,
        "                self._hide(answer)\n        starts",
        "                pass\n        starts",
        _WALK_TESTS,
    ),
    Mutant(
        "one empty answer ends a walk that has seen nothing",
        _WALK,
        "(1 if len(self._seen) >= self._known else _EMPTY_POLLS)",
        "1",
        _WALK_TESTS,
    ),
    Mutant(
        "a filter that leaves out what it should choose",
        _WALK,
        "not wanted or value in wanted for",
        "not wanted or value not in wanted for",
        _CHOOSING_TESTS,
    ),
    Mutant(
        "until taken for since",
        _WALK,
        "letter.dead_at < self.until",
        "letter.dead_at >= self.until",
        _CHOOSING_TESTS,
    ),
    Mutant(
        "attributes that grep does not search",
        _WALK,
        '        yield bytes(value.get("BinaryValue", b"")).decode(errors="replace")\n',
        "",
        _CHOOSING_TESTS,
    ),
)

_FILING: Final = (
    Mutant(
        "an export that loses the trace header",
        _FILE,
        '"trace_header": given.trace_header,',
        '"trace_header": None,',
        _FILE_TESTS,
    ),
    Mutant(
        "a purge that keeps nothing of what it deletes",
        _LOOK,
        '                stream.write(f"{to_line(letter)}\\n")\n',
        "",
        _VERBS_TESTS,
    ),
    Mutant(
        "a purge that takes any answer for yes",
        "worker/cli/dead_letters/purge.py",
        "if answer.strip() != str(count):",
        "if False:",
        _VERBS_TESTS,
    ),
    Mutant(
        "a purge of what nobody named",
        _PURGE,
        "            if letter.message_id not in left:\n                continue\n",
        "",
        _PURGE_TESTS,
    ),
)

_EDITING: Final = (
    Mutant(
        "an edit that nobody is told of",
        _REPLAY,
        "self.operator, names) if names else None",
        "self.operator, names) if False else None",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a file that forgets how often its letters were replayed",
        _REPAIR,
        "attributes={**kept, **mark}",
        "attributes=kept",
        _REPAIR_TESTS,
    ),
    Mutant(
        "a repair that writes anew what needs none",
        _REPAIR,
        "return plain if json.dumps(data) == before else replace",
        "return replace",
        _REPAIR_TESTS,
    ),
)

_GOING_ON: Final = (
    Mutant(
        "a rate that is not kept",
        _REPLAY,
        "        await self._pace(len(sending))\n",
        "",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a replay beside a quick worker has no end",
        _REPLAY,
        "if not self._choice.matches(letter) or self._is_back(letter):",
        "if not self._choice.matches(letter):",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a replay that does not wait for what a killed one hides",
        _REPLAY,
        "if hidden_until is not None and not self._has_all():",
        "if False:",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a journal that takes another message for the one that was sent",
        _JOURNAL,
        "known is not None and known.sha256 == digest(body)",
        "known is not None",
        _JOURNAL_TESTS,
    ),
    Mutant(
        "a journal that two replays write",
        _JOURNAL,
        "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "pass",
        _JOURNAL_TESTS,
    ),
    Mutant(
        "a torn line that spoils the next one",
        _JOURNAL,
        "        file.truncate(length)\n",
        "",
        _JOURNAL_TESTS,
    ),
    Mutant(
        "a journal that forgets what was sent when something else is asked for",
        _JOURNAL,
        "self.done, self.runs, self._asked = {}, 0, for_what",
        "self.done, self.runs, self._asked = {}, 0, for_what\n            self.outstanding = {}",
        _JOURNAL_TESTS,
    ),
    Mutant(
        "a forecast by the policies of before",
        _FORECAST,
        "        if policy is None:\n            return Verdict(",
        "        if policy is None and version:\n            return Verdict(SUCCEEDS)\n"
        "        if policy is None:\n            return Verdict(",
        ("tests/unit/test_forecast.py",),
    ),
)

MUTANTS: Final = (*_LOOKING, *_FILING, *_EDITING, *_GOING_ON)
