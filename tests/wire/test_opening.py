"""The fast path is used only where it sends what the SDK sends; otherwise the SDK is."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiohttp.client_proto import ResponseHandler
from botocore import UNSIGNED
from botocore.auth import SigV4Auth
from botocore.exceptions import SSLError
from botocore.serialize import JSONSerializer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from tests.wire.pair import DYNAMODB, REQUESTS, SQS, opened_client, outcome_of, paired
from tests.wire.recorder import Failure, Recorder, http_response, recording
from worker.aws.client import new_session
from worker.aws.fast_path.caller import Caller, SignedCaller, open_caller
from worker.runtime.event_loop import run_on_loop

DELETE = REQUESTS["DeleteMessageBatch"][0]
DELETED = http_response(b'{"Successful": [{"Id": "0"}]}')


async def _opened(client: Any, operations: tuple[str, ...] = SQS) -> tuple[Any, list[Any]]:
    with capture_logs() as logs:
        caller = await open_caller(client, operations)
    return caller, logs


@pytest.mark.parametrize(("service", "operations"), [("sqs", SQS), ("dynamodb", DYNAMODB)])
async def test_configured_client_gets_the_fast_path_without_sending_a_request(
    recorder: Recorder, service: str, operations: tuple[str, ...]
) -> None:
    async with opened_client(service, recorder.url) as client:
        caller, logs = await _opened(client, operations)
    assert type(caller) is SignedCaller
    assert logs == []
    assert recorder.connections == 0


async def test_disabled_fast_path_logs_nothing(recorder: Recorder) -> None:
    async with opened_client("sqs", recorder.url) as client:
        with capture_logs() as logs:
            caller = await open_caller(client, SQS, fast=False)
        recorder.play(DELETED)
        await caller.call("DeleteMessageBatch", DELETE)
    assert type(caller) is Caller
    assert logs == []


def _assert_fallback(caller: Any, logs: list[Any]) -> None:
    assert type(caller) is Caller
    assert [line["log_level"] for line in logs] == ["warning"]
    assert logs[0]["reason"]


async def test_object_that_is_not_a_client_falls_back() -> None:
    class _Client:
        async def delete_message_batch(self, **_: Any) -> Any:
            return {"Successful": []}

    caller, logs = await _opened(_Client())
    _assert_fallback(caller, logs)
    assert await caller.call("DeleteMessageBatch", DELETE) == {"Successful": []}


@pytest.mark.parametrize("operation", ["GetQueueAttributes", "Nonsense"])
async def test_unsupported_operation_falls_back_to_the_sdk(
    recorder: Recorder, operation: str
) -> None:
    async with opened_client("sqs", recorder.url) as client:
        _assert_fallback(*await _opened(client, (operation,)))


async def test_proxy_falls_back_to_the_sdk(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    async with opened_client("sqs", None) as client:
        _assert_fallback(*await _opened(client))
    async with opened_client("sqs", recorder.url, proxies={"http": "127.0.0.1:1"}) as client:
        _assert_fallback(*await _opened(client))
    monkeypatch.setenv("NO_PROXY", "amazonaws.com")
    async with opened_client("sqs", None) as client:
        caller, _ = await _opened(client)
    assert type(caller) is SignedCaller


async def test_another_http_library_falls_back_to_the_sdk(recorder: Recorder) -> None:
    class _Session(AIOHTTPSession):
        pass

    async with opened_client("sqs", recorder.url, http_session_cls=_Session) as client:
        _assert_fallback(*await _opened(client))


async def test_client_for_typed_values_falls_back_to_the_sdk(recorder: Recorder) -> None:
    async with new_session().client(
        "dynamodb", endpoint_url=recorder.url, region_name="eu-west-1"
    ) as client:
        _assert_fallback(*await _opened(client, DYNAMODB))


async def test_endpoint_with_an_escaped_path_falls_back_to_the_sdk(
    recorder: Recorder,
) -> None:
    async with opened_client("sqs", f"{recorder.url}/a%20b/") as client:
        _assert_fallback(*await _opened(client))


def _other_arguments(_: Any, __: Any) -> None:
    """Have other parameters than the real function."""


def _missing_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(AIOHTTPSession, "_get_session")


def _different_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    signature = SigV4Auth.signature
    monkeypatch.setattr(SigV4Auth, "signature", lambda *args: signature(*args)[::-1])


def _more_signed_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_headers(self: SigV4Auth, request: Any) -> Any:
        headers = to_sign(self, request)
        headers["x-amz-new"] = "new"
        return headers

    to_sign = SigV4Auth.headers_to_sign
    monkeypatch.setattr(SigV4Auth, "headers_to_sign", all_headers)


def _different_body(monkeypatch: pytest.MonkeyPatch) -> None:
    def renamed(self: JSONSerializer, *args: Any) -> Any:
        request = serialize(self, *args)
        request["body"] = request["body"].replace(b'"QueueUrl"', b'"QueueURL"')
        return request

    serialize = JSONSerializer.serialize_to_request
    monkeypatch.setattr(JSONSerializer, "serialize_to_request", renamed)


def _different_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ResponseHandler, "set_response_params", _other_arguments)


def _different_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiohttp.TCPConnector, "connect", _other_arguments)


@pytest.mark.parametrize(
    "change",
    [
        _missing_method,
        _different_signature,
        _more_signed_headers,
        _different_body,
        _different_parser,
        _different_connect,
    ],
)
async def test_incompatible_library_version_falls_back_to_the_sdk(
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[pytest.MonkeyPatch], None],
) -> None:
    async with opened_client("sqs", recorder.url) as client:
        change(monkeypatch)
        _assert_fallback(*await _opened(client))


async def test_connections_of_the_sdk_are_shared(recorder: Recorder) -> None:
    async with opened_client("sqs", recorder.url) as client:
        caller = await SignedCaller.open(client, SQS)
        recorder.play(DELETED)
        for _ in range(3):
            await caller.call("DeleteMessageBatch", DELETE)
            await Caller(client).call("DeleteMessageBatch", DELETE)
    assert len(recorder.requests) == 6
    assert recorder.connections == 1


async def test_connections_are_limited_by_the_pool_of_the_client(recorder: Recorder) -> None:
    async with opened_client("sqs", recorder.url, max_pool_connections=2) as client:
        caller = await SignedCaller.open(client, SQS)
        recorder.play(DELETED)
        await asyncio.gather(*[caller.call("DeleteMessageBatch", DELETE) for _ in range(20)])
    assert len(recorder.requests) == 20
    assert recorder.connections == 2


async def test_connection_closed_by_the_server_is_not_reused(recorder: Recorder) -> None:
    last = http_response(b"{}", headers={"Connection": "close"})
    async with opened_client("sqs", recorder.url, attempts=1) as client:
        caller = await SignedCaller.open(client, SQS)
        recorder.play(last, DELETED)
        await caller.call("DeleteMessageBatch", DELETE)
        await caller.call("DeleteMessageBatch", DELETE)
    assert recorder.connections == 2


async def test_response_to_a_cancelled_call_reaches_no_other_call(
    recorder: Recorder,
) -> None:
    async with opened_client("sqs", recorder.url, max_pool_connections=1, attempts=1) as client:
        caller = await SignedCaller.open(client, SQS)
        recorder.play(Failure.STALLED, DELETED)
        cancelled = asyncio.create_task(caller.call("DeleteMessageBatch", DELETE))
        await recorder.arrived.wait()
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        response = await caller.call("DeleteMessageBatch", DELETE)
    assert response["Successful"] == [{"Id": "0"}]
    assert recorder.connections == 2


class _Authority:
    """Self-signed certificate for an address."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), False
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
            .sign(key, hashes.SHA256())
        )
        self.certificate = folder / "certificate.pem"
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private = folder / "key.pem"
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(self.certificate, private)


@pytest.fixture
def authority(tmp_path: Path) -> _Authority:
    return _Authority(tmp_path)


@pytest.fixture
async def secure(authority: _Authority) -> AsyncIterator[Recorder]:
    async with recording(authority.server) as running:
        yield running


async def test_private_authority_is_trusted_like_in_the_sdk(
    secure: Recorder, authority: _Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.certificate))
    async with paired(secure, "DeleteMessageBatch") as pair:
        sdk, signed = await pair.call("DeleteMessageBatch", DELETE, DELETED)
    assert sdk.response is not None
    assert sdk.response == signed.response


async def test_unknown_authority_is_rejected(secure: Recorder) -> None:
    async with paired(secure, "DeleteMessageBatch", attempts=1) as pair:
        sdk, signed = await pair.call("DeleteMessageBatch", DELETE, DELETED)
    assert type(sdk.error) is type(signed.error) is SSLError
    assert sdk.requests == signed.requests == []


async def test_trusted_certificate_of_another_server_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = _Authority(tmp_path, "127.0.0.2")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.certificate))
    async with recording(authority.server) as server:
        async with paired(server, "DeleteMessageBatch", attempts=1) as pair:
            sdk, signed = await pair.call("DeleteMessageBatch", DELETE, DELETED)
        # The SDK opens such clients to retrieve credentials.
        place: Any = {"endpoint_url": server.url, "region_name": "eu-west-1"}
        for config in (None, AioConfig(signature_version=UNSIGNED)):
            async with new_session().client("sts", config=config, **place) as sts:
                with pytest.raises(SSLError):
                    await sts.get_caller_identity()
    assert type(sdk.error) is type(signed.error) is SSLError
    assert server.requests == []


async def _tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection of a proxy."""
    host, _, port = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode().partition(":")
    from_server, to_server = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    try:
        await asyncio.gather(_copy(reader, to_server), _copy(from_server, writer))
    finally:
        to_server.close()
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(65536):
            writer.write(piece)
    writer.close()


@pytest.mark.parametrize(
    ("address", "requests"), [("127.0.0.1", 1), ("127.0.0.2", 0)], ids=["right", "wrong"]
)
async def test_server_behind_a_proxy_is_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, requests: int
) -> None:
    authority = _Authority(tmp_path, address)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.certificate))
    async with asyncio.TaskGroup() as tunnels, recording(authority.server) as server:

        def accept(*streams: Any) -> None:
            tunnels.create_task(_tunnel(*streams))

        proxy = await asyncio.start_server(accept, "127.0.0.1", 0)
        place = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        async with (
            proxy,
            opened_client("sqs", server.url, proxies={"https": place}, attempts=1) as client,
        ):
            caller = Caller(client)
            outcome = await outcome_of(server, caller, "DeleteMessageBatch", DELETE, DELETED)
    assert type(outcome.error) is (type(None) if requests else SSLError)
    assert len(server.requests) == requests


async def test_any_certificate_is_accepted_without_verification(secure: Recorder) -> None:
    async with opened_client("sqs", secure.url, verify=False) as client:
        caller = await SignedCaller.open(client, SQS)
        outcome = await outcome_of(secure, caller, "DeleteMessageBatch", DELETE, DELETED)
    assert outcome.error is None


async def _calls_over_tls(authority: _Authority) -> int:
    async with recording(authority.server) as recorder:
        async with opened_client("sqs", recorder.url, verify=False, attempts=1) as client:
            caller = await SignedCaller.open(client, SQS)
            recorder.play(DELETED)
            for _ in range(5):
                await caller.call("DeleteMessageBatch", DELETE)
                await Caller(client).call("DeleteMessageBatch", DELETE)
            assert recorder.connections == 1
            recorder.send_unsolicited(DELETED)
            await recorder.all_closed()
            await caller.call("DeleteMessageBatch", DELETE)
        return recorder.connections


@pytest.mark.parametrize("run", [run_on_loop, asyncio.run])
def test_clean_connection_is_reused_on_every_loop_over_tls(
    authority: _Authority, run: Callable[..., int]
) -> None:
    assert run(_calls_over_tls(authority)) == 2
