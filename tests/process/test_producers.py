"""The programs of worker/producer.md, each run as it is shown, against a local server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.documents import Document, blocks
from tests.process.environment import COMMAND, DEADLINE_SECONDS, Environment
from tests.servers import parts
from tests.servers.tools import NODE
from worker.domain.envelope import decode
from worker.runtime.clock import utc_now

_DOCUMENT: Final = Document("worker/producer.md")
# Of a file, so that `await` at its top level is allowed.
_RUN_ASYNC: Final = """
import ast, asyncio, pathlib
text = pathlib.Path("program").read_text()
asyncio.run(eval(compile(text, "program", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)))
"""
_PATH: Final = f"{Path(COMMAND).parent}{os.pathsep}{os.environ['PATH']}"
_PYTHON: Final = (sys.executable, "-W", "error")


@dataclass(frozen=True, slots=True)
class _Program:
    """A program of the document.

    Attributes:
        language: Language of its block.
        number: Number of the block among those of its language.
        command: Runs the file `program`.
        stated: The user as the program states it.
    """

    language: str
    number: int
    command: tuple[str, ...]
    stated: str = '"user_id": "u-42"'


_PUBLISH: Final = _Program("python", 0, (*_PYTHON, "-c", _RUN_ASYNC))
_BOTO3: Final = _Program("python", 1, (sys.executable, "program"))
_NODE: Final = _Program("js", 0, ("node", "program.mjs"), 'user_id: "u-42"')
_CURL: Final = _Program("sh", 1, ("bash", "program"))
_ALL: Final = [
    pytest.param(_PUBLISH, id="publish"),
    pytest.param(_BOTO3, id="boto3"),
    pytest.param(_NODE, id="node", marks=pytest.mark.servers),
    pytest.param(_CURL, id="curl"),
]


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create the schemas, as the document says."""
    directory = tmp_path_factory.mktemp("schemas")
    done = subprocess.run(  # noqa: S603 - the commands of the document
        ["bash", "-c", blocks(_DOCUMENT.text, "sh")[0]],  # noqa: S607 - from PATH
        cwd=directory,
        env={"PATH": _PATH},
        capture_output=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture
def directory(schemas: Path, tmp_path: Path) -> Path:
    """Return a directory with the schemas where the programs run."""
    shutil.copytree(schemas, tmp_path, dirs_exist_ok=True)
    return tmp_path


def _run(
    environment: Environment,
    directory: Path,
    program: _Program,
    *,
    user: str = "u-42",
    **changes: str,
) -> subprocess.CompletedProcess[str]:
    text = blocks(_DOCUMENT.text, program.language)[program.number]
    if program.stated in text:
        text = text.replace(program.stated, program.stated.replace("u-42", user))
    if program is _NODE:
        NODE.require()
        modules = parts.PRODUCER.require() / "node_modules"
        (directory / "node_modules").symlink_to(modules, target_is_directory=True)
    if program is _CURL:
        assert shutil.which("curl"), "curl is required"
    name = program.command[-1] if program.command[-1].startswith("program") else "program"
    (directory / name).write_text(text)
    variables = {
        "AUP_QUEUE": environment.url("AUP_QUEUE"),
        "AWS_DEFAULT_REGION": environment.variables["AWS_REGION"],  # boto3 reads no other
        "PATH": _PATH,
    }
    return subprocess.run(  # noqa: S603 - the programs of the document
        program.command,
        cwd=directory,
        env=environment.variables | variables | changes,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def _received(environment: Environment) -> list[tuple[dict[str, Any], str | None]]:
    """Receive all messages, which the worker must be able to record, with their groups."""
    found: list[tuple[dict[str, Any], str | None]] = []
    while True:
        response = environment.sqs.receive_message(
            QueueUrl=environment.url("AUP_QUEUE"),
            MaxNumberOfMessages=10,
            MessageSystemAttributeNames=["MessageGroupId"],
        )
        if not response.get("Messages"):
            return found
        for each in response["Messages"]:
            decode(each["Body"], now=utc_now(), clock_skew_seconds=300)
            group = each.get("Attributes", {}).get("MessageGroupId")
            found.append((json.loads(each["Body"]), group))


def test_every_program_of_the_document_is_run() -> None:
    languages = ("sh", "python", "js", "console", "json")
    assert [len(blocks(_DOCUMENT.text, each)) for each in languages] == [2, 2, 1, 0, 0]


@pytest.mark.parametrize("program", _ALL)
def test_program_sends_an_acceptance_that_the_worker_records(
    environment: Environment, directory: Path, program: _Program
) -> None:
    done = _run(environment, directory, program)
    assert done.returncode == 0, done.stdout + done.stderr
    sent = _received(environment)
    assert {(each["user_id"], each["version"]) for each, _ in sent} == {("u-42", "2026-01")}
    assert sent[0][1] == "tenant-7"
    # `publish` shows both ways, for one event.
    assert len(sent) == (2 if program is _PUBLISH else 1)
    assert len({each["event_id"] for each, _ in sent}) == 1


@pytest.mark.parametrize("program", _ALL)
def test_program_sends_nothing_that_the_schema_rejects(
    environment: Environment, directory: Path, program: _Program
) -> None:
    done = _run(environment, directory, program, user="")
    assert done.returncode != 0
    assert "user_id" in done.stderr
    assert _received(environment) == []


@contextmanager
def _verifying(secret: str) -> Iterator[tuple[str, list[bool]]]:
    """Run a server that verifies signatures with the SDK, and yield its URL and the results."""
    results: list[bool] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            results.append(_is_signed(self, body, secret))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", results
        finally:
            server.shutdown()
            thread.join()


def _is_signed(handler: BaseHTTPRequestHandler, body: bytes, secret: str) -> bool:
    stated = handler.headers["Authorization"].removeprefix("AWS4-HMAC-SHA256 ")
    fields = dict(each.strip().split("=", 1) for each in stated.split(","))
    key, _, region, service, _ = fields["Credential"].split("/")
    request = AWSRequest("POST", f"http://{handler.headers['Host']}{handler.path}", data=body)
    for name in fields["SignedHeaders"].split(";"):
        request.headers[name] = handler.headers[name]
    request.context["timestamp"] = handler.headers["X-Amz-Date"]
    signer = SigV4Auth(Credentials(key, secret), service, region)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    signed = {"host", "x-amz-date", "x-amz-security-token"} <= set(
        fields["SignedHeaders"].split(";")
    )
    return signed and service == "sqs" and signer.signature(text, request) == fields["Signature"]


def test_signature_of_curl_is_that_of_the_sdk(environment: Environment, directory: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret"}
    keys |= {"AWS_SESSION_TOKEN": "token/+="}
    with _verifying("secret") as (url, results):
        done = _run(environment, directory, _CURL, AUP_QUEUE=f"{url}/123456789012/q", **keys)
    assert (done.returncode, results) == (0, [True]), done.stderr
    with _verifying("another") as (url, results):
        _run(environment, directory, _CURL, AUP_QUEUE=f"{url}/123456789012/q", **keys)
    assert results == [False]


@pytest.mark.servers
def test_asyncapi_document_is_valid(directory: Path) -> None:
    specs = parts.PRODUCER.require() / "node_modules" / "@asyncapi" / "specs"
    schema = json.loads((specs / "schemas" / "3.0.0.json").read_text())
    validator = jsonschema.Draft7Validator(schema)
    document = json.loads((directory / "asyncapi.json").read_text())
    assert [error.message for error in validator.iter_errors(document)] == []
    document["channels"]["acceptances"]["adress"] = "x"
    assert list(validator.iter_errors(document)), "an unknown name is an error"
