"""Options that several verbs share, and groups of options declared as dataclasses."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, get_type_hints

import typer

AsJSON = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")]
PolicyId = Annotated[str, typer.Option("--policy", help="Policy id.")]
PolicyVersion = Annotated[str, typer.Option("--version", help="Policy version.")]
AnyPolicy = Annotated[str | None, typer.Option("--policy", help="Policy id (default: all).")]
Workers = Annotated[
    list[str] | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Health endpoint of a worker; repeatable (default: AUP_HEALTH_PORT).",
    ),
]
Rate = Annotated[
    float | None, typer.Option(metavar="RATE", min=0.1, help="Maximum messages per second.")
]


def expand_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter of a verb whose type is a dataclass by one option per field.

    Typer reads the options of a verb from its signature. This declares options that several verbs
    share once, as the fields of a dataclass, and passes the verb an instance of it.

    Args:
        verb: A function whose parameters are options, arguments or dataclasses of options.

    Returns:
        A function with one parameter per option.
    """
    hints = get_type_hints(verb, include_extras=True)
    groups: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(verb).parameters.items():
        hint = hints[name]
        if isinstance(hint, type) and is_dataclass(hint):
            groups[name] = hint
            parameters += _fields(hint)
        else:
            parameters.append(_keyword(name, hint, parameter.default))

    @functools.wraps(verb)
    def expanded(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{each.name: values.pop(each.name) for each in fields(group)})
        verb(**values)

    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # read by Typer
    expanded.__annotations__ = {each.name: each.annotation for each in parameters}
    return expanded


def _fields(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [_keyword(each.name, hints[each.name], each.default) for each in fields(group)]


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default
    )
