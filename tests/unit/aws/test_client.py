"""Checks of a new session, and configuration of clients."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import certifi
import pytest
from botocore.exceptions import NoCredentialsError

from tests.unit.fakes import aws_settings
from worker.aws.client import client_config, new_session, open_client
from worker.aws.sdk_errors import translating
from worker.errors import SettingsError


def test_client_configuration_has_pool_timeout_and_attempts() -> None:
    config = client_config(pool=36, read_timeout_seconds=28.0, attempts=1)
    assert config.max_pool_connections == 36
    assert config.read_timeout == 28
    assert config.retries == {"mode": "standard", "total_max_attempts": 1}
    assert config.tcp_keepalive
    assert config.user_agent_extra.startswith("aup-worker/")


def test_missing_profile_is_a_settings_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "missing")
    with pytest.raises(SettingsError, match="AWS_PROFILE"):
        new_session()


def test_malformed_profile_file_is_a_settings_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "config"
    file.write_text("no section")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    with pytest.raises(SettingsError, match="Unable to parse config file"):
        new_session()


_PEM = Path(certifi.where())


@pytest.fixture
def broken_files(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "not.pem").write_text("hello")
    return {
        "missing": str(tmp_path / "missing"),
        "directory": str(tmp_path),
        "not PEM": str(tmp_path / "not.pem"),
    }


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("missing", "No such file or directory"),
        ("directory", "is a directory"),
        ("not PEM", "must contain CA certificates in PEM format"),
    ],
)
def test_unusable_certificate_file_is_reported_with_its_variable(
    name: str,
    kind: str,
    problem: str,
    broken_files: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(name, broken_files[kind])
    with pytest.raises(SettingsError) as caught:
        new_session()
    assert caught.value.problems == [f"{name}={broken_files[kind]}: {problem}"]


def test_certificate_file_of_the_profile_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("[default]\nca_bundle = /nowhere.pem\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(SettingsError, match=r"^ca_bundle of the profile=/nowhere.pem: No such"):
        new_session()


@pytest.mark.parametrize(
    ("variables", "verified_by"),
    [
        ({}, None),
        ({"AWS_CA_BUNDLE": str(_PEM)}, str(_PEM)),
        ({"REQUESTS_CA_BUNDLE": str(_PEM)}, str(_PEM)),
        ({"AWS_CA_BUNDLE": "", "REQUESTS_CA_BUNDLE": str(_PEM)}, str(_PEM)),
        ({"AWS_CA_BUNDLE": ""}, True),
        ({"REQUESTS_CA_BUNDLE": ""}, True),
    ],
)
async def test_certificates_are_verified_even_if_a_variable_is_empty(
    variables: dict[str, str], verified_by: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    client: Any
    async with open_client(new_session(), "SQS", aws_settings()) as client:
        assert client._endpoint.http_session._verify == (verified_by or True)


_WEB = ("AWS_WEB_IDENTITY_TOKEN_FILE", {"AWS_ROLE_ARN": "arn:aws:iam::1:role/r"})
_CONTAINER = (
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/"},
)


@pytest.mark.parametrize(("name", "others"), [_WEB, _CONTAINER])
def test_unreadable_token_file_is_reported_if_it_is_used(
    name: str, others: dict[str, str], broken_files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, broken_files["missing"])
    for other, value in others.items():
        monkeypatch.setenv(other, value)
    new_session()  # access keys take precedence over the file
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(SettingsError) as caught:
        new_session()
    problem = f"{name}={broken_files['missing']}: No such file or directory"
    assert caught.value.problems == [problem]
    for other in others:
        monkeypatch.delenv(other)
    new_session()


@pytest.mark.parametrize("name", ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"])
def test_missing_profile_file_is_reported_if_credentials_or_profile_are_missing(
    name: str, broken_files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, broken_files["missing"])
    new_session()  # no error: these variables are often set to a file that does not exist
    problem = f"{name}={broken_files['missing']}: No such file or directory"
    with pytest.raises(SettingsError) as caught, translating("GetQueueUrl"):
        raise NoCredentialsError
    assert caught.value.problems == [problem]
    monkeypatch.setenv("AWS_PROFILE", "missing")
    with pytest.raises(SettingsError) as caught:
        new_session()
    assert caught.value.problems == [problem]


def test_pipe_is_not_read_before_the_sdk_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "token")
    name, others = _WEB
    for variable, value in {name: str(tmp_path / "token"), **others}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    new_session()


async def test_invalid_endpoint_of_the_profile_is_a_settings_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("[default]\nendpoint_url = http://bad_host:1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(SettingsError, match=r"^SQS: Invalid endpoint: http://bad_host:1"):
        async with open_client(new_session(), "SQS", aws_settings()):
            pass
