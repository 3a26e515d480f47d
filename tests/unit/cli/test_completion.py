"""Shell completion: scripts, installation and completed words."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from worker.cli import app as command
from worker.cli import completion
from worker.errors import UsageError

_FILES: Final = {
    "bash": ".bash_completions/aup-worker.sh",
    "zsh": ".zfunc/_aup-worker",
    "fish": ".config/fish/completions/aup-worker.fish",
}


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def _run(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["aup-worker", *arguments])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("shell", _FILES)
def test_shown_script_is_the_installed_one_and_reinstalling_changes_nothing(
    home: Path, shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("--show-completion", shell, monkeypatch=monkeypatch) == 0
    shown = capsys.readouterr()
    assert f"complete_{shell}" in shown.out
    for _ in range(2):
        assert _run("--install-completion", shell, monkeypatch=monkeypatch) == 0
        captured = capsys.readouterr()
        assert (captured.out, str(home / _FILES[shell]) in captured.err) == ("", True)
        assert (home / _FILES[shell]).read_text() == shown.out
    for path in home.glob(".*rc"):
        rows = [row for row in path.read_text().splitlines() if row]
        assert len(rows) == len(set(rows)), "duplicate line"


def test_zsh_script_completes_when_autoloaded_and_defines_when_sourced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _run("--show-completion", "zsh", monkeypatch=monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "#compdef aup-worker"
    assert lines[-5:] == [
        "if [[ $funcstack[1] == _aup-worker ]]; then",
        "  _aup_worker_completion",
        "else",
        "  compdef _aup_worker_completion aup-worker",
        "fi",
    ]


def test_failed_installation_is_a_usage_error(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("--install-completion", "tcsh", monkeypatch=monkeypatch) == 2
    assert "'bash', 'zsh', 'fish'" in capsys.readouterr().err
    (home / ".bashrc").mkdir()
    assert _run("--install-completion", "bash", monkeypatch=monkeypatch) == 2
    error = capsys.readouterr().err
    assert (error.count("\n"), ".bashrc: Is a directory" in error) == (1, True)


def test_shell_defaults_to_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "_get_shell_name", lambda: "fish")
    assert completion.with_shell(["--show-completion"]) == ["--show-completion", "fish"]
    for given in (["--show-completion", "zsh"], ["status"], [], ["push", "--show-completion"]):
        assert completion.with_shell(given) == given
    for unknown in (None, "tcsh", "pwsh"):
        monkeypatch.setattr(completion, "_get_shell_name", lambda found=unknown: found)
        with pytest.raises(UsageError, match="unknown shell; pass one of bash, zsh, fish"):
            completion.with_shell(["--install-completion"])


@pytest.mark.parametrize(
    ("shell", "typed", "completed"),
    [
        ("zsh", "aup-worker repl", '"replay"'),
        ("zsh", "aup-worker dead-letters list --reason m", '"malformed"'),
        ("fish", "aup-worker repl", "replay\t"),
        ("fish", "aup-worker accepted u-1 --format h", "html"),
        ("fish", "aup-worker erase u-1 --fields ip,s", "ip,session_id"),
        ("fish", "aup-worker health --re", "--ready\t"),
        ("fish", "aup-worker status --wa", "--watch\t"),
        ("fish", "aup-worker --install-completion z", "zsh"),
    ],
)
def test_completion_requests_of_shells_are_answered(
    shell: str,
    typed: str,
    completed: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("_AUP_WORKER_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", typed)
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    assert _run(monkeypatch=monkeypatch) == 0
    captured = capsys.readouterr()
    assert (completed in captured.out, captured.err) == (True, "")
