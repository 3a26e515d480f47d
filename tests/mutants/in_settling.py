"""Faults from the decision to the end: deletes, returns, dead letters, replays."""

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
        "a failed delete of a batch swallowed",
        _QUEUE,
        'return await self._batch("DeleteMessageBatch", entries)',
        'await self._batch("DeleteMessageBatch", entries); return [None] * len(messages)',
        _QUEUE_TESTS,
    ),
    Mutant(
        "a failed change of visibility of a batch swallowed",
        _QUEUE,
        'return await self._batch("ChangeMessageVisibilityBatch", entries)',
        'await self._batch("ChangeMessageVisibilityBatch", entries); return [None] * len(changes)',
        _QUEUE_TESTS,
    ),
    Mutant(
        "a failed dead letter of a batch swallowed",
        _QUEUE,
        'return await self._batch("SendMessageBatch", entries, confirmed)',
        'await self._batch("SendMessageBatch", entries); return [None] * len(messages)',
        _QUEUE_TESTS,
    ),
    Mutant(
        "an entry that the answer leaves out counts as done",
        _QUEUE_RESPONSES,
        "else _unknown(each) for each in results",
        "else None for each in results",
        _QUEUE_TESTS,
    ),
    Mutant(
        "another body than was sent is taken for sent",
        _QUEUE,
        "md5 == body_md5(messages[index].body)",
        "md5 != index",
        _QUEUE_TESTS,
    ),
    Mutant(
        "a call without a deadline",
        "worker/aws/calls.py",
        "self._deadline = asyncio.timeout(self._seconds)",
        "self._deadline = asyncio.timeout(None)",
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
        "what is returned is not handed back",
        _SETTLE,
        "            await self._return(lease, outcome.delay_seconds)",
        "            await lease.stop()",
        _SETTLE_TESTS,
    ),
    Mutant(
        "a dead letter deleted before it is confirmed",
        _SETTLE,
        "        letter = to_dead_letter(",
        "        await self._delete(lease)\n        letter = to_dead_letter(",
        _SETTLE_TESTS,
    ),
    Mutant(
        "what could not be dead-lettered is deleted",
        _SETTLE,
        "await self._return(lease, delay)",
        "await self._delete(lease, OutcomeKind.RETURNED)",
        _SETTLE_TESTS,
    ),
    Mutant(
        "a lost lease dead-lettered all the same",
        _SETTLE,
        "if lease.lost:",
        "if False:",
        _SETTLE_TESTS,
    ),
    Mutant(
        "a retry that outlasts the lease",
        _SETTLE,
        "SETTLE_RETRIES, self._deletes.submit, lease.message, until=lease.expires_at",
        "SETTLE_RETRIES, self._deletes.submit, lease.message",
        _SETTLE_TESTS,
    ),
    Mutant(
        "a passing failure not retried",
        _SETTLE,
        "RetryPolicy(attempts=4, ",
        "RetryPolicy(attempts=1, ",
        _SETTLE_TESTS,
    ),
    Mutant(
        "retries of a dead letter that ignore extensions of the lease",
        _SETTLE,
        "until=lambda: lease.expires_at",
        "until=lease.expires_at",
        _SETTLE_TESTS,
    ),
    Mutant(
        "a hand-back that fails uncounted",
        _SETTLE,
        '            self._events["hand_back_failed"] += 1\n',
        "",
        _SETTLE_TESTS,
    ),
)

_DECIDING: Final = (
    Mutant(
        "duplicates counted as recorded",
        _RECORD,
        "return RECORDED if result is RecordResult.RECORDED else DUPLICATE",
        "return RECORDED",
        _RECORD_TESTS,
    ),
    Mutant(
        "another text than was published is recorded",
        _ADMISSION,
        "if stated is not None and stated.lower() != policy.content_sha256:",
        "if False:",
        _RECORD_TESTS,
    ),
    Mutant(
        "a table that fails burns receives",
        _RECORD,
        "                failure = error\n",
        "                return self.retry_or_dead_letter(message, str(error))\n",
        _RECORD_TESTS,
    ),
    Mutant(
        "denied access dead-letters what was held in vain",
        _RECORD,
        "if isinstance(failure, AWSAccessError):",
        "if False:",
        _RECORD_TESTS,
    ),
    Mutant(
        "outcomes without a write close the breaker",
        _RECORD,
        "if not self._writes_fail and self._breaker.succeeded():",
        "if self._breaker.succeeded():",
        _RECORD_TESTS,
    ),
    Mutant(
        "denials far apart add up",
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
        "an unknown version dead at its first receive",
        _ADMISSION,
        "if waited >= limit_seconds and",
        "if waited < limit_seconds or",
        _RECORD_TESTS,
    ),
    Mutant(
        "a message of any number of values is read",
        "worker/domain/envelope.py",
        "> _VALUES_MAX:",
        "> len(raw):",
        _FOUND_TESTS,
    ),
    Mutant(
        "a number of any length is written again",
        "worker/domain/acceptance.py",
        "if not _in_range(extra):",
        "if False:",
        _FOUND_TESTS,
    ),
    Mutant(
        "a detail of two lines",
        "worker/domain/outcome.py",
        'return " ".join(text.split())',
        "return text",
        _FOUND_TESTS,
    ),
    Mutant(
        "a detail that holds what was wrong",
        "worker/domain/envelope.py",
        'problems.append(f"{path}{field}: {text}")',
        'problems.append(f"{path}{field}: {text} {error}")',
        ("tests/unit/domain/test_envelope.py",),
    ),
    Mutant(
        "received_at taken from our own clock",
        _RECORD,
        "received_at=message.sent_at",
        "received_at=self._now()",
        _RECORD_TESTS,
    ),
    Mutant(
        "received_at taken from the first receive",
        _RECORD,
        "received_at=message.sent_at",
        "received_at=message.first_received_at",
        _RECORD_TESTS,
    ),
)

_DEAD: Final = (
    Mutant(
        "the reason lost",
        _DEAD_LETTER,
        '"reason": reason,\n        "detail"',
        '"reason": "",\n        "detail"',
        _LETTER_TESTS,
    ),
    Mutant(
        "the body altered",
        _DEAD_LETTER,
        "body=message.body,",
        'body=message.body.replace(": ", ":"),',
        _LETTER_TESTS,
    ),
    Mutant(
        "attributes above the limit are lost",
        _DEAD_LETTER,
        "moved[name] = _packed(attributes.pop(name))",
        "attributes.pop(name)",
        _LETTER_TESTS,
    ),
    Mutant(
        "a replay that deletes before it sends",
        _REPLAY,
        "        sent = await retry_entries(REPLAY_RETRIES, self._send, sending)\n",
        "        await self._delete(sending)\n"
        "        sent = await retry_entries(REPLAY_RETRIES, self._send, sending)\n",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a replay that deletes what was not sent",
        _REPLAY,
        "zip(sending, sent, strict=True) if error is None]",
        "zip(sending, sent, strict=True)]",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a replay that drops attributes",
        _REPLAY_OPTIONS,
        "message = mark_replayed(wanted, at, edit, max_bytes=self.max_bytes)",
        "message = OutgoingMessage(wanted.body)",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a replay that sends again what its journal has",
        _REPLAY,
        "if self._options.was_sent(dead_letter, self._sent):",
        "if False:",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a journal that notes what was not sent",
        _REPLAY,
        "zip(entries, errors, strict=True) if not error]\n            journal.sent",
        "zip(entries, errors, strict=True)]\n            journal.sent",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a message replayed for ever",
        _REPLAY_OPTIONS,
        "if self.max_replays is None or count < self.max_replays:",
        "if True:",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a replay without its last flush",
        _REPLAY,
        "                    break\n            await self._flush()",
        "                    break",
        _REPLAY_TESTS,
    ),
    Mutant(
        "a walk that does not show again what it hid",
        _LETTERS,
        "await asyncio.shield(poller.release())",
        "pass",
        _LETTERS_TESTS,
    ),
)

_LIMITS: Final = (
    Mutant(
        "a dead letter sized by SQS's limit instead of its queue's",
        _SETTLE,
        "max_bytes=self._dead_letters.message_max_bytes,",
        "max_bytes=MESSAGE_MAX_BYTES,",
        _SETTLE_TESTS,
    ),
    Mutant(
        "a dead letter that never gives up its attributes",
        _DEAD_LETTER,
        "    yield plain\n    body = replace(plain, attributes={})\n",
        "    yield plain\n    body = plain\n",
        _LETTER_TESTS,
    ),
    Mutant(
        "a queue's limit read and forgotten",
        _QUEUE,
        "        self.message_max_bytes = state.message_max_bytes\n",
        "",
        ("tests/unit/aws/test_queue_state.py",),
    ),
    Mutant(
        "a batch refused as a whole fails all of its entries",
        "worker/aws/calls.py",
        "        if len(entries) <= 1:\n            raise\n",
        "        raise\n",
        _QUEUE_TESTS,
    ),
    Mutant(
        "a receipt handle refused with its batch fails the others",
        "worker/aws/calls.py",
        "except (AWSRejectedError, LeaseLostError):",
        "except AWSRejectedError:",
        _QUEUE_TESTS,
    ),
    Mutant(
        "a message left to the redrive policy without a word",
        _SETTLE,
        "log = _log.warning if left else _log.debug",
        "log = _log.debug",
        _SETTLE_TESTS,
    ),
    Mutant(
        "a message given up while its dead letter may be sent later",
        _SETTLE,
        "left = isinstance(error, AWSRejectedError)",
        "left = True",
        _SETTLE_TESTS,
    ),
    Mutant(
        "refused dead letters that readiness never mentions",
        _SETTLE,
        "        self._unsent.failed(message.message_id, error, delay)\n",
        "",
        _SETTLE_TESTS,
    ),
    Mutant(
        "any dead letter sent makes the service ready again",
        "worker/pipeline/unsent.py",
        "            if isinstance(unsent.error, AWSRejectedError)\n",
        "            if not unsent\n",
        _SETTLE_TESTS,
    ),
    Mutant(
        "a FIFO queue taken for a destination",
        _QUEUE,
        "fifo = (await self.state()).fifo",
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
        "a line read whole, however long",
        "worker/operations/push.py",
        "        line = stream.readline(limit)\n",
        "        line = stream.readline()\n",
        ("tests/unit/operations/test_push.py",),
    ),
    Mutant(
        "a replay that knows no limit but SQS's",
        _REPLAY_OPTIONS,
        "refused = message.why_refused(self.max_bytes)",
        "refused = message.why_refused()",
        _REPLAY_TESTS,
    ),
)

MUTANTS: Final = (*_ANSWERS, *_SETTLING, *_DECIDING, *_DEAD, *_LIMITS)
