"""The templates: read as they stand, and deployed through CloudFormation's own API."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import boto3
import yaml

INFRA: Final = Path(__file__).parents[2] / "infra"
_SIGN: Final = "AWSTemplateFormatVersion"
NAMES: Final = sorted(path.stem for path in INFRA.glob("*.yaml") if _SIGN in path.read_text())
DEADLINE_SECONDS: Final = 30.0
ADMINISTRATOR: Final = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML ships no types
    """Reads the short forms of CloudFormation's functions as their long ones."""


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
    """Give a template as it stands."""
    return (INFRA / f"{name}.yaml").read_text()


def template(name: str) -> dict[str, Any]:
    """Read a template."""
    read: dict[str, Any] = yaml.load(text(name), _Loader)  # noqa: S506 - a safe loader, with tags
    return read


def resources(name: str, kind: str) -> dict[str, dict[str, Any]]:
    """Give the properties of a template's resources of one type, by logical id."""
    return {
        each: resource["Properties"]
        for each, resource in template(name)["Resources"].items()
        if resource["Type"] == kind
    }


def statements(value: Any) -> Iterator[dict[str, Any]]:
    """Find every statement of every policy document, wherever it is."""
    if isinstance(value, dict):
        if "Effect" in value:
            yield value
        for each in value.values():
            yield from statements(each)
    elif isinstance(value, list):
        for each in value:
            yield from statements(each)


def listed(value: Any) -> list[Any]:
    """Give what may be one or several as several."""
    return value if isinstance(value, list) else [value]


class Stacks:
    """Stacks on one server.

    Args:
        url: of the server.
        trusted: file of the certificates to trust, where it speaks TLS.
    """

    def __init__(self, url: str, trusted: Path | None = None) -> None:
        self.url = url
        self.trusted = trusted
        self.outputs: dict[str, str] = {}

    def client(self, service: str, credentials: dict[str, str] | None = None) -> Any:
        """Open a client, of the administrator if nobody else is named."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            verify=str(self.trusted) if self.trusted else None,
            **(credentials or ADMINISTRATOR),
        )

    def deploy(self, name: str, stack: str = "", **parameters: str) -> dict[str, str]:
        """Create a stack of a template and give its outputs."""
        cloudformation = self.client("cloudformation")
        stack = stack or f"aup-{name}"
        cloudformation.create_stack(
            StackName=stack,
            TemplateBody=text(name),
            Capabilities=["CAPABILITY_IAM"],
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
            ],
        )
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            answer = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
            if not answer["StackStatus"].endswith("IN_PROGRESS"):
                break
            assert time.monotonic() < deadline, f"{stack}: {answer['StackStatus']}"
            time.sleep(0.02)
        assert answer["StackStatus"] == "CREATE_COMPLETE", answer
        outputs = {each["OutputKey"]: each["OutputValue"] for each in answer.get("Outputs", [])}
        self.outputs |= outputs
        return outputs
