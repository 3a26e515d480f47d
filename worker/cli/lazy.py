"""Groups of verbs that are imported only when they run or print their help."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
import typer.main
from typer.core import CompletionItem, TyperGroup  # type: ignore[attr-defined] # not exported

from worker.cli.connection import ConnectedCommand, ConnectedGroup


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb, or a group of verbs, that is not yet imported.

    Attributes:
        target: `module:name` in `worker.cli` of the function, or of the Typer app of a group.
        summary: First line of the help; a test compares it with the docstring.
    """

    target: str
    summary: str


@functools.cache
def _load(target: str, name: str) -> Any:
    module, _, attribute = target.partition(":")
    loaded = getattr(import_module(f"worker.cli.{module}"), attribute)
    if isinstance(loaded, typer.Typer):
        group: Any = typer.main.get_group(loaded)
        group.name = name
        return group
    single = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
    )
    single.command(name, cls=ConnectedCommand)(loaded)
    return typer.main.get_command(single)


class Commands(Mapping[str, Any]):
    """Commands of a group, each imported on first access."""

    def __init__(self, verbs: Mapping[str, Verb]) -> None:
        self.verbs = verbs

    def __getitem__(self, name: str) -> Any:
        return _load(self.verbs[name].target, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.verbs)

    def __len__(self) -> int:
        return len(self.verbs)


def lazy_group(verbs: Mapping[str, Verb]) -> type[TyperGroup]:
    """Return a group class whose help and completion do not import its verbs."""

    class LazyGroup(ConnectedGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands: Any = Commands(verbs)

        def format_commands(self, _: Any, formatter: Any) -> None:
            with formatter.section("Commands"):
                formatter.write_dl([(name, verb.summary) for name, verb in verbs.items()])

        def shell_complete(self, ctx: Any, incomplete: str) -> list[CompletionItem]:
            options = super(TyperGroup, self).shell_complete(ctx, incomplete)
            names = [name for name in verbs if name.startswith(incomplete)]
            return [CompletionItem(name, help=verbs[name].summary) for name in names] + options

    return LazyGroup
