"""Files that are written completely or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from worker.errors import AUPError, UsageError


@contextmanager
def atomic_file(
    path: Path, *, overwrite: bool, encoding: str = "utf-8", errors: str = "strict"
) -> Iterator[TextIO]:
    """Write a text file that appears under its name when the block ends without an exception.

    The content goes to a temporary file in the same directory, which is then synced and renamed.
    Only the owner can read the file (mode 0600), because it may hold personal data. When the block
    has ended, the file is durable: its directory is synced too.

    Args:
        path: Destination; of a symbolic link, the file it points to.
        overwrite: Whether to replace an existing regular file.
        encoding: Of the text.
        errors: Error handler of the encoding.

    Yields:
        The stream to write to.

    Raises:
        UsageError: The destination exists or is not a regular file, or its directory is not
            writable.
        AUPError: Writing fails, such as on a full disk.
    """
    check_destination(path, overwrite=overwrite)
    target = Path(os.path.realpath(path))
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding=encoding, errors=errors) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        # Another process may have created it in the meantime.
        check_destination(path, overwrite=overwrite)
        check_destination(target, overwrite=overwrite)
        temporary.replace(target)
        _sync_directory(target.parent)
    except OSError as error:
        raise AUPError(f"{path}: not written: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)


def check_destination(path: Path, *, overwrite: bool) -> None:
    """Check that a file can be created or replaced.

    Raises:
        UsageError: The destination exists or is not a regular file, or its directory does not
            exist.
    """
    if path.is_dir():
        raise UsageError(f"{path}: is a directory")
    # A rename would replace a device or a named pipe.
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: not a regular file")
    # A symbolic link to nothing counts as existing.
    if os.path.lexists(path) and not overwrite:
        raise UsageError(f"{path}: already exists; pass --force to overwrite it")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: directory {path.parent} does not exist")


def _sync_directory(path: Path) -> None:
    """Make a rename durable, if the file system supports it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(descriptor)
