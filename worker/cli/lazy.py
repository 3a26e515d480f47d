"""Groups of verbs whose modules are imported only when a verb runs or prints its own help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
import typer.main
from typer.core import TyperGroup


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb, or a group of verbs, before it is imported.

    Attributes:
        target: `module:name` of the function, or of the Typer app of a group.
        summary: The first line of its help; a test compares both.
    """

    target: str
    summary: str

    def load(self, name: str) -> Any:
        """Import the verb and return its command under a name."""
        module, _, attribute = self.target.partition(":")
        loaded = getattr(import_module(module), attribute)
        if isinstance(loaded, typer.Typer):
            command: Any = typer.main.get_group(loaded)
            command.name = name
            return command
        alone = typer.Typer(
            add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
        )
        alone.command(name)(loaded)
        return typer.main.get_command(alone)


class Commands(Mapping[str, Any]):
    """The commands of a group, each imported when it is looked up."""

    def __init__(self, verbs: Mapping[str, Verb]) -> None:
        self.verbs = verbs
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = self.verbs[name].load(name)
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.verbs)

    def __len__(self) -> int:
        return len(self.verbs)


def lazy_group(verbs: Mapping[str, Verb]) -> type[TyperGroup]:
    """Return a group class over verbs; its own help and completion import none of them."""

    class LazyGroup(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands: Any = Commands(verbs)

        def format_commands(self, _: Any, formatter: Any) -> None:
            with formatter.section("Commands"):
                formatter.write_dl([(name, verb.summary) for name, verb in verbs.items()])

    return LazyGroup
