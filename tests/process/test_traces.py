"""Traces through the installed command: into a collector, past one that fails, and without any."""

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

from tests.process.workplace import Workplace, acceptance, body, wait_until

COMPLAINT = "traces are not exported"


class Collector:
    """Take spans over OTLP/HTTP, or hold on to whoever brings some.

    Attributes:
        spans: the service's name with each.
        asked: set when a request has come.
    """

    def __init__(self, *, answers: bool = True) -> None:
        self.spans: list[tuple[str, Span]] = []
        self.asked = threading.Event()
        self._answers = answers
        self._over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def of(self, operation: str) -> list[Span]:
        """Give the spans of an operation."""
        return [span for _, span in self.spans if span.name.partition(" ")[0] == operation]

    def _take(self, path: str, content: bytes) -> None:
        assert path == "/v1/traces"
        self.asked.set()
        if not self._answers:
            self._over.wait()
            return
        for group in ExportTraceServiceRequest.FromString(content).resource_spans:
            names = {each.key: each.value.string_value for each in group.resource.attributes}
            for scope in group.scope_spans:
                self.spans += [(names["service.name"], span) for span in scope.spans]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class _Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector._take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        return _Handler

    @contextmanager
    def open(self) -> Iterator[Collector]:
        """Listen as long as the block lasts."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._server.shutdown()
            thread.join()
            self._server.server_close()


def _stated(span: Span) -> dict[str, str | int]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def _linked(span: Span) -> set[tuple[bytes, bytes]]:
    return {(link.trace_id, link.span_id) for link in span.links}


def test_from_push_to_the_record_every_span_links_to_what_it_comes_from(
    workplace: Workplace,
) -> None:
    lines = "".join(
        json.dumps(acceptance(number, policy_id=policy)) + "\n"
        for number, policy in enumerate(["aup"] * 11 + ["other"])
    )
    with Collector().open() as collector:
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        pushed = workplace.run("push", stdin=lines, **told, OTEL_SERVICE_NAME="web-shop")
        assert pushed.returncode == 0, pushed.stderr
        assert {name for name, _ in collector.spans} == {"web-shop"}
        with workplace.service(**told, OTEL_BSP_SCHEDULE_DELAY="100") as service:
            wait_until(lambda: len(workplace.recorded()) == 11, "eleven recorded")
            wait_until(lambda: workplace.depth("AUP_DEAD_LETTER_QUEUE") == 1, "one dead")
            assert service.end(signal.SIGTERM)[0] == 0
    sent = {(span.trace_id, span.span_id) for span in collector.of("send")[:2]}
    assert [span.kind for span in collector.of("send")] == [Span.SPAN_KIND_PRODUCER] * 2 + [
        Span.SPAN_KIND_CLIENT
    ]
    every = collector.of("process")
    processed = [span for span in every if _stated(span)["aup.outcome"] != "returned"]
    assert len(processed) == 12
    for span in processed:
        assert len(_linked(span)) == 1
        assert _linked(span) <= sent
    assert set.union(*map(_linked, processed)) == sent, "each batch of the push has some"
    spans = {(span.trace_id, span.span_id) for span in every}
    for operation in ("PutItem", "delete"):
        links = set.union(*map(_linked, collector.of(operation)))
        assert links <= spans
        assert len(links) >= 11
    [dead] = [span for span in processed if _stated(span)["aup.outcome"] == "dead"]
    assert _stated(dead)["error.type"] == "unknown_policy"
    assert _linked(collector.of("send")[-1]) == _linked(dead)
    assert {name for name, span in collector.spans if span.name.startswith("process")} == {
        "aup-worker"
    }
    text = str(collector.spans)
    for private in (acceptance(1)["user_id"], acceptance(1)["accepted_at"]):
        assert str(private) not in text


def test_a_collector_that_answers_nobody_delays_neither_messages_nor_the_end(
    workplace: Workplace,
) -> None:
    with Collector(answers=False).open() as silent:
        for first, url in ((0, silent.url), (30, "http://127.0.0.1:1")):
            workplace.send(*(body(each) for each in range(first, first + 30)))
            told = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
            with workplace.service(**told) as service:
                service.wait_for("started")
                assert url is not silent.url or silent.asked.wait(30)
                workplace.send(body(first))
                wait_until(lambda: workplace.depth("AUP_QUEUE") == 0, "queue drained")
                service.process.send_signal(signal.SIGTERM)
                service.wait_for("stopped")
                began = time.monotonic()
                code, _ = service.end()
            assert (code, len(workplace.recorded())) == (0, first + 30)
            assert time.monotonic() - began < 5
            told_of = [each for each in service.log if each["event"] == COMPLAINT]
            assert len(told_of) == 1
            assert not [each for each in service.log if each["event"] == "plain"]


def test_without_the_extra_it_runs_and_says_in_one_line_what_to_install(
    workplace: Workplace, tmp_path: Path
) -> None:
    package = tmp_path / "hidden" / "opentelemetry"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ModuleNotFoundError('hidden', name=__name__)\n")
    hidden = {"PYTHONPATH": str(package.parent)}
    what = "OpenTelemetry is not installed: pip install 'aup-worker[otel]'"
    what = f"{what}; continuing without traces"
    asked = {"OTEL_TRACES_EXPORTER": "otlp", **hidden}
    pushed = workplace.run("push", stdin=body(1), **asked)
    assert pushed.returncode == 0
    assert pushed.stderr.splitlines()[0] == f"aup-worker: traces are not exported: {what}"
    for environment, expected in ((asked, [what]), (hidden, [])):
        with workplace.service(**environment) as service:
            service.wait_for("started")
            wait_until(lambda: workplace.recorded() == {"e-1": 1}, "recorded")
            assert service.end(signal.SIGTERM)[0] == 0
        told = [each for each in service.log if each["event"] == COMPLAINT]
        assert [each["problem"] for each in told] == expected
