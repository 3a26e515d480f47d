"""Checks of settings against each other, and of the stop timeout of ECS and systemd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.unit.fakes import aws_settings, settings
from worker.operations.doctor.result import CheckStatus
from worker.operations.doctor.service_settings import (
    of_task,
    of_unit,
    relations,
    span_seconds,
    stop_timeout,
    unit_of,
)

PASS, WARN, FAIL, UNKNOWN = (
    CheckStatus.PASS,
    CheckStatus.WARN,
    CheckStatus.FAIL,
    CheckStatus.UNKNOWN,
)
LONG = {"drain_timeout_seconds": 120, "stop_timeout_seconds": 130}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1min 30s", 90.0),
        ("30s", 30.0),
        ("2h 5ms 7us", 7200.005007),
        ("1d", 86_400.0),
        ("infinity", float("inf")),
        ("0", 0.0),
        ("", None),
        ("soon", None),
        ("30s soon", None),
    ],
)
def test_time_spans_of_systemd_are_parsed(text: str, seconds: float | None) -> None:
    assert span_seconds(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("shown", "status", "words"),
    [
        ({"TimeoutStopUSec": "1min 30s"}, PASS, "above a drain of 25 s"),
        ({"TimeoutStopUSec": "infinity"}, PASS, "infinity"),
        ({"TimeoutStopUSec": "27s"}, WARN, "below AUP_STOP_TIMEOUT_SECONDS 30"),
        ({"TimeoutStopUSec": "25s"}, FAIL, "TimeoutStopSec=30"),
        ({"TimeoutStopUSec": "10s", "NotifyAccess": "main"}, PASS, "the drain extends it"),
        ({"TimeoutStopUSec": "10s", "NotifyAccess": "none"}, FAIL, "Type=notify"),
        ({"TimeoutStopUSec": "4s", "NotifyAccess": "main"}, FAIL, "not above a drain"),
        ({"TimeoutStopUSec": "30s", "LoadState": "not-found"}, UNKNOWN, "has no unit"),
        ({}, UNKNOWN, "has no unit"),
    ],
)
def test_unit_passes_if_it_waits_for_the_drain_or_is_notified(
    shown: dict[str, str], status: CheckStatus, words: str
) -> None:
    result = of_unit("aup-worker.service", shown, settings())
    assert result.status is status
    assert words in f"{result.found} {result.remedy}"


@pytest.mark.parametrize(
    ("task", "changes", "status", "words"),
    [
        ({"LaunchType": "FARGATE"}, {}, UNKNOWN, "running on FARGATE, where a task cannot read"),
        ({"LaunchType": "FARGATE"}, LONG, FAIL, "after 120 s at most"),
        ({"LaunchType": "EC2"}, LONG, UNKNOWN, "stopTimeout to 130"),
        ({}, {}, UNKNOWN, "stopTimeout to 30"),
        (None, {}, UNKNOWN, "does not respond"),
    ],
)
def test_stop_timeout_of_a_task_is_unknown_but_limited_on_fargate(
    task: Any, changes: dict[str, Any], status: CheckStatus, words: str
) -> None:
    result = of_task(task, settings(**changes))
    assert result.status is status
    assert words in f"{result.found} {result.remedy}"


def test_unit_is_the_innermost_service_of_the_control_group() -> None:
    assert unit_of("0::/system.slice/aup-worker@2.service\n") == "aup-worker@2.service"
    inner = "0::/user.slice/user@1000.service/app.slice/aup-worker.service/x\n"
    assert unit_of(inner) == "aup-worker.service"
    assert unit_of("0::/user.slice/session-1.scope\n") is None


async def test_stop_timeout_is_unknown_without_a_process_manager() -> None:
    result = await stop_timeout(settings(), None, {})
    assert (result.status, "to 30 s" in result.remedy) == (UNKNOWN, True)


async def test_unreachable_ecs_agent_is_reported() -> None:
    result = await stop_timeout(
        settings(), None, {"ECS_CONTAINER_METADATA_URI_V4": "http://127.0.0.1:9/v4/1"}
    )
    assert (result.status, "does not respond" in result.found) == (UNKNOWN, True)


async def test_task_metadata_are_read_from_the_ecs_agent() -> None:
    async def task(_: web.Request) -> web.Response:
        return web.json_response({"LaunchType": "FARGATE"})

    app = web.Application()
    app.router.add_get("/v4/1/task", task)
    async with TestServer(app) as server:
        environment = {"ECS_CONTAINER_METADATA_URI_V4": str(server.make_url("/v4/1"))}
        result = await stop_timeout(settings(**LONG), None, environment)
    assert (result.status, "Fargate sends SIGKILL" in result.found) == (FAIL, True)


def _systemctl(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    command = directory / "systemctl"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(directory))


async def test_unit_properties_are_read_with_systemctl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "echo LoadState=loaded; echo NotifyAccess=none; echo TimeoutStopUSec=20s; "
        'test "$4" = w.service'
    )
    _systemctl(tmp_path, monkeypatch, script)
    result = await stop_timeout(settings(), "w.service", {})
    assert (result.status, "w.service: TimeoutStopSec 20s" in result.found) == (FAIL, True)
    _systemctl(tmp_path, monkeypatch, "echo Host is down >&2; exit 1")
    result = await stop_timeout(settings(), "w.service", {})
    assert (result.status, "(Host is down)" in result.found) == (UNKNOWN, True)
    (tmp_path / "systemctl").unlink()
    result = await stop_timeout(settings(), "w.service", {})
    assert (result.status, "systemctl: No such file" in result.found) == (UNKNOWN, True)


def test_default_settings_pass() -> None:
    assert {each.status for each in relations(settings())} == {CheckStatus.PASS}


def test_caching_a_missing_policy_for_longer_than_its_messages_wait_is_a_warning() -> None:
    cached = settings(aws=aws_settings(policy_absence_seconds=60))
    (warning,) = [each for each in relations(cached) if each.status is not CheckStatus.PASS]
    assert warning.status is CheckStatus.WARN
    assert "AUP_POLICY_ABSENCE_SECONDS" in warning.remedy
