"""The generated reference of settings."""

from __future__ import annotations

from pathlib import Path

from worker.cli.settings import markdown

_ROOT = Path(__file__).parents[2]


def test_settings_reference_is_current() -> None:
    found = (_ROOT / "infra/settings.md").read_text("utf-8")
    assert found == markdown(), "run: aup-worker settings --markdown > infra/settings.md"
