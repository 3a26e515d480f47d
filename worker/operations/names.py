"""Validation of identifiers that an operator gives."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import StringConstraints, TypeAdapter, ValidationError

from worker.domain.identifiers import PolicyId, Version
from worker.errors import UsageError
from worker.runtime.validation import describe

# Any id that an earlier release recorded, even with control characters, can be shown and erased.
_Recorded = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_RECORDED: Final[TypeAdapter[Any]] = TypeAdapter(_Recorded)
_POLICY_ID: Final[TypeAdapter[Any]] = TypeAdapter(PolicyId)
_VERSION: Final[TypeAdapter[Any]] = TypeAdapter(Version)


def check_policy(
    policy_id: str | None,
    version: str | None = None,
    *,
    options: tuple[str, str] = ("--policy", "--version"),
) -> None:
    """Validate a policy id and a version by the rules for messages.

    Args:
        policy_id: Policy id, if it is stated.
        version: Policy version, if it is stated.
        options: Names of the two options, arguments or form fields.

    Raises:
        UsageError: An id is invalid.
    """
    _check(_POLICY_ID, options[0], policy_id)
    _check(_VERSION, options[1], version)


def check_recorded(
    user_id: str,
    policy_id: str | None = None,
    version: str | None = None,
    *,
    options: tuple[str, str, str] = ("USER", "--policy", "--version"),
) -> None:
    """Validate ids to look up in recorded acceptances.

    Args:
        user_id: User id.
        policy_id: Policy id, if it is stated.
        version: Policy version, if it is stated.
        options: Names of the three options, arguments or form fields.

    Raises:
        UsageError: An id is empty, too long or not UTF-8.
    """
    for option, text in zip(options, (user_id, policy_id, version), strict=True):
        _check(_RECORDED, option, text)


def _check(kind: TypeAdapter[Any], option: str, text: str | None) -> None:
    if text is None:
        return
    try:
        kind.validate_python(text)
    except ValidationError as error:
        raise UsageError(f"{option}: {describe(error.errors()[0])}") from None
