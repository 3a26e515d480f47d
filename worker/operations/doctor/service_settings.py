"""Checks of the settings against each other and against the process manager."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from worker.operations.doctor.result import CheckResult, failed, passed, unknown, warned
from worker.runtime.http import get_json
from worker.settings import Settings

_CHECK: Final = "stop timeout"
_CALL_SECONDS: Final = 5.0
# Amazon ECS developer guide, "Task definition parameters", stopTimeout.
_FARGATE_MAX_SECONDS: Final = 120
# worker/observability/systemd.py extends the timeout every five seconds of a drain.
_FIRST_EXTENSION_SECONDS: Final = 5.0
_UNIT: Final = re.compile(r"/([\w@:.\\-]+\.service)\b")
# systemd.time(7): time spans in the output of `systemctl show`.
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|min|h|d|w|month|y)\b")
_SPAN_SECONDS: Final = {
    "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0,
    "month": 2_629_800.0, "y": 31_557_600.0,
}  # fmt: skip


def relations(settings: Settings) -> list[CheckResult]:
    """Check combinations of settings that are allowed but may be unwise.

    Args:
        settings: valid settings; contradictions are errors when settings are loaded.
    """
    ttl_seconds = settings.aws.policy_absence_seconds
    cached = f"a missing policy is cached for {ttl_seconds:g} s"
    wait_seconds = settings.unknown_policy_seconds
    if ttl_seconds < wait_seconds:
        found = f"dead-lettered after {wait_seconds:g} s; {cached}"
        unknown_policies = passed("unknown policies", found)
    else:
        unknown_policies = warned(
            "unknown policies",
            f"{cached}, and its messages are dead-lettered after {wait_seconds:g} s",
            "set AUP_POLICY_ABSENCE_SECONDS below AUP_UNKNOWN_POLICY_SECONDS",
        )
    consistent = "timeouts of calls, leases, drain and stop are consistent"
    return [passed("settings", consistent), unknown_policies]


async def stop_timeout(
    settings: Settings, unit: str | None, environment: Mapping[str, str] = os.environ
) -> CheckResult:
    """Detect the process manager and check that its stop timeout is longer than a drain.

    Args:
        settings: settings of the service.
        unit: systemd unit; by default the unit of this process.
        environment: environment variables of the process.
    """
    metadata_uri = environment.get("ECS_CONTAINER_METADATA_URI_V4")
    if unit is None and metadata_uri:
        return of_task(await _task(metadata_uri), settings)
    if unit is None and environment.get("NOTIFY_SOCKET"):
        unit = unit_of(await asyncio.to_thread(_cgroups))
        if unit is None:
            return unknown(_CHECK, "started by systemd in an unknown unit", "pass --unit")
    if unit is None:
        remedy = (
            f"set the stop timeout of the process manager to {settings.stop_timeout_seconds:g} s "
            "(AUP_STOP_TIMEOUT_SECONDS), or pass --unit to check a systemd unit"
        )
        return unknown(_CHECK, "not running under ECS or systemd", remedy)
    shown = await asyncio.to_thread(_shown, unit)
    if isinstance(shown, str):
        found = f"{unit}: systemctl failed ({shown})"
        return unknown(_CHECK, found, "run this on a host with systemd")
    return of_unit(unit, shown, settings)


def of_task(task: Any, settings: Settings) -> CheckResult:
    """Check the metadata of an ECS task, which do not include its stopTimeout.

    Source: Amazon ECS developer guide, "Task metadata endpoint version 4", its response.
    """
    stop = settings.stop_timeout_seconds
    remedy = (
        f"set the container's stopTimeout to {stop:g} (AUP_STOP_TIMEOUT_SECONDS) or more; "
        "the default is 30"
    )
    if not isinstance(task, dict):
        return unknown(_CHECK, "running on ECS, but the agent does not respond", remedy)
    launch = str(task.get("LaunchType", "ECS"))
    if launch == "FARGATE" and stop > _FARGATE_MAX_SECONDS:
        return failed(
            _CHECK,
            f"AUP_STOP_TIMEOUT_SECONDS is {stop:g}, but Fargate sends SIGKILL after "
            f"{_FARGATE_MAX_SECONDS} s at most",
            f"set AUP_STOP_TIMEOUT_SECONDS to {_FARGATE_MAX_SECONDS} at most, and "
            "AUP_DRAIN_TIMEOUT_SECONDS below it",
        )
    found = f"running on {launch}, where a task cannot read its stopTimeout"
    return unknown(_CHECK, found, remedy)


def of_unit(unit: str, shown: Mapping[str, str], settings: Settings) -> CheckResult:
    """Check the stop timeout of a systemd unit, which a notifying service extends.

    Args:
        unit: name of the unit.
        shown: its properties.
        settings: settings of the service.
    """
    drain, stop = settings.drain_timeout_seconds, settings.stop_timeout_seconds
    timeout = shown.get("TimeoutStopUSec", "")
    seconds = span_seconds(timeout)
    if shown.get("LoadState", "loaded") != "loaded" or seconds is None:
        remedy = "pass the name of the unit with --unit"
        return unknown(_CHECK, f"systemd has no unit {unit}", remedy)
    found = f"{unit}: TimeoutStopSec {timeout}"
    notifies = shown.get("NotifyAccess", "none") != "none"
    if notifies and seconds > _FIRST_EXTENSION_SECONDS:
        return passed(_CHECK, f"{found}, and the drain extends it")
    remedy = f"set TimeoutStopSec={stop:g} (AUP_STOP_TIMEOUT_SECONDS) or more, or Type=notify"
    if seconds <= drain:
        return failed(_CHECK, f"{found}, not above a drain of {drain:g} s", remedy)
    if seconds < stop:
        return warned(_CHECK, f"{found}, below AUP_STOP_TIMEOUT_SECONDS {stop:g}", remedy)
    return passed(_CHECK, f"{found}, above a drain of {drain:g} s")


def span_seconds(text: str) -> float | None:
    """Parse a time span in the output of `systemctl show`, such as `1min 30s`.

    Returns:
        Seconds; infinity for `infinity`; None if the text is not a time span.
    """
    if text == "infinity":
        return float("inf")
    parts = [_SPAN.fullmatch(part) for part in text.split()]
    if not parts or not all(parts):
        return 0.0 if text == "0" else None
    return sum(float(part[1]) * _SPAN_SECONDS[part[2]] for part in parts if part)


def unit_of(cgroups: str) -> str | None:
    """Return the innermost service named in the text of /proc/self/cgroup."""
    units = _UNIT.findall(cgroups)
    return units[-1] if units else None


def _cgroups() -> str:
    try:
        return Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


async def _task(metadata_uri: str) -> Any:
    try:
        return await get_json(f"{metadata_uri}/task", _CALL_SECONDS)
    except (ConnectionError, ValueError):
        return None


def _shown(unit: str) -> dict[str, str] | str:
    """Return the properties of a systemd unit, or the reason why `systemctl` failed."""
    properties = "--property=LoadState,NotifyAccess,TimeoutStopUSec"
    try:
        done = subprocess.run(  # noqa: S603 - `--` ends the options
            ["systemctl", "show", properties, "--", unit],  # noqa: S607 - found in PATH
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_CALL_SECONDS,
            check=True,
        )
    except OSError as error:
        return f"systemctl: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"no response within {_CALL_SECONDS:g} s"
    except subprocess.CalledProcessError as error:
        return " ".join(error.stderr.split())[:300]
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
