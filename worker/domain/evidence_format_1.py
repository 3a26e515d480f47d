r"""Format 1 of the record, written by releases before 0.3; only verified now.

A record is an item of the table of acceptances, keyed by `user_id` and `policy_version`. Its
attributes are strings, except the binary ones below. Fields that are absent in the message are
absent in the record.

Fields of the message, unchanged: `event_id`, `user_id`, `policy_id`, `version`, `accepted_at` and,
if present, `content_sha256`, `locale`, `method`, `channel`, `ip`, `user_agent`, `session_id`,
`on_behalf_of`; all other fields as one JSON object in the string `extra`.

Added when recorded: `policy_version` (`policy_id`, a `#`, `version`), `received_at` (time when SQS
accepted the message) and `recorded_at` (RFC 3339 in UTC with milliseconds), `record_format`,
`record_id` (8 random bytes in hexadecimal), `record_sha256`, and for each recorded erasable field F
(`ip`, `user_agent`, `session_id`) the binary `F_salt` (16 random bytes) and the binary
`F_commitment` (32 bytes): HMAC-SHA-256 with `F_salt` as key over the name F in ASCII, a zero byte
and the value in UTF-8. If the settings reduced a field, `ip_reduced` or `user_agent_reduced` is
`truncated` (F is the network of the address, /24 of IPv4 or /48 of IPv6) or `omitted` (F is
absent).

`record_sha256` is the SHA-256, in lower-case hexadecimal, of a JSON object in UTF-8 with every
attribute of the item except `record_sha256` itself and, for each erasable field F, F and `F_salt`.
Its keys are sorted by code point; tokens are not separated by white space; each value is a JSON
string, that of `F_commitment` in lower-case hexadecimal; the only escaped characters are the
quotation mark, the backslash and those below U+0020, by their short forms or else as \u00xx in
lower case.

Erasing F means removing F and `F_salt`. `F_commitment` remains, so `record_sha256` stays valid, and
without the salt the commitment cannot be used to test guessed values.
"""

from __future__ import annotations

import hmac
from typing import Final

FORMAT: Final = "1"
_ERASABLE: Final = ("ip", "user_agent", "session_id")
BINARY: Final = frozenset(f"{name}_{part}" for name in _ERASABLE for part in ("salt", "commitment"))


def commitment(name: str, value: str, salt: bytes) -> bytes:
    """Return the commitment of a field to its value."""
    return hmac.digest(salt, name.encode() + b"\0" + value.encode(), "sha256")
