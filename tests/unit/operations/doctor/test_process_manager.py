"""What the doctor says of whoever stops the service, and of the settings among themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.unit.fakes import aws_settings, settings
from worker.operations.doctor.process_manager import (
    of_task,
    of_unit,
    span_seconds,
    stop_timeout,
    unit_of,
)
from worker.operations.doctor.relations import relations
from worker.operations.doctor.result import Verdict

PASS, WARN, FAIL, UNKNOWN = Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.UNKNOWN
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
def test_spans_are_read_as_systemd_writes_them(text: str, seconds: float | None) -> None:
    assert span_seconds(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("shown", "verdict", "words"),
    [
        ({"TimeoutStopUSec": "1min 30s"}, PASS, "above a drain of 25 s"),
        ({"TimeoutStopUSec": "infinity"}, PASS, "infinity"),
        ({"TimeoutStopUSec": "27s"}, WARN, "below AUP_STOP_TIMEOUT_SECONDS 30"),
        ({"TimeoutStopUSec": "25s"}, FAIL, "TimeoutStopSec=30"),
        ({"TimeoutStopUSec": "10s", "NotifyAccess": "main"}, PASS, "the drain extends it"),
        ({"TimeoutStopUSec": "10s", "NotifyAccess": "none"}, FAIL, "Type=notify"),
        ({"TimeoutStopUSec": "4s", "NotifyAccess": "main"}, FAIL, "kills"),
        ({"TimeoutStopUSec": "30s", "LoadState": "not-found"}, UNKNOWN, "knows no"),
        ({}, UNKNOWN, "knows no"),
    ],
)
def test_a_unit_must_wait_for_the_drain_or_be_told_of_it(
    shown: dict[str, str], verdict: Verdict, words: str
) -> None:
    finding = of_unit("aup-worker.service", shown, settings())
    assert finding.verdict is verdict
    assert words in f"{finding.found} {finding.remedy}"


@pytest.mark.parametrize(
    ("task", "changes", "verdict", "words"),
    [
        ({"LaunchType": "FARGATE"}, {}, UNKNOWN, "on FARGATE, which does not tell"),
        ({"LaunchType": "FARGATE"}, LONG, FAIL, "after 120 s at most"),
        ({"LaunchType": "EC2"}, LONG, UNKNOWN, "stopTimeout to 130"),
        ({}, {}, UNKNOWN, "stopTimeout to 30"),
        (None, {}, UNKNOWN, "does not answer"),
    ],
)
def test_a_task_is_not_told_its_stop_timeout_but_fargate_has_a_most(
    task: Any, changes: dict[str, Any], verdict: Verdict, words: str
) -> None:
    finding = of_task(task, settings(**changes))
    assert finding.verdict is verdict
    assert words in f"{finding.found} {finding.remedy}"


def test_the_unit_is_found_by_the_innermost_service_of_our_control_group() -> None:
    assert unit_of("0::/system.slice/aup-worker@2.service\n") == "aup-worker@2.service"
    inner = "0::/user.slice/user@1000.service/app.slice/aup-worker.service/x\n"
    assert unit_of(inner) == "aup-worker.service"
    assert unit_of("0::/user.slice/session-1.scope\n") is None


async def test_nobody_is_seen_where_nobody_supervises() -> None:
    finding = await stop_timeout(settings(), None, {})
    assert (finding.verdict, "wait 30 s" in finding.remedy) == (UNKNOWN, True)


async def test_a_silent_agent_of_ecs_is_told() -> None:
    finding = await stop_timeout(
        settings(), None, {"ECS_CONTAINER_METADATA_URI_V4": "http://127.0.0.1:9/v4/1"}
    )
    assert (finding.verdict, "does not answer" in finding.found) == (UNKNOWN, True)


async def test_the_agent_of_ecs_is_asked_for_the_task() -> None:
    async def task(_: web.Request) -> web.Response:
        return web.json_response({"LaunchType": "FARGATE"})

    app = web.Application()
    app.router.add_get("/v4/1/task", task)
    async with TestServer(app) as server:
        environment = {"ECS_CONTAINER_METADATA_URI_V4": str(server.make_url("/v4/1"))}
        finding = await stop_timeout(settings(**LONG), None, environment)
    assert (finding.verdict, "Fargate kills" in finding.found) == (FAIL, True)


def _systemctl(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    command = directory / "systemctl"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(directory))


async def test_systemd_is_asked_for_the_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = (
        "echo LoadState=loaded; echo NotifyAccess=none; echo TimeoutStopUSec=20s; "
        'test "$4" = w.service'
    )
    _systemctl(tmp_path, monkeypatch, answer)
    finding = await stop_timeout(settings(), "w.service", {})
    assert (finding.verdict, "w.service: TimeoutStopSec 20s" in finding.found) == (FAIL, True)
    _systemctl(tmp_path, monkeypatch, "echo Host is down >&2; exit 1")
    finding = await stop_timeout(settings(), "w.service", {})
    assert (finding.verdict, "(Host is down)" in finding.found) == (UNKNOWN, True)
    (tmp_path / "systemctl").unlink()
    finding = await stop_timeout(settings(), "w.service", {})
    assert (finding.verdict, "systemctl: No such file" in finding.found) == (UNKNOWN, True)


def test_settings_that_start_may_still_be_unwise() -> None:
    assert {each.verdict for each in relations(settings())} == {PASS}
    believed = aws_settings(policy_absence_seconds=60)
    unwise = [each for each in relations(settings(aws=believed)) if each.verdict is not PASS]
    assert [each.verdict for each in unwise] == [WARN]
    assert "AUP_POLICY_ABSENCE_SECONDS" in unwise[0].remedy
