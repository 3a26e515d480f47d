"""Connection options, which every verb and group takes before or after its name.

They replace environment variables for the verb, so that settings, the AWS SDK and the processes of
a service find them where they look anyway.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from worker.errors import UsageError
from worker.runtime import variables

_META: Final = "aup-worker.connection"
_ENV_FILE: Final = "env_file"
# Verbs that use no queue or table of the settings.
_WITHOUT_AWS: Final = frozenset({"demo", "health", "plan", "verify"})
_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "region": ("AWS_DEFAULT_REGION", "AWS_REGION"),
    "profile": ("AWS_PROFILE",),
    "endpoint_url": ("AWS_ENDPOINT_URL",),
    "queue": ("AUP_QUEUE",),
    "dead_letter_queue": ("AUP_DEAD_LETTER_QUEUE",),
}


def _declare(
    region: Annotated[
        str | None, typer.Option(metavar="REGION", help="AWS region; replaces AWS_REGION.")
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="AWS profile and its keys; replaces AWS_PROFILE."),
    ] = None,
    endpoint_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Endpoint; replaces every AWS_ENDPOINT_URL*."),
    ] = None,
    queue: Annotated[
        str | None,
        typer.Option(metavar="QUEUE", help="Source queue or its URL; replaces AUP_QUEUE."),
    ] = None,
    dead_letter_queue: Annotated[
        str | None,
        typer.Option(metavar="QUEUE", help="Its name or URL; replaces AUP_DEAD_LETTER_QUEUE."),
    ] = None,
    env_file: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="File of KEY=VALUE lines; repeatable."),
    ] = None,
) -> None:
    """Declare the options, from which Typer creates parameters."""


def _parameters() -> list[Any]:
    declared = typer.Typer(add_completion=False, rich_markup_mode=None)
    declared.command()(_declare)
    parameters: list[Any] = typer.main.get_command(declared).params
    for each in parameters:
        each.expose_value = False
        each.callback = _keep
    return parameters


def _keep(context: Any, parameter: Any, value: Any) -> None:
    """Keep the value of an option for the verb; one after the verb replaces one before it."""
    stated = context.meta.setdefault(_META, {})
    if parameter.name == _ENV_FILE:
        stated[_ENV_FILE] = [*stated.get(_ENV_FILE, ()), *(value or ())]
    elif value is None:
        return
    elif not value:
        raise UsageError(f"{parameter.opts[0]}: must not be empty")
    else:
        stated[parameter.name] = value


@contextmanager
def _applied(stated: Mapping[str, Any]) -> Iterator[None]:
    """Replace the environment inside the block: by files in their order, then by options."""
    with variables.replaced():
        for path in stated.get(_ENV_FILE, ()):
            # Imported only if used: its library takes longer to import than a health check.
            from worker.runtime.env_file import read_env_file  # noqa: PLC0415

            values = read_env_file(Path(path))
            variables.replace(values, {name: f"{path}: {name}" for name in values})
        for option, names in _VARIABLES.items():
            if option in stated:
                label = _label(option)
                variables.replace(dict.fromkeys(names, stated[option]), dict.fromkeys(names, label))
        yield


def _label(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _note_ignored(verb: str, stated: Mapping[str, Any]) -> None:
    options = [_label(option) for option in _VARIABLES if option in stated]
    if options:
        # Imported only for notes: the import takes longer than a health check.
        from worker.cli import screen  # noqa: PLC0415

        screen.note(f"aup-worker: {verb} calls no AWS account; ignored: {', '.join(options)}")


# Typer appends the Python type of a value, which tells a user of a list nothing.
_PYTHON_TYPE: Final = re.compile(r" <list\[\w+\]>")


def _format_options(command: Any, context: Any, formatter: Any) -> None:
    """Write the options of the command, then the connection options in a section of their own."""
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    connection = []
    for each in command.get_params(context):
        record = each.get_help_record(context)
        if record is None:
            continue
        record = (_PYTHON_TYPE.sub("", record[0]), record[1])
        if each.callback is _keep:
            connection.append(record)
        else:
            sections["Arguments" if each.param_type_name == "argument" else "Options"].append(
                record
            )
    sections["Connection options, before or after the verb"] = connection
    for title, records in sections.items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


class ConnectedCommand(TyperCommand):
    """A verb with connection options."""

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.params.extend(_parameters())

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the help of the options."""
        _format_options(self, ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        """Run the verb with the environment that its connection options state."""
        stated = ctx.meta.get(_META, {})
        if self.name in _WITHOUT_AWS:
            _note_ignored(self.name, stated)
        with _applied(stated):
            return super().invoke(ctx)


class ConnectedGroup(TyperGroup):
    """A group of verbs that takes the connection options of its verbs before their names."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.params.extend(_parameters())

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the help of the options, then the verbs."""
        _format_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)
