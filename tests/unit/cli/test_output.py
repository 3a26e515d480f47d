"""Place of exported files."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.documents import ROOT
from worker.cli.output import DEFAULT_DIRECTORY, output_path
from worker.errors import UsageError


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("file", "directory", "path"),
    [
        (None, None, "exports/default.jsonl"),
        (None, "there/below", "there/below/default.jsonl"),
        ("mine.jsonl", None, "mine.jsonl"),
        ("mine.jsonl", "there", "there/mine.jsonl"),
        ("-", None, "-"),
    ],
)
def test_file_is_put_into_the_directory_and_without_a_name_into_exports(
    file: str | None, directory: str | None, path: str
) -> None:
    stated = None if file is None else Path(file)
    parent = None if directory is None else Path(directory)
    assert output_path(stated, parent, "default.jsonl") == Path(path)
    assert Path(path).parent.is_dir()


def test_directory_is_created_for_its_owner_only_and_used_again() -> None:
    for _ in range(2):
        output_path(None, Path("there"), "x")
    assert stat.S_IMODE(Path("there").stat().st_mode) == 0o700


@pytest.mark.parametrize("file", ["-", "/tmp/x"])  # noqa: S108 - not created
def test_directory_does_not_fit_stdout_or_an_absolute_path(file: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be combined with --output-dir there"):
        output_path(Path(file), Path("there"), "x")


def test_directory_that_cannot_be_created_is_named() -> None:
    Path("file").touch()
    with pytest.raises(UsageError, match=r"--output-dir file/below: Not a directory"):
        output_path(None, Path("file/below"), "x")


def test_default_directory_is_ignored_by_git() -> None:
    assert f"{DEFAULT_DIRECTORY}/" in (ROOT / ".gitignore").read_text().splitlines()
