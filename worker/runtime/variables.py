"""Environment variables that options and files replace for one verb."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

# A variable, or a prefix that ends with an underscore, without effect once the first one is
# replaced: otherwise the environment would take precedence over an option or a file.
_SUPERSEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "AWS_DEFAULT_REGION": ("AWS_REGION",),
    "AWS_ENDPOINT_URL": ("AWS_ENDPOINT_URL_", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"),
    # The AWS CLI ignores these, too, when a profile is stated.
    "AWS_PROFILE": (
        "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
        "AWS_SECURITY_TOKEN", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE",
    ),
    # A token belongs to its key.
    "AWS_ACCESS_KEY_ID": ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"),
}  # fmt: skip
# Where the value of a replaced variable was stated.
_labels: dict[str, str] = {}


def label(name: str) -> str:
    """Return where the value of a variable is stated: an option, `FILE: NAME`, or its name."""
    return _labels.get(name, name)


@contextmanager
def replaced() -> Iterator[None]:
    """Restore the environment at the end of the block."""
    environment, labels = dict(os.environ), dict(_labels)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        _labels.clear()
        _labels.update(labels)


def replace(values: Mapping[str, str], labels: Mapping[str, str]) -> None:
    """Set variables, and remove those of the environment that would take precedence over them.

    Args:
        values: Values by name.
        labels: Where each value is stated, by name; see `label`.
    """
    superseded = tuple(each for name in values for each in _SUPERSEDED.get(name, ()))
    # Settings are read in any case.
    names = {name.upper() for name in values}
    for name in list(os.environ):
        if name.upper() in names or _is_one_of(name, superseded):
            del os.environ[name]
            _labels.pop(name, None)
    os.environ.update(values)
    _labels.update(labels)


def _is_one_of(name: str, names: tuple[str, ...]) -> bool:
    return any(name == each or (each.endswith("_") and name.startswith(each)) for each in names)
