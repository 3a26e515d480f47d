"""The house: imports point down, functions stay short, and doors stay where they are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What each floor keeps, lowest first; the README shows the same.
FLOORS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "errors and arithmetic",
        (
            "",
            "errors",
            "backoff",
            "connection",
            "event_loop",
            "gatherer",
            "interrupts",
            "policy",
            "redaction",
            "streams",
            "strict_json",
            "sdk_files",
        ),
    ),
    (
        "facts, settings, the one way to call AWS",
        (
            "acceptance",
            "access",
            "delivery",
            "settings",
            "aws",
            "logs",
            "stall",
            "planning",
            "planning.figures",
        ),
    ),
    (
        "what a call says, and how it is signed and sent",
        ("wire", "wire.signature", "wire.exchange", "wire.bodies"),
    ),
    ("the short way to call AWS", ("wire.caller",)),
    (
        "the only door to SQS; formats; parts of the repository",
        (
            "queue",
            "cloudwatch",
            "dead_letter",
            "metrics",
            "provision",
            "repository.singleton",
            "repository.cache",
            "repository.evidence",
            "repository.privacy",
            "repository.updates",
            "repository.writes",
        ),
    ),
    ("the one open resource", ("repository.dynamodb",)),
    ("the ledger", ("repository.aup", "repository.inspection")),
    ("the front door of the repository", ("repository",)),
    (
        "what the stages share",
        (
            "pipeline",
            "pipeline.slots",
            "pipeline.lease",
            "pipeline.sqs_clock",
            "pipeline.breaker",
            "pipeline.access_watch",
            "pipeline.unsent",
            "pipeline.stopping",
            "pipeline.hints",
        ),
    ),
    (
        "what is known of the whole",
        ("pipeline.health", "monitoring", "monitoring.view", "doctor", "doctor.finding"),
    ),
    (
        "the stages; what shows them to others; none knows another",
        (
            "pipeline.receive",
            "pipeline.decode",
            "pipeline.record",
            "pipeline.settle",
            "monitoring.endpoints",
            "monitoring.prometheus",
            "monitoring.systemd",
            "monitoring.ecs",
            "monitoring.emf",
            "monitoring.tracing",
            "doctor.answers",
            "doctor.account",
            "doctor.clock",
            "doctor.queues",
            "doctor.tables",
            "doctor.relations",
            "doctor.supervisor",
        ),
    ),
    (
        "the stages joined; what uses them without the service",
        (
            "pipeline.flow",
            "monitoring.companions",
            "dead_letters",
            "dead_letters.walk",
            "push",
            "preflight",
            "proof",
            "proof.check",
            "proof.page",
            "proof.erasure",
            "proof.coverage",
            "dead_letters.journal",
            "dead_letters.repair",
            "dead_letters.forecast",
            "doctor.permissions",
            "monitoring.scrape",
            "dead_letters.retrying",
        ),
    ),
    (
        "open, check, run, drain, close; dead letters sent back, and in files",
        (
            "service",
            "dead_letters.replay",
            "dead_letters.letter_file",
            "dead_letters.body_view",
            "dead_letters.purge",
            "doctor.examination",
            "status",
        ),
    ),
    (
        "the plain ways to do the same work, and room for them; auto scaling as a model",
        (
            "bench",
            "bench.recipes",
            "bench.place",
            "planning.scaling",
        ),
    ),
    ("one way, measured; how many tasks a rate takes", ("bench.trial", "planning.sizing")),
    (
        "the ways compared; how far a plan goes",
        ("bench.comparison", "planning.limits", "planning.stories"),
    ),
    (
        "the embedded AWS and the parts of the guided run; what a plan costs",
        ("local", "demo", "demo.messages", "demo.process", "planning.cost"),
    ),
    (
        "the guided run; a whole plan; the screen",
        (
            "demo.run",
            "planning.plan",
            "cli",
            "cli.screen",
            "cli.running",
            "cli.completion",
            "cli.lazy",
        ),
    ),
    (
        "what several verbs share",
        (
            "cli.choosing",
            "cli.names",
            "cli.watching",
            "cli.dead_letters",
            "cli.dead_letters.look",
            "cli.dead_letters.rehearsal",
        ),
    ),
    (
        "the verbs",
        (
            "cli.run",
            "cli.push",
            "cli.dead_letters.listing",
            "cli.dead_letters.show",
            "cli.dead_letters.export",
            "cli.dead_letters.purge",
            "cli.dead_letters.verbs",
            "cli.replay",
            "cli.policy",
            "cli.evidence",
            "cli.coverage",
            "cli.look",
            "cli.doctor",
            "cli.status",
            "cli.demo",
            "cli.bench",
            "cli.health",
            "cli.plan",
        ),
    ),
    ("the verbs together", ("cli.app",)),
    ("python -m worker", ("__main__",)),
)
FLOOR = {name: floor for floor, (_, names) in enumerate(FLOORS) for name in names}

MOST_LINES = 45
AWS_LIBRARIES = {"aioboto3", "aiobotocore", "boto3", "botocore", "types_aiobotocore_sqs"}
AWS_DOORS = (
    "aws",
    "connection",
    "redaction",
    "wire.",
    "queue",
    "provision",
    "repository.",
    "demo.",
    "bench.",
)
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}


@cache
def _modules() -> dict[str, ast.Module]:
    modules = {}
    for path in sorted((ROOT / "worker").rglob("*.py")):
        parts = path.relative_to(ROOT / "worker").with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules[name] = ast.parse(path.read_text(), str(path))
    return modules


def _imports(tree: ast.AST) -> Iterator[str]:
    """Give every dotted name that is imported, wherever it is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _run_time(tree: ast.Module) -> ast.Module:
    """Leave out what only the type checker imports."""

    class _Pruned(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            only_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            return None if only_types else self.generic_visit(node)

    pruned = _Pruned().visit(ast.parse(ast.unparse(tree)))
    assert isinstance(pruned, ast.Module)
    return pruned


def _room(imported: str) -> str | None:
    """Find the module of ours that an imported name belongs to."""
    if imported.partition(".")[0] != "worker":
        return None
    name = imported.partition(".")[2]
    return name if name in _modules() else name.rpartition(".")[0]


def test_every_module_has_its_floor() -> None:
    assert sorted(FLOOR) == sorted(_modules())
    assert sum(len(names) for _, names in FLOORS) == len(FLOOR), "a module stands on two floors"


@pytest.mark.parametrize("name", sorted(FLOOR))
def test_imports_point_down(name: str) -> None:
    for imported in _imports(_modules()[name]):
        room = _room(imported)
        if room is not None:
            assert FLOOR[room] < FLOOR[name], f"worker.{name} imports worker.{room}"


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function without its signature and docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    if not body:
        return 0
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


@pytest.mark.parametrize("name", sorted(FLOOR))
def test_functions_are_short(name: str) -> None:
    for node in ast.walk(_modules()[name]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert _body_lines(node) <= MOST_LINES, f"worker.{name}: {node.name}"


@pytest.mark.parametrize("name", sorted(FLOOR))
def test_names_say_what_is_kept(name: str) -> None:
    assert not VAGUE_NAMES & set(name.split("."))


@pytest.mark.parametrize("name", sorted(FLOOR))
def test_only_the_doors_import_aws_libraries(name: str) -> None:
    imported = {each.partition(".")[0] for each in _imports(_run_time(_modules()[name]))}
    if not f"{name}.".startswith(AWS_DOORS) and name not in AWS_DOORS:
        assert not imported & AWS_LIBRARIES


@pytest.mark.parametrize("name", sorted(FLOOR))
def test_moto_is_imported_by_the_embedded_aws_alone_and_only_when_it_runs(name: str) -> None:
    tree = _modules()[name]
    everywhere = [each for each in _imports(tree) if each.partition(".")[0] == "moto"]
    at_once = [
        each
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for each in _imports(node)
        if each.partition(".")[0] == "moto"
    ]
    assert not at_once
    assert bool(everywhere) == (name == "local")


@pytest.mark.parametrize("name", sorted(FLOOR))
def test_opentelemetry_is_imported_by_one_module_and_that_one_only_when_it_is_needed(
    name: str,
) -> None:
    imported = {each.partition(".")[0] for each in _imports(_modules()[name])}
    assert ("opentelemetry" in imported) == (name == "monitoring.tracing")
    at_once = [
        each
        for node in _run_time(_modules()[name]).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for each in _imports(node)
    ]
    assert not [each for each in at_once if _room(each) == "monitoring.tracing"]


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
