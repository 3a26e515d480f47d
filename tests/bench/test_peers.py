"""Tests of the installation of the baseline and of the peers, without any package."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import baseline, environments
from tests.bench.environments import NotInstalledError, find_python, python_environment
from tests.bench.peers import comparison
from tests.bench.peers.acceptances import item_of, statement_of, written
from tests.bench.peers.catalogue import PEERS
from tests.bench.runs import Run
from tests.bench.scenarios import Scenario
from tests.bench.stub.messages import body
from tests.bench.test_report import RUN

PEERS_FOLDER = Path(comparison.__file__).parent


def test_every_lock_pins_every_package_with_hashes_and_names_no_server() -> None:
    locks = sorted((PEERS_FOLDER / "locks").glob("*.lock"))
    assert {lock.stem for lock in locks} == {peer.lock for peer in PEERS} - {"sqs_consumer"}
    for lock in locks:
        entries = re.split(r"^(?=\S)", lock.read_text(), flags=re.MULTILINE)[1:]
        assert entries
        for entry in entries:
            assert re.match(r"[\w.-]+==\S+", entry), entry
            assert "--hash=sha256:" in entry
            assert "://" not in entry


def test_lock_of_node_has_hashes_and_names_no_server() -> None:
    lock = json.loads((PEERS_FOLDER / "sqs_consumer" / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name


def test_titles_show_the_locked_versions() -> None:
    for peer in PEERS:
        assert re.search(r" \d+\.\d+", peer.title), peer.title
    assert len({peer.title for peer in PEERS}) == len(PEERS)


def test_statement_inserts_every_string_of_a_message() -> None:
    statement = statement_of(body(410, 7))
    item = item_of(body(410, 7))
    assert len(statement["Parameters"]) == statement["Statement"].count("?") == len(item)
    assert item["user_id"] == {"S": "u-000000000007"}


def test_only_an_item_written_earlier_counts_as_written() -> None:
    responses = [{}, {"Error": {"Code": "DuplicateItem"}}, {"Error": {"Code": "Throttling"}}]
    assert written(responses) == [True, True, False]


def test_a_peer_that_cannot_be_installed_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    node = [peer for peer in PEERS if peer.lock == "sqs_consumer"]
    scenarios, not_run = comparison.install(node)
    assert scenarios == []
    assert not_run == {peer.title: "node and npm are not installed" for peer in node}


def test_peers_run_in_turn_with_the_worker_and_in_reverse_every_other_round() -> None:
    order: list[str] = []

    def run_once(scenario: Scenario, label: str) -> Run:
        order.append(f"{label[-1]} {scenario.name}")
        return replace(
            RUN, cpu_us_per_message={"D": 50.0, "boto3": 900.0}.get(scenario.name, 100.0)
        )

    programs = [Scenario(name, name, ("m",), 1) for name in ("boto3", "fanferro-batch")]
    peers = comparison.compare(programs, 2, run_once)
    assert order == [
        "1 D", "1 boto3", "1 fanferro-batch", "2 fanferro-batch", "2 boto3", "2 D",
    ]  # fmt: skip
    assert [(peer.name, peer.cpu_by_ours.median) for peer in peers] == [
        ("aup-worker", 1),
        ("fanferro-batch", 2),
        ("boto3", 18),
    ]


def test_failed_installation_names_its_command(tmp_path: Path) -> None:
    lock = tmp_path / "absent.lock"
    lock.write_text("not a requirement\n")
    # `-m venv` would install a pip, which takes seconds; this environment runs our interpreter.
    ours, python = tmp_path / "ours", tmp_path / "python"
    ours.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.write_text(f'#!/bin/sh\nmkdir -p "$3/bin" && cp "{ours}" "$3/bin/python"\n')
    for each in (ours, python):
        each.chmod(0o755)
    with pytest.raises(NotInstalledError, match="pip install failed with exit code"):
        python_environment(tmp_path / "environment", lock, str(python))
    assert not (tmp_path / "environment" / ".complete").exists()


def test_an_environment_is_created_once_for_each_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[str] = []

    def install(name: str, *_: object) -> None:
        commands.append(name)
        (tmp_path / "environment").mkdir(exist_ok=True)

    monkeypatch.setattr(environments, "_install", install)
    lock = tmp_path / "some.lock"
    lock.write_text("a==1\n")
    for text in ("a==1\n", "a==1\n", "a==2\n"):
        lock.write_text(text)
        python_environment(tmp_path / "environment", lock, sys.executable)
    assert commands == ["venv", "pip install"] * 2


def test_this_python_is_found_first_and_an_absent_one_is_reported() -> None:
    assert find_python(11) == sys.executable
    with pytest.raises(NotInstalledError, match=r"no Python 3\.99"):
        find_python(99)


def test_a_clone_without_the_commit_has_no_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baseline, "SOURCE", tmp_path / "source")
    monkeypatch.setattr(baseline, "COMMIT", "0" * 40)
    with pytest.raises(NotInstalledError, match="0000000 is not in the history of this clone"):
        baseline.install()
