"""Checks of the files that environment variables name for the SDK."""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Iterable
from typing import Final

# Variables of token files, each with the variables that make the SDK read the file.
_TOKEN_VARIABLES: Final = (
    ("AWS_WEB_IDENTITY_TOKEN_FILE", ("AWS_ROLE_ARN",)),
    (
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
    ),
)


def certificate_problems(name: str, path: str) -> list[str]:
    """Check a bundle of CA certificates.

    Args:
        name: Variable or setting that names the file.
        path: Path of the file.

    Returns:
        A description of the problem if the SDK cannot load the file.
    """
    problem = _unreadable(path)
    if problem is None and _is_regular(path):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
        except (ssl.SSLError, OSError):
            problem = "must contain CA certificates in PEM format"
    return [] if problem is None else [f"{name}={path}: {problem}"]


def token_problems() -> list[str]:
    """Check the token files from which credentials are retrieved.

    Returns:
        A description of each file that cannot be read; none if access keys take precedence.
    """
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return []
    return _problems(
        name for name, conditions in _TOKEN_VARIABLES if any(map(os.environ.get, conditions))
    )


def config_problems() -> list[str]:
    """Check the files of profiles and credentials, which the SDK skips silently.

    Returns:
        A description of each file that cannot be read.
    """
    return _problems(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"))


def _problems(names: Iterable[str]) -> list[str]:
    problems = []
    for name in names:
        path = os.environ.get(name)
        problem = _unreadable(os.path.expanduser(path)) if path else None  # noqa: PTH111 - text
        if problem is not None:
            problems.append(f"{name}={path}: {problem}")
    return problems


def _unreadable(path: str) -> str | None:
    try:
        if _is_regular(path):
            with open(path, "rb"):  # noqa: PTH123 - text
                return None
    except OSError as error:
        return error.strerror
    except ValueError:
        return "not a valid path"
    # Reading a pipe would consume the data before the SDK reads it.
    return "is a directory" if os.path.isdir(path) else None  # noqa: PTH112 - text


def _is_regular(path: str) -> bool:
    return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - text
