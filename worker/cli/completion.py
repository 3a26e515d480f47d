"""Completion of verbs, options and values by bash, zsh and fish; it reads nothing but the code."""

from __future__ import annotations

from typing import Final, Literal, get_args

import typer
from typer.completion import (  # type: ignore[attr-defined] # they are there, unannounced
    _get_shell_name,
    completion_init,
    get_completion_script,
    install,
)

from worker.errors import UsageError

Shell = Literal["bash", "zsh", "fish"]
SHELLS: Final[tuple[str, ...]] = get_args(Shell)
INSTALL: Final = "--install-completion"
SHOW: Final = "--show-completion"
_PROGRAM: Final = "aup-worker"
_VARIABLE: Final = "_AUP_WORKER_COMPLETE"
# Loaded by itself, zsh runs the file for the first Tab: it must complete then, not define alone.
_ZSH_DEFINES: Final = "compdef _aup_worker_completion aup-worker"
_ZSH_COMPLETES: Final = f"""if [[ $funcstack[1] == _aup-worker ]]; then
  _aup_worker_completion
else
  {_ZSH_DEFINES}
fi"""


def enable() -> None:
    """Answer what the shells ask when Tab is pressed."""
    completion_init()


def with_shell(arguments: list[str]) -> list[str]:
    """Name the shell that is running, where an option for completion names none.

    Raises:
        UsageError: it is none of those that can be completed in.
    """
    if len(arguments) != 1 or arguments[0] not in {INSTALL, SHOW}:
        return arguments
    found = _get_shell_name()
    if found not in SHELLS:
        raise UsageError(f"{arguments[0]}: say for which shell: {', '.join(SHELLS)}")
    return [*arguments, found]


def install_for(shell: Shell | None) -> None:
    """Install completion where the shell looks for it, and end."""
    if shell is None:
        return
    try:
        _, path = install(shell=shell, prog_name=_PROGRAM, complete_var=_VARIABLE)
        path.write_text(f"{_script(shell)}\n")
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from None
    typer.echo(f"installed for {shell} in {path}; new shells complete", err=True)
    raise typer.Exit


def show_for(shell: Shell | None) -> None:
    """Print what installing would write, and end."""
    if shell is None:
        return
    typer.echo(_script(shell))
    raise typer.Exit


def _script(shell: Shell) -> str:
    script = get_completion_script(prog_name=_PROGRAM, complete_var=_VARIABLE, shell=shell)
    return str(script).replace(_ZSH_DEFINES, _ZSH_COMPLETES)
