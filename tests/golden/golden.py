"""Comparison of outputs with the files under `expected/`."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from worker import __version__

EXPECTED: Final = Path(__file__).parent / "expected"
UPDATE_COMMAND: Final = "python -m pytest tests/golden --update-golden"
_DIFF_MAX_LINES: Final = 400


class Golden:
    """A comparison of outputs with golden files, or an update of the files.

    Args:
        update: Whether to write the files instead of comparing.
    """

    def __init__(self, *, update: bool) -> None:
        self._update = update

    def check(self, folder: str, texts: Mapping[str, str]) -> None:
        """Compare all outputs of one kind with the files in one folder.

        Args:
            folder: Below `expected/`. It holds these outputs and nothing else.
            texts: Outputs by file name.
        """
        place = EXPECTED / folder
        if self._update:
            _write(place, texts)
            return
        kept = {path.name: path.read_text("utf-8") for path in _files(place)}
        diffs = [
            _diff(f"{folder}/{name}", kept.get(name), texts.get(name))
            for name in sorted(kept.keys() | texts.keys())
            if kept.get(name) != texts.get(name)
        ]
        if diffs:
            lines = "\n".join(diffs).splitlines()
            left_out = len(lines) - _DIFF_MAX_LINES
            more = [f"… and {left_out} more lines"] if left_out > 0 else []
            shown = "\n".join([*lines[:_DIFF_MAX_LINES], *more])
            pytest.fail(
                f"differs from {EXPECTED.name}/{folder}:\n{shown}\n\n"
                f"If this change is intended, run `{UPDATE_COMMAND}` and commit the files.",
                pytrace=False,
            )


def document(content: Any) -> str:
    """Return a JSON document as text, its keys in their own order."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def lines(texts: list[str]) -> str:
    """Return lines as a file's text."""
    return "".join(f"{each}\n" for each in texts)


def table(rows: Mapping[str, str | list[str]]) -> str:
    """Return what each cause leads to: the cause, then one or more indented lines."""
    parts = []
    for cause, text in rows.items():
        below = text.splitlines() if isinstance(text, str) else text
        parts += [cause, *(f"    {line}".rstrip() for line in below)]
    return lines(parts)


def masked(text: str, **replacements: str) -> str:
    """Return a text without what differs in every run.

    Args:
        text: Any output.
        replacements: Names to put in place of literal parts, such as a temporary directory's path.
    """
    for name, part in replacements.items():
        text = text.replace(part, f"<{name}>")
    for pattern, name in _MASKS.items():
        text = re.sub(pattern, name, text)
    return text


_MASKS: Final = {
    r"(?<=127\.0\.0\.1:)\d+": "<port>",
    rf"(?<![\d.]){re.escape(__version__)}(?!\.?\d)": "<version>",
    r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?": "<time>",
    r"\bin [\d.,]+ s\b": "in <duration>",
    r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b": "<uuid>",
}


def _files(place: Path) -> list[Path]:
    return [path for path in place.iterdir() if path.is_file()] if place.is_dir() else []


def _write(place: Path, texts: Mapping[str, str]) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for path in _files(place):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (place / name).write_text(text, "utf-8")


def _diff(name: str, kept: str | None, now: str | None) -> str:
    return "\n".join(
        difflib.unified_diff(
            [] if kept is None else kept.splitlines(),
            [] if now is None else now.splitlines(),
            "no such file" if kept is None else f"expected/{name}",
            "no such output" if now is None else f"now/{name}",
            lineterm="",
        )
    )
