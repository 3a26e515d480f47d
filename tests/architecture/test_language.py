"""Words that no documentation of AWS or Python uses stay out of the program's texts."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
UNWANTED: Final = re.compile(
    r"\b(?:fates?|bury|buried|revived?|patience|patiently|believed?|told|(?<!cannot )tells?"
    r"|mend(?:s|ed)?|nobody|somebody|(?<!there )is no (?!longer)\w+|by the way|handing-out"
    r"|handed out|companions?|judge[sd]?|rehears\w+|forecasts?|manner|ledgers?|gatherers?"
    r"|carr(?:y|ies|ied) (?:it|them) out|died of|dead of|the books|house|floors?|doors?)\b",
    re.IGNORECASE,
)
_IMPERATIVE: Final = re.compile(r"^(?:Give|Say|Tell|Let|Put|Look)\b")


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield docstrings and string literals of two words or more, with their lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def _modules() -> list[Path]:
    return sorted((ROOT / "worker").rglob("*.py"))


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_text_contains_an_unwanted_word(path: Path) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {match[0]!r} in {text.strip()[:80]!r}"
        for line, text in _texts(path)
        for match in UNWANTED.finditer(text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_start_with_what_a_function_does(path: Path) -> None:
    documented = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {docstring.splitlines()[0]}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, documented)
        and (docstring := ast.get_docstring(node))
        and _IMPERATIVE.match(docstring)
    ]
    assert not found, "\n".join(found)
