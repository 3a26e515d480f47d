"""Verb for a container's health check; few imports, for a fast start."""

from __future__ import annotations

import http.client
import json
import os
from typing import Annotated, Final

import typer

from worker.cli.options import AsJSON
from worker.errors import UsageError

_PORT_MAX: Final = 65_535
_DEFAULT_HOST: Final = (
    "127.0.0.1"  # The default of the settings, which take longer to import than the check.
)
_PATHS: Final = {"live": "/livez", "ready": "/readyz", "started": "/startupz"}
_LOOPBACK: Final = {"0.0.0.0": _DEFAULT_HOST, "::": "::1"}  # noqa: S104 - client address


def health(
    started: Annotated[
        bool, typer.Option("--started", help="Check liveness and that the start has succeeded.")
    ] = False,
    ready: Annotated[
        bool, typer.Option("--ready", help="Check readiness instead of liveness.")
    ] = False,
    timeout_seconds: Annotated[
        float,
        typer.Option(
            "--timeout", metavar="SECONDS", min=0.1, max=60, help="Timeout of the request."
        ),
    ] = 2.0,
    as_json: AsJSON = False,
) -> None:
    """Check whether the running service is live, started or ready.

    For a container's health check: --started fails until queues, tables and permissions passed
    their checks and a poll got a response, and checks liveness as well. Requests the endpoints at
    AUP_HEALTH_HOST and AUP_HEALTH_PORT.
    Exit codes: 0 if it is, 1 if not, 2 port not set or invalid.

    Example: AUP_HEALTH_PORT=8080 aup-worker health --started
    """
    if started and ready:
        raise UsageError("--started and --ready cannot be combined: ready includes both")
    address, name = _address(), "ready" if ready else "started" if started else "live"
    reasons, facts = _request(address, name, timeout_seconds)
    document = {name: not reasons, "reasons": reasons, **facts}
    if started and not reasons:
        name = "live"
        reasons, facts = _request(address, name, timeout_seconds)
        document |= {name: not reasons, "reasons": reasons, **facts}
    if as_json:
        typer.echo(json.dumps(document))
    else:
        healthy = "started and live" if started else name
        text = f"not {name}: {'; '.join(reasons)}" if reasons else healthy
        typer.echo("".join(each if each.isprintable() else "?" for each in text))
    raise typer.Exit(1 if reasons else 0)


def _address() -> tuple[str, int]:
    host = os.environ.get("AUP_HEALTH_HOST") or _DEFAULT_HOST
    port = os.environ.get("AUP_HEALTH_PORT") or ""
    if not port:
        raise UsageError("AUP_HEALTH_PORT is not set, so the service has no health endpoints")
    if not port.isdecimal() or not 1 <= int(port) <= _PORT_MAX:
        raise UsageError(f"AUP_HEALTH_PORT={port}: expected a port from 1 to {_PORT_MAX}")
    return _LOOPBACK.get(host, host), int(port)


def _request(
    address: tuple[str, int], name: str, timeout_seconds: float
) -> tuple[list[str], dict[str, object]]:
    connection = http.client.HTTPConnection(*address, timeout=timeout_seconds)
    endpoint = f"{address[0]}:{address[1]}"
    try:
        connection.request("GET", _PATHS[name])
        response = connection.getresponse()
        report = json.loads(response.read(1_048_576))
        reasons = [str(each) for each in report.pop("reasons")]
        holds = report.pop(name)
    except (OSError, http.client.HTTPException) as error:
        return [f"no response from {endpoint} ({str(error) or type(error).__name__})"], {}
    except (ValueError, KeyError, TypeError, AttributeError):
        return [f"{endpoint} is not a health endpoint of aup-worker"], {}
    finally:
        connection.close()
    return reasons if reasons or holds is True else [f"reported by {endpoint}"], report
