"""What the documents name exists: links, files, tests, verbs, figures and commands."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Callable
from typing import Any, Final

import pytest
import typer
from botocore import xform_name
from botocore.session import get_session

from tests.documents import ROOT, Document, calls, commands, documents
from tests.infra.stacks import template
from worker.cli.app import VERBS, app
from worker.domain.acceptance import Acceptance
from worker.errors import Reason
from worker.settings import AWSSettings, Settings, variable

README: Final = Document("README.md")
DOCUMENTS: Final = documents()
# History: it names what existed at the time.
PRESENT: Final = [each for each in DOCUMENTS if each.name != "CHANGELOG.md"]
README_MAX_LINES: Final = 150
_VERB: Final[Any] = typer.main.get_command(app)
# Not in the API.
_OF_THE_CLI: Final = {"get-login-password"}
_OF_EVERY_OPERATION: Final = dict.fromkeys(("max-items", "no-paginate", "output", "query"), "")
# Programs that are not ours: their arguments are not checked.
_OTHERS: Final = {
    ".", "awk", "curl", "date", "echo", "editor", "eval", "git", "install", "journalctl", "ln",
    "ls", "mv", "pre-commit", "printf", "python3", "sed", "sort", "systemctl", "tr",
}  # fmt: skip
_OF_AWS: Final = {"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_SECRET_ACCESS_KEY"}


def _names(document: Document) -> str:
    return document.name


def _known_settings() -> set[str]:
    return {
        variable(model, name)
        for model in (Settings, AWSSettings)
        for name in model.model_fields
        if name != "aws"
    } | _OF_AWS


def _targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_readme_is_short() -> None:
    assert len(README.text.splitlines()) <= README_MAX_LINES


def test_all_documents_are_found() -> None:
    names = {each.name for each in DOCUMENTS}
    assert {
        "CONTRIBUTING.md", "README.md", "SECURITY.md", "infra/README.md", "infra/operations.md",
        "infra/runbook.md", "infra/settings.md", "tests/README.md", "tests/bench/RESULTS.md",
        "worker/README.md",
    } <= names  # fmt: skip


@pytest.mark.parametrize("document", DOCUMENTS, ids=_names)
def test_every_relative_link_leads_to_a_file_and_a_heading(document: Document) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.prose):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (document.path.parent / path).resolve() if path else document.path
        assert file.exists(), target
        if anchor:
            assert anchor in Document(str(file.relative_to(ROOT))).anchors, target


@pytest.mark.parametrize("document", PRESENT, ids=_names)
def test_every_file_that_a_document_names_exists(document: Document) -> None:
    for named in re.findall(r"`([\w./@-]+)(?:::\w+)?`", document.prose):
        is_path = re.match(r"(worker|tests|infra|\.ci)/", named)
        is_file = re.search(r"\.(py|md|toml|yaml|lock|sh)$", named)
        if (is_path or is_file) and "NAME" not in named:
            places = (ROOT / named, document.path.parent / named)
            assert any(place.exists() for place in places), named


def test_every_test_that_a_document_names_exists() -> None:
    named = [
        found
        for document in PRESENT
        for found in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", document.prose)
    ]
    assert len(named) >= 30
    for path, name in named:
        text = (ROOT / path).read_text()
        assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), f"{path}::{name}"


def test_every_verb_is_in_the_readme() -> None:
    assert len(VERBS) >= 8
    for verb in VERBS:
        assert f"| `{verb}` |" in README.text, verb


def test_packages_in_the_architecture_are_the_layers_that_import_linter_checks() -> None:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    [contract] = [
        each
        for each in configuration["tool"]["importlinter"]["contracts"]
        if each["type"] == "layers"
    ]
    section = Document("worker/README.md").section("## Packages")
    rows = re.findall(r"^\| (`[^|]+`) \|", section, re.MULTILINE)
    assert [re.findall(r"\w+", row) for row in rows] == [
        re.findall(r"\w+", layer) for layer in contract["layers"]
    ]


@pytest.mark.parametrize("document", PRESENT, ids=_names)
def test_a_default_that_a_document_states_is_the_default(document: Document) -> None:
    for name, stated in re.findall(r"`(AUP_\w+)` \((\d[\d.]*)(?: s)?\)", document.prose):
        [default] = {
            str(field.default).removesuffix(".0")
            for model in (Settings, AWSSettings)
            for attribute, field in model.model_fields.items()
            if attribute != "aws" and variable(model, attribute) == name
        }
        assert stated == default, name


def test_costs_in_the_readme_are_those_of_the_benchmark() -> None:
    results = Document("tests/bench/RESULTS.md").text
    # tests/unit/planning/test_documents.py compares the bill of AWS with the plan.
    section, _ = README.section("## What it costs").split("\n- AWS bills ")
    figures = re.findall(r"(?<![\w/])\d[\d.,]*\d|(?<= )\d+(?= )", section)
    assert len(figures) >= 6
    for figure in figures:
        assert re.search(rf"(?<![\d.,]){re.escape(figure)}(?![\d.,]*\d)", results), figure


def test_every_reason_of_a_dead_letter_is_documented() -> None:
    section = Document("infra/operations.md").section("### Reasons")
    documented = re.findall(r"\| `(\w+)`[^|]*\|$", section, re.MULTILINE)
    assert set(documented) == {reason.value for reason in Reason}


def test_message_in_the_readme_has_every_field() -> None:
    [block] = re.findall(r"```json\n(.*?)```", README.text, re.DOTALL)
    assert set(json.loads(block)) == set(Acceptance.model_fields) - {"extra"}


@pytest.mark.parametrize("document", PRESENT, ids=_names)
def test_python_in_documents_compiles(document: Document) -> None:
    for block in re.findall(r"```python\n(.*?)```", document.text, re.DOTALL):
        compile(block, document.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def _check_call(words: list[str]) -> None:
    """Assert that a call in a document is one that its program accepts."""
    while words and re.match(r"\w+=", words[0]):
        _check_assignment(words.pop(0))
    if not words:
        return
    program, *arguments = words
    if program in _CHECKS:
        _CHECKS[program](arguments)
    elif "/" in program:
        # Of this repository, or installed by it.
        assert program.startswith(".venv/bin/") or (ROOT / program).exists(), program
        _check_paths([each for each in arguments if each.startswith("tests/")])
    else:
        assert program in _OTHERS, f"unknown program {program}: check its arguments or add it"


def _check_assignment(word: str) -> None:
    name, _, _ = word.partition("=")
    if name.startswith(("AUP_", "AWS_")):
        assert name in _known_settings(), name


def _check_export(words: list[str]) -> None:
    for each in words:
        _check_assignment(each)


def _check_paths(words: list[str]) -> None:
    for each in words:
        assert (ROOT / each).exists(), each


def _check_targets(words: list[str]) -> None:
    assert {each for each in words if "=" not in each} <= _targets()


def _check_verb(words: list[str]) -> None:
    if words[:1] in (["--install-completion"], ["--help"]):
        return
    command, path = _VERB, []
    while hasattr(command, "commands"):
        path.append(words[0])
        command, words = command.commands[words[0]], words[1:]
    command.make_context(" ".join(path), list(words))


def _check_aws(words: list[str]) -> None:
    if words[:2] != ["cloudformation", "deploy"]:
        _check_operation(*words)
        return
    name = words[words.index("--template-file") + 1].removeprefix("infra/").removesuffix(".yaml")
    parameters = template(name)["Parameters"]
    given = {each.partition("=")[0] for each in words if re.match(r"[A-Z]\w+=", each)}
    assert given <= set(parameters)
    # An update names only what it changes.
    required = {name for name, each in parameters.items() if "Default" not in each}
    assert given or not required, f"{name}: parameters without a value"


def _check_operation(service: str, operation: str, *words: str) -> None:
    """Assert that the API has an operation and these parameters, as both versions of the CLI."""
    if operation in _OF_THE_CLI or service == "configure":
        return
    if operation == "wait":
        waiters = get_session().get_waiter_model(service).waiter_names
        assert words[0] in {xform_name(each, "-") for each in waiters}
        return
    model = get_session().get_service_model(service)
    [name] = [each for each in model.operation_names if xform_name(each, "-") == operation]
    shape = model.operation_model(name).input_shape
    assert shape
    known = {xform_name(each, "-"): each for each in shape.members} | _OF_EVERY_OPERATION
    given = {each.removeprefix("--") for each in words if each.startswith("--")}
    given = {each if each in known else each.removeprefix("no-") for each in given}
    assert given <= set(known), f"unknown: {given - set(known)}"
    assert set(shape.required_members) <= {known[each] for each in given}, "without a value"


def _check_docker(words: list[str]) -> None:
    if "-f" in words:
        _check_paths([words[words.index("-f") + 1]])
    if "exec" in words:
        service, program, *arguments = words[words.index("exec") + 1 :]
        assert (service, program) in {("worker", "aup-worker"), ("aup-worker", "aup-worker")}
        _check_verb(arguments)


def _check_kubectl(words: list[str]) -> None:
    assert {"apply", "exec", "kustomize", "rollout"} & {*words}
    _check_paths([each for each in words if each.startswith("infra/")])
    if "--" in words:
        _check_call(words[words.index("--") + 1 :])


def _check_terraform(words: list[str]) -> None:
    directory, operation, *_ = words
    _check_paths([directory.removeprefix("-chdir=")])
    assert operation in {"init", "apply", "plan", "output", "import", "destroy"}


def _check_pipx(words: list[str]) -> None:
    assert words == ["install", "dist/aup_worker-*.whl"]  # run by tests/dist


def _check_xargs(words: list[str]) -> None:
    program = next(each for each in words if each in _CHECKS)
    _check_call([*words[words.index(program) :], "x"])


_CHECKS: Final[dict[str, Callable[[list[str]], None]]] = {
    "aup-worker": _check_verb,
    "aws": _check_aws,
    "cp": lambda words: _check_paths(words[:1]),
    "docker": _check_docker,
    "export": _check_export,
    "kubectl": _check_kubectl,
    "make": _check_targets,
    "pipx": _check_pipx,
    "terraform": _check_terraform,
    "xargs": _check_xargs,
}
_COMMANDS: Final = [
    pytest.param(command, id=f"{document.name}-{number}")
    for document in PRESENT
    for number, command in enumerate(commands(document.text), 1)
]


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_of_a_document_is_accepted_by_its_program(command: str) -> None:
    for words in calls(command):
        if words[0] not in {">", ">>", "<"}:
            _check_call(words)


def test_commands_of_all_documents_are_found() -> None:
    assert len(_COMMANDS) >= 60


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("aup-worker status --wotch", "--wotch"),
        ("AUP_SLOT=3 aup-worker run", "AUP_SLOT"),
        ("make tset", "tset"),
        ("docker exec aup-worker aup-worker helth", "helth"),
        ("aws cloudformation deploy --template-file infra/data.yaml Imag=x", "Imag"),
        ("aws dynamodb wait table-exist --table-name x", "table-exist"),
        ("aws cloudformation deploy --template-file infra/service.yaml", "without a value"),
        ("aws ecs describe-service --cluster x", "not enough values"),
        ("aws ecs describe-services --cluster x --service y", "unknown: {'service'}"),
        ("aws ecs update-task-protection --cluster x", "without a value"),
        ('ID="$(aup-worker dead-letters lst)"', "lst"),
        ("printf x | aup-worker replay --rte 5", "--rte"),
        ("kubectl apply --kustomize infra/kubernets", "kubernets"),
        ("terraform -chdir=infra/terraform aply", "aply"),
        ("frobnicate", "frobnicate"),
    ],
)
def test_a_wrong_command_is_found(command: str, problem: str) -> None:
    with pytest.raises(Exception, match=problem):
        list(map(_check_call, calls(command)))
