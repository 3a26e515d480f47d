"""`init` says at once that a server is not there, and soon that one does not respond."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.unit.fakes import aws_settings, settings
from worker.cli import setup
from worker.errors import AWSUnavailableError
from worker.settings import Settings


def _settings(url: str | None) -> Settings:
    endpoints = {"sqs_endpoint_url": url, "dynamodb_endpoint_url": url}
    return settings(aws=aws_settings(region="eu-west-1", **endpoints))


async def test_refused_connection_is_reported_without_retries() -> None:
    url = "http://127.0.0.1:1"
    started_at = asyncio.get_running_loop().time()
    with pytest.raises(AWSUnavailableError, match=rf"{url}.*; start the server or correct AWS_E"):
        await setup._provision(_settings(url))
    assert asyncio.get_running_loop().time() - started_at < 2


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://127.0.0.1:1", ("no response from http://127.0.0.1:1 yet: start the server or "
                               "correct AWS_ENDPOINT_URL\n")),
        (None, "no response from SQS in eu-west-1 yet: check the network\n"),
    ],
)  # fmt: skip
async def test_silence_is_reported_while_waiting_and_not_after_a_response(
    url: str | None,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = ""

    async def silent(_: object, *, on_response: Callable[[], None]) -> dict[str, bool]:
        nonlocal shown
        while not shown:
            await asyncio.sleep(0)
            shown = capsys.readouterr().err
        on_response()
        return {"queue q": True}

    async def responding(_: object, *, on_response: Callable[[], None]) -> dict[str, bool]:
        on_response()
        await asyncio.sleep(0.1)
        return {"queue q": False}

    monkeypatch.setattr(setup, "_SILENCE_SECONDS", 0.01)
    monkeypatch.setattr(setup, "provision", silent)
    assert await setup._provision(_settings(url)) == {"queue q": True}
    assert shown == line
    monkeypatch.setattr(setup, "provision", responding)
    assert await setup._provision(_settings(url)) == {"queue q": False}
    assert capsys.readouterr().err == ""
