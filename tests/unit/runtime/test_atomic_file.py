"""Files that are written completely or not at all."""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
from pathlib import Path

import pytest

from worker.errors import AUPError, UsageError
from worker.runtime.atomic_file import atomic_file


def _write(path: Path, text: str, *, overwrite: bool = False) -> None:
    with atomic_file(path, overwrite=overwrite) as stream:
        stream.write(text)


def test_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_file(path, overwrite=False) as stream:
        stream.write("é\n")
        assert not path.exists()
    assert path.read_bytes() == "é\n".encode()
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208 - the temporary file would be hidden


def test_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "file"
    _write(path, "text")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_encoding_and_error_handler_are_applied(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_file(path, overwrite=False, encoding="ascii", errors="backslashreplace") as stream:
        stream.write("é")
    assert path.read_bytes() == b"\\xe9"


def test_exception_in_the_block_leaves_the_previous_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    _write(path, "old")
    with pytest.raises(TypeError), atomic_file(path, overwrite=True) as stream:
        stream.writelines(["new", None])  # type: ignore[list-item] # fails in the middle
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_existing_file_is_replaced_only_with_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "file"
    _write(path, "old")
    with pytest.raises(UsageError, match=r"already exists; pass --force to overwrite it$"):
        _write(path, "new")
    assert path.read_text() == "old"
    _write(path, "new", overwrite=True)
    assert path.read_text() == "new"


def test_file_created_during_the_block_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(UsageError, match="already exists"), atomic_file(path, overwrite=False):
        path.write_text("other")
    assert path.read_text() == "other"
    assert list(tmp_path.iterdir()) == [path]


def test_symbolic_link_to_nothing_counts_as_existing(tmp_path: Path) -> None:
    path = tmp_path / "link"
    path.symlink_to(tmp_path / "nothing")
    with pytest.raises(UsageError, match="already exists"):
        _write(path, "text")


def test_symbolic_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    link, file = tmp_path / "link", tmp_path / "directory" / "file"
    file.parent.mkdir()
    file.write_text("old")
    link.symlink_to(file)
    _write(link, "new", overwrite=True)
    assert link.is_symlink()
    assert file.read_text() == "new"


def test_unsuitable_destination_is_a_usage_error(tmp_path: Path) -> None:
    # In a temporary directory, because a failing test would replace the destination.
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    missing = tmp_path / "missing" / "file"
    for path, problem in (
        (pipe, "not a regular file"),
        (link, "not a regular file"),
        (tmp_path, "is a directory"),
        (missing, f"directory {missing.parent} does not exist"),
    ):
        for overwrite in (False, True):
            with pytest.raises(UsageError, match=f"^{re.escape(f'{path}: {problem}')}$"):
                _write(path, "text", overwrite=overwrite)
    assert pipe.is_fifo()
    assert link.is_symlink()


@pytest.mark.parametrize("linked", [False, True])
def test_pipe_created_during_the_block_is_not_replaced(linked: bool, tmp_path: Path) -> None:
    path, pipe = tmp_path / "file", tmp_path / "pipe"
    os.mkfifo(pipe)
    with (
        pytest.raises(UsageError, match=r"not a regular file$"),
        atomic_file(path, overwrite=True),
    ):
        path.symlink_to(pipe) if linked else pipe.rename(path)
    assert path.is_fifo()
    assert path.is_symlink() is linked


def test_directory_that_is_not_writable_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> tuple[int, str]:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(tempfile, "mkstemp", fail)
    with pytest.raises(UsageError, match=r"file: Permission denied$"):
        _write(tmp_path / "file", "text")


def test_file_and_its_name_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    synced: list[tuple[bool, bool]] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    _write(path, "text")
    assert synced == [(False, False), (True, True)]


def test_failed_write_is_reported_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(AUPError, match=r"file: not written: No space left on device$") as caught:
        _write(tmp_path / "file", "text")
    assert not isinstance(caught.value, UsageError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_directory_that_cannot_be_synced_is_accepted(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def fail(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    _write(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"
