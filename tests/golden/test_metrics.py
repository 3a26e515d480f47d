"""Metrics, spans and health reports: what monitoring reads."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Any

import aiohttp
import pytest

from tests.golden.golden import Golden, document, lines, masked
from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import IP, FakeQueue, body, open_world, received_message
from tests.unit.monitoring import FakePipeline, FakeWatchdog, begin, status_of
from tests.unit.observability.test_tracing import Recorded, carried
from worker.domain.message import OutgoingMessage
from worker.domain.outcome import DUPLICATE, RECORDED, Outcome
from worker.errors import AWSThrottledError, AWSUnavailableError, Reason
from worker.observability.emf import EMF
from worker.observability.endpoints import serving
from worker.observability.prometheus import exposition


def _busy() -> FakePipeline:
    """Return a pipeline with a non-zero value in every counter."""
    pipeline = FakePipeline()
    metrics = pipeline.metrics
    outcomes = [
        RECORDED,
        DUPLICATE,
        Outcome.returned("later"),
        *(Outcome.dead_lettered(each, "") for each in Reason),
    ]
    for outcome in outcomes:
        metrics.accounting.open()
        metrics.accounting.close(outcome)
        metrics.settling.add(0.02)
    metrics.accounting.open()
    metrics.calls["PutItem"] += 5
    metrics.events["lease_lost"] += 2
    pipeline.slots.in_flight, pipeline.slots.filled = 4, 1
    pipeline.health.polled_at = 1.0
    pipeline.health.not_ready = ["the table fails"]
    return pipeline


async def test_prometheus_metrics_with_labels_and_help(golden: Golden) -> None:
    text = exposition(status_of(_busy()))().decode()
    # Those of the process are the library's, and not the same on every system.
    ours = [line for line in text.splitlines() if not re.match(r"(# \w+ )?process_", line)]
    series = [line if line.startswith("#") else line.rpartition(" ")[0] for line in ours]
    versionless = re.sub(r'version="[^"]*"', 'version="<version>"', lines(series))
    golden.check("prometheus", {"metrics.txt": versionless})


async def test_emf_documents(golden: Golden) -> None:
    seconds = iter(range(1_800_000_000, 1_900_000_000, 10))
    emf = EMF(status_of(_busy()), now=lambda: float(next(seconds)))
    golden.check(
        "emf",
        {
            "summary.json": document(emf.document("summary")),
            "nothing-since.json": document(emf.document("stopped")),
        },
    )


async def _asked(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(url) as response:
        report = await response.json() if "json" in response.content_type else {}
        if report.get("last_poll_seconds_ago") is not None:
            report["last_poll_seconds_ago"] = "<seconds>"
        headers = {
            name: value
            for name, value in sorted(response.headers.items())
            if name not in {"Date", "Server", "Content-Length"}
        }
        return {"status": response.status, "headers": headers, "body": report}


async def test_health_reports(golden: Golden) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = int(listening.getsockname()[1])
    watchdog = FakeWatchdog()
    pipeline, status = _busy(), status_of(None, watchdog, health_port=port)
    url = f"http://127.0.0.1:{port}"
    found: dict[str, Any] = {}

    async def ask(state: str, *paths: str) -> None:
        for path in paths:
            found[f"{path}, {state}"] = await _asked(session, url + path)

    async with serving(status, lambda: b""), aiohttp.ClientSession() as session:
        await ask("starting", "/startupz", "/livez", "/readyz", "/metrics", "/elsewhere")
        status.stopping.set()
        await ask("stopping before the first poll", "/readyz")
        begin(status, pipeline)
        pipeline.health.polled_at = asyncio.get_running_loop().time()
        await ask("not ready", "/startupz", "/livez", "/readyz")
        pipeline.health.not_ready, pipeline.health.not_live = [], ["no poll ended"]
        await ask("not live", "/livez")
        pipeline.health.not_live = []
        watchdog.lag_seconds = 40.5
        await ask("event loop blocked", "/livez")
    golden.check("health", {"endpoints.json": document(found)})


@simulated
async def test_spans_with_their_attributes(golden: Golden) -> None:
    world, spans = await open_world(), Recorded()
    await world.push(body(1), body(1), body(2, user_id=""))
    await carried(world, spans, recorded=1, duplicates=1, dead_lettered=1)
    fake = FakeQueue(seconds=0)
    fake.on_delete = lambda _: AWSThrottledError(f"slow down, {IP}")
    fake.on_change = lambda entries: [AWSUnavailableError(IP) for _ in entries]
    with pytest.raises(AWSThrottledError):
        await spans.tracing.queue(fake).delete([received_message()])
    await spans.tracing.queue(fake).change_visibility([(received_message(1), 0.0)])
    await spans.tracing.publishing(fake).send([OutgoingMessage("{}")])
    sent = fake.entries("send")[0].attributes["traceparent"]
    texts = set()
    for span in spans:
        attributes = [f"  {name}: {value!r}" for name, value in sorted(_attributes(span).items())]
        status = f"  status: {span.status.status_code.name}"
        texts.add(lines([f"{span.name} ({span.kind.name})", *attributes, status]))
    attribute = f"message attribute traceparent: {sent['DataType']}\n"
    golden.check("spans", {"spans.txt": masked("".join([*sorted(texts), attribute]))})


def _attributes(span: Any) -> dict[str, Any]:
    counts = {"messaging.batch.message_count", "db.operation.batch.size"}
    return {
        name: "<count>" if name in counts else value
        for name, value in dict(span.attributes or {}).items()
    }
