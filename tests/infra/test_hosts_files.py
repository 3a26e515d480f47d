"""The files for hosts and containers in infra/ match the settings and the locks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from worker.settings import AWSSettings, Settings, load, variable

ROOT = Path(__file__).parents[2]
SYSTEMD = ROOT / "infra" / "systemd"
UNIT = (SYSTEMD / "aup-worker@.service").read_text()
INSTALL = (SYSTEMD / "install.sh").read_text()
EXAMPLE = (SYSTEMD / "aup-worker.env.example").read_text()
DOCKERFILE = (ROOT / "infra" / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "infra" / "compose.yaml").read_text())
OF_AWS = {
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_ENDPOINT_URL_SQS",
    "AWS_ENDPOINT_URL_DYNAMODB",
}


def _known() -> dict[str, object]:
    return {
        variable(model, name): field.default
        for model in (Settings, AWSSettings)
        for name, field in model.model_fields.items()
        if name != "aws"
    }


def _in_unit(name: str) -> str:
    (found,) = re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)
    return str(found)


def _pins(name: str) -> dict[str, str]:
    """Return the pins of a lock with their hashes."""
    entries = re.split(r"^(?=\S)", (ROOT / "infra/locks" / name).read_text(), flags=re.MULTILINE)
    return {each.partition("==")[0]: each.partition("==")[2] for each in entries if each}


def test_example_of_the_environment_file_contains_valid_settings_and_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = re.findall(r"^(#?)([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE)
    assert len(lines) >= 10
    for commented, name, text in lines:
        assert name in _known()
        if commented:
            assert text == f"{_known()[name]}".removesuffix(".0"), name
        else:
            monkeypatch.setenv(name, text)
    assert load().aws.region == "eu-west-1"


def test_stop_timeouts_of_systemd_and_compose_exceed_the_setting() -> None:
    stop = Settings.model_fields["stop_timeout_seconds"].default
    assert float(_in_unit("TimeoutStopSec")) > stop
    assert float(COMPOSE["services"]["worker"]["stop_grace_period"].removesuffix("s")) > stop


def test_watchdog_of_systemd_is_slower_than_that_of_the_worker() -> None:
    assert float(_in_unit("WatchdogSec")) > Settings.model_fields["stall_seconds"].default


def test_installation_switches_releases_by_a_rename_within_one_file_system() -> None:
    [(source, target)] = re.findall(r'^mv -Tf "(.*)" "(.*)"$', INSTALL, re.MULTILINE)
    assert target == "$home/current"
    assert Path(source).parent == Path(target).parent
    assert f'ln -s "$release" "{source}"' in INSTALL


def test_unit_starts_after_the_network_and_the_clock() -> None:
    # After= alone orders units that something else starts.
    assert _in_unit("Wants") == _in_unit("After") == "network-online.target time-sync.target"


def test_settings_in_dockerfile_and_compose_file_exist() -> None:
    named = set(re.findall(r"\bAUP_[A-Z_]+", DOCKERFILE))
    for service in ("init", "policy", "worker"):
        named |= set(COMPOSE["services"][service]["environment"])
    assert len(named) >= 8
    assert named - set(_known()) <= OF_AWS


def test_images_are_pinned_and_ports_are_bound_to_loopback() -> None:
    (python,) = re.findall(r"^ARG PYTHON=(.*)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"python:3\.\d+\.\d+-[a-z-]+@sha256:[0-9a-f]{64}", python)
    for name, service in COMPOSE["services"].items():
        assert service["image"] == "aup-worker" or re.search(r":\d+\.\d+\.\d+$", service["image"])
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name


def test_image_starts_programs_without_a_shell() -> None:
    for instruction in ("ENTRYPOINT", "CMD", r"HEALTHCHECK .* CMD"):
        (found,) = re.findall(rf"^{instruction} (.*)$", DOCKERFILE, re.MULTILINE)
        assert found.startswith('["'), instruction


@pytest.mark.parametrize(
    ("part", "whole"),
    [
        ("requirements-run.lock", "requirements-dev.lock"),
        ("requirements-build.lock", "requirements.lock"),
    ],
)
def test_deployed_versions_are_the_tested_ones(part: str, whole: str) -> None:
    tested = _pins(whole)
    assert _pins(part)
    for name, pinned in _pins(part).items():
        assert pinned == tested[name], f"{name}: run make lock"


def test_every_dependency_is_in_the_runtime_lock() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    (listed,) = re.findall(r"^dependencies = \[(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    names = re.findall(r'^\s+"([\w-]+)', listed, re.MULTILINE)
    assert len(names) >= 8
    assert set(names) <= set(_pins("requirements-run.lock"))
