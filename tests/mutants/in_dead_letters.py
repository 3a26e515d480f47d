"""Faults in the operations on dead letters: scan, filter, edit, replay and purge."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_FILE: Final = "worker/operations/dead_letters/export_file.py"
_FILTER: Final = "worker/operations/dead_letters/filter.py"
_FORECAST: Final = "worker/operations/dead_letters/dry_run.py"
_JOURNAL: Final = "worker/operations/dead_letters/journal.py"
_EXPORT: Final = "worker/cli/dead_letters/export.py"
_PURGE: Final = "worker/operations/dead_letters/purge.py"
_REPAIR: Final = "worker/operations/dead_letters/edit.py"
_REPLAY: Final = "worker/operations/dead_letters/replay.py"
_REPLAY_OPTIONS: Final = "worker/operations/dead_letters/replay_options.py"
_WALK: Final = "worker/operations/dead_letters/scan.py"
_FILTER_TESTS: Final = ("tests/unit/operations/dead_letters/test_filter.py",)
_FILE_TESTS: Final = ("tests/unit/operations/dead_letters/test_export_file.py",)
_JOURNAL_TESTS: Final = ("tests/unit/operations/dead_letters/test_journal.py",)
_PURGE_TESTS: Final = ("tests/unit/operations/dead_letters/test_purge.py",)
_REPAIR_TESTS: Final = ("tests/unit/operations/dead_letters/test_edit.py",)
_REPLAY_TESTS: Final = (
    "tests/unit/operations/dead_letters/test_replay.py",
    "tests/unit/operations/dead_letters/test_replay_resumed.py",
)
_VERBS_TESTS: Final = ("tests/unit/cli/test_dead_letters.py",)
_WALK_TESTS: Final = ("tests/unit/operations/dead_letters/test_scan.py",)

_LOOKING: Final = (
    Mutant(
        "messages of the last polls of a scan stay hidden",
        _WALK,
        "        await asyncio.gather(*self._polling, return_exceptions=True)\n",
        "        for poll in self._polling:\n            poll.cancel()\n",
        _WALK_TESTS,
    ),
    Mutant(
        "a scan ends before it has seen what the queue reports",
        _WALK,
        "self._is_limited or not self.unseen or self._has_waited()",
        "True",
        _WALK_TESTS,
    ),
    Mutant(
        "a scan reports nothing as not seen",
        _WALK,
        "self.unseen = max(0, state.depth - remaining)",
        "self.unseen = 0",
        _WALK_TESTS,
    ),
    Mutant(
        "a poll with only known messages ends a scan",
        _WALK,
        "self._pausing or is_empty or self._has_waited()",
        "True",
        _WALK_TESTS,
    ),
    Mutant(
        "a long scan makes its messages visible again too early",
        _WALK,
        "        self._extending = asyncio.create_task(self._keep_hidden())\n",
        "        self._extending = asyncio.create_task(asyncio.sleep(0))\n",
        _WALK_TESTS,
    ),
    Mutant(
        "a delete uses an old receipt handle",
        _WALK,
        "return replace(message, receipt_handle=self._handles[message.message_id])",
        "return replace(message)",
        _WALK_TESTS,
    ),
    Mutant(
        "a deleted message that is received again is not deleted",
        _WALK,
        "messages if each.message_id in self._deleted]",
        "messages if False]",
        _PURGE_TESTS,
    ),
    Mutant(
        "a filter excludes what it should select",
        _FILTER,
        "not wanted or value in wanted for",
        "not wanted or value not in wanted for",
        _FILTER_TESTS,
    ),
    Mutant(
        "--until is applied as --since",
        _FILTER,
        "dead_letter.dead_at < self.until",
        "dead_letter.dead_at >= self.until",
        _FILTER_TESTS,
    ),
    Mutant(
        "--grep does not search attributes",
        _FILTER,
        '        yield bytes(value.get("BinaryValue", b"")).decode(errors="replace")\n',
        "",
        _FILTER_TESTS,
    ),
)

_FILING: Final = (
    Mutant(
        "an export loses the trace header",
        _FILE,
        '"trace_header": message.trace_header,',
        '"trace_header": None,',
        _FILE_TESTS,
    ),
    Mutant(
        "a purge deletes without exporting",
        _EXPORT,
        '            stream.write(f"{to_line(dead_letter)}\\n")\n',
        "",
        _VERBS_TESTS,
    ),
    Mutant(
        "a purge accepts any answer as confirmation",
        _EXPORT,
        "if typed.strip() != str(count):",
        "if False:",
        _VERBS_TESTS,
    ),
    Mutant(
        "the name of an export is lost in a crash",
        "worker/runtime/atomic_file.py",
        "        _sync_directory(target.parent)\n",
        "",
        ("tests/unit/runtime/test_atomic_file.py",),
    ),
    Mutant(
        "a purge without a filter or an id",
        _PURGE,
        "            if dead_letter.message_id in remaining:\n",
        "            if True:\n",
        _PURGE_TESTS,
    ),
)

_EDITING: Final = (
    Mutant(
        "--set stores a number in a text field",
        _REPAIR,
        "parsed if _is_allowed(path, parsed) else value",
        "parsed",
        _REPAIR_TESTS,
    ),
    Mutant(
        "an edit is not recorded in the message",
        _REPLAY_OPTIONS,
        "        if names:\n",
        "        if False:\n",
        _REPLAY_TESTS,
    ),
    Mutant(
        "an exported file loses the number of replays",
        _REPAIR,
        "attributes={**kept, **mark}",
        "attributes=kept",
        _REPAIR_TESTS,
    ),
    Mutant(
        "an edit rewrites a body that needs no change",
        _REPAIR,
        "after = before if is_same else _to_json(value)",
        "after = _to_json(value)",
        _REPAIR_TESTS,
    ),
)

_GOING_ON: Final = (
    Mutant(
        "a replay exceeds its rate",
        _REPLAY,
        "            await self.rate_limiter.wait()\n",
        "",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a replay never ends while a worker dead-letters again",
        _REPLAY,
        "self.filters.matches(dead_letter) and not self._came_back(dead_letter)",
        "self.filters.matches(dead_letter)",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a replay does not wait for messages hidden by a killed one",
        _REPLAY,
        "if was_killed and not self._has_all():",
        "if False:",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a journal confuses a different message with the sent one",
        _JOURNAL,
        "            digest(body),\n",
        "            known.sha256,\n",
        _JOURNAL_TESTS,
    ),
    Mutant(
        "two replays write to one journal",
        _JOURNAL,
        "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "pass",
        _JOURNAL_TESTS,
    ),
    Mutant(
        "an incomplete journal line corrupts the next one",
        _JOURNAL,
        "        file.truncate(length)\n        if length",
        "        if length",
        _JOURNAL_TESTS,
    ),
    Mutant(
        "a journal is dropped if the next replay has other filters",
        _JOURNAL,
        "self.done, self.runs, self._request, self.to = {}, 0, request, to",
        "self.done, self.runs, self._request, self.to = {}, 0, request, to\n"
        "            self.outstanding = {}",
        _JOURNAL_TESTS,
    ),
    Mutant(
        "a journal ignores the destination queue",
        _JOURNAL,
        "            self.to or None,\n",
        "            known.to,\n",
        _JOURNAL_TESTS,
    ),
    Mutant(
        "a journal ignores the edit",
        _JOURNAL,
        "            content_sha256,\n            self.to",
        "            known.content_sha256,\n            self.to",
        _JOURNAL_TESTS,
    ),
    Mutant(
        "a journal line is written in part on a full disk",
        _JOURNAL,
        "            file.truncate(length)\n        raise",
        "            pass\n        raise",
        _JOURNAL_TESTS,
    ),
    Mutant(
        "messages that a replay did not see count as deleted",
        _REPLAY,
        "        if not self.scan.complete:\n            return\n",
        "",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a replay sends what would be dead-lettered again",
        _REPLAY,
        "if verdict.is_dead_end:\n            self.figures.held_back",
        "if False:\n            self.figures.held_back",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a dry run uses outdated policies",
        _FORECAST,
        "        if isinstance(admitted, PolicyText) or",
        "        if not self._known[key] or isinstance(admitted, PolicyText) or",
        ("tests/unit/operations/dead_letters/test_dry_run.py",),
    ),
)

MUTANTS: Final = (*_LOOKING, *_FILING, *_EDITING, *_GOING_ON)
