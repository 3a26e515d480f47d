"""Published policy versions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from worker.domain.identifiers import PolicyId, Version

_HASH: Final = re.compile("[0-9a-f]{64}")
# RFC 5646, section 2.1, without the meaning of the subtags.
_LANGUAGE_TAG: Final = re.compile("[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,8}")
# The last subtag, and a single letter or digit before it, which only introduces it.
_SHORTENED: Final = re.compile("(^|(-[^-])?-)[^-]*$")


@dataclass(frozen=True, slots=True)
class PolicyText:
    """A published text of a policy version.

    Attributes:
        sha256: SHA-256 of the text in lower-case hexadecimal.
        locale: Language tag of the text; empty for the default text.

    Raises:
        ValueError: A value is none of these.
    """

    sha256: str
    locale: str = ""

    def __post_init__(self) -> None:
        if not _HASH.fullmatch(self.sha256):
            raise ValueError("sha256: must be 64 hexadecimal digits in lower case")
        if self.locale and not _LANGUAGE_TAG.fullmatch(self.locale):
            raise ValueError("locale: must be a language tag, such as es-ES")


def language_tag(locale: str) -> str:
    """Return the language tag of a locale in a form that can be compared: `es_ES` is `es-es`."""
    return locale.replace("_", "-").lower()


@lru_cache(maxsize=1024)  # every message that states no hash has a default text
def _default_text(sha256: str) -> PolicyText:
    return PolicyText(sha256)


class Policy(BaseModel):
    """A policy version: its texts never change, but it can be retired.

    Times are aware. A version is in force from `effective_at` until `retired_at`. `content_sha256`
    is the hash of the default text; `texts` are those in other languages.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    policy_id: PolicyId
    version: Version
    title: Annotated[str, Field(max_length=1024)]
    content_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    published_at: AwareDatetime
    effective_at: AwareDatetime
    retired_at: AwareDatetime | None = None
    texts: tuple[PolicyText, ...] = ()

    def in_force_at(self, moment: datetime) -> bool:
        """Return whether this version is in force at a time."""
        return self.effective_at <= moment and (self.retired_at is None or moment < self.retired_at)

    @property
    def default_text(self) -> PolicyText:
        """The text of an acceptance that states neither a hash nor a language."""
        return _default_text(self.content_sha256)

    def texts_for(self, locale: str | None) -> Iterator[PolicyText]:
        """Yield all texts, that for a language first, then the default text.

        Args:
            locale: Language tag, such as `es-ES`; it is shortened until there is a text for it.

        Source: RFC 4647, section 3.4.
        """
        others = {language_tag(text.locale): text for text in self.texts}
        tag = language_tag(locale or "")
        while tag:
            if tag in others:
                yield others.pop(tag)
            tag = _SHORTENED.sub("", tag)
        yield self.default_text
        yield from others.values()

    def same_text(self, other: Policy) -> bool:
        """Return whether both have the same ids, title and text, regardless of times."""
        compared = {"policy_id", "version", "title", "content_sha256"}
        return self.model_dump(include=compared) == other.model_dump(include=compared)


def in_force(policies: list[Policy], moment: datetime) -> Policy | None:
    """Return the version in force: of those not retired, the one that became effective last."""
    candidates = [policy for policy in policies if policy.in_force_at(moment)]
    return max(candidates, key=lambda policy: (policy.effective_at, policy.version), default=None)


def state(policy: Policy, policies: Sequence[Policy] | None, moment: datetime) -> str:
    """Return the state of a version: retired, scheduled, in force, superseded or published.

    Args:
        policy: The version.
        policies: All versions; None if they are unknown, so that the state is `published`.
        moment: Current time, timezone-aware.
    """
    if policy.retired_at is not None and policy.retired_at <= moment:
        return "retired"
    if policy.effective_at > moment:
        return "scheduled"
    if policies is None:
        return "published"
    versions = [each for each in policies if each.policy_id == policy.policy_id]
    current = in_force(versions, moment)
    is_current = current is not None and current.version == policy.version
    return "in force" if is_current else "superseded"
