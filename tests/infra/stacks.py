"""The CloudFormation templates: parsed, and deployed through the CloudFormation API."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, Final

import boto3
import yaml

INFRA: Final = Path(__file__).parents[2] / "infra"
_TEMPLATE_MARK: Final = "AWSTemplateFormatVersion"
NAMES: Final = sorted(
    path.stem for path in INFRA.glob("*.yaml") if _TEMPLATE_MARK in path.read_text()
)
DEADLINE_SECONDS: Final = 30.0
ADMINISTRATOR: Final = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML ships no types
    """YAML loader that expands the short forms of CloudFormation functions."""


def _function(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _function)


def text(name: str) -> str:
    """Return the text of a template."""
    return (INFRA / f"{name}.yaml").read_text()


def template(name: str) -> dict[str, Any]:
    """Return a parsed template that the caller may change."""
    return deepcopy(_parsed(name))


@cache
def _parsed(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.load(text(name), _Loader)  # noqa: S506 - a safe loader, with tags
    return read


def resources(name: str, kind: str) -> dict[str, dict[str, Any]]:
    """Return the properties of the resources of one type by logical id."""
    return {
        each: resource["Properties"]
        for each, resource in template(name)["Resources"].items()
        if resource["Type"] == kind
    }


def statements(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every statement of every policy document in a value."""
    if isinstance(value, dict):
        if "Effect" in value:
            yield value
        for each in value.values():
            yield from statements(each)
    elif isinstance(value, list):
        for each in value:
            yield from statements(each)


def listed(value: Any) -> list[Any]:
    """Return a value as a list, unless it is one."""
    return value if isinstance(value, list) else [value]


def _without(name: str, logical_ids: tuple[str, ...]) -> str:
    read = template(name)
    for each in logical_ids:
        del read["Resources"][each]
    return json.dumps(read)


class Stacks:
    """Stacks on one server.

    Args:
        url: Endpoint URL.
        trusted: File with the certificates to trust for TLS.
    """

    def __init__(self, url: str, trusted: Path | None = None) -> None:
        self.url = url
        self.trusted = trusted
        self.outputs: dict[str, str] = {}

    def client(self, service: str, credentials: dict[str, str] | None = None) -> Any:
        """Return a client, by default with the credentials of the administrator."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            verify=str(self.trusted) if self.trusted else None,
            **(credentials or ADMINISTRATOR),
        )

    def deploy(
        self, name: str, stack: str = "", *, without: tuple[str, ...] = (), **parameters: str
    ) -> dict[str, str]:
        """Create a stack from a template, and return its outputs.

        Args:
            name: Name of the template.
            stack: Name of the stack.
            without: Logical ids of resources that the server does not support.
            parameters: Parameters of the stack.
        """
        cloudformation = self.client("cloudformation")
        stack = stack or f"aup-{name}"
        cloudformation.create_stack(
            StackName=stack,
            TemplateBody=_without(name, without) if without else text(name),
            Capabilities=["CAPABILITY_IAM"],
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
            ],
        )
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            response = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
            if not response["StackStatus"].endswith("IN_PROGRESS"):
                break
            assert time.monotonic() < deadline, f"{stack}: {response['StackStatus']}"
            time.sleep(0.02)
        assert response["StackStatus"] == "CREATE_COMPLETE", response
        outputs = {each["OutputKey"]: each["OutputValue"] for each in response.get("Outputs", [])}
        self.outputs |= outputs
        return outputs
