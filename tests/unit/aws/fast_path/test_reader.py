"""A reader returns exactly the response that belongs to a request."""

from __future__ import annotations

from itertools import pairwise

import aiohttp
import pytest
from httptools import HttpParserError
from hypothesis import given
from hypothesis import strategies as st

from worker.aws.fast_path.reader import HEAD_MAX_BYTES, Response, ResponseReader

BODY = b'{"Failed": []}'
STATED = b"HTTP/1.1 200 OK\r\nX-Amzn-RequestId: r\r\nContent-Length: 14\r\n\r\n" + BODY
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nX-Amzn-RequestId: r\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'5;name=value;other="quoted"\r\n{"Fai\r\n009\r\nled": []}\r\n0\r\n'
    b"X-Amz-Crc32: 1\r\nX-Trailer: value\r\n\r\n"
)
INFORMED = b"HTTP/1.1 100 Continue\r\nX: 1\r\n\r\nHTTP/1.1 103 Early\r\nY: 1\r\n\r\n" + STATED
WELL_FORMED = {"stated": STATED, "chunked": CHUNKED, "informed": INFORMED}


def _read(reader: ResponseReader, *pieces: bytes, early: bool = False) -> Response | None:
    """Read pieces; only the last one may complete a response."""
    *first, last = pieces
    for piece in first:
        assert reader.read(piece, early=early) is None
    return reader.read(last, early=early)


def _assert_read(response: Response | None, *names: str) -> None:
    assert response is not None
    assert (response.status, response.body) == (200, BODY)
    assert response.headers.keys() == {"x-amzn-requestid", *names}


@pytest.mark.parametrize("name", WELL_FORMED)
def test_response_may_be_split_at_every_byte(name: str) -> None:
    content, reader = WELL_FORMED[name], ResponseReader()
    framing = "transfer-encoding" if name == "chunked" else "content-length"
    for at in range(1, len(content)):
        _assert_read(_read(reader, content[:at], content[at:]), framing)
        assert reader.keep_alive
    _assert_read(_read(reader, *[bytes([byte]) for byte in content]), framing)


@given(cuts=st.lists(st.sets(st.integers(1, len(CHUNKED) - 1)), min_size=1, max_size=4))
def test_responses_of_one_connection_are_independent(cuts: list[set[int]]) -> None:
    reader = ResponseReader()
    for cut in cuts:
        places = [0, *sorted(cut), len(CHUNKED)]
        pieces = [CHUNKED[start:end] for start, end in pairwise(places)]
        _assert_read(_read(reader, *pieces), "transfer-encoding")


@pytest.mark.parametrize("name", WELL_FORMED)
@pytest.mark.parametrize(
    "surplus", [b"H", b"\0", b"}", STATED, b"HTTP/1.1 100 Continue\r\n\r\n"], ids=repr
)
def test_bytes_after_a_response_are_refused(name: str, surplus: bytes) -> None:
    content = WELL_FORMED[name]
    for at in (0, len(content) - 1):
        reader = ResponseReader()
        if at:
            assert reader.read(content[:at], early=False) is None
        with pytest.raises(aiohttp.ServerDisconnectedError, match="bytes after a response"):
            reader.read(content[at:] + surplus, early=False)


CLOSING = {
    "close": STATED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
    "old version": STATED.replace(b"HTTP/1.1", b"HTTP/1.0"),
}


@pytest.mark.parametrize("name", CLOSING)
def test_connection_that_the_server_closes_is_not_kept(name: str) -> None:
    reader = ResponseReader()
    assert _read(reader, CLOSING[name]) is not None
    assert not reader.keep_alive


def test_surplus_on_a_connection_that_closes_is_refused() -> None:
    with pytest.raises(aiohttp.ServerDisconnectedError, match="bytes after a response"):
        _read(ResponseReader(), CLOSING["close"] + b"H")


def test_body_without_a_length_ends_with_the_connection() -> None:
    reader = ResponseReader()
    content = b"HTTP/1.1 200 OK\r\nX-Amzn-RequestId: r\r\n\r\n" + BODY
    for at in range(1, len(content) - len(BODY)):
        assert reader.read_eof() is None
        assert reader.read(content[at - 1 : at], early=False) is None
    assert reader.read(content[at:], early=False) is None
    _assert_read(reader.read_eof())
    assert not reader.keep_alive


@pytest.mark.parametrize("name", WELL_FORMED)
def test_truncated_response_does_not_end_with_the_connection(name: str) -> None:
    content = WELL_FORMED[name]
    for at in range(len(content)):
        reader = ResponseReader()
        if at:
            assert reader.read(content[:at], early=False) is None
        assert reader.read_eof() is None


def test_end_of_the_connection_is_not_a_second_response() -> None:
    reader = ResponseReader()
    _assert_read(_read(reader, STATED), "content-length")
    assert reader.read_eof() is None


@pytest.mark.parametrize("status", [204, 304])
def test_response_without_a_body_is_complete_after_its_head(status: int) -> None:
    response = _read(ResponseReader(), b"HTTP/1.1 %d Status\r\nContent-Length: 5\r\n\r\n" % status)
    assert response is not None
    assert (response.status, response.body) == (status, b"")


@pytest.mark.parametrize("headers", [b"", b"Connection: upgrade\r\nUpgrade: x\r\n"])
def test_protocol_switch_is_refused(headers: bytes) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\n" + headers + b"\r\n"
    for content in (switch, switch + STATED):
        with pytest.raises(aiohttp.ServerDisconnectedError, match="a protocol switch"):
            _read(ResponseReader(), content)


def test_only_an_error_may_come_before_the_end_of_the_request() -> None:
    with pytest.raises(aiohttp.ServerDisconnectedError, match="not sent yet"):
        _read(ResponseReader(), STATED, early=True)
    reader = ResponseReader()
    response = _read(reader, STATED.replace(b"200", b"413"), early=True)
    assert response is not None
    assert response.status == 413
    assert not reader.keep_alive


@pytest.mark.parametrize(
    "content",
    [
        b"220 mail.example.com ESMTP\r\n\r\n",
        STATED.replace(b"14", b"x"),
        STATED.replace(b"14", b"-14"),
        STATED.replace(b"14", b"14\r\nContent-Length: 15"),
        STATED.replace(b"14", b"14\r\nTransfer-Encoding: chunked"),
        STATED.replace(b"Content-Length", b"Content-Length "),
        STATED.replace(b" 200 ", b" 2 "),
        CHUNKED.replace(b"009", b"00x"),
        CHUNKED.replace(b"009", b"-09"),
        CHUNKED.replace(b"009", b"f" * 17),
        CHUNKED.replace(b"009", b"008"),
        CHUNKED.replace(b"009", b"00a"),
    ],
)
def test_response_that_is_not_http_is_an_error(content: bytes) -> None:
    with pytest.raises(HttpParserError):
        _read(ResponseReader(), content)


@pytest.mark.parametrize("line", [b"X: %s\r\n" % (b"x" * 1000), b"X: x\r\n"])
def test_endless_head_is_refused(line: bytes) -> None:
    lines = [line] * (HEAD_MAX_BYTES // len(line) + 1)
    with pytest.raises(aiohttp.ServerDisconnectedError, match="a head of more than"):
        _read(ResponseReader(), b"HTTP/1.1 200 OK\r\n", *lines)


def test_endless_informational_responses_are_refused() -> None:
    informational = b"HTTP/1.1 100 Continue\r\n\r\n"
    count = HEAD_MAX_BYTES // len(informational) + 1
    with pytest.raises(aiohttp.ServerDisconnectedError, match="a head of more than"):
        _read(ResponseReader(), *[informational] * count)


def test_header_that_is_not_ascii_is_read() -> None:
    content = STATED.replace(b"Id: r", b"Id: \xc3\xa9\xff")
    response = _read(ResponseReader(), content)
    assert response is not None
    assert response.headers["x-amzn-requestid"] == "é\udcff"
