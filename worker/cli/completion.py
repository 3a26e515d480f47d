"""Shell completion of verbs, options and values for bash, zsh and fish."""

from __future__ import annotations

from typing import Final, Literal, get_args

import typer
from typer.completion import (  # type: ignore[attr-defined] # not exported
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
# zsh autoloads the file at the first Tab press; the script must then complete, not only define.
_ZSH_DEFINES: Final = "compdef _aup_worker_completion aup-worker"
_ZSH_COMPLETES: Final = f"""if [[ $funcstack[1] == _aup-worker ]]; then
  _aup_worker_completion
else
  {_ZSH_DEFINES}
fi"""


def enable() -> None:
    """Register the completion handlers that shells call when Tab is pressed."""
    completion_init()


def with_shell(arguments: list[str]) -> list[str]:
    """Add the current shell to a completion option without a value.

    Raises:
        UsageError: The current shell is not supported.
    """
    if len(arguments) != 1 or arguments[0] not in {INSTALL, SHOW}:
        return arguments
    found = _get_shell_name()
    if found not in SHELLS:
        raise UsageError(f"{arguments[0]}: unknown shell; pass one of {', '.join(SHELLS)}")
    return [*arguments, found]


def install_for(shell: Shell | None) -> None:
    """Install the completion script for a shell, then exit."""
    if shell is None:
        return
    try:
        _, path = install(shell=shell, prog_name=_PROGRAM, complete_var=_VARIABLE)
        path.write_text(f"{_script(shell)}\n")
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from None
    typer.echo(f"installed completion for {shell} in {path}; start a new shell to use it", err=True)
    raise typer.Exit


def show_for(shell: Shell | None) -> None:
    """Print the completion script for a shell, then exit."""
    if shell is None:
        return
    typer.echo(_script(shell))
    raise typer.Exit


def _script(shell: Shell) -> str:
    script = get_completion_script(prog_name=_PROGRAM, complete_var=_VARIABLE, shell=shell)
    return str(script).replace(_ZSH_DEFINES, _ZSH_COMPLETES)
