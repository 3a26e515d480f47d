"""The verb that lists the settings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from worker.cli.settings import in_force, settings
from worker.errors import SettingsError, UsageError
from worker.settings import AWSSettings, Settings, load, variable


def _rows(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    document = json.loads(capsys.readouterr().out)
    return {row["name"]: row for row in document["settings"]}


def test_every_setting_is_listed_once() -> None:
    names = [row.name for row in in_force(load())]
    assert (
        len(names)
        == len(set(names))
        == len(Settings.model_fields) - 1 + len(AWSSettings.model_fields)
    )
    assert {variable(Settings, field) for field in Settings.model_fields if field != "aws"} <= set(
        names
    )


def test_value_and_source_come_from_the_variable_that_is_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AWS_REGION")
    for name, value in {
        "AUP_SLOTS": "7",
        "aup_held_mib": "9",
        "AUP_WAIT_SECONDS": "",
        "AWS_DEFAULT_REGION": "eu-south-2",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:5000",
        "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:6000",
    }.items():
        monkeypatch.setenv(name, value)
    settings(as_json=True)
    rows = _rows(capsys)
    found = {name: (row["value"], row["source"]) for name, row in rows.items()}
    assert found["AUP_SLOTS"] == (7, "AUP_SLOTS")
    assert rows["AUP_SLOTS"]["default"] == 1500
    assert found["AUP_HELD_MIB"] == (9, "AUP_HELD_MIB")
    assert found["AUP_WAIT_SECONDS"] == (20, "default")
    assert found["AUP_HEALTH_PORT"] == (None, "default")
    assert found["AWS_REGION"] == ("eu-south-2", "AWS_DEFAULT_REGION")
    assert found["AWS_ENDPOINT_URL_SQS"] == ("http://127.0.0.1:6000", "AWS_ENDPOINT_URL_SQS")
    assert found["AWS_ENDPOINT_URL_DYNAMODB"] == ("http://127.0.0.1:5000", "AWS_ENDPOINT_URL")


@pytest.mark.parametrize("as_json", [False, True])
def test_invalid_settings_are_listed_and_reported(
    as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUP_WAIT_SECONDS", "soon")
    monkeypatch.setenv("AUP_SLOT", "7")
    with pytest.raises(SettingsError) as caught:
        settings(as_json=as_json)
    assert len(caught.value.problems) == 2
    printed = capsys.readouterr().out
    assert "soon" in printed
    assert "AUP_STALL_SECONDS" in printed
    if as_json:
        assert json.loads(printed)["problems"] == caught.value.problems


@pytest.mark.parametrize("wait", ["20", "soon"])
def test_credentials_in_a_url_are_never_shown(
    wait: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUP_WAIT_SECONDS", wait)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://name:secret@127.0.0.1:5000")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://name:secret@local_host:5000")
    monkeypatch.setenv("AUP_QUEUE", "https://name:secret@127.0.0.1/1/q/")
    for as_json in (False, True):
        with pytest.raises(SettingsError) as caught:
            settings(as_json=as_json)
        assert len(caught.value.problems) == 2 + (wait == "soon")
        printed = capsys.readouterr().out + str(caught.value)
        assert "secret" not in printed
        assert "http://***@127.0.0.1:5000" in printed


def test_reference_does_not_depend_on_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings(as_markdown=True)
    reference = capsys.readouterr().out
    monkeypatch.setenv("AUP_SLOTS", "none")
    settings(as_markdown=True)
    assert capsys.readouterr().out == reference
    description = "maximum messages in flight; no more are held than are needed"
    assert f"| `AUP_SLOTS` | `1500` | 1 to 100000 | {description} |\n" in reference


def test_one_format_at_a_time() -> None:
    with pytest.raises(UsageError, match="mutually exclusive"):
        settings(as_json=True, as_markdown=True)
