"""The mutants keep pace with the code that they change."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant, StaleMutantError, applied
from tests.mutants.report import summary, table
from tests.mutants.trial import Verdict

ROOT = Path(__file__).parents[2]
EXAMPLE = Mutant("an example", "one.py", "1", "2", ("tests/unit/pipeline/test_slots.py",))


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_every_mutant_finds_its_text_once_and_leaves_python(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text("utf-8")
    changed = mutant.changed(text)
    assert changed != text
    ast.parse(changed)


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_every_mutant_names_tests_that_exist(mutant: Mutant) -> None:
    places = [word for word in mutant.tests if word.startswith("tests/")]
    assert places
    for place in places:
        file, _, test = place.partition("::")
        assert f"def {test}" in (ROOT / file).read_text("utf-8")


def test_no_two_mutants_have_one_name_and_there_are_enough() -> None:
    assert Counter(mutant.name for mutant in MUTANTS).most_common(1)[0][1] == 1
    assert len(MUTANTS) >= 100  # as tests/README.md says


def test_a_mutant_is_applied_and_taken_out_again(tmp_path: Path) -> None:
    file = tmp_path / "one.py"
    file.write_text("x = 1\n")
    changed_at = file.stat().st_mtime_ns
    with applied(EXAMPLE, tmp_path):
        assert file.read_text() == "x = 2\n"
        assert file.stat().st_mtime_ns != changed_at
    assert file.read_text() == "x = 1\n"
    assert file.stat().st_mtime_ns == changed_at


@pytest.mark.parametrize("text", ["x = 0\n", "x = 1 + 1\n"])
def test_a_mutant_whose_text_is_not_there_once_is_stale(text: str, tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(text)
    with pytest.raises(StaleMutantError, match="times in one"), applied(EXAMPLE, tmp_path):
        pass
    assert (tmp_path / "one.py").read_text() == text


def test_the_table_tells_killed_surviving_and_stale_mutants_apart() -> None:
    verdicts = [
        Verdict(EXAMPLE, killed_by="tests/unit/pipeline/test_slots.py::test_it", seconds=1.0),
        Verdict(EXAMPLE),
        Verdict(EXAMPLE, trouble="stale: its text is 0 times in one.py"),
    ]
    assert [verdict.is_killed for verdict in verdicts] == [True, False, False]
    rows = table(verdicts).splitlines()[2:]
    assert "unit/pipeline/test_slots.py::test_it" in rows[0]
    assert "SURVIVED" in rows[1]
    assert "stale" in rows[2]
    assert summary(verdicts, 3.0) == "3 mutants: 1 killed, 2 not, in 3 s"
