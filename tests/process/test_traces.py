"""Traces of the installed command: with a collector, with a failing one and without one."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.process.environment import Environment, acceptance, body, wait_until

COMPLAINT = "traces are not exported"


class Collector:
    """A collector that receives spans over OTLP/HTTP, or never responds.

    Attributes:
        spans: Received spans, each with the name of its service.
        requested: Set when a request has been received.
    """

    def __init__(self, *, responds: bool = True) -> None:
        self.spans: list[tuple[str, Span]] = []
        self.requested = threading.Event()
        self._responds = responds
        self._closed = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def spans_of(self, operation: str) -> list[Span]:
        """Return the spans of an operation."""
        return [span for _, span in self.spans if span.name.partition(" ")[0] == operation]

    def _receive(self, path: str, content: bytes) -> None:
        assert path == "/v1/traces"
        self.requested.set()
        if not self._responds:
            self._closed.wait()
            return
        for group in ExportTraceServiceRequest.FromString(content).resource_spans:
            names = {each.key: each.value.string_value for each in group.resource.attributes}
            for scope in group.scope_spans:
                self.spans += [(names["service.name"], span) for span in scope.spans]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class _Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector._receive(self.path, self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        return _Handler

    @contextmanager
    def open(self) -> Iterator[Collector]:
        """Listen until the block ends."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self._closed.set()
            self._server.shutdown()
            thread.join()
            self._server.server_close()


def _attributes(span: Span) -> dict[str, str | int]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def _links(span: Span) -> set[tuple[bytes, bytes]]:
    return {(link.trace_id, link.span_id) for link in span.links}


def test_every_span_from_push_to_the_record_links_to_its_origin(
    environment: Environment,
) -> None:
    lines = "".join(
        json.dumps(acceptance(number, policy_id=policy)) + "\n"
        for number, policy in enumerate(["aup"] * 11 + ["other"])
    )
    with Collector().open() as collector:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        pushed = environment.run("push", stdin=lines, **settings, OTEL_SERVICE_NAME="web-shop")
        assert pushed.returncode == 0, pushed.stderr
        assert {name for name, _ in collector.spans} == {"web-shop"}
        with environment.service(**settings, OTEL_BSP_SCHEDULE_DELAY="100") as service:
            wait_until(lambda: len(environment.recorded()) == 11, "eleven recorded")
            wait_until(lambda: environment.depth("AUP_DEAD_LETTER_QUEUE") == 1, "one dead-lettered")
            assert service.end(signal.SIGTERM)[0] == 0
    sent = {(span.trace_id, span.span_id) for span in collector.spans_of("send")[:2]}
    assert [span.kind for span in collector.spans_of("send")] == [Span.SPAN_KIND_PRODUCER] * 2 + [
        Span.SPAN_KIND_CLIENT
    ]
    processing = collector.spans_of("process")
    processed = [span for span in processing if _attributes(span)["aup.outcome"] != "returned"]
    assert len(processed) == 12
    for span in processed:
        assert len(_links(span)) == 1
        assert _links(span) <= sent
    assert set.union(*map(_links, processed)) == sent, "every batch of the push is linked"
    spans = {(span.trace_id, span.span_id) for span in processing}
    for operation in ("PutItem", "delete"):
        links = set.union(*map(_links, collector.spans_of(operation)))
        assert links <= spans
        assert len(links) >= 11
    [dead] = [span for span in processed if _attributes(span)["aup.outcome"] == "dead"]
    assert _attributes(dead)["error.type"] == "unknown_policy"
    assert _links(collector.spans_of("send")[-1]) == _links(dead)
    assert {name for name, span in collector.spans if span.name.startswith("process")} == {
        "aup-worker"
    }
    text = str(collector.spans)
    for private in (acceptance(1)["user_id"], acceptance(1)["accepted_at"]):
        assert str(private) not in text


def test_unresponsive_collector_delays_neither_messages_nor_the_exit(
    environment: Environment,
) -> None:
    with Collector(responds=False).open() as silent:
        for first, url in ((0, silent.url), (30, "http://127.0.0.1:1")):
            environment.send(*(body(each) for each in range(first, first + 30)))
            settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
            with environment.service(**settings) as service:
                service.wait_for("started")
                assert url is not silent.url or silent.requested.wait(30)
                environment.send(body(first))
                wait_until(lambda: environment.depth("AUP_QUEUE") == 0, "queue drained")
                service.process.send_signal(signal.SIGTERM)
                service.wait_for("stopped")
                started_at = time.monotonic()
                code, _ = service.end()
            assert (code, len(environment.recorded())) == (0, first + 30)
            assert time.monotonic() - started_at < 5
            complaints = [each for each in service.log if each["event"] == COMPLAINT]
            assert len(complaints) == 1
            assert not [each for each in service.log if each["event"] == "plain"]


def test_missing_otel_extra_is_reported_in_one_line_and_the_service_runs(
    environment: Environment, tmp_path: Path
) -> None:
    package = tmp_path / "hidden" / "opentelemetry"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ModuleNotFoundError('hidden', name=__name__)\n")
    hidden = {"PYTHONPATH": str(package.parent)}
    what = "OpenTelemetry is not installed: pip install 'aup-worker[otel]'"
    what = f"{what}; continuing without traces"
    requested = {"OTEL_TRACES_EXPORTER": "otlp", **hidden}
    pushed = environment.run("push", stdin=body(1), **requested)
    assert pushed.returncode == 0
    assert pushed.stderr.splitlines()[0] == f"aup-worker: traces are not exported: {what}"
    for variables, expected in ((requested, [what]), (hidden, [])):
        with environment.service(**variables) as service:
            service.wait_for("started")
            wait_until(lambda: environment.recorded() == {"e-1": 1}, "recorded")
            assert service.end(signal.SIGTERM)[0] == 0
        settings = [each for each in service.log if each["event"] == COMPLAINT]
        assert [each["problem"] for each in settings] == expected
