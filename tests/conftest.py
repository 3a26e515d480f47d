"""Isolation of every test from the user's settings and from the singletons of other tests."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator

import pytest
import structlog

from tests.private import checked_logs
from tests.sdk_sessions import share_event_names, share_models, skip_public_certificates
from worker.repository import SingletonMeta


def pytest_configure() -> None:
    gc.set_threshold(20_000)  # a fifth of the processor time goes to garbage collection otherwise
    share_models()
    share_event_names()
    skip_public_certificates()


def pytest_collection_finish() -> None:
    gc.freeze()  # modules and tests live until the end


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("AWS_", "AUP_", "OTEL_")):
            monkeypatch.delenv(name)
    # Use no credentials, region or role of this machine, from files or from the network.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture(autouse=True)
def _check_logs() -> Iterator[None]:
    with checked_logs() as problems:
        yield
    assert not problems, "\n".join(problems[:5])


@pytest.fixture(autouse=True)
def _reset_logging() -> Iterator[None]:
    yield
    structlog.reset_defaults()  # a verb that ran in this process may have set its own level


@pytest.fixture(autouse=True)
def _reset_signal_handlers() -> Iterator[None]:
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _reset_singletons() -> Iterator[None]:
    SingletonMeta.forget_all()
    yield
    SingletonMeta.forget_all()
