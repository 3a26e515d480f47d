"""Standard streams on errors: stderr drops output, stdout raises `OutputError`."""

from __future__ import annotations

import errno
import io
import json
import os
import time
from collections.abc import Iterator

import pytest

from worker.runtime import streams
from worker.runtime.streams import DroppingWriter, LineWriter, OutputError

_CAPACITY = 65_536  # of a pipe on Linux, and more than enough elsewhere


class _Pipe:
    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def fill(self) -> None:
        """Fill the pipe, as if its reader did not read."""
        os.set_blocking(self.writer, False)
        try:
            while True:
                os.write(self.writer, b"x" * 4096)
        except BlockingIOError:
            os.set_blocking(self.writer, True)

    def drain(self) -> bytes:
        """Read the available content."""
        os.set_blocking(self.reader, False)
        parts = []
        try:
            while part := os.read(self.reader, _CAPACITY):
                parts.append(part)
        except BlockingIOError:
            pass
        return b"".join(parts)

    def close_reader(self) -> None:
        """Close the reading end."""
        os.close(self.reader)
        self.reader = -1


@pytest.fixture
def pipe() -> Iterator[_Pipe]:
    created = _Pipe()
    yield created
    for each in (created.reader, created.writer):
        if each >= 0:
            os.close(each)


def _bounded(pipe: _Pipe) -> DroppingWriter:
    writer = DroppingWriter(pipe.writer)
    writer.wait_seconds = 0.05
    return writer


def test_line_to_a_closed_pipe_is_dropped_without_an_error(pipe: _Pipe) -> None:
    writer = _bounded(pipe)
    pipe.close_reader()
    assert not writer.write_all(b"lost\n")
    assert writer.write(b"lost\n") == 5


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EAGAIN, errno.EBADF])
def test_failed_write_drops_the_line_and_the_next_is_written(
    pipe: _Pipe, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    writer = _bounded(pipe)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fail)
        assert not writer.write_all(b"lost\n")
    assert writer.write_all(b"kept\n")
    assert pipe.drain() == b"kept\n"


def test_line_after_an_incomplete_one_starts_on_a_new_line(
    pipe: _Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, writer = os.write, _bounded(pipe)

    def write_half(descriptor: int, data: memoryview) -> int:
        monkeypatch.setattr(os, "write", fail)
        return write(descriptor, data[: len(data) // 2])

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", write_half)
    assert not writer.write_all(b'{"a": 1}\n')
    assert not writer.write_all(b'{"b": 2}\n'), "dropped completely"
    monkeypatch.setattr(os, "write", write)
    assert writer.write_all(b'{"c": 3}\n')
    assert writer.write_all(b'{"d": 4}\n')
    assert pipe.drain() == b'{"a"\n{"c": 3}\n{"d": 4}\n'


def test_blocked_reader_is_waited_for_only_once(pipe: _Pipe) -> None:
    writer = _bounded(pipe)
    pipe.fill()
    began = time.monotonic()
    assert not writer.write_all(b"lost\n")
    waited = time.monotonic() - began
    began = time.monotonic()
    for _ in range(1000):
        assert not writer.write_all(b"lost\n")
    assert waited >= 0.05
    assert time.monotonic() - began < 10, "1,000 waits would take 50 s"
    pipe.drain()
    assert writer.write_all(b"kept\n")
    assert pipe.drain() == b"kept\n"


def test_long_line_never_blocks_on_a_full_pipe(pipe: _Pipe) -> None:
    writer = _bounded(pipe)
    assert not writer.write_all(b"x" * 10_000_000 + b"\n")
    assert len(pipe.drain()) >= 4096
    assert writer.write_all(b"kept\n")
    assert pipe.drain() == b"\nkept\n"


def test_closed_stream_drops_lines() -> None:
    stream = io.StringIO()
    lines = LineWriter(stream)
    assert lines.write("kept")
    assert stream.getvalue() == "kept\n"
    stream.close()
    assert not lines.write("lost")


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", b'"\\u00e9\\u2022\\ud83d\\ude00\\ud800"'),
        ("latin-1", b'"\xe9\\u2022\\ud83d\\ude00\\ud800"'),
        ("utf-8", '"é•😀'.encode() + b'\\ud800"'),
    ],
)
def test_unencodable_character_is_escaped_as_in_json(encoding: str, expected: bytes) -> None:
    streams.register_escape()
    text = '"é•😀\ud800"'
    encoded = text.encode(encoding, "aup_worker_escape")
    assert encoded == expected
    assert json.loads(encoded.decode(encoding)) == text[1:-1]


def test_output_error_is_not_an_os_error(pipe: _Pipe) -> None:
    writer = streams._OutputWriter(pipe.writer)
    pipe.close_reader()
    with pytest.raises(OutputError, match="Broken pipe") as caught:
        writer.write(b"x")
    assert caught.value.exit_code == 141
    assert not isinstance(caught.value, OSError)
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123 - unbuffered
        writer = streams._OutputWriter(full.fileno())
        with pytest.raises(OutputError, match="No space left on device") as caught:
            writer.write(b"x")
    assert caught.value.exit_code == 1
