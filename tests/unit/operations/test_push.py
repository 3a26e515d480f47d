"""Lines are validated before sending, sent in batches, and retried by entry."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import ABSENT, IP, Answer, FakeQueue, Script, body
from worker.cli.push import Inputs, Source, check_limit
from worker.domain.message import MESSAGE_MAX_BYTES
from worker.domain.message_group import MessageGroup
from worker.errors import (
    AWSError,
    AWSNotFoundError,
    AWSThrottledError,
    AWSUnavailableError,
    UsageError,
)
from worker.operations.push import (
    Line,
    PushFigures,
    push,
    read_lines,
    validate_acceptance,
    validate_raw,
    with_group,
)


def _lines(content: bytes) -> list[Line]:
    return list(read_lines("file", io.BytesIO(content)))


def test_lines_are_numbered_from_one_and_blank_ones_are_skipped() -> None:
    assert _lines(b'\n{"a": 1}\r\n  \n\n{"b": 2}') == [
        Line("file", 2, '{"a": 1}'),
        Line("file", 5, '{"b": 2}'),
    ]
    assert _lines(b"") == []


def test_line_that_is_not_utf8_is_invalid_and_the_others_are_read() -> None:
    first, bad, last = _lines(b"a\nb\xff\nc\n")
    assert (first, last) == (Line("file", 1, "a"), Line("file", 3, "c"))
    assert validate_raw(bad) == "file:2: malformed: not UTF-8 at byte 1"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "malformed: not JSON"),
        (body(user_id=ABSENT), "invalid: user_id: missing"),
        (body(accepted_at="2999-01-01T00:00:00Z"), "invalid: accepted_at: 2999"),
        (body(ip=[IP]), "invalid: ip: must be a string"),
        ('"' + "x" * 1_048_576 + '"', "1,048,578 bytes: the queue accepts at most 1,048,576"),
        (body(note="a\ufffe").replace("\\ufffe", "\ufffe"), "SQS rejects U+FFFE at character"),
    ],
)
def test_invalid_line_is_reported_with_its_position_and_reason(text: str, problem: str) -> None:
    bad = validate_acceptance(Line("file", 7, text), clock_skew_seconds=300)
    assert bad.startswith(f"file:7: {problem}")
    assert IP not in bad


def test_acceptance_from_the_future_is_rejected_naming_the_clock() -> None:
    bad = validate_acceptance(
        Line("file", 7, body(accepted_at="2999-01-01T00:00:00Z")), clock_skew_seconds=300
    )
    now = f"{datetime.now(UTC):%Y-%m-%dT}"
    assert f"is in the future: more than 300 s after {now}" in bad
    assert bad.endswith("Z (by this host's clock)")


def test_valid_line_has_no_problem() -> None:
    good = body(accepted_at="2020-01-01T00:00:00Z")
    assert validate_acceptance(Line("file", 1, good), clock_skew_seconds=300) == ""


def test_without_validation_only_lines_that_sqs_rejects_are_invalid() -> None:
    assert validate_raw(Line("file", 1, "{")) == ""
    assert validate_raw(Line("file", 1, "é" * 600_000)) != ""
    assert validate_raw(Line("file", 1, "", "x")) == "file:1: x"


def _messages(count: int, size: int = 10) -> Iterator[Line]:
    return (Line("file", number, f"{number:0{size}}") for number in range(1, count + 1))


@simulated
async def test_each_message_is_sent_once_in_batches_of_ten() -> None:
    queue = FakeQueue()
    figures = await push(queue, _messages(95))
    assert [len(batch) for batch in queue.of("send")] == [10] * 9 + [5]
    assert sorted(each.body for each in queue.entries("send")) == [f"{n:010}" for n in range(1, 96)]
    assert (figures.sent, figures.failed) == (95, 0)


@simulated
async def test_batch_size_stays_within_one_mebibyte() -> None:
    queue = FakeQueue()
    await push(queue, _messages(7, size=400_000))
    assert [len(batch) for batch in queue.of("send")] == [2, 2, 2, 1]


@simulated
async def test_input_is_read_no_faster_than_it_is_sent() -> None:
    queue = FakeQueue()
    ahead = [0]

    def counted() -> Iterator[Line]:
        for number in range(5000):
            ahead[0] = max(ahead[0], number - len(queue.entries("send")))
            yield Line("file", number, "x")

    figures = await push(queue, counted())
    assert figures.sent == 5000
    assert ahead[0] <= 10 * 10
    assert queue.most_under_way["send"] <= 8


def _failing(number: int, error: AWSError, times: int) -> Script:
    left = [times]

    def script(entries: Any) -> Answer:
        results: list[AWSError | None] = [None] * len(entries)
        for index, entry in enumerate(entries):
            if int(entry.body) == number and left[0] > 0:
                left[0] -= 1
                results[index] = error
        return results

    return script


@simulated
async def test_only_failed_entries_are_sent_again() -> None:
    queue = FakeQueue()
    queue.on_send = _failing(3, AWSUnavailableError("internal"), times=2)
    figures = await push(queue, _messages(10))
    assert [len(batch) for batch in queue.of("send")] == [10, 1, 1]
    assert (figures.sent, figures.failed) == (10, 0)


@simulated
async def test_entry_that_keeps_failing_is_reported_with_its_line() -> None:
    queue = FakeQueue()
    queue.on_send = _failing(3, AWSThrottledError("slow down"), times=100)
    figures = await push(queue, _messages(10))
    assert (figures.sent, figures.failed) == (9, 1)
    assert figures.failures == ["file:3: slow down"]
    assert len(queue.of("send")) == 6


@simulated
async def test_missing_queue_fails_every_line_without_retries() -> None:
    queue = FakeQueue()
    queue.on_send = lambda _: AWSNotFoundError("no queue")
    figures = await push(queue, _messages(100))
    assert (figures.sent, figures.failed) == (0, 100)
    assert len(figures.failures) == 20
    assert figures.failures[0].endswith(": no queue")
    assert len(queue.of("send")) == 10


@simulated
async def test_progress_is_reported_after_every_batch() -> None:
    reported: list[int] = []
    await push(FakeQueue(), _messages(35), progress=lambda figures: reported.append(figures.sent))
    assert reported == sorted(reported)
    assert (len(reported), reported[-1]) == (4, 35)


async def test_rate_limit_is_kept() -> None:
    figures = await push(FakeQueue(seconds=0.0), _messages(30), rate_per_second=500)
    assert 0.03 < figures.seconds < 2
    assert figures.sent == 30


def test_line_with_a_unicode_line_separator_is_one_line() -> None:
    text = json.dumps({"a": "\u2028 line"}, ensure_ascii=False)
    assert _lines(text.encode()) == [Line("file", 1, text)]


def test_figures_start_at_zero() -> None:
    assert PushFigures() == PushFigures(0, 0, 0.0, [])


@pytest.mark.parametrize(
    "character", ["\x00", "\x0b", "\x0c", "\x1f", "\ufffe", "\uffff", "\ud800"]
)
def test_line_with_a_character_that_sqs_rejects_is_invalid(character: str) -> None:
    bad = validate_raw(Line("file", 7, f"abc{character}"))
    expected = f"file:7: SQS rejects U+{ord(character):04X} at character 4: "
    assert bad.startswith(expected)


@pytest.mark.parametrize(
    "character", ["\t", "\r", " ", "\x7f", "\x85", "\ud7ff", "\ue000", "\ufffd", "\U0010ffff"]
)
def test_line_with_a_character_that_sqs_accepts_is_valid(character: str) -> None:
    assert validate_raw(Line("file", 7, f"abc{character}d")) == ""


def test_line_is_checked_against_the_limit_of_the_queue() -> None:
    line = Line("file", 7, "é" * 1000)
    assert validate_raw(line, 2000) == ""
    assert validate_raw(line, 1999) == (
        "file:7: 2,000 bytes: the queue accepts at most 1,999 (MaximumMessageSize)"
    )
    good = Line("file", 7, body(accepted_at="2020-01-01T00:00:00Z"))
    assert validate_acceptance(good, 200, clock_skew_seconds=300) != ""


def test_line_over_the_limit_is_invalid_and_the_next_one_is_read() -> None:
    content = b"a\n" + b"x" * 10 + b"\r\n" + b"y" * 11 + b"\n" + b"z" * 100 + b"\nlast"
    read = list(read_lines("file", io.BytesIO(content), 10))
    assert read == [
        Line("file", 1, "a"),
        Line("file", 2, "x" * 10),
        Line("file", 3, "", "longer than the limit of 10 bytes"),
        Line("file", 4, "", "longer than the limit of 10 bytes"),
        Line("file", 5, "last"),
    ]


class _Endless(io.RawIOBase):
    """A stream without a line ending, like /dev/zero."""

    def __init__(self) -> None:
        self.given = 0
        self.most = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert size >= 0
        self.given += size
        self.most = max(self.most, size)
        return bytes(size)


def test_endless_line_is_rejected_in_bounded_memory() -> None:
    stream = _Endless()
    with pytest.raises(UsageError, match=r"stdin:1: no line ending within .* nothing was sent"):
        list(read_lines("stdin", stream))  # type: ignore[arg-type] # all that is used of it
    assert stream.given < 66 * MESSAGE_MAX_BYTES
    assert stream.most <= MESSAGE_MAX_BYTES + 2


class _Destination(FakeQueue):
    async def check_destination(self) -> str:
        return "GetQueueAttributes q: AccessDenied: no"


@pytest.mark.parametrize(("size", "noted"), [(1024, False), (1025, True)])
async def test_unknown_limit_is_reported_if_a_line_may_exceed_it(
    size: int, noted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs: Inputs = [("file", io.BytesIO(b"x" * size + b"\n"))]
    source = Source(inputs, validate_raw, skip_invalid=False)
    source.validate(MESSAGE_MAX_BYTES)
    await check_limit(_Destination(), source)
    notes = capsys.readouterr().err
    assert ("assuming 1,048,576 bytes: GetQueueAttributes q: AccessDenied" in notes) is noted
    assert source.valid == 1


def test_first_invalid_lines_are_shown_and_all_are_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    inputs: Inputs = [("file", io.BytesIO(b"\x01\n" * 500))]
    source = Source(inputs, validate_raw, skip_invalid=True)
    source.validate(MESSAGE_MAX_BYTES)
    assert (source.invalid, list(source.lines())) == (500, [])
    notes = capsys.readouterr().err.splitlines()
    assert (len(notes), notes[-1]) == (21, "… and 480 more")


@simulated
async def test_lines_are_sent_with_their_group() -> None:
    queue = FakeQueue()
    lines = [Line("file", 1, "a", group_id="t-1"), Line("file", 2, "b")]
    await push(queue, lines)
    assert [each.group_id for each in queue.entries("send")] == ["t-1", None]


def test_group_of_a_line_is_validated_and_added() -> None:
    group = MessageGroup.parse("extra.tenant")
    good, bad = (
        Line("file", 7, body(accepted_at="2020-01-01T00:00:00Z", tenant=tenant))
        for tenant in ("t-1", "two words")
    )
    assert validate_acceptance(good, clock_skew_seconds=300, group=group) == ""
    assert with_group(good, group, clock_skew_seconds=300).group_id == "t-1"
    problem = validate_acceptance(bad, clock_skew_seconds=300, group=group)
    assert problem.startswith("file:7: extra.tenant: must be 1 to 128 ASCII letters")
    raw = with_group(Line("file", 1, "{"), MessageGroup.parse("t-2"), clock_skew_seconds=300)
    assert raw.group_id == "t-2"
