"""Verbs and tests that the README names."""

from __future__ import annotations

import re
from pathlib import Path

from worker.cli.app import VERBS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_every_test_that_the_readme_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", README)
    assert len(named) >= 10
    for path, name in named:
        text = (ROOT / path).read_text()
        assert name == "" or re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), name


def test_every_verb_is_in_the_readme() -> None:
    assert len(VERBS) >= 8
    for verb in VERBS:
        assert f"| `{verb}" in README, verb
