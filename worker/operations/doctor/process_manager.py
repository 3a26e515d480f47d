"""How long whoever stops the service waits before it kills, where that can be known."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp

from worker.operations.doctor.result import CheckResult, failed, passed, unknown, warned
from worker.settings import Settings

_CHECK: Final = "stop timeout"
_ASK_SECONDS: Final = 5.0
_ANSWER_MAX_BYTES: Final = 1_048_576
# Amazon ECS developer guide, "Task definition parameters", stopTimeout.
_FARGATE_MAX_SECONDS: Final = 120
# worker/observability/systemd.py tells it every five seconds of a drain.
_FIRST_EXTENSION_SECONDS: Final = 5.0
_UNIT: Final = re.compile(r"/([\w@:.\\-]+\.service)\b")
# systemd.time(7), as `systemctl show` writes spans.
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|min|h|d|w|month|y)\b")
_SPAN_SECONDS: Final = {
    "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0,
    "month": 2_629_800.0, "y": 31_557_600.0,
}  # fmt: skip


async def stop_timeout(
    settings: Settings, unit: str | None, environment: Mapping[str, str] = os.environ
) -> CheckResult:
    """Find out who will stop the service, and check the settings against its patience.

    Args:
        settings: how long a drain may take.
        unit: of systemd; that which we run in, if absent.
        environment: what supervisors put there.
    """
    metadata_uri = environment.get("ECS_CONTAINER_METADATA_URI_V4")
    if unit is None and metadata_uri:
        return of_task(await _task(metadata_uri), settings)
    if unit is None and environment.get("NOTIFY_SOCKET"):
        unit = unit_of(await asyncio.to_thread(_cgroups))
        if unit is None:
            return unknown(_CHECK, "systemd starts it, in a unit without a name", "give --unit")
    if unit is None:
        return unknown(
            _CHECK,
            "neither ECS nor systemd is seen here",
            f"let whoever stops it wait {settings.stop_timeout_seconds:g} s "
            "(AUP_STOP_TIMEOUT_SECONDS); --unit asks systemd",
        )
    shown = await _shown(unit)
    return of_unit(unit, shown, settings) if isinstance(shown, dict) else _unseen(unit, shown)


def of_task(task: Any, settings: Settings) -> CheckResult:
    """Judge what the task's metadata tells; ECS tells tasks everything but their stopTimeout.

    Source: Amazon ECS developer guide, "Task metadata endpoint version 4", its response.
    """
    stop = settings.stop_timeout_seconds
    if not isinstance(task, dict):
        return unknown(_CHECK, "on ECS, whose agent does not answer", _on_ecs(stop))
    launch = str(task.get("LaunchType", "ECS"))
    if launch == "FARGATE" and stop > _FARGATE_MAX_SECONDS:
        return failed(
            _CHECK,
            f"AUP_STOP_TIMEOUT_SECONDS {stop:g}, and Fargate kills after "
            f"{_FARGATE_MAX_SECONDS} s at most",
            f"AUP_STOP_TIMEOUT_SECONDS of {_FARGATE_MAX_SECONDS} at most, and "
            "AUP_DRAIN_TIMEOUT_SECONDS below",
        )
    return unknown(
        _CHECK, f"on {launch}, which does not tell tasks their stopTimeout", _on_ecs(stop)
    )


def _on_ecs(stop_seconds: float) -> str:
    return (
        f"set the container's stopTimeout to {stop_seconds:g} (AUP_STOP_TIMEOUT_SECONDS) or more; "
        "unset it is 30"
    )


def of_unit(unit: str, shown: Mapping[str, str], settings: Settings) -> CheckResult:
    """Judge a unit of systemd; told of a drain, it waits for longer.

    Args:
        unit: its name.
        shown: its properties.
        settings: how long a drain may take.
    """
    drain, stop = settings.drain_timeout_seconds, settings.stop_timeout_seconds
    told = shown.get("TimeoutStopUSec", "")
    seconds = span_seconds(told)
    if shown.get("LoadState", "loaded") != "loaded" or seconds is None:
        return unknown(_CHECK, f"systemd knows no {unit}", "give --unit the name that it has")
    found = f"{unit}: TimeoutStopSec {told}"
    notifies = shown.get("NotifyAccess", "none") != "none"
    if notifies and seconds > _FIRST_EXTENSION_SECONDS:
        return passed(_CHECK, f"{found}, and the drain extends it")
    remedy = f"TimeoutStopSec={stop:g} (AUP_STOP_TIMEOUT_SECONDS) or more, or Type=notify"
    if seconds <= drain:
        return failed(_CHECK, f"{found}: it kills in a drain of {drain:g} s", remedy)
    if seconds < stop:
        return warned(_CHECK, f"{found}, below AUP_STOP_TIMEOUT_SECONDS {stop:g}", remedy)
    return passed(_CHECK, f"{found}, above a drain of {drain:g} s")


def _unseen(unit: str, why: str) -> CheckResult:
    return unknown(_CHECK, f"{unit}: systemd cannot be asked ({why})", "ask where systemd runs")


def span_seconds(text: str) -> float | None:
    """Read a span of time as `systemctl show` writes it, such as `1min 30s`.

    Returns:
        Seconds; infinity for `infinity`; None for what is no span.
    """
    if text == "infinity":
        return float("inf")
    parts = [_SPAN.fullmatch(part) for part in text.split()]
    if not parts or not all(parts):
        return 0.0 if text == "0" else None
    return sum(float(part[1]) * _SPAN_SECONDS[part[2]] for part in parts if part)


def unit_of(cgroups: str) -> str | None:
    """Find the service in the text of /proc/self/cgroup: the innermost that is named there."""
    units = _UNIT.findall(cgroups)
    return units[-1] if units else None


def _cgroups() -> str:
    try:
        return Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


async def _task(metadata_uri: str) -> Any:
    try:
        async with (
            asyncio.timeout(_ASK_SECONDS),
            aiohttp.ClientSession() as session,
            session.get(f"{metadata_uri}/task") as response,
        ):
            response.raise_for_status()
            return json.loads(await response.content.read(_ANSWER_MAX_BYTES))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None


async def _shown(unit: str) -> dict[str, str] | str:
    """Ask systemd for a unit's properties; the text is why it cannot be asked."""
    properties = "--property=LoadState,NotifyAccess,TimeoutStopUSec"
    try:
        process = await asyncio.create_subprocess_exec(
            "systemctl", "show", properties, "--", unit,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        return f"systemctl: {error.strerror}"
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return f"no answer within {_ASK_SECONDS:g} s"
    if process.returncode:
        return " ".join(err.decode(errors="replace").split())[:300]
    lines = out.decode(errors="replace").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)
