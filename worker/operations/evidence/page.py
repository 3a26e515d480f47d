"""Printable HTML page of the evidence, without scripts or external resources."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any, Final

# Control characters and bidirectional marks are shown as escapes, so that they cannot deceive.
_ESCAPES: Final = {
    code: f"\\u{code:04x}"
    for code in (*range(32), *range(127, 160), 0x200E, 0x200F, *range(0x202A, 0x202F),
                 *range(0x2066, 0x206A), 0xFEFF)
}  # fmt: skip
_STYLE: Final = """
body { font: 11pt/1.45 Georgia, serif; color: #111; max-width: 48rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin: 0 0 .4rem }
code, .value { font: .82rem/1.4 ui-monospace, Consolas, monospace; overflow-wrap: anywhere }
section { border: 1px solid #888; border-radius: .3rem; padding: 1rem; margin: 1.2rem 0 }
table { border-collapse: collapse; width: 100% } caption { text-align: left; font-style: italic; padding: .5rem 0 .2rem }
th { font-weight: normal; text-align: left; width: 13rem; color: #444 }
th, td { vertical-align: top; padding: .15rem .4rem .15rem 0; border-top: 1px solid #ddd }
.sound { color: #0a5c2b } .unsound { color: #a00000 } .sound, .unsound { font-weight: bold }
.note { color: #444 } pre { white-space: pre-wrap; font: .82rem/1.4 ui-monospace, Consolas, monospace }
@media print {
  @page { margin: 18mm } body { margin: 0; max-width: none; font-size: 10pt }
  section { border-color: #000 } tr, h2, .verdict { break-inside: avoid } h2 { break-after: avoid }
}
"""  # noqa: E501 - one CSS rule per line
_CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
_NAME: Final = re.compile("`([^`]*)`")
_TEXTS: Final = {
    "matches": "The text hash in the record matches the published policy.",
    "differs": "The text hash in the record does NOT match the published policy.",
    "not stated": "The acceptance did not include a hash of the policy text.",
    "not published": "The policy version in the record is not published.",
}


def page(document: Mapping[str, Any]) -> str:
    """Return an evidence document as one HTML page.

    Args:
        document: Result of `worker.operations.evidence.verification.document`.
    """
    count, sound = document["records_count"], document["sound_count"]
    title = f"Policy acceptances by {_safe(document['user_id'])}"
    kind = "sound" if sound == count else "unsound"
    records = "\n".join(
        _section(number, count, entry) for number, entry in enumerate(document["records"], start=1)
    )
    steps = "\n".join(f"<li>{_step(step)}</li>" for step in document["how_to_verify"])
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_CONTENT_SECURITY_POLICY}">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<p class="note">Exported {_safe(document["exported_at"])} by {_safe(document["exported_by"])}.</p>
<p class="{kind}">{sound} of {count} records verified successfully.</p>
{records}
<section>
<h2>How to verify these records without this program</h2>
<p>The same command also exports these records as a JSON file, in a form that programs can read.</p>
<ol>
{steps}
</ol>
<h2>Record format</h2>
<pre>{_safe(document["record_format"], lines=True)}</pre>
</section>
</body>
</html>
"""


def _step(text: str) -> str:
    return _NAME.sub(r"<code>\1</code>", _safe(text))


def _section(number: int, count: int, entry: Mapping[str, Any]) -> str:
    record, policy = entry["record"], entry["policy"]
    name = f"{record.get('policy_id', '')} {record.get('version', '')}"
    published = {name: value for name, value in (policy or {}).items() if value is not None}
    tables = _rows("Record", record, entry["verification"]["erased"])
    if published:
        tables += _rows("Published policy", published, [])
    return f"""<section>
<h2>Record {number} of {count}: {_safe(name)}</h2>
{_verdict(entry)}
{tables}
</section>"""


def _verdict(entry: Mapping[str, Any]) -> str:
    result = entry["verification"]
    if result["problems"]:
        kind = "Altered" if "record_sha256" in entry["record"] else "Not verifiable"
        result_text = f"{kind}: {'; '.join(result['problems'])}."
    else:
        result_text = "The record matches its hash; no alteration was detected."
    kind = "sound" if result["sound"] else "unsound"
    lines = [f'<span class="{kind}">{_safe(result_text)} {_TEXTS[result["text"]]}</span>']
    if result["erased"]:
        erased = ", ".join(result["erased"])
        lines.append(f"Erased later, without affecting the hash of the record: {erased}.")
    lines += [_safe(f"Remark: {each}.") for each in result["remarks"]]
    return f'<p class="verdict">{"<br>".join(lines)}</p>'


def _rows(caption: str, fields: Mapping[str, Any], erased: list[str]) -> str:
    values = {**fields, **dict.fromkeys(erased)}
    rows = "\n".join(
        f'<tr><th scope="row"><code>{_safe(name)}</code></th><td>{_value(value)}</td></tr>'
        for name, value in sorted(values.items())
    )
    return f"<table>\n<caption>{caption}</caption>\n{rows}\n</table>"


def _value(value: Any) -> str:
    if value is None:
        return '<em class="note">erased</em>'
    return f'<bdi class="value">{_safe(value)}</bdi>'


def _safe(value: object, *, lines: bool = False) -> str:
    escapes = {code: text for code, text in _ESCAPES.items() if not (lines and code == ord("\n"))}
    return html.escape(str(value).translate(escapes))
