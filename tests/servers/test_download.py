"""A download is complete and matches its pin, or does not count."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import parts
from tests.servers.download import DownloadError, bring, verify
from tests.servers.tools import MissingToolError, Tool

PART = parts.Part("part", "pin-1")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(parts, "CACHE", tmp_path)
    return tmp_path


def fill(directory: Path) -> None:
    (directory / "content").write_text("all of it")


def fill_half(directory: Path) -> None:
    (directory / "half").write_text("")
    raise KeyboardInterrupt


def fail(_: Path) -> None:
    pytest.fail("downloaded again")


def test_complete_download_is_not_repeated() -> None:
    bring(PART, fill)
    bring(PART, fail)
    assert (PART.require() / "content").read_text() == "all of it"


def test_interrupted_download_is_incomplete_and_starts_again() -> None:
    with pytest.raises(KeyboardInterrupt):
        bring(PART, fill_half)
    with pytest.raises(parts.NotDownloadedError, match="part is not downloaded"):
        PART.require()
    bring(PART, fill)
    assert sorted(file.name for file in PART.require().iterdir()) == [".complete", "content"]


def test_new_pin_replaces_the_old_download() -> None:
    bring(PART, fill_other := lambda directory: (directory / "other").touch())
    newer = parts.Part("part", "pin-2")
    assert not newer.is_complete
    bring(newer, fill)
    assert not (newer.require() / "other").exists()
    assert not PART.is_complete
    bring(PART, fill_other)
    assert PART.is_complete


def test_interrupted_replacement_leaves_no_complete_download() -> None:
    bring(PART, fill)
    with pytest.raises(KeyboardInterrupt):
        bring(parts.Part("part", "pin-2"), fill_half)
    assert not PART.is_complete


def test_interrupted_removal_leaves_no_complete_download(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bring(PART, fill)

    def remove_half(directory: Path) -> None:
        (directory / "content").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", remove_half)
    with pytest.raises(KeyboardInterrupt):
        bring(parts.Part("part", "pin-2"), fill)
    assert not PART.is_complete


def test_archive_that_does_not_match_its_pin_is_rejected(tmp_path: Path) -> None:
    archive = tmp_path / "archive.tgz"
    archive.write_bytes(b"tampered with")
    with pytest.raises(DownloadError, match=r"archive\.tgz does not match its pin"):
        verify(archive, parts.DYNAMODB_LOCAL.pin)


def test_missing_programs_are_named_with_exit_code_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.servers.download"],
        cwd=parts.SOURCES.parents[1],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == [
        "java is missing",
        "node is missing",
        "npm is missing",
    ]


@pytest.mark.parametrize(
    ("response", "message"),
    [
        ("echo 'v16.1.0'", r"tool is too old \(16\)"),
        ("echo 'no runtime here' >&2; exit 1", "tool is missing"),
    ],
)
def test_program_that_is_too_old_or_does_not_run_is_rejected(
    response: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "tool"
    program.write_text(f"#!/bin/sh\n{response}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("tool") == str(program)
    with pytest.raises(MissingToolError, match=message):
        Tool("tool", 20, "this test", "install it").require()
