"""Models of services that the SDK loads."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import UnknownServiceError

from worker.aws.client import new_session
from worker.aws.sdk_models import ModelLoader

MODEL = {
    "metadata": {
        "apiVersion": "2026-01-01", "endpointPrefix": "invoices", "protocol": "json",
        "serviceId": "Invoices", "signatureVersion": "v4", "targetPrefix": "Invoices",
    },
    "operations": {},
    "shapes": {},
}  # fmt: skip


async def _open(service: str) -> str:
    session: Any = new_session()
    async with session.client(
        service,
        region_name="eu-west-1",
        endpoint_url="http://127.0.0.1:1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - no secret
    ) as client:
        return str(client.meta.service_model.service_id)


def test_models_are_found_without_a_look_at_other_services(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed: list[str] = []
    list_directory = os.listdir

    def recording(path: str) -> list[str]:
        listed.append(Path(path).name)
        return list_directory(path)

    monkeypatch.setattr("botocore.loaders.os.listdir", recording)
    loader: Any = ModelLoader()
    loader._cache = {}  # tests share one
    assert loader.load_service_model("sqs", "service-2")["metadata"]["serviceId"] == "SQS"
    assert loader.load_service_model("dynamodb", "paginators-1")["pagination"]
    assert set(listed) == {"data", "sqs", "dynamodb"}


async def test_a_session_uses_them() -> None:
    session: Any = new_session()
    assert type(session._loader) is ModelLoader
    assert [await _open("sqs"), await _open("dynamodb")] == ["SQS", "DynamoDB"]


async def test_models_of_the_environment_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = tmp_path / "models" / "invoices" / "2026-01-01" / "service-2.json"
    model.parent.mkdir(parents=True)
    model.write_text(json.dumps(MODEL))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_DATA_PATH", "~/models")
    assert await _open("invoices") == "Invoices"


async def test_missing_models_are_errors() -> None:
    with pytest.raises(UnknownServiceError, match="ftp"):
        await _open("ftp")
    with pytest.raises(UnknownServiceError, match=r"sqs.* dynamodb, "):
        ModelLoader().load_service_model("sqs", "waiters-2")
