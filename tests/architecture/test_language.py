"""Words that no documentation of AWS or Python uses stay out of the program's texts."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from tests.architecture.source_tree import modules

UNWANTED: Final = re.compile(
    r"\b(?:fates?|bury|buried|revived?|patience|patiently|believed?|told|(?<!cannot )tells?"
    r"|mend(?:s|ed)?|nobody|somebody|(?<!there )is no (?!longer)\w+|by the way|handing-out"
    r"|handed out|companions?|judge[sd]?|rehears\w+|forecasts?|manner|ledgers?|gatherers?"
    r"|carr(?:y|ies|ied) (?:it|them) out|died of|dead of|the books|house|floors?|doors?)\b",
    re.IGNORECASE,
)
_IMPERATIVE: Final = re.compile(r"^(?:Give|Say|Tell|Let|Put|Look)\b")


def _texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield docstrings and string literals of two words or more, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def test_no_text_contains_an_unwanted_word() -> None:
    found = [
        f"worker.{name}:{line}: {match[0]!r} in {text.strip()[:80]!r}"
        for name, tree in modules().items()
        for line, text in _texts(tree)
        for match in UNWANTED.finditer(text)
    ]
    assert not found, "\n".join(found)


def test_docstrings_start_with_what_a_function_does() -> None:
    found = [
        f"worker.{name}:{node.lineno}: {docstring.splitlines()[0]}"
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (docstring := ast.get_docstring(node))
        and _IMPERATIVE.match(docstring)
    ]
    assert not found, "\n".join(found)
