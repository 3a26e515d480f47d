"""Faults in the handling of malformed responses: connections, batches and logs."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_CONNECTION: Final = "worker/aws/connection.py"
_READER: Final = "worker/aws/fast_path/reader.py"
_CALLS: Final = "worker/aws/calls.py"
_SIGNATURE: Final = "worker/aws/fast_path/signature.py"
_READER_TESTS: Final = ("tests/unit/aws/fast_path/test_reader.py",)
_CALLS_TESTS: Final = ("tests/unit/aws/test_calls.py",)
_CONNECTIONS_TESTS: Final = "tests/wire/test_connections.py"
_QUEUE_RESPONSES: Final = "worker/aws/sqs_responses.py"
_WRITES: Final = "worker/repository/writes.py"
_MISBEHAVING: Final = "tests/wire/test_misbehaving.py"
_REQUEST_TESTS: Final = "tests/wire/test_requests.py"
_USUAL_TESTS: Final = "tests/wire/test_usual_messages.py"
_QUEUE_TESTS: Final = ("tests/unit/aws/test_sqs_responses.py",)
_WRITES_TESTS: Final = ("tests/unit/repository/test_writes.py",)

_CONNECTIONS: Final = (
    Mutant(
        "bytes on an idle connection are kept for the next request",
        _CONNECTION,
        "        if not self._expecting:\n            self._refuse",
        '        if data == b"never":\n            self._refuse',
        (_MISBEHAVING, "-k", "idle_connection"),
    ),
    Mutant(
        "a connection with unread bytes is reused",
        _CONNECTION,
        "return bool(self._poll.poll(0))",
        "return False",
        (_MISBEHAVING, "-k", "idle_connection"),
    ),
    Mutant(
        "a second response is kept",
        _CONNECTION,
        "elif self._body is not None:",
        "elif message is None:",
        (_MISBEHAVING, "-k", "bytes_after_a_response"),
    ),
    Mutant(
        "part of another response is ignored",
        _CONNECTION,
        "if self._has_bytes_left():",
        "if self.spoiled:",
        (_MISBEHAVING, "-k", "bytes_after_a_response"),
    ),
    Mutant(
        "a success before its request is accepted",
        _CONNECTION,
        "elif self._is_early() and message.code < _FIRST_ERROR:",
        "elif message.code < 0:",
        (_MISBEHAVING, "-k", "before_the_request"),
    ),
    Mutant(
        "the size of a response is unlimited",
        _CONNECTION,
        "elif self._received_bytes > RESPONSE_MAX_BYTES:",
        "elif self._received_bytes > 3_000_000:",
        (_MISBEHAVING, "-k", "largest_batch or oversized"),
    ),
    Mutant(
        "another JSON object is accepted as response",
        "worker/aws/responses.py",
        "return bool(response) and shape is not None and response.keys().isdisjoint(shape.members)",
        "return False",
        (_MISBEHAVING, "-k", "no_other_success"),
    ),
    Mutant(
        "an empty body counts as success of every call",
        "worker/aws/responses.py",
        "if not body and status_code == _OK and operation_model.name == _HARMLESS_IF_EMPTY:",
        "if not body and status_code == _OK:",
        (_MISBEHAVING, "-k", "empty_body"),
    ),
)
_FAST_PATH: Final = (
    Mutant(
        "the fast path accepts a success before its request",
        _READER,
        "if self._early and status < _FIRST_ERROR:",
        "if self._early and status < 0:",
        (_MISBEHAVING, "-k", "before_the_request"),
    ),
    Mutant(
        "the fast path keeps a second response",
        _READER,
        "        if self._complete:\n            raise _UnexpectedError\n",
        "",
        _READER_TESTS,
    ),
    Mutant(
        "a truncated response ends with the connection",
        _READER,
        'self._headers.keys() & {"content-length", "transfer-encoding"}',
        'self._headers.keys() & {"content-length"}',
        _READER_TESTS,
    ),
    Mutant(
        "a body without a length is refused",
        _CONNECTION,
        "if exc is None and self._response is not None and self._reader is not None:",
        "if exc is not None and self._response is not None and self._reader is not None:",
        (_CONNECTIONS_TESTS, "-k", "framing"),
    ),
    Mutant(
        "a connection that the server closes is reused",
        _CONNECTION,
        "self._should_close |= not reader.keep_alive",
        "self._should_close |= False",
        (_MISBEHAVING, "-k", "error_before_the_request"),
    ),
    Mutant(
        "a head may have any size",
        _READER,
        "if self._head_bytes > HEAD_MAX_BYTES:",
        "if self._head_bytes > 10 * HEAD_MAX_BYTES:",
        _READER_TESTS,
    ),
    Mutant(
        "informational responses end the wait",
        _READER,
        "self._complete = self._status > 0",
        "self._complete = True",
        _READER_TESTS,
    ),
    Mutant(
        "headers of an informational response are kept",
        _READER,
        "        self._raw_headers.clear()\n",
        "",
        _READER_TESTS,
    ),
    Mutant(
        "the body of the last response is kept",
        _READER,
        "        pieces.clear()\n",
        "",
        _READER_TESTS,
    ),
    Mutant(
        "a spoiled connection is used for a request",
        _CONNECTION,
        "if transport is None or self.spoiled:",
        "if transport is None:",
        (_CONNECTIONS_TESTS, "-k", "spoiled"),
    ),
    Mutant(
        "received bytes do not extend the read timeout",
        _CONNECTION,
        "        self._restart_read_timeout()\n        try:",
        "        try:",
        (_CONNECTIONS_TESTS, "-k", "between_bytes"),
    ),
    Mutant(
        "the read timeout is that of the first request only",
        _CONNECTION,
        "        if self._loop.time() < self._read_deadline:\n            self._set_read_timer()",
        "        if self._loop.time() < self._read_deadline:\n            pass",
        (_CONNECTIONS_TESTS, "-k", "read_timeout"),
    ),
    Mutant(
        "requests are signed with the credentials of the last ones",
        _SIGNATURE,
        "signer = (timestamp, credentials.access_key, credentials.secret_key, credentials.token)",
        "signer = (timestamp, credentials.access_key, credentials.token)",
        ("tests/wire/test_signing.py",),
    ),
    Mutant(
        "requests are signed with the time of the first one",
        _SIGNATURE,
        "signer = (timestamp, credentials.access_key, credentials.secret_key, credentials.token)",
        "signer = (credentials.access_key, credentials.secret_key, credentials.token)",
        ("tests/wire/test_signing.py",),
    ),
    Mutant(
        "all calls have the same id",
        "worker/aws/fast_path/caller.py",
        "{next(_invocations):012x}",
        "{1:012x}",
        ("tests/wire/test_requests.py", "-k", "unique_id"),
    ),
)
_DEADLINES: Final = (
    Mutant(
        "a cancellation at the deadline is taken for it",
        _CALLS,
        "self._expired and self._task.uncancel() <= self._cancelling",
        "self._expired and self._task.uncancel() >= 0",
        _CALLS_TESTS,
    ),
    Mutant(
        "a deadline leaves a cancellation behind",
        _CALLS,
        "self._expired and self._task.uncancel() <= self._cancelling",
        "self._expired",
        _CALLS_TESTS,
    ),
    Mutant(
        "a deadline outlives its call",
        _CALLS,
        "        self._timer.cancel()\n",
        "",
        _CALLS_TESTS,
    ),
    Mutant(
        "a task that is being cancelled has no deadline",
        _CALLS,
        "self._cancelling = task.cancelling()",
        "self._cancelling = 0",
        _CALLS_TESTS,
    ),
)
_RESULTS: Final = (
    Mutant(
        "the body of a usual message is not checked",
        _QUEUE_RESPONSES,
        "if message.MD5OfBody != body_md5(message.Body):",
        "if message.MD5OfBody == message.Body:",
        (_USUAL_TESTS,),
    ),
    Mutant(
        "unknown members of a usual message are ignored",
        _QUEUE_RESPONSES,
        "class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):",
        "class _Message(msgspec.Struct, gc=False):",
        (_USUAL_TESTS,),
    ),
    Mutant(
        "a usual response may have any successful status",
        "worker/aws/fast_path/caller.py",
        "if read_usual is not None and outcome.status == _OK:",
        "if read_usual is not None:",
        (_USUAL_TESTS,),
    ),
    Mutant(
        "an entry id that is not a string is accepted",
        _QUEUE_RESPONSES,
        "if isinstance(entry_id, str) and entry_id in ids:",
        "if entry_id in ids:",
        _QUEUE_TESTS,
    ),
    Mutant(
        "failures beside a success of every entry are ignored",
        _QUEUE_RESPONSES,
        'response.get("Failed", _NONE) == _NONE',
        "True",
        _QUEUE_TESTS,
    ),
    Mutant(
        "a success of every entry need not confirm bodies",
        _QUEUE_RESPONSES,
        'not any("MessageBody" in entry for entry in entries)',
        "True",
        _QUEUE_TESTS,
    ),
    Mutant(
        "batch results that are not lists are accepted",
        _QUEUE_RESPONSES,
        "    if not isinstance(value, list):\n        raise",
        "    if value is structure:\n        raise",
        _QUEUE_TESTS,
    ),
    Mutant(
        "surplus responses to statements are ignored",
        _WRITES,
        "len(responses) != len(items):",
        "len(responses) < len(items):",
        _WRITES_TESTS,
    ),
    Mutant(
        "an empty error of a statement counts as success",
        _WRITES,
        "    if error is None:\n        return Inserted.NEW",
        "    if not error:\n        return Inserted.NEW",
        _WRITES_TESTS,
    ),
    Mutant(
        "an item with another key is accepted",
        "worker/repository/tables.py",
        "if item is not None and any(item[name] != value",
        "if item is not None and any(item is value",
        ("tests/unit/repository/test_tables.py",),
    ),
    Mutant(
        "surplus messages end the service",
        "worker/pipeline/receive.py",
        "for message in messages[: len(slots)]:",
        "for message in messages:",
        ("tests/unit/pipeline/test_receive.py",),
    ),
    Mutant(
        "surplus messages stay hidden from other workers",
        "worker/pipeline/receive.py",
        "await self._return_surplus(surplus)",
        "pass",
        ("tests/unit/pipeline/test_receive.py",),
    ),
)
_ENDS: Final = (
    Mutant(
        "callers of a cancelled batch wait forever",
        "worker/runtime/batcher.py",
        "        except BaseException as error:\n            _fail(batch, self._closed or error)",
        "        except GeneratorExit as error:\n            _fail(batch, self._closed or error)",
        ("tests/unit/runtime/test_batcher.py",),
    ),
    Mutant(
        "closing the repository cancels callers",
        "worker/repository/dynamodb.py",
        "use.interrupted = True",
        "use.interrupted = False",
        ("tests/unit/repository/test_aup.py", "-k", "every_kind_of_call"),
    ),
)
_PRIVACY: Final = (
    Mutant(
        "texts of exceptions are logged",
        "worker/runtime/redaction.py",
        'return f"{name} (text of {digest(text)})"',
        "return text",
        ("tests/unit/runtime/test_redaction.py",),
    ),
    Mutant(
        "tracebacks contain texts of exceptions",
        "worker/runtime/redaction.py",
        "{type(error).__qualname__}: {error_text(error)}",
        "{type(error).__qualname__}: {error}",
        ("tests/unit/runtime/test_logs.py",),
    ),
    Mutant(
        "values quoted by AWS are logged",
        "worker/aws/error_codes.py",
        'else _QUOTED.sub("…", message)',
        "else message",
        ("tests/unit/aws/test_error_codes.py",),
    ),
    Mutant(
        "the text of an error page is logged",
        "worker/aws/responses.py",
        'text = f"not a JSON object: {digest(body)}"',
        'text = body.decode(errors="replace")',
        (_MISBEHAVING, "-k", "no_log_quotes"),
    ),
)

_REQUESTS: Final = (
    Mutant(
        "a lone surrogate in a request is an error",
        "worker/aws/fast_path/bodies.py",
        "except UnicodeEncodeError:",
        "except ZeroDivisionError:",
        (_REQUEST_TESTS,),
    ),
    Mutant(
        "bytes are sent as text",
        "worker/aws/fast_path/bodies.py",
        "{str: _Text, bytes: _Bytes}",
        "{str: _Text, bytes: _Text}",
        (_REQUEST_TESTS,),
    ),
    Mutant(
        "a body that differs from the SDK's is sent",
        "worker/aws/fast_path/caller.py",
        "!= json.loads(sample.body):",
        "== 0:",
        ("tests/wire/test_opening.py",),
    ),
)

MUTANTS: Final = (
    *_CONNECTIONS, *_FAST_PATH, *_DEADLINES, *_REQUESTS, *_RESULTS, *_ENDS, *_PRIVACY,
)  # fmt: skip
