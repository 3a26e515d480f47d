"""Text of a policy as published, and as a person reads it."""

from __future__ import annotations

import hashlib

import pytest

from worker.domain.text_content import TextContent


def test_hash_is_that_of_the_bytes() -> None:
    content = b"\xef\xbb\xbfBe kind.\r\n"
    assert TextContent(content, "text/plain").sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        (
            "<h1>Be  kind</h1>\n<p>to\n<b>each</b> other &amp; us</p>",
            "Be kind\nto each other & us\n",
        ),
        ("<ul><li>No spam<li>No attacks</ul>end", "- No spam\n- No attacks\nend\n"),
        ("<table><tr><th>a<th>b<tr><td>1<td>2</table>", "a b\n1 2\n"),
        ("a<br>b<br/>c", "a\nb\nc\n"),
        ("<style>p {}</style><script>x<b></script><p>text", "text\n"),
        ("<p>unclosed <b>tags", "unclosed tags\n"),
        ("</script></p>x", "x\n"),
        ("", ""),
    ],
    ids=["paragraphs", "list", "table", "lines", "hidden", "unclosed", "closed twice", "empty"],
)
def test_html_is_read_without_markup(html: str, expected: str) -> None:
    assert TextContent(html.encode(), "text/html").readable() == expected
    assert TextContent(html.encode(), "text/html").source() == html


def test_other_text_is_read_as_it_is() -> None:
    assert TextContent("<b>é\n".encode(), "text/plain").readable() == "<b>é\n"
    assert TextContent(b"\xef\xbb\xbfx", "text/markdown").readable() == "x"


@pytest.mark.parametrize("media_type", ["application/pdf", "text/html"])
def test_file_that_is_not_text_has_no_readable_form(media_type: str) -> None:
    assert TextContent(b"%PDF-\xff", media_type).readable() is None
