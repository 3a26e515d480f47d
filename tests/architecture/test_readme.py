"""The README stays true: its settings, its verbs and the tests it names."""

from __future__ import annotations

import re
from pathlib import Path

from worker.cli.app import VERBS
from worker.settings import AWSSettings, Settings, variable

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def settings_rows() -> list[str]:
    rows: dict[str, str] = {}
    for model in (Settings, AWSSettings):
        for name, field in model.model_fields.items():
            if name == "aws":
                continue
            default = field.default
            if isinstance(default, bool):
                shown = f"`{str(default).lower()}`"
            elif isinstance(default, int | float):
                shown = f"`{default:g}`"
            else:
                shown = f"`{default}`" if default else ""
            row = f"| `{variable(model, name)}` | {shown} | {field.description} |"
            rows.setdefault(variable(model, name), row)
    return list(rows.values())


def test_the_table_of_settings_is_the_settings() -> None:
    shown = re.findall(r"^\| `A(?:UP|WS)_.*\|$", README, re.MULTILINE)
    assert shown == settings_rows()


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
