"""The verb that a container's health check runs, quick to start: it imports next to nothing."""

from __future__ import annotations

import http.client
import json
import os
from typing import Annotated, Final

import typer

from worker.errors import UsageError

_PORT_MAX: Final = 65_535
_PATHS: Final = {"live": "/livez", "ready": "/readyz"}
_DEFAULT_HOST: Final = "127.0.0.1"  # as in the settings; to read those takes longer than to ask
_EVERYWHERE: Final = {"0.0.0.0": _DEFAULT_HOST, "::": "::1"}  # noqa: S104 - asked, not listened on


def health(
    ready: Annotated[
        bool, typer.Option("--ready", help="Whether it takes in messages, not only gets on.")
    ] = False,
    timeout_seconds: Annotated[
        float,
        typer.Option(
            "--timeout", metavar="SECONDS", min=0.1, max=60, help="To wait for the answer."
        ),
    ] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Ask the running service whether it is live, or ready.

    Exit codes: 0 it is, 1 it is not, 2 no port is set. For a container's health check. It asks
    AUP_HEALTH_HOST and AUP_HEALTH_PORT.

    Example: AUP_HEALTH_PORT=8080 aup-worker health
    """
    name = "ready" if ready else "live"
    reasons, facts = _ask(_address(), name, timeout_seconds)
    if as_json:
        typer.echo(json.dumps({name: not reasons, "reasons": reasons, **facts}))
    else:
        text = f"not {name}: {'; '.join(reasons)}" if reasons else name
        typer.echo("".join(each if each.isprintable() else "?" for each in text))
    raise typer.Exit(1 if reasons else 0)


def _address() -> tuple[str, int]:
    host = os.environ.get("AUP_HEALTH_HOST") or _DEFAULT_HOST
    port = os.environ.get("AUP_HEALTH_PORT") or ""
    if not port:
        raise UsageError("AUP_HEALTH_PORT is not set: the service has no health endpoints to ask")
    if not port.isdecimal() or not 1 <= int(port) <= _PORT_MAX:
        raise UsageError(f"AUP_HEALTH_PORT={port}: must be a port, from 1 to {_PORT_MAX}")
    return _EVERYWHERE.get(host, host), int(port)


def _ask(
    address: tuple[str, int], name: str, timeout_seconds: float
) -> tuple[list[str], dict[str, object]]:
    connection = http.client.HTTPConnection(*address, timeout=timeout_seconds)
    where = f"{address[0]}:{address[1]}"
    try:
        connection.request("GET", _PATHS[name])
        answer = connection.getresponse()
        report = json.loads(answer.read(1_048_576))
        reasons = [str(each) for each in report.pop("reasons")]
        holds = report.pop(name)
    except (OSError, http.client.HTTPException) as error:
        return [f"no answer from {where} ({str(error) or type(error).__name__})"], {}
    except (ValueError, KeyError, TypeError, AttributeError):
        return [f"{where} is not this service's health endpoint"], {}
    finally:
        connection.close()
    return reasons if reasons or holds is True else [f"{where} says so"], report
