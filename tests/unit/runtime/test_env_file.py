"""Files of environment variables: what they may contain, and errors with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.errors import UsageError
from worker.runtime.env_file import read_env_file

_INFRA = Path(__file__).parents[3] / "infra"


def _read(tmp_path: Path, content: bytes) -> dict[str, str]:
    path = tmp_path / "e.env"
    path.write_bytes(content)
    return read_env_file(path)


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (b"", {}),
        (b"A=1\nB=two words\n", {"A": "1", "B": "two words"}),
        (b"\xef\xbb\xbfA=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        (b"# c\n; c=d\n\n  A=1 # c\nB=a#b\n", {"A": "1", "B": "a#b"}),
        (b'export A=\'a b\'\nB="a\\"b"\n', {"A": "a b", "B": 'a"b'}),
        (b"A=$HOME/${B}\nB=\n", {"A": "$HOME/${B}", "B": ""}),
        (b"A=1\nA=2", {"A": "2"}),
        (b"A=a=b&c\n", {"A": "a=b&c"}),
    ],
)
def test_lines_of_systemd_and_dotenv_are_read(
    tmp_path: Path, content: bytes, values: dict[str, str]
) -> None:
    assert _read(tmp_path, content) == values


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"A=1\n\n\nB C\n", "line 4: expected KEY=VALUE"),
        (b"; c\nA\n", "line 2: expected KEY=VALUE"),
        (b"A='1\nB=2\n", "line 1: expected KEY=VALUE"),
        (b"A-B=1\n", "line 1: not a variable"),
        (b"A=1\0\n", "line 1: not a variable"),
        (b"A=\xff\n", "not UTF-8"),
    ],
)
def test_other_lines_are_reported_with_their_number(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    with pytest.raises(UsageError) as caught:
        _read(tmp_path, content)
    assert str(caught.value) == f"--env-file {tmp_path / 'e.env'}: {problem}"


def test_file_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"^--env-file {tmp_path}: Is a directory$"):
        read_env_file(tmp_path)


def test_example_for_systemd_is_read() -> None:
    values = read_env_file(_INFRA / "systemd" / "aup-worker.env.example")
    assert values["AWS_REGION"] == "eu-west-1"
    assert values["AUP_QUEUE"].endswith("/aup-acceptances")
