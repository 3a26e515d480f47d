"""Static inventories of the texts in `worker/`: log events, errors and every other sentence.

They name no module, class or variable, so that code may move and be renamed without a difference.
The parts of a text that the program fills in are written as `{}`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import worker

_ROOT: Final = Path(worker.__file__).parent
_LEVELS: Final = frozenset({"debug", "info", "warning", "error", "exception", "critical"})
_LOGGERS: Final = frozenset({"log", "logger"})
_BASE_ERROR: Final = "AUPError"
_USAGE_ERRORS: Final = frozenset({"SettingsError", "UsageError"})
_VALIDATION_ERRORS: Final = frozenset({"ValueError", "TypeError"})
_OUTCOMES: Final = frozenset({"dead_lettered", "returned"})
# Documentation of options and settings has golden files of its own.
_DOCUMENTATION: Final = frozenset({"help", "description"})
_SENTENCE: Final = re.compile(r"[^\W\d_].*\s.*[^\W\d_]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the package, parsed, with all nodes of its tree."""

    tree: ast.Module
    nodes: tuple[ast.AST, ...]


@cache
def modules() -> tuple[Module, ...]:
    """Return every module of the package."""
    trees = [ast.parse(path.read_text("utf-8")) for path in sorted(_ROOT.rglob("*.py"))]
    return tuple(Module(tree, tuple(ast.walk(tree))) for tree in trees)


def log_events() -> list[str]:
    """Return each log call: level, event and the sorted keys, an event in quotes."""
    return sorted({line for module in modules() for line in _log_calls(module)})


def error_texts() -> list[str]:
    """Return each text of a raised error, behind the exit code that it leads to.

    Texts of `ValueError` and `TypeError` are those of validators: they become part of another
    error, and have no exit code.
    """
    errors = _error_names()
    found = set()
    for call, scope in _calls():
        name = _called(call)
        if name in errors:
            code = "2" if name in _USAGE_ERRORS else "1"
        elif name in _VALIDATION_ERRORS:
            code = "-"
        else:
            continue
        found |= {f"{code}  {text}" for text in _texts(call, scope)}
    return sorted(found, key=lambda line: (line[3:], line))


def outcome_details() -> list[str]:
    """Return each detail with which a message is dead-lettered or returned."""
    return sorted(
        {
            f"{_called(call)}: {text}"
            for call, scope in _calls()
            if isinstance(call.func, ast.Attribute) and _called(call) in _OUTCOMES
            for text in _texts(call, scope)
        }
    )


def counted_events() -> list[str]:
    """Return the names of events that are counted, the label values of one metric."""
    constants = _constants()
    names = set()
    for module in modules():
        for node in module.nodes:
            if isinstance(node, ast.Subscript) and _tail(node.value).strip("_") == "events":
                text = _template(node.slice) or constants.get(_tail(node.slice))
                names.add(text or "{}")
    return sorted(names)


def sentences() -> list[str]:
    """Return every text of two words or more, except for docstrings and documentation of options.

    Includes the texts of the other inventories, and what the command line prints.
    """
    found: set[str] = set()
    for module in modules():
        passed = _passed_over(module)
        for node in module.nodes:
            text = None if id(node) in passed else _template(node)
            if text is not None and _SENTENCE.search(text):
                found.add(text)
    return sorted(each.replace("\n", "\\n") for each in found)


def _log_calls(module: Module) -> Iterator[str]:
    aliases = {
        _tail(node.targets[0]): sorted(_levels(node.value))
        for node in module.nodes
        if isinstance(node, ast.Assign) and _levels(node.value)
    }
    for node in module.nodes:
        if not isinstance(node, ast.Call):
            continue
        if _tail(node.func) == "log_action":  # of the console: its first argument is the request
            action = ast.Call(node.func, node.args[1:], node.keywords)
            yield from _log_lines(action, "info")
            continue
        levels = sorted(_levels(node.func)) or aliases.get(_tail(node.func))
        if levels and not isinstance(node.func, ast.IfExp):
            yield from _log_lines(node, "/".join(levels))


def _log_lines(call: ast.Call, level: str) -> Iterator[str]:
    events = _branches(call.args[0])
    keys: set[str] = set()
    for keyword in call.keywords:
        keys |= {keyword.arg} if keyword.arg else _expanded(keyword.value)
    for event in events:
        text = _template(event)
        shown = "{}" if text is None else repr(text)
        yield f"{level:<13} {shown}: {', '.join(sorted(keys))}".removesuffix(": ")


def _levels(node: ast.expr) -> set[str]:
    """Return the levels that an expression such as `_log.warning` names."""
    return {
        each.attr
        for each in _branches(node)
        if isinstance(each, ast.Attribute)
        and each.attr in _LEVELS
        and _tail(each.value).strip("_") in _LOGGERS
    }


def _branches(node: ast.expr) -> list[ast.expr]:
    return [node.body, node.orelse] if isinstance(node, ast.IfExp) else [node]


def _expanded(node: ast.expr) -> set[str]:
    """Return the keys of `**function(…)`, where the function returns a dictionary literal."""
    returned = _returned_dictionaries().get(_called(node) if isinstance(node, ast.Call) else "")
    if returned is None:
        return {"**{}"}
    keys: set[str] = set()
    for key, value in zip(returned.keys, returned.values, strict=True):
        if key is None:
            keys |= _expanded(value)
        else:
            keys.add(_template(key) or _constants().get(_tail(key)) or "{}")
    return keys


@cache
def _returned_dictionaries() -> Mapping[str, ast.Dict]:
    found = {}
    for module in modules():
        for node in module.nodes:
            if isinstance(node, ast.FunctionDef) and isinstance(node.body[-1], ast.Return):
                value = node.body[-1].value
                if isinstance(value, ast.Dict):
                    found[node.name] = value
    return found


@cache
def _constants() -> Mapping[str, str]:
    """Return the module constants that hold a text, by name."""
    found = {}
    for module in modules():
        for node in module.tree.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant):
                found[_tail(node.target)] = str(node.value.value)
    return found


@cache
def _error_names() -> frozenset[str]:
    bases = {
        node.name: {_tail(base) for base in node.bases}
        for module in modules()
        for node in module.nodes
        if isinstance(node, ast.ClassDef)
    }
    found = {_BASE_ERROR}
    while True:
        more = {name for name, each in bases.items() if each & found} - found
        if not more:
            return frozenset(found)
        found |= more


Scope = Mapping[str, list[ast.expr]]


def _calls() -> Iterator[tuple[ast.Call, Scope]]:
    """Yield each call with what the names around it are assigned."""
    for module in modules():
        for function in module.nodes:
            if not isinstance(function, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            nodes = list(_own_nodes(function))
            scope: dict[str, list[ast.expr]] = {}
            for node in nodes:
                if isinstance(node, ast.Assign):
                    scope.setdefault(_tail(node.targets[0]), []).append(node.value)
            yield from ((node, scope) for node in nodes if isinstance(node, ast.Call))


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from _own_nodes(child)


def _texts(call: ast.Call, scope: Scope) -> set[str]:
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    return {text for each in arguments for text in _templates(each, scope)}


def _templates(node: ast.expr, scope: Scope, depth: int = 0) -> set[str]:
    """Return the texts that an argument may be: literals, also by way of a local name."""
    text = _template(node)
    if text is not None:
        return {text}
    parts: list[ast.expr] = []
    if isinstance(node, ast.Name) and depth == 0:
        parts = scope.get(node.id, [])
    elif isinstance(node, ast.IfExp):
        parts = _branches(node)
    elif isinstance(node, ast.List | ast.Tuple):
        parts = list(node.elts)
    elif isinstance(node, ast.Call):
        parts = [*node.args, *(keyword.value for keyword in node.keywords)]
    elif isinstance(node, ast.BinOp):
        parts = [node.left, node.right]
    return {text for each in parts for text in _templates(each, scope, depth + 1)}


def _template(node: ast.AST) -> str | None:
    """Return a string literal, or an f-string with `{}` for what is filled in; else None."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
        )
    return None


def _passed_over(module: Module) -> set[int]:
    """Return the nodes that are docstrings, documentation of options, or parts of an f-string."""
    passed: set[int] = set()
    for node in module.nodes:
        parts: list[ast.AST] = []
        if isinstance(node, ast.Expr):
            parts = [node.value]
        elif isinstance(node, ast.keyword) and node.arg in _DOCUMENTATION:
            parts = list(ast.walk(node.value))
        elif isinstance(node, ast.JoinedStr):
            parts = [part for part in ast.walk(node) if part is not node]
        passed |= {id(part) for part in parts if _template(part) is not None}
    return passed


def _called(call: ast.Call) -> str:
    return _tail(call.func)


def _tail(node: ast.AST) -> str:
    """Return the last name of an expression: `c` of `a.b.c`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
