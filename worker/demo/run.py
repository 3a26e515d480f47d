"""Scenario of the demonstration, step by step."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import is_not
from typing import Any, Final, Protocol

from worker.aws.client import new_session
from worker.aws.provision import provision
from worker.aws.sqs import Queue, open_queues
from worker.demo.accounting import (
    OUTCOMES,
    REDELIVERED,
    expected_outcomes,
    without_redeliveries,
)
from worker.demo.embedded_aws import SETTINGS, embedded_aws, only_settings
from worker.demo.messages import (
    POLICY,
    PUBLISHED,
    PUBLISHED_AT,
    PUBLISHED_LATE,
    TEXTS,
    TITLE,
    USER,
    conflicting_messages,
    event_of,
    messages,
    unpublished_messages,
)
from worker.demo.process import ServiceProcess, service_process
from worker.domain.message import BATCH_MAX_ENTRIES, OutgoingMessage
from worker.domain.policy import Policy
from worker.domain.text_content import TextContent
from worker.errors import Reason
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.replay import replay
from worker.operations.dead_letters.scan import Scan
from worker.operations.evidence.document import readable
from worker.operations.evidence.verification import verify_records
from worker.repository import AUPRepository
from worker.runtime.clock import utc_now
from worker.settings import Settings, load

# The embedded AWS becomes slower with a growing backlog.
_BACKLOG_MAX: Final = 40
# Each takes one summary of the service.
_EMPTY_CHECKS: Final = 100
_LOG_SETTINGS: Final = {"AUP_SUMMARY_SECONDS": "0.25", "AUP_LOG_FORMAT": "json"}


class Reporter(Protocol):
    """Receiver of the steps and the progress of the demonstration."""

    def step(self, text: str) -> None:
        """Report a completed step."""

    def progress(self, sent: int, total: int, counts: Counter[str]) -> None:
        """Report the progress of the service.

        Args:
            sent: Messages sent so far.
            total: Messages to send.
            counts: Messages by outcome, and redelivered ones, so far.
        """

    def dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Report the dead letters."""


@dataclass(slots=True)
class DemoReport:
    """Final figures.

    Attributes:
        sent: Messages sent.
        recorded: Acceptances in the table, read independently of the service.
        duplicates: Messages whose acceptance was already recorded.
        dead_lettered: Dead-lettered messages by reason, before the replay.
        replayed: Those of them that were sent back.
        redelivered: Messages that the embedded server delivered again although they were settled.
            The other figures count each message once.
        lost: Messages that are neither recorded, nor duplicates, nor dead letters.
        doubled: Messages recorded more than once, or dead-lettered more often than delivered.
        balanced: Whether the accounting of every run of the service balanced.
        record: Attributes of one record, and the result of its verification.
    """

    sent: int = 0
    recorded: int = 0
    duplicates: int = 0
    dead_lettered: dict[str, int] = field(default_factory=dict)
    replayed: int = 0
    redelivered: int = 0
    lost: int = 0
    doubled: int = 0
    balanced: bool = True
    seconds: float = 0.0
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether nothing is lost or doubled, the accounting balances and the record is sound."""
        dead = sum(self.dead_lettered.values())
        # Counted independently of the service, which counts a redelivered message twice.
        accounted = self.recorded + self.duplicates + dead - self.replayed
        is_complete = not self.lost and not self.doubled and accounted == self.sent
        is_verified = bool(self.record.get("verification", {}).get("sound", True))
        return self.balanced and is_complete and is_verified


Keep = Callable[[DemoReport, dict[str, str]], Awaitable[None]]


async def run_demo(reporter: Reporter, *, valid: int = 300, keep: Keep | None = None) -> DemoReport:
    """Run the scenario once.

    Args:
        reporter: Receiver of the steps.
        valid: Number of plain valid acceptances among the messages.
        keep: Called at the end with the report and the settings of the embedded AWS, which runs
            until it returns. The queue then has dead letters of an unpublished policy version.

    Raises:
        AUPError: The service did not finish in time.
    """
    started_at = time.monotonic()
    report = DemoReport()
    with embedded_aws() as url:
        settings_of_aws = {**SETTINGS, "AWS_ENDPOINT_URL": url}
        with only_settings({**settings_of_aws, **_LOG_SETTINGS}):
            reporter.step(f"started an embedded AWS at {url}")
            settings = load()
            created = await provision(settings)
            reporter.step(f"created queues and tables: {', '.join(created)}")
            await _publish(settings, PUBLISHED)
            reporter.step(f"published {POLICY} {PUBLISHED}")
            async with open_queues(settings) as (source, dead_letters):
                scenario = Scenario(settings, source, dead_letters, reporter, report)
                await scenario.send_and_process(messages(valid), conflicting_messages())
                await scenario.publish_and_replay()
                await _count(scenario)
                report.record = await _verified_record(settings)
                report.seconds = round(time.monotonic() - started_at, 1)
                if keep is not None:
                    await scenario.process(unpublished_messages())
                    await keep(report, settings_of_aws)
    return report


@dataclass(slots=True)
class Scenario:
    """Steps of the demonstration on one environment."""

    settings: Settings
    source: Queue
    dead_letters: Queue
    reporter: Reporter
    report: DemoReport
    sent: list[str] = field(default_factory=list)

    async def send_and_process(self, bodies: list[str], conflicting: list[str]) -> None:
        """Send all messages while the service runs, stop it, and report the dead letters."""
        total = len(bodies) + len(conflicting)
        self.reporter.step(f"sending {total} messages of every kind while the service runs")
        async with service_process() as service:
            await self._send(bodies, total, service)
            await self._settled(service, total, self._expected())
            # Only now, because they conflict with what is recorded by now.
            await self._send(conflicting, total, service)
            await self.finish(service, total, self._expected())
        self.reporter.step("stopped the service with SIGTERM: it drained and exited with code 0")
        dead_letters = once(await self.list_dead_letters(), self.sent)
        self.report.dead_lettered = dict(Counter(each.reason for each in dead_letters))
        self.reporter.dead_letters(dead_letters)

    async def publish_and_replay(self) -> None:
        """Publish the missing policy version, replay its dead letters and process them."""
        await _publish(self.settings, PUBLISHED_LATE)
        self.reporter.step(f"published the missing {POLICY} {PUBLISHED_LATE}")
        async with service_process() as service:
            selected = DeadLetterFilter(reasons=[Reason.UNKNOWN_POLICY.value])
            figures = await replay(self.source, self.dead_letters, selected)
            count = min(figures.replayed, self.report.dead_lettered[Reason.UNKNOWN_POLICY.value])
            self.report.replayed = count
            self.reporter.step(f"replayed {count} dead letters")
            expected = Counter(recorded=count, duplicates=figures.replayed - count)
            await self.finish(service, figures.replayed, expected)

    async def process(self, bodies: list[str]) -> None:
        """Send messages that the report does not count, and process them."""
        for start in range(0, len(bodies), BATCH_MAX_ENTRIES):
            await self._send_batch(bodies[start : start + BATCH_MAX_ENTRIES])
        async with service_process() as service:
            await self.finish(service, len(bodies), Counter(dead_lettered=len(bodies)))

    async def list_dead_letters(self) -> list[DeadLetter]:
        """Return all dead letters."""
        async with Scan(self.dead_letters, now=utc_now) as scan:
            return [dead_letter async for dead_letter in scan]

    def _expected(self) -> Counter[str]:
        return expected_outcomes(self.sent, {PUBLISHED})

    async def finish(self, service: ServiceProcess, total: int, expected: Counter[str]) -> None:
        """Stop the service once it has settled all messages, and check its accounting."""
        await self._settled(service, total, expected)
        await self._emptied(service)
        await service.stop()
        self.report.redelivered += without_redeliveries(service.figures, expected)[REDELIVERED]
        self.report.balanced &= bool(service.figures.get("balanced"))
        self.report.balanced &= service.figures.get("held") == 0

    async def _send(self, bodies: list[str], total: int, service: ServiceProcess) -> None:
        for start in range(0, len(bodies), BATCH_MAX_ENTRIES):
            batch = bodies[start : start + BATCH_MAX_ENTRIES]
            await self._send_batch(batch)
            self.sent += batch
            self.report.sent = len(self.sent)
            await service.until(
                lambda figures: len(self.sent) - _ended(figures, self._expected()) <= _BACKLOG_MAX,
                lambda figures: self._show(len(self.sent), total, figures, self._expected()),
            )

    async def _send_batch(self, bodies: list[str]) -> None:
        for error in await self.source.send([OutgoingMessage(body) for body in bodies]):
            if error is not None:
                raise error

    async def _settled(self, service: ServiceProcess, total: int, expected: Counter[str]) -> None:
        count = expected.total()
        await service.until(
            lambda figures: _ended(figures, expected) >= count and figures.get("held") == 0,
            lambda figures: self._show(count, total, figures, expected),
        )

    async def _emptied(self, service: ServiceProcess) -> None:
        """Wait until the service has settled what the server delivers again."""
        for _ in range(_EMPTY_CHECKS):
            if not (await self.source.state()).depth:
                return
            before = service.figures
            await service.until(partial(is_not, before), lambda _: None)

    def _show(self, sent: int, total: int, figures: dict[str, Any], expected: Counter[str]) -> None:
        self.reporter.progress(sent, total, without_redeliveries(figures, expected))


def _ended(figures: dict[str, Any], expected: Counter[str]) -> int:
    counts = without_redeliveries(figures, expected)
    return sum(counts[outcome] for outcome in OUTCOMES)


def once(dead_letters: Sequence[DeadLetter], sent: Sequence[str]) -> list[DeadLetter]:
    """Return the dead letters without those that a redelivery of the same message added."""
    left = Counter(sent)
    kept = []
    for each in dead_letters:
        if left[each.message.body] > 0:
            kept.append(each)
        left[each.message.body] -= 1
    return kept


async def _publish(settings: Settings, version: str) -> None:
    content = TextContent(TEXTS[version].encode(), "text/plain")
    async with AUPRepository(settings.aws) as repository:
        await repository.publish_policy(
            Policy(
                policy_id=POLICY,
                version=version,
                title=TITLE,
                content_sha256=content.sha256,
                published_at=PUBLISHED_AT,
                effective_at=PUBLISHED_AT,
            ),
            content,
        )


async def _count(scenario: Scenario) -> None:
    """Count records and messages by reading tables and queues independently of the service."""
    report = scenario.report
    recorded = Counter(item["event_id"]["S"] for item in await _scan(scenario.settings))
    dead = Counter(dead_letter.message.body for dead_letter in await scenario.list_dead_letters())
    report.recorded = recorded.total()
    sent, dead_again = Counter(scenario.sent), 0
    for body, times in sent.items():
        event_id = event_of(body)
        missing = times - dead[body] if event_id not in recorded else 0
        report.lost += max(0, missing)
        dead_again += max(0, dead[body] - times)
    report.doubled += max(0, dead_again - report.redelivered)
    report.doubled += sum(times - 1 for times in recorded.values())
    copies = Counter(event for body in scenario.sent if (event := event_of(body)) is not None)
    report.duplicates = sum(times - 1 for event, times in copies.items() if event in recorded)
    state = await scenario.source.state()
    report.lost += state.depth


async def _verified_record(settings: Settings) -> dict[str, Any]:
    """Return one finished record and the result of its verification."""
    async with AUPRepository(settings.aws) as repository:
        items = [item async for item in repository.acceptances(USER, POLICY)]
        (verified,) = await verify_records(repository, items, settings.clock_skew_seconds)
    return {"attributes": readable(verified.item), "verification": verified.result()}


async def _scan(settings: Settings) -> list[dict[str, Any]]:
    async with new_session().client(
        "dynamodb",
        region_name=settings.aws.region,
        endpoint_url=settings.aws.dynamodb_endpoint_url,
    ) as client:
        pages = client.get_paginator("scan").paginate(TableName=settings.aws.user_table_name)
        return [item async for page in pages for item in page["Items"]]
