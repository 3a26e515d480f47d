"""Place of the files that verbs write: they contain personal data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from worker.errors import UsageError

# Named in .gitignore.
DEFAULT_DIRECTORY: Final = Path("exports")
_OWNER_ONLY: Final = 0o700

_HELP: Final = "Directory of the file, created if missing"

OutputDir = Annotated[
    Path | None, typer.Option("--output-dir", metavar="DIR", help=f"{_HELP} (default: current).")
]
# For verbs that have a default name of the file.
ExportDir = Annotated[
    Path | None,
    typer.Option(
        "--output-dir",
        metavar="DIR",
        help=f"{_HELP} (default: current; without a file name: {DEFAULT_DIRECTORY}).",
    ),
]


def output_path(file: Path | None, directory: Path | None, default_name: str) -> Path:
    """Return the path of a file to write; create the directory that it is put into.

    Args:
        file: Path as typed. Without a directory it is relative to the current one.
        directory: Directory for the file.
        default_name: Name of the file if none is given, in `exports` without a directory.

    Raises:
        UsageError: The path is absolute although there is a directory, or the directory cannot be
            created.
    """
    if directory is not None and file is not None and (file.is_absolute() or str(file) == "-"):
        raise UsageError(f"{file}: cannot be combined with --output-dir {directory}")
    if file is not None and directory is None:
        return file
    parent = directory or DEFAULT_DIRECTORY
    try:
        parent.mkdir(mode=_OWNER_ONLY, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output-dir {parent}: {error.strerror}") from None
    return parent / (file or default_name)
