"""The catalogue of mutants matches the code and the tests."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant, StaleMutantError, applied
from tests.mutants.report import summary, table
from tests.mutants.trial import TrialResult

ROOT = Path(__file__).parents[2]
EXAMPLE = Mutant("an example", "one.py", "1", "2", ("tests/unit/pipeline/test_slots.py",))


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_every_mutant_replaces_its_text_once_with_valid_python(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text("utf-8")
    apply_to = mutant.apply_to(text)
    assert apply_to != text
    ast.parse(apply_to)


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_every_mutant_names_tests_that_exist(mutant: Mutant) -> None:
    paths = [word for word in mutant.tests if word.startswith("tests/")]
    assert paths
    for path in paths:
        file, _, test = path.partition("::")
        assert f"def {test}" in (ROOT / file).read_text("utf-8")


def test_names_of_mutants_are_unique_and_there_are_enough() -> None:
    assert Counter(mutant.name for mutant in MUTANTS).most_common(1)[0][1] == 1
    assert len(MUTANTS) >= 100  # as tests/README.md says


def test_mutant_is_applied_and_reverted(tmp_path: Path) -> None:
    file = tmp_path / "one.py"
    file.write_text("x = 1\n")
    changed_at = file.stat().st_mtime_ns
    with applied(EXAMPLE, tmp_path):
        assert file.read_text() == "x = 2\n"
        assert file.stat().st_mtime_ns != changed_at
    assert file.read_text() == "x = 1\n"
    assert file.stat().st_mtime_ns == changed_at


@pytest.mark.parametrize("text", ["x = 0\n", "x = 1 + 1\n"])
def test_mutant_whose_text_does_not_occur_once_is_stale(text: str, tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(text)
    with pytest.raises(StaleMutantError, match="times in one"), applied(EXAMPLE, tmp_path):
        pass
    assert (tmp_path / "one.py").read_text() == text


def test_table_distinguishes_killed_surviving_and_stale_mutants() -> None:
    results = [
        TrialResult(EXAMPLE, killed_by="tests/unit/pipeline/test_slots.py::test_it", seconds=1.0),
        TrialResult(EXAMPLE),
        TrialResult(EXAMPLE, error="stale: its text occurs 0 times in one.py"),
    ]
    assert [result.is_killed for result in results] == [True, False, False]
    rows = table(results).splitlines()[2:]
    assert "unit/pipeline/test_slots.py::test_it" in rows[0]
    assert "SURVIVED" in rows[1]
    assert "stale" in rows[2]
    assert summary(results, 3.0) == "3 mutants: 1 killed, 2 survived or failed, in 3 s"
