"""Texts of policies: the content, addressed by its hash, and the languages of a version.

Both are items of the table of policies, with partition keys that no policy id can have:

- `sha256#{hash}`, `text`: the content, compressed by gzip, with its media type.
- `{policy_id}#{version}`, `1`, `2`, …: one item for each further language of a version. The next
  free number is inserted, so of two publications at once only one gets it. The worker, which may
  only insert and get, reads them all by one GetItem each.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from worker.aws.access import Operation
from worker.domain.policy import PolicyText
from worker.domain.text_content import TextContent
from worker.errors import AlteredTextError, AWSRejectedError, PolicyConflictError, UsageError
from worker.repository.tables import TableCalls
from worker.repository.writes import Inserted, Item

# Amazon DynamoDB developer guide, "Constraints": an item has at most 400 KB, names included.
_ITEM_MAX_BYTES: Final = 400 * 1024
_OTHER_BYTES: Final = 1024
# A gzip file of 400 KB may expand to 400 MB.
_CONTENT_MAX_BYTES: Final = 16 * 1024 * 1024


class Texts:
    """Texts in the table of policies.

    Args:
        tables: Calls to the tables.
        table_name: Table of policies.
        insert: Inserts one item, with retries.
    """

    def __init__(
        self, tables: TableCalls, table_name: str, insert: Callable[[Item], Awaitable[Inserted]]
    ) -> None:
        self._tables = tables
        self._table_name = table_name
        self._insert = insert

    async def store(self, text: TextContent) -> None:
        """Store a text unless it is stored already.

        Raises:
            UsageError: It is larger than an item of DynamoDB, although compressed.
            AWSRejectedError: Another content is stored under its hash.
            AWSError: The table cannot be reached, found or written.
        """
        compressed = gzip.compress(text.content, mtime=0)
        if (
            len(compressed) > _ITEM_MAX_BYTES - _OTHER_BYTES
            or len(text.content) > _CONTENT_MAX_BYTES
        ):
            raise UsageError(
                f"the text has {len(text.content):,} bytes, compressed {len(compressed):,}; "
                f"DynamoDB stores at most {_ITEM_MAX_BYTES:,} in an item: publish it without "
                "embedded images and fonts, or publish its hash with --sha256 and keep the file"
            )
        inserted = await self._insert(
            {
                **_content_key(text.sha256),
                "media_type": text.media_type,
                "size_bytes": str(len(text.content)),
                "gzip": compressed,
            }
        )
        if inserted is Inserted.EXISTS:
            await self.content(text.sha256)

    async def content(self, sha256: str) -> TextContent | None:
        """Return the text with a hash, None if it is not stored.

        Raises:
            AlteredTextError: The stored content does not have this hash.
            AWSError: The table cannot be reached, found or read.
        """
        item = await self._tables.read(self._table_name, _content_key(sha256))
        if item is None:
            return None
        try:
            text = TextContent(_decompressed(bytes(item["gzip"])), str(item["media_type"]))
        except (KeyError, TypeError, ValueError, EOFError, zlib.error):
            text = None
        if text is None or text.sha256 != sha256:
            raise AlteredTextError(
                f"the stored text {sha256} in {self._table_name} was altered: it does not have "
                "this hash; restore the item from a backup"
            )
        return text

    async def languages(self, policy_id: str, version: str) -> tuple[PolicyText, ...]:
        """Return the texts of a version in further languages, in the order of publication.

        Raises:
            AWSError: The table cannot be reached, found or read, or an item is malformed.
        """
        texts: list[PolicyText] = []
        while True:
            key = _language_key(policy_id, version, len(texts) + 1)
            item = await self._tables.get(Operation.READ_POLICY, self._table_name, key)
            if item is None:
                return tuple(texts)
            texts.append(self._as_text(item))

    def _as_text(self, item: Mapping[str, Any]) -> PolicyText:
        try:
            return PolicyText(str(item.get("content_sha256")), str(item["locale"]))
        except (KeyError, ValueError) as error:
            name = f"{item.get('policy_id')} {item.get('version')}"
            raise AWSRejectedError(
                f"{name} in {self._table_name} is malformed: {error}; correct the item"
            ) from None

    async def add_language(
        self, policy_id: str, version: str, text: PolicyText, published_at: str
    ) -> tuple[PolicyText, ...]:
        """Add a language to a version; adding the same text again changes nothing.

        Returns:
            The texts in further languages.

        Raises:
            PolicyConflictError: The version has another text in this language.
            AWSError: The table cannot be reached, found or written.
        """
        while True:
            texts = await self.languages(policy_id, version)
            for each in texts:
                if each.locale.lower() == text.locale.lower():
                    if each.sha256 == text.sha256:
                        return texts
                    raise PolicyConflictError(
                        f"{policy_id} {version} is already published in {each.locale} with a "
                        f"different text (content_sha256 {each.sha256}); publish a new version"
                    )
            item = {
                **_language_key(policy_id, version, len(texts) + 1),
                "locale": text.locale,
                "content_sha256": text.sha256,
                "published_at": published_at,
            }
            if await self._insert(item) is Inserted.NEW:
                return (*texts, text)


def _content_key(sha256: str) -> dict[str, str]:
    return {"policy_id": f"sha256#{sha256}", "version": "text"}


def _language_key(policy_id: str, version: str, number: int) -> dict[str, str]:
    return {"policy_id": f"{policy_id}#{version}", "version": str(number)}


def is_text(item: Mapping[str, Any]) -> bool:
    """Return whether an item of the table of policies is a text and no policy version."""
    return "#" in str(item.get("policy_id"))


def _decompressed(content: bytes) -> bytes:
    decompressor = zlib.decompressobj(wbits=31)
    found = decompressor.decompress(content, _CONTENT_MAX_BYTES)
    if not decompressor.eof:
        raise ValueError("incomplete or too large")
    return found
