"""The evidence page states the result of each verification and escapes every value."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from msgspec.structs import replace

from tests.simulation.virtual_clock import START
from tests.unit.fakes import IP, ORIGIN, acceptance, policy
from worker.domain.evidence import build_item
from worker.domain.origin import Edit
from worker.domain.policy import PolicyText
from worker.domain.text_content import TextContent
from worker.operations.evidence.document import document
from worker.operations.evidence.page import page
from worker.operations.evidence.verification import verify_record

CONTENT = TextContent(b"<h1>Be kind</h1><p>No <script>spam()</script>spam.", "text/html")
EDIT = Edit("2026-11-22T10:00:00Z", "eve", ("user_id",), "e" * 64)


def _page(content: TextContent | None = CONTENT, title: str = "AUP", **changes: Any) -> str:
    text = PolicyText((content or CONTENT).sha256)
    item = build_item(acceptance(1), text, replace(ORIGIN, edits=(EDIT,)), recorded_at=START)
    item |= changes
    item = {name: value for name, value in item.items() if value is not None}
    published = policy(content_sha256=text.sha256, title=title)
    verification = verify_record(item, published, content=content)
    return page(document("u-1", [verification], START))


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({}, "Verified: the record was not altered since it was recorded. See the remarks."),
        ({"channel": "forged"}, "NOT VERIFIED: the record or the published policy was altered."),
        ({"channel": "forged"}, "record_sha256 does not match the record."),
        ({"channel": "forged"}, "The record states what follows, but it does not prove it."),
        ({"record_sha256": None}, "no record_sha256: written by another program, or altered."),
        ({"ip": None, "ip_salt": None}, "which does not affect the proof: IP address."),
    ],
)
def test_page_states_the_result_of_the_verification(changes: dict[str, Any], result: str) -> None:
    assert result in _page(**changes)


def test_page_opens_with_sentences_and_prints_the_text_that_the_user_accepted() -> None:
    shown = _page()
    said, details = shown.index("User u-1 accepted version 2026-01"), shown.index("Details")
    text, annex = shown.index("Be kind\nNo spam."), shown.index("Technical annex")
    assert said < details < text < annex
    assert "the message was edited by eve on 22 November 2026 at 10:00:00 UTC: user_id." in shown
    assert "Received by Amazon SQS" in shown


def test_text_that_cannot_be_printed_is_named() -> None:
    assert "The text is not stored; its SHA-256 hash is" in _page(None)
    assert "a file of the type application/pdf" in _page(TextContent(b"\xff", "application/pdf"))


@pytest.mark.parametrize(
    ("accepted_at", "remark"),
    [
        ("2025-01-01T10:00:00Z", "“Accepted at” is 681 days before the version was published."),
        ("2026-11-22T12:00:00Z", "“Received by Amazon SQS at” is 2 hours before “Accepted at”: a"),
        (
            "2026-11-22T10:05:01Z",
            "“Received by Amazon SQS at” is 5 minutes 1 second before “Accepted at”",
        ),
    ],
)
def test_remark_on_times_has_names_and_units_for_a_person(accepted_at: str, remark: str) -> None:
    assert remark in _page(accepted_at=accepted_at)


def test_text_keeps_its_tabs_line_ends_and_direction() -> None:
    shown = _page(TextContent("1.\tBe kind.\r\n\u200fx\x07".encode(), "text/plain"))
    assert '<pre dir="auto">1.\tBe kind.\r\n\\u200fx\\x07</pre>' in shown
    assert r"Sent\nagain" in _page(title="Sent\nagain")


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)


def test_hostile_text_is_escaped_everywhere() -> None:
    hostile = "<script>alert(1)</script><img src=x onerror=alert(1)>\u202e"
    content = TextContent(f"&lt;iframe&gt; {hostile}".encode(), "text/plain")
    forged = dict.fromkeys(("channel", "event_id", "locale"), hostile)
    shown = _page(content, title=hostile, ip=None, ip_salt=None, **forged)
    assert not _Tags(shown).found & {"script", "img", "iframe", "b", "a", "link"}
    assert "\u202e" not in shown
    assert r"&lt;script&gt;" in shown
    assert IP not in shown
