"""A replay as text: what the journal keeps of it is the same request again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.virtual_clock import START
from worker.cli.filters import FilterOptions
from worker.errors import UsageError
from worker.operations.dead_letters.filter_texts import FilterTexts
from worker.operations.dead_letters.journal import is_in_use, open_journal, read_progress
from worker.operations.dead_letters.replay_request import ReplayTexts, parse_request

ARN = "arn:aws:sqs:eu-west-1:123456789012:dead"
TEXTS = ReplayTexts(
    ids=("m-1", "m-2"),
    texts=FilterTexts(reason=["invalid"], since="3d", limit=7),
    set_=("version=2026-02",),
    rate_per_second=2.5,
    max_replays=3,
    operator="eve",
    selection="--reason invalid",
)


def test_texts_survive_json() -> None:
    assert ReplayTexts.from_json(json.loads(json.dumps(TEXTS.to_json()))) == TEXTS


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"texts": {}},
        {**TEXTS.to_json(), "new_in_a_later_version": 1},
        {**TEXTS.to_json(), "texts": {"new_in_a_later_version": 1}},
        {**TEXTS.to_json(), "ids": None},
    ],
)
def test_unknown_texts_are_not_guessed(data: dict[str, Any]) -> None:
    assert ReplayTexts.from_json(data) is None


def test_options_of_the_cli_and_texts_of_the_console_are_the_same_request() -> None:
    options = ReplayTexts(texts=FilterOptions(reason=["invalid"], limit=7), set_=("version=1",))
    texts = ReplayTexts(texts=FilterTexts(reason=["invalid"], limit=7), set_=("version=1",))
    assert parse_request(options).request_digest == parse_request(texts).request_digest


def test_order_of_ids_rate_and_operator_do_not_change_the_request() -> None:
    first = parse_request(ReplayTexts(ids=("b", "a"), operator="x"))
    second = parse_request(ReplayTexts(ids=("a", "b"), operator="y", rate_per_second=1))
    assert first.request_digest == second.request_digest
    assert first.request_digest != parse_request(ReplayTexts(ids=("a",))).request_digest


def test_total_is_known_for_ids_and_limits() -> None:
    assert parse_request(ReplayTexts(ids=("a", "b"))).total == 2
    assert parse_request(ReplayTexts(texts=FilterTexts(limit=7))).total == 7
    assert parse_request(ReplayTexts()).total is None


def test_export_cannot_be_combined_with_ids() -> None:
    with pytest.raises(UsageError, match="--from cannot be combined"):
        parse_request(ReplayTexts(ids=("a",)), {})


def test_journal_keeps_the_texts_of_the_last_run(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with open_journal(path, ARN, "first", "to", {"of": "the first"}) as journal:
        journal.begin(START, 60)
    with open_journal(path, ARN, "second", "to", TEXTS.to_json()) as journal:
        journal.begin(START, 60)
    assert ReplayTexts.from_json(read_progress(path, ARN).texts) == TEXTS
    with open_journal(path, ARN, "third", "to") as journal:
        journal.begin(START, 60)
    progress = read_progress(path, ARN)
    assert (progress.texts, progress.runs) == ({}, 1)


def test_journal_that_does_not_exist_has_no_runs(tmp_path: Path) -> None:
    assert read_progress(tmp_path / "journal", ARN).runs == 0
    assert not is_in_use(tmp_path / "journal")


def test_lock_of_a_journal_shows_that_a_replay_runs(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with open_journal(path, ARN, "all", "to"):
        assert is_in_use(path)
        assert is_in_use(path)
    assert not is_in_use(path)


def test_journal_is_readable_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with open_journal(path, ARN, "all", "to", TEXTS.to_json()):
        assert path.stat().st_mode & 0o777 == 0o600
