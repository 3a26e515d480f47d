"""Rules of the source tree that import-linter and ruff do not check."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.architecture.source_tree import ROOT, modules

FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 450
TRACING = {f"observability.{name}" for name in ("trace_context", "trace_export", "tracing")}
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}


def _imported(tree: ast.AST) -> set[str]:
    """Return the names of the packages that a tree imports."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


def test_functions_fit_a_screen() -> None:
    too_long = [
        f"worker.{name}: {node.name}"
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert not too_long, "\n".join(too_long)


def test_no_file_exceeds_the_limit() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in (ROOT / "worker").rglob("*.py")
    }
    assert {name for name, lines in lengths.items() if lines > FILE_LINES_MAX} == set()


def test_no_module_has_a_vague_name() -> None:
    found = [name for name in modules() if VAGUE_NAMES & set(name.split("."))]
    assert not found, "\n".join(found)


def test_moto_and_opentelemetry_are_imported_only_when_needed() -> None:
    found = [
        f"worker.{name}: line {node.lineno}"
        for name, tree in modules().items()
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        and name not in TRACING
        and _imported(node) & {"moto", "opentelemetry"}
    ]
    assert not found, "\n".join(found)


def _files() -> list[Path]:
    kept = [
        path
        for name in ("worker", "tests", "infra", ".ci")
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    at_the_top = {".md", ".toml", ".lock", ""}
    return kept + [
        path
        for path in ROOT.iterdir()
        if path.is_file() and path.suffix in at_the_top and path.name != ".git"
    ]


def test_no_file_names_a_registry_or_somebodys_home() -> None:
    # Put together here, so that this file is clean too.
    unwanted = [
        "pypi" + ".org", "python" + "hosted.org", "npmjs" + ".org",
        "/ho" + "me/", "/ro" + "ot/", "/Use" + "rs/",
    ]  # fmt: skip
    for path in _files():
        text = path.read_text(errors="ignore")
        found = [each for each in unwanted if each in text]
        assert not found, f"{path.relative_to(ROOT)}: {found}"
