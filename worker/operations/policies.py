"""Published policy versions with their texts, and the differences between two texts."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from worker.domain.policy import Policy, PolicyText
from worker.domain.text_content import TextContent
from worker.errors import AUPError, PolicyNotFoundError
from worker.repository import AUPRepository


@dataclass(frozen=True, slots=True)
class PublishedText:
    """A text of a version, and its content if that is stored."""

    text: PolicyText
    content: TextContent | None


async def version_texts(
    repository: AUPRepository, policy: str, version: str, locale: str | None
) -> tuple[Policy, list[PublishedText]]:
    """Return a version and its texts, the one for the language first.

    Args:
        repository: Repository of the policies.
        policy: Policy id.
        version: Policy version.
        locale: Language tag; None for the default text.

    Raises:
        AUPError: The version is not published, or has no text in the language.
        AWSError: The table cannot be read.
    """
    found = await repository.policy(policy, version)
    if found is None:
        raise PolicyNotFoundError(
            f"{policy} {version} is not published: see `aup-worker policy list`"
        )
    texts = list(found.texts_for(locale))
    if locale is not None and not texts[0].locale:
        others = ", ".join(text.locale for text in found.texts)
        raise AUPError(
            f"{policy} {version} has no text in {locale}, only the default text"
            f"{f' and {others}' if others else ''}; leave out --locale for the default text"
        )
    return found, [PublishedText(text, await repository.policy_text(text.sha256)) for text in texts]


def stored(text: PublishedText) -> TextContent:
    """Return the content of a text.

    Raises:
        AUPError: Only its hash is stored.
    """
    if text.content is None:
        raise AUPError(
            f"the text {text.text.sha256} is not stored, only its hash; to store it, run policy "
            "publish again with --file"
        )
    return text.content


def readable(text: PublishedText) -> str:
    """Return a text as a person reads it, without markup.

    Raises:
        AUPError: It is not stored, or is a file.
    """
    content = stored(text)
    readable = content.readable()
    if readable is None:
        raise AUPError(
            f"the text {content.sha256} is a file of the type {content.media_type}; write it to a "
            "file with policy show --text > FILE"
        )
    return readable


def differences(before: PublishedText, after: PublishedText, names: tuple[str, str]) -> list[str]:
    """Return the lines of a unified diff of two texts; an empty list if they read the same.

    Raises:
        AUPError: A text is not stored, or is a file.
    """
    old, new = (readable(each).splitlines() for each in (before, after))
    return list(difflib.unified_diff(old, new, *names, lineterm=""))
