"""The AsyncAPI document: queue, server and message of the settings."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from worker.domain.acceptance import Acceptance
from worker.domain.envelope import decode_any
from worker.domain.schema import asyncapi, json_schema
from worker.settings import AWSSettings, Settings


def _settings(**changes: Any) -> Settings:
    names = ("region", "sqs_endpoint_url")
    aws = {name: changes.pop(name) for name in names if name in changes}
    return Settings(aws=AWSSettings.model_construct(**aws), **changes)


@pytest.mark.parametrize(
    ("settings", "host"),
    [
        ({}, "sqs.{region}.amazonaws.com"),
        ({"region": "eu-west-1"}, "sqs.eu-west-1.amazonaws.com"),
        ({"region": "cn-north-1"}, "sqs.cn-north-1.amazonaws.com.cn"),
        ({"sqs_endpoint_url": "http://user:secret@127.0.0.1:5000/x"}, "127.0.0.1:5000"),
        ({"queue": "https://sqs.eu-west-3.amazonaws.com/1/q"}, "sqs.eu-west-3.amazonaws.com"),
    ],
)
def test_server_is_that_of_the_settings(settings: dict[str, Any], host: str) -> None:
    server = asyncapi(_settings(**settings))["servers"]["sqs"]
    assert server["host"] == host
    assert ("variables" in server) == ("{region}" in host)


def test_queues_are_those_of_the_settings() -> None:
    url = "https://sqs.eu-west-3.amazonaws.com/123456789012/acceptances"
    channel = asyncapi(_settings(queue=url, dead_letter_queue="dead"))["channels"]["acceptances"]
    assert channel["address"] == url
    assert channel["bindings"]["sqs"]["queue"] == {"name": "acceptances", "fifoQueue": False}
    assert channel["bindings"]["sqs"]["deadLetterQueue"]["name"] == "dead"


def test_payload_is_the_schema_and_the_example_is_valid_by_both_definitions() -> None:
    message = asyncapi(_settings())["components"]["messages"]["acceptance"]
    schema = message["payload"]["schema"]
    assert schema["properties"] == json_schema()["properties"]
    (example,) = message["examples"]
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.Draft7Validator(schema).validate(example["payload"])
    jsonschema.Draft202012Validator(json_schema()).validate(example["payload"])
    acceptance, _ = decode_any(json.dumps(example["payload"]))
    assert isinstance(acceptance, Acceptance)
