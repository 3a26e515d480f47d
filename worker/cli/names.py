"""Name of the operator."""

from __future__ import annotations

import getpass
import os


def current_user() -> str:
    """Return the login name of the operator; the user id if it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
