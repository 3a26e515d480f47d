"""Printable HTML page of the evidence, without scripts or external resources."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from worker.operations.evidence.document import decoded
from worker.operations.evidence.sentences import LABELS, moment, sentences, verdicts
from worker.runtime import visible_text

STYLE: Final = """
body { font: 11pt/1.45 Georgia, serif; color: #111; max-width: 48rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin: 0 0 .4rem }
h3 { font-size: 1rem; margin: 1rem 0 .3rem } .said { font-size: 1.05rem }
h1, h2, p, li, caption, pre { overflow-wrap: anywhere }
blockquote { margin: 0; padding: .2rem .8rem; border-left: .2rem solid #888 }
blockquote pre { font: inherit; margin: .3rem 0; tab-size: 4 }
code, .value { font: .82rem/1.4 ui-monospace, Consolas, monospace; overflow-wrap: anywhere }
section { border: 1px solid #888; border-radius: .3rem; padding: 1rem; margin: 1.2rem 0 }
table { border-collapse: collapse; width: 100% } caption { text-align: left; font-style: italic; padding: .5rem 0 .2rem }
th { font-weight: normal; text-align: left; width: 13rem; color: #444 }
th, td { vertical-align: top; padding: .15rem .4rem .15rem 0; border-top: 1px solid #ddd }
.sound { color: #0a5c2b } .unsound { color: #a00000 } .sound, .unsound { font-weight: bold }
.note { color: #444 } pre { white-space: pre-wrap; font: .82rem/1.4 ui-monospace, Consolas, monospace }
@media print {
  @page { margin: 18mm } body { margin: 0; max-width: none; font-size: 10pt }
  section { border-color: #000; box-decoration-break: clone; -webkit-box-decoration-break: clone }
  tr, li, h2, .said, .verdict { break-inside: avoid } h2, h3, caption { break-after: avoid }
  .annex { break-before: page }
}
"""  # noqa: E501 - one CSS rule per line
_CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
_NAME: Final = re.compile("`([^`]*)`")
_HOW_PROVED: Final = (
    "When an acceptance is recorded, a hash of all its details and the hash of the policy text "
    "are stored with it. A hash is a number computed from data: if a single character changes, it "
    "does not match any more. For this page all hashes were computed again and compared. Times are "
    "those of the computers named. The technical annex describes how anyone can repeat this."
)
_UNPROVED: Final = "The record states what follows, but it does not prove it."


def page(document: Mapping[str, Any]) -> str:
    """Return an evidence document as one HTML page.

    Args:
        document: Result of `worker.operations.evidence.document.document`.
    """
    count, sound = document["records_count"], document["sound_count"]
    title = f"Policy acceptances by {_safe(document['user_id'])}"
    kind = "sound" if sound == count else "unsound"
    exported_at = _safe(moment(document["exported_at"]))
    numbered = list(enumerate(document["records"], start=1))
    records = "\n".join(_section(number, count, entry, document) for number, entry in numbered)
    annex = "\n".join(_annex(number, entry) for number, entry in numbered)
    steps = "\n".join(f"<li>{_step(step)}</li>" for step in document["how_to_verify"])
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_CONTENT_SECURITY_POLICY}">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<p class="note">Exported on {exported_at} by {_safe(document["exported_by"])}.</p>
<p class="{kind}">{sound} of {count} records verified successfully.</p>
<p class="note">{_HOW_PROVED}</p>
{records}
<section class="annex">
<h2>Technical annex</h2>
<p>The same command also exports these records as a JSON file, which <code>aup-worker verify</code>
and other programs can verify.</p>
<h3>How to verify these records without this program</h3>
<ol>
{steps}
</ol>
{annex}
<h3>Record format</h3>
<pre>{_safe(document["record_format"], lines=True)}</pre>
</section>
</body>
</html>
"""


def _step(text: str) -> str:
    return _NAME.sub(r"<code>\1</code>", _safe(text))


def _section(number: int, count: int, entry: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    record = entry["record"]
    title = (entry["policy"] or {}).get("title", "")
    name = f"{title or record.get('policy_id', '')}, version {record.get('version', '')}"
    unproved = "" if entry["verification"]["sound"] else f"{_UNPROVED} "
    said = unproved + " ".join(_safe(each) for each in sentences(record, title))
    return f"""<section>
<h2>Record {number} of {count}: {_safe(name)}</h2>
<p class="said">{said}</p>
{_verdict(entry)}
{_details(record, entry["verification"]["erased"])}
{_text(entry, document["texts"])}
</section>"""


def _verdict(entry: Mapping[str, Any]) -> str:
    result = entry["verification"]
    kind = "sound" if result["sound"] else "unsound"
    verdict, *others = map(_safe, verdicts(result))
    lines = [f'<span class="{kind}">{verdict}</span>', *others]
    return f'<p class="verdict">{"<br>".join(lines)}</p>'


def _details(record: Mapping[str, Any], erased: Sequence[str]) -> str:
    values = {**record, **dict.fromkeys(erased)}
    shown = {
        label: moment(values[name]) if name.endswith("_at") else values[name]
        for name, label in LABELS.items()
        if name in values
    }
    return _rows("Details", shown)


def _text(entry: Mapping[str, Any], texts: Mapping[str, Any]) -> str:
    record, policy = entry["record"], entry["policy"] or {}
    sha256 = record.get("policy_sha256") or str(record.get("content_sha256", "")).lower()
    encoded = texts.get(sha256 or policy.get("content_sha256", ""))
    if encoded is None:
        return f"<p>The text is not stored; its SHA-256 hash is <code>{_safe(sha256)}</code>.</p>"
    readable = decoded(encoded).readable()
    if readable is None:
        return (
            f"<p>The text is a file of the type {_safe(encoded['media_type'])}; "
            "the JSON export contains it.</p>"
        )
    kind = "The text that the user accepted" if sha256 else "The default text of this version"
    return f"""<h3>{kind}</h3>
<blockquote><pre dir="auto">{_safe(readable, lines=True)}</pre></blockquote>"""


def _annex(number: int, entry: Mapping[str, Any]) -> str:
    policy = {name: value for name, value in (entry["policy"] or {}).items() if value}
    if "texts" in policy:
        policy["texts"] = "; ".join(
            f"{each['locale']} {each['sha256']}" for each in policy["texts"]
        )
    tables = _rows(f"Record {number}, as stored", dict(sorted(entry["record"].items())))
    return f"{tables}\n{_rows('Its policy, as published', policy)}" if policy else tables


def _rows(caption: str, fields: Mapping[str, Any]) -> str:
    rows = "\n".join(
        f'<tr><th scope="row">{_safe(name)}</th><td>{_value(value)}</td></tr>'
        for name, value in fields.items()
    )
    return f"<table>\n<caption>{caption}</caption>\n{rows}\n</table>"


def _value(value: Any) -> str:
    if value is None:
        return '<em class="note">erased</em>'
    return f'<bdi class="value">{_safe(value)}</bdi>'


def _safe(value: object, *, lines: bool = False) -> str:
    return html.escape((visible_text.lines if lines else visible_text.one_line)(str(value)))
