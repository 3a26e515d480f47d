"""Values, tokens and texts that often reveal errors."""

from __future__ import annotations

from random import Random
from typing import Any, Final

STRINGS: Final = (
    "", " ", "\n", "a\nb", "a\r\nb", "\t", "\x00", "a\x00b", "\x1b[2J", "\x7f", "\x85", "\u2028",
    "a\u2029b", "\ufeff", "\u202e", "\ud800", "\udc00", "\ud83d\udc00", "\udbff", "\ufffe",
    "\uffff", "é", "e\u0301", "\U0001f600", "\U0010ffff", "ﷺ" * 40, "#", "a#b", "null", "NaN",
    "' OR 1=1 --", "%s%n", "{}", "[", "../..", "$ref", "x" * 64, "x" * 65, "x" * 128, "x" * 129,
    "x" * 256, "x" * 257, "x" * 1024, "x" * 1025, "\U0001f600" * 256, "é" * 128, "0" * 64,
    "g" * 64, "A" * 64, "a" * 63, "a" * 64 + "\n", "1" * 400,
)  # fmt: skip
TIMES: Final = (
    "2026-11-22T09:59:00", "2026-11-22 09:59:00Z", "2026-02-30T00:00:00Z", "2026-11-22T24:00:00Z",
    "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59",
    "2026-11-22T09:59:60Z", "2026-11-22T09:59:00.123456789Z", "2026-11-22T09:59:00+99:99",
    "2026-11-22t09:59:00z", "٢٠٢٦-11-22T09:59:00Z", "2026-11-22T09:59:00Z\n",
    "2030-01-01T00:00:00Z", "2026-11-22T09:59:00." + "1" * 5000 + "Z", "1970-01-01T00:00:00Z",
    "2026-11-22T09:59:00-00:00",
)  # fmt: skip
NUMBERS: Final = (
    0, 1, -1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**40, 10**308, 10**309, 10**4000,
    0.1, -0.0, 1e308, 5e-324, 1.5, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
# JSON text that no Python value produces; inserted literally.
TOKENS: Final = (
    "1e400", "-1e400", "1E+99999999999", "1e-99999999999", "1" * 10_000, "-" + "9" * 4300,
    "9" * 4301, "0." + "1" * 10_000, "NaN", "Infinity", "-Infinity", "nan", "01", "1.", ".5", "+1",
    "-", "0x10", "1_000", "tru", "True", "None", "undefined", "'x'", "`x`", "", ",", "1,", "/* */1",
    "[" * 150 + "]" * 150, "[" * 300 + "]" * 300, "[" * 5000, '{"a":' * 150 + "1" + "}" * 150,
    '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\\u00"', '"\\x41"', '"\x01"', '"\n"', '"\\',
    "\ufeff1", "\u00a01", "\x001", '{"a":1,"a":2}', '{"a":1,}', "[1,]", "{1:2}", "{", "}", '"',
)  # fmt: skip
KEYS: Final = (
    "extra", "model_extra", "__class__", "__dict__", "model_config", "__proto__", "stated",
    "policy_version", "received_at", "recorded_at", "record_id", "record_sha256", "record_format",
    "ip_salt", "ip_commitment", "Event_Id", "event_id ", "eventId", "", " ", "\x00", "\n", "'", '"',
    "a'b", "a.b", "a#b", "\ud800", "\u2028", "\U0001f600", "x" * 300, "specversion", "data",
    "data_base64", "Type", "TopicArn", "Message", "detail-type", "detail", "Records",
)  # fmt: skip
CHARACTERS: Final = (
    '\x00\x01\x08\x0b\x1b\x1f\x7f\x85\u2028\ufeff\ufffe\ud800\udfff"\\,:{}[]09eE+-. \n'
)


def unusual_value(rng: Random, depth: int = 0) -> Any:
    """Draw any JSON value, and some that are not valid JSON."""
    kind = rng.randrange(9 if depth < 4 else 7)
    if kind == 0:
        return rng.choice((None, True, False))
    if kind in (1, 2):
        return rng.choice(NUMBERS)
    if kind == 3:
        return rng.choice(TIMES)
    if kind in (4, 5, 6):
        return rng.choice(STRINGS)
    if kind == 7:
        return [unusual_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(KEYS): unusual_value(rng, depth + 1) for _ in range(rng.randrange(4))}
