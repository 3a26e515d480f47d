"""Every test starts without the user's settings and without anybody's singletons."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import structlog

from tests.private import watched_logs
from worker.repository import SingletonMeta


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("AWS_", "AUP_", "OTEL_")):
            monkeypatch.delenv(name)
    # No credentials, region or role of this machine: neither from files nor from the network.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture(autouse=True)
def _nothing_private_is_logged() -> Iterator[None]:
    with watched_logs() as wrong:
        yield
    assert not wrong, "\n".join(wrong[:5])


@pytest.fixture(autouse=True)
def _default_logs() -> Iterator[None]:
    yield
    structlog.reset_defaults()  # a verb that ran in this process has set its own level


@pytest.fixture(autouse=True)
def _forgotten_singletons() -> Iterator[None]:
    SingletonMeta.forget_all()
    yield
    SingletonMeta.forget_all()
