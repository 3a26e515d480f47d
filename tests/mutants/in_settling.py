"""Faults from decision to settlement: deletes, returns, dead letters and replays."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_ADMISSION: Final = "worker/domain/admission.py"
_DEAD_LETTER: Final = "worker/domain/dead_letter.py"
_LETTERS: Final = "worker/operations/dead_letters/scan.py"
_QUEUE: Final = "worker/aws/sqs.py"
_QUEUE_RESPONSES: Final = "worker/aws/sqs_responses.py"
_RECORD: Final = "worker/pipeline/record.py"
_REPLAY: Final = "worker/operations/dead_letters/replay.py"
_REPLAY_OPTIONS: Final = "worker/operations/dead_letters/replay_options.py"
_SETTLE: Final = "worker/pipeline/settle.py"
_FOUND_TESTS: Final = ("tests/fuzz/test_found.py",)
_LETTER_TESTS: Final = ("tests/unit/domain/test_dead_letter.py",)
_LETTERS_TESTS: Final = ("tests/unit/operations/dead_letters/test_scan.py",)
_ORIGIN_TESTS: Final = ("tests/unit/pipeline/test_origin.py",)
_PIPELINE_TEXT_TESTS: Final = ("tests/unit/pipeline/test_texts.py",)
_QUEUE_TESTS: Final = (
    "tests/unit/aws/test_sqs.py",
    "tests/unit/aws/test_sqs_responses.py",
)
_RECORD_TESTS: Final = ("tests/unit/pipeline/test_record.py",)
_REPLAY_TESTS: Final = (
    "tests/unit/operations/dead_letters/test_replay.py",
    "tests/unit/operations/dead_letters/test_replay_resumed.py",
)
_SETTLE_TESTS: Final = ("tests/unit/pipeline/test_settle.py",)

_ANSWERS: Final = (
    Mutant(
        "a message delivered twice at once gets two dead letters",
        _SETTLE,
        "        while message_id in self._sending:",
        "        while False:",
        _SETTLE_TESTS,
    ),
    Mutant(
        "a failed delete of a batch is ignored",
        _QUEUE,
        'return await self._batch("DeleteMessageBatch", entries)',
        'await self._batch("DeleteMessageBatch", entries); return [None] * len(messages)',
        _QUEUE_TESTS,
    ),
    Mutant(
        "a failed visibility change of a batch is ignored",
        _QUEUE,
        'return await self._batch("ChangeMessageVisibilityBatch", entries)',
        'await self._batch("ChangeMessageVisibilityBatch", entries); return [None] * len(changes)',
        _QUEUE_TESTS,
    ),
    Mutant(
        "a failed dead letter of a batch is ignored",
        _QUEUE,
        'return await self._batch("SendMessageBatch", entries)',
        'await self._batch("SendMessageBatch", entries); return [None] * len(messages)',
        _QUEUE_TESTS,
    ),
    Mutant(
        "an entry missing from the response counts as done",
        _QUEUE_RESPONSES,
        "else _unknown(each) for each in results",
        "else None for each in results",
        _QUEUE_TESTS,
    ),
    Mutant(
        "a different body counts as sent",
        _QUEUE_RESPONSES,
        "md5 == body_md5(body)",
        "md5 != entry",
        _QUEUE_TESTS,
    ),
    Mutant(
        "a call has no deadline",
        "worker/aws/calls.py",
        "call_later(self._seconds, self._expire)",
        "call_later(self._seconds, print)",
        ("tests/unit/aws/test_calls.py",),
    ),
    Mutant(
        "an id in both lists counts as done",
        _QUEUE_RESPONSES,
        "each[0] if len(each) == 1 else",
        "each[0] if each else",
        _QUEUE_TESTS,
    ),
)

_SETTLING: Final = (
    Mutant(
        "a returned message stays hidden",
        _SETTLE,
        "            await self._return(lease, outcome.delay_seconds)",
        "            await lease.stop()",
        _SETTLE_TESTS,
    ),
    Mutant(
        "a message is deleted before its dead letter is confirmed",
        _SETTLE,
        "        letter = to_dead_letter(",
        "        await self._delete(lease)\n        letter = to_dead_letter(",
        _SETTLE_TESTS,
    ),
    Mutant(
        "a message that could not be dead-lettered is deleted",
        _SETTLE,
        "await self._return(lease, delay)",
        "await self._delete(lease, OutcomeKind.RETURNED)",
        _SETTLE_TESTS,
    ),
    Mutant(
        "a message with a lost lease is dead-lettered",
        _SETTLE,
        "if lease.lost:",
        "if False:",
        _SETTLE_TESTS,
    ),
    Mutant(
        "a retry outlasts the lease",
        _SETTLE,
        "                failed=failed,\n                until=lease.expires_at,\n",
        "                failed=failed,\n",
        _SETTLE_TESTS,
    ),
    Mutant(
        "a transient failure is not retried",
        _SETTLE,
        "RetryPolicy(attempts=4, ",
        "RetryPolicy(attempts=1, ",
        _SETTLE_TESTS,
    ),
    Mutant(
        "settlement retries have no pause",
        _SETTLE,
        "until=lambda: lease.expires_at",
        "until=lease.expires_at",
        _SETTLE_TESTS,
    ),
    Mutant(
        "a failed return is not counted",
        _SETTLE,
        '            self._events["hand_back_failed"] += 1\n',
        "",
        _SETTLE_TESTS,
    ),
)

_DECIDING: Final = (
    Mutant(
        "duplicates count as recorded",
        _RECORD,
        "return RECORDED if result is RecordResult.RECORDED else DUPLICATE",
        "return RECORDED",
        _RECORD_TESTS,
    ),
    Mutant(
        "a hash of an unpublished text is recorded",
        _ADMISSION,
        "if stated is None or stated.lower() == text.sha256:",
        "if True:",
        _RECORD_TESTS,
    ),
    Mutant(
        "a failing table uses up receives",
        _RECORD,
        "                failure = error\n",
        "                return self.retry_or_dead_letter(message, str(error))\n",
        _RECORD_TESTS,
    ),
    Mutant(
        "denied access dead-letters held messages",
        _RECORD,
        "if isinstance(failure, AWSAccessError):",
        "if False:",
        _RECORD_TESTS,
    ),
    Mutant(
        "a failed write is not noted",
        _RECORD,
        "                    is_write = True\n",
        "",
        _RECORD_TESTS,
    ),
    Mutant(
        "the text of a cached version is taken without admission",
        _RECORD,
        "        admitted = admission.admit(acceptance, policy)\n        if isinstance",
        "        admitted = policy.default_text\n        if isinstance",
        _RECORD_TESTS,
    ),
    Mutant(
        "a failure does not move the circuit breaker",
        _RECORD,
        "                self._count_failure(error)\n",
        "",
        _RECORD_TESTS,
    ),
    Mutant(
        "outcomes without a write close the circuit breaker",
        _RECORD,
        "if not self._writes_fail and self._breaker.succeeded():",
        "if self._breaker.succeeded():",
        _RECORD_TESTS,
    ),
    Mutant(
        "denials far apart are added up",
        "worker/pipeline/access_watch.py",
        "if passed > _BREAK_SECONDS:",
        "if False:",
        ("tests/unit/pipeline/test_access_watch.py",),
    ),
    Mutant(
        "an outage between two denials counts as denied",
        "worker/pipeline/access_watch.py",
        "elif status.denied_last:",
        "else:",
        ("tests/unit/pipeline/test_access_watch.py",),
    ),
    Mutant(
        "an unknown version is dead-lettered at its first receive",
        _ADMISSION,
        "if waited >= limit_seconds and",
        "if waited < limit_seconds or",
        _RECORD_TESTS,
    ),
    Mutant(
        "the number of values in a message is unlimited",
        "worker/domain/envelope.py",
        "> _VALUES_MAX:",
        "> len(raw):",
        _FOUND_TESTS,
    ),
    Mutant(
        "a number of any length is rewritten",
        "worker/domain/acceptance.py",
        "            _check_numbers(extra.values())\n",
        "",
        _FOUND_TESTS,
    ),
    Mutant(
        "a detail has two lines",
        "worker/domain/outcome.py",
        'return " ".join(text.split())',
        "return text",
        _FOUND_TESTS,
    ),
    Mutant(
        "a detail contains the invalid value",
        "worker/domain/envelope.py",
        'problems.append(f"{path}{field}: {text}")',
        'problems.append(f"{path}{field}: {text} {error}")',
        ("tests/unit/domain/test_envelope.py",),
    ),
    Mutant(
        "the origin of a message is not recorded",
        _RECORD,
        "origin(message)",
        "Origin.at(message.sent_at)",
        _RECORD_TESTS,
    ),
    Mutant(
        "received_at is taken from the first receive",
        _RECORD,
        "origin(message)",
        "Origin.at(message.first_received_at)",
        _RECORD_TESTS,
    ),
)

_DEAD: Final = (
    Mutant(
        "the reason is lost",
        _DEAD_LETTER,
        '"reason": reason,\n        "detail"',
        '"reason": "",\n        "detail"',
        _LETTER_TESTS,
    ),
    Mutant(
        "the body is changed",
        _DEAD_LETTER,
        "body=message.body,",
        'body=message.body.replace(": ", ":"),',
        _LETTER_TESTS,
    ),
    Mutant(
        "a dead letter loses the replay history",
        _DEAD_LETTER,
        "if name == REPLAYS_ATTRIBUTE}",
        "if name == ATTRIBUTE}",
        _LETTER_TESTS,
    ),
    Mutant(
        "a replay forgets when SQS first accepted the message",
        _DEAD_LETTER,
        '"sent_at": source.received_at.isoformat(timespec="milliseconds"),',
        '"sent_at": at.isoformat(timespec="milliseconds"),',
        _LETTER_TESTS,
    ),
    Mutant(
        "a replayed message counts as a new one",
        _DEAD_LETTER,
        "        (history.message_id, history.sent_at),\n",
        "",
        _ORIGIN_TESTS,
    ),
    Mutant(
        "a dead letter counts as a new message",
        _DEAD_LETTER,
        '(info.message_id, info.sent_at) if info else ("", "")',
        '("", "")',
        _ORIGIN_TESTS,
    ),
    Mutant(
        "an edit replaces earlier edits in the replay history",
        _DEAD_LETTER,
        "(*before.edits, _bounded(edit))",
        "(_bounded(edit),)",
        _ORIGIN_TESTS,
    ),
    Mutant(
        "a content mismatch is decided by the cached version",
        _RECORD,
        "if policy is not None and not admission.is_final(acceptance, admitted):",
        "if False:",
        _PIPELINE_TEXT_TESTS,
    ),
    Mutant(
        "an unpublished version is read again at once",
        _RECORD,
        "if policy is not None and not admission.is_final(acceptance, admitted):",
        "if not admission.is_final(acceptance, admitted):",
        _PIPELINE_TEXT_TESTS,
    ),
    Mutant(
        "the language of an acceptance is looked up in the cached version only",
        _ADMISSION,
        "return language_tag(acceptance.locale) == language_tag(admitted.locale)",
        "return True",
        _PIPELINE_TEXT_TESTS,
    ),
    Mutant(
        "every acceptance reads its version again",
        _ADMISSION,
        "if acceptance.content_sha256 is not None or not acceptance.locale:",
        "if False:",
        _PIPELINE_TEXT_TESTS,
    ),
    Mutant(
        "the hash of an edited body counts as the producer's",
        _DEAD_LETTER,
        "body_sha256=edits[0].body_sha256 if edits else",
        "body_sha256=",
        _LETTER_TESTS,
    ),
    Mutant(
        "numbers of unknown fields are parsed and written again",
        "worker/domain/envelope.py",
        "acceptance.keep_text(_inner_text(text, path))",
        "pass",
        ("tests/unit/domain/test_envelope.py",),
    ),
    Mutant(
        "attributes above the limit are lost",
        _DEAD_LETTER,
        "moved[smallest] = _packed(attributes.pop(smallest))",
        "attributes.pop(smallest)",
        _LETTER_TESTS,
    ),
    Mutant(
        "a replay deletes before it sends",
        _REPLAY,
        "        sent = await retry_entries(REPLAY_RETRIES, self._send, sending)\n",
        "        await self._delete([dead_letter for dead_letter, _ in sending])\n"
        "        sent = await retry_entries(REPLAY_RETRIES, self._send, sending)\n",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a replay deletes what was not sent",
        _REPLAY,
        "            if error is None:\n                deleting.append",
        "            if True:\n                deleting.append",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a replay drops attributes",
        _REPLAY_OPTIONS,
        "message = mark_replayed(wanted, at, origin(dead_letter.message), edit)",
        "message = OutgoingMessage(wanted.body)",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a replay sends again what its journal contains",
        _REPLAY,
        "was_sent = self.options.was_sent(dead_letter, self.journal.progress)",
        "was_sent = False",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a journal contains what was not sent",
        _REPLAY,
        "done = [_sent(*entry) for entry, error in pairs if not error]",
        "done = [_sent(*entry) for entry, error in pairs]",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a message is replayed for ever",
        _REPLAY_OPTIONS,
        "if self.max_replays is None or count < self.max_replays:",
        "if True:",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a replay drops its last flush",
        _REPLAY,
        "timeout has ended.\n            await self._flush()\n",
        "timeout has ended.\n",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a scan does not make its messages visible again",
        _LETTERS,
        "await asyncio.shield(self._release())",
        "pass",
        _LETTERS_TESTS,
    ),
)

_LIMITS: Final = (
    Mutant(
        "a dead letter is limited by SQS instead of its queue",
        _SETTLE,
        "max_bytes=self._dead_letters.message_max_bytes,",
        "max_bytes=MESSAGE_MAX_BYTES,",
        _SETTLE_TESTS,
    ),
    Mutant(
        "a dead letter that is too large keeps its attributes",
        _DEAD_LETTER,
        "bare = replace(plain, attributes=kept)",
        "bare = plain",
        _LETTER_TESTS,
    ),
    Mutant(
        "the limit of a queue is ignored",
        _QUEUE,
        "        self.message_max_bytes = state.message_max_bytes\n",
        "",
        ("tests/unit/aws/test_sqs_responses.py",),
    ),
    Mutant(
        "a batch refused as a whole fails all of its entries",
        "worker/aws/calls.py",
        "        if len(entries) <= 1:\n            raise\n",
        "        raise\n",
        _QUEUE_TESTS,
    ),
    Mutant(
        "an invalid receipt handle fails its whole batch",
        "worker/aws/calls.py",
        "except (AWSRejectedError, LeaseLostError):",
        "except AWSRejectedError:",
        _QUEUE_TESTS,
    ),
    Mutant(
        "a message left to the redrive policy is not logged",
        _SETTLE,
        "log = _log.warning if left else _log.debug",
        "log = _log.debug",
        _SETTLE_TESTS,
    ),
    Mutant(
        "a message is released while its dead letter may still be sent",
        _SETTLE,
        "left = is_last and isinstance(error, AWSRejectedError)",
        "left = is_last",
        _SETTLE_TESTS,
    ),
    Mutant(
        "rejected dead letters do not affect readiness",
        _SETTLE,
        "        self._state.unsent.failed(message.message_id, error, delay)\n",
        "",
        _SETTLE_TESTS,
    ),
    Mutant(
        "any sent dead letter makes the service ready again",
        "worker/pipeline/unsent.py",
        "            if isinstance(error, AWSRejectedError)\n",
        "            if not error\n",
        _SETTLE_TESTS,
    ),
    Mutant(
        "a FIFO queue is accepted as destination",
        _QUEUE,
        "fifo = fifo or (await self.state()).fifo",
        "await self.state()",
        _QUEUE_TESTS,
    ),
    Mutant(
        "characters that SQS rejects are sent",
        "worker/domain/message.py",
        "            if rejected is not None:\n",
        "            if False:\n",
        ("tests/unit/operations/test_push.py",),
    ),
    Mutant(
        "an input line of any length is read",
        "worker/operations/push.py",
        "        line = stream.readline(limit)\n",
        "        line = stream.readline()\n",
        ("tests/unit/operations/test_push.py",),
    ),
    Mutant(
        "a replay ignores the limit of its queue",
        _REPLAY_OPTIONS,
        "refused = message.why_refused(self.max_bytes)",
        "refused = message.why_refused()",
        _REPLAY_TESTS,
    ),
)

MUTANTS: Final = (*_ANSWERS, *_SETTLING, *_DECIDING, *_DEAD, *_LIMITS)
