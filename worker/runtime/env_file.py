"""Files of environment variables, as systemd, Docker and dotenv read them."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Final

from dotenv.parser import parse_stream

from worker.errors import UsageError

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Of systemd, beside `#`.
_COMMENT: Final = ";"


def read_env_file(path: Path) -> dict[str, str]:
    """Return the variables of a file of KEY=VALUE lines; the last one of a name counts.

    Comments, `export`, and values in quotes are allowed. Values are not expanded.

    Raises:
        UsageError: The file cannot be read, or a line is not KEY=VALUE.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise UsageError(f"--env-file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--env-file {path}: not UTF-8") from None
    # Blank, so that the numbers of other lines remain.
    lines = ("" if line.lstrip().startswith(_COMMENT) else line for line in text.splitlines())
    values: dict[str, str] = {}
    for binding in parse_stream(StringIO("\n".join(lines))):
        number = binding.original.line + _blank_lines(binding.original.string)
        if binding.error or (binding.key is not None and binding.value is None):
            raise UsageError(f"--env-file {path}: line {number}: expected KEY=VALUE")
        if binding.key is None or binding.value is None:
            continue  # a comment
        if not _NAME.fullmatch(binding.key) or "\0" in binding.value:
            raise UsageError(f"--env-file {path}: line {number}: not a variable")
        values[binding.key] = binding.value
    return values


def _blank_lines(statement: str) -> int:
    return statement[: len(statement) - len(statement.lstrip())].count("\n")
