"""Texts of exceptions and error codes, without what may be private."""

from __future__ import annotations

from importlib import import_module

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from worker.runtime import redaction
from worker.runtime.redaction import digest, error_code, error_text

PRIVATE = "ip 203.0.113.7"


@pytest.mark.parametrize("error", [ValueError(PRIVATE), KeyError(PRIVATE), Exception(PRIVATE)])
def test_text_of_an_unknown_exception_is_replaced_by_its_digest(error: Exception) -> None:
    assert error_text(error) == f"{type(error).__name__} (text of {digest(str(error))})"


@pytest.mark.parametrize(
    "error",
    [
        OSError(24, "Too many open files"),
        ConnectionRefusedError("refused"),
        RuntimeError("Event loop is closed"),
        EndpointConnectionError(endpoint_url="http://127.0.0.1:1"),
    ],
)
def test_text_of_a_local_fault_is_kept(error: Exception) -> None:
    assert error_text(error) == str(error)


def test_error_of_aws_is_reduced_to_its_code() -> None:
    error = ClientError({"Error": {"Code": "Throttling", "Message": PRIVATE}}, "SendMessage")
    assert error_text(error) == "ClientError Throttling"
    assert error_code(PRIVATE) == f"invalid code ({digest(PRIVATE)})"


@pytest.mark.parametrize("name", sorted({*redaction._SAFE, redaction._CLIENT_ERROR}))
def test_names_of_exceptions_are_those_of_their_libraries(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    found = getattr(import_module(module), attribute)
    assert f"{found.__module__}.{found.__qualname__}" == name
