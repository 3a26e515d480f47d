"""The guided run, act by act."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from worker.aws.client import new_session
from worker.aws.provision import provision
from worker.aws.queue_lookup import open_queues
from worker.aws.sqs import Queue
from worker.demo.embedded_aws import embedded_aws
from worker.demo.messages import (
    FORGOTTEN,
    POLICY,
    PUBLISHED,
    TEXTS,
    event_of,
    late_messages,
    messages,
)
from worker.demo.process import ServiceProcess, service_process
from worker.domain.message import BATCH_MAX_ENTRIES, OutgoingMessage
from worker.domain.policy import Policy
from worker.errors import AUPError, Reason
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.replay import replay
from worker.operations.dead_letters.scan import scan_dead_letters
from worker.repository import AUPRepository
from worker.settings import Settings, load

# The embedded server slows down with the backlog, so it is kept short.
_BACKLOG_MAX: Final = 40
_ENVIRONMENT: Final = {
    "AWS_REGION": "us-east-1",
    # The embedded server takes any; without them the SDK would look for real ones.
    "AWS_ACCESS_KEY_ID": "embedded",
    "AWS_SECRET_ACCESS_KEY": "embedded",
    "AUP_WRITE_API": "put",
    # Two conditional puts at once may both succeed on the embedded server.
    "AUP_WRITE_CONCURRENCY": "1",
    "AUP_WAIT_SECONDS": "1",
    "AUP_POLL_CONCURRENCY": "4",
    "AUP_UNKNOWN_POLICY_SECONDS": "1",
    "AUP_BACKOFF_BASE_SECONDS": "0.5",
    "AUP_BACKOFF_CAP_SECONDS": "1",
    "AUP_SUMMARY_SECONDS": "0.25",
    "AUP_LOG_FORMAT": "json",
}


class Narrator(Protocol):
    """Whoever tells the story to the person who watches."""

    def say(self, text: str) -> None:
        """Tell one step."""

    def progress(self, sent: int, total: int, figures: dict[str, Any]) -> None:
        """Show how far the service is."""

    def show_dead(self, letters: Sequence[DeadLetter]) -> None:
        """Show what is dead and why."""


@dataclass(slots=True)
class DemoReport:
    """The final figures.

    Attributes:
        sent: messages pushed.
        recorded: acceptances in the table, by an independent reader.
        duplicates: messages that stated what was recorded before.
        dead_lettered: by reason, before the replay.
        replayed: dead letters sent back.
        lost: messages that are neither recorded, nor duplicates, nor dead letters.
        doubled: messages recorded or dead-lettered more than once.
        balanced: whether every run of the service balanced its books.
    """

    sent: int = 0
    recorded: int = 0
    duplicates: int = 0
    dead_lettered: dict[str, int] = field(default_factory=dict)
    replayed: int = 0
    lost: int = 0
    doubled: int = 0
    balanced: bool = True
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        """Say whether nothing was lost or doubled and all books balance."""
        dead = sum(self.dead_lettered.values())
        # Counted past the service: SQS may hand one message out twice, which it counts as two.
        accounted = self.recorded + self.duplicates + dead - self.replayed
        return self.balanced and not self.lost and not self.doubled and accounted == self.sent


async def run_demo(narrator: Narrator, *, good: int = 300) -> DemoReport:
    """Run the whole job once.

    Args:
        narrator: told every step.
        good: how many plain acceptances are among the messages.

    Raises:
        AUPError: the service did not do its work in time.
    """
    started_at = time.monotonic()
    report = DemoReport()
    with embedded_aws() as url, _environment({**_ENVIRONMENT, "AWS_ENDPOINT_URL": url}):
        narrator.say(f"an embedded AWS listens on {url}")
        settings = load()
        made = await provision(settings)
        narrator.say(f"made queues and tables: {', '.join(made)}")
        await _publish(settings, PUBLISHED)
        narrator.say(f"published {POLICY} {PUBLISHED}")
        async with open_queues(settings) as (source, dead_letters):
            stage = _Stage(settings, source, dead_letters, narrator, report)
            await stage.first_act(messages(good), late_messages())
            await stage.second_act()
            await _take_stock(stage)
    report.seconds = round(time.monotonic() - started_at, 1)
    return report


class _Stage:
    def __init__(
        self,
        settings: Settings,
        source: Queue,
        dead_letters: Queue,
        narrator: Narrator,
        report: DemoReport,
    ) -> None:
        self.settings = settings
        self.source = source
        self.dead_letters = dead_letters
        self.narrator = narrator
        self.report = report
        self.sent: list[str] = []

    async def first_act(self, bodies: list[str], late: list[str]) -> None:
        """Push everything while the service runs, stop it, and show what is dead."""
        total = len(bodies) + len(late)
        self.narrator.say(f"pushing {total} messages of every kind while the service runs")
        async with service_process() as service:
            await self._push(bodies, total, service)
            await self._settled(service, total)
            # Copies of what is recorded by now: the same events, tampered with.
            await self._push(late, total, service)
            await self._settled(service, total)
            await service.stop()
        self._enter(service)
        self.narrator.say("stopped the service with SIGTERM: it drained and ended with exit code 0")
        letters = await self._dead()
        self.report.dead_lettered = dict(Counter(letter.reason for letter in letters))
        self.narrator.show_dead(letters)

    async def second_act(self) -> None:
        """Publish what was forgotten, replay what died of it, and let the service take it."""
        await _publish(self.settings, FORGOTTEN)
        self.narrator.say(f"published the forgotten {POLICY} {FORGOTTEN}")
        async with service_process() as service:
            choice = DeadLetterFilter(reasons=[Reason.UNKNOWN_POLICY.value])
            figures = await replay(self.source, self.dead_letters, choice)
            self.report.replayed = figures.replayed
            self.narrator.say(f"replayed {figures.replayed} dead letters")
            await self._settled(service, figures.replayed)
            await service.stop()
        self._enter(service)

    def _enter(self, service: ServiceProcess) -> None:
        self.report.balanced &= bool(service.figures.get("balanced"))
        self.report.balanced &= service.figures.get("held") == 0
        if service.exit_code != 0:
            raise AUPError(f"the service ended with exit code {service.exit_code}")

    async def _push(self, bodies: list[str], total: int, service: ServiceProcess) -> None:
        for start in range(0, len(bodies), BATCH_MAX_ENTRIES):
            batch = bodies[start : start + BATCH_MAX_ENTRIES]
            for error in await self.source.send([OutgoingMessage(body) for body in batch]):
                if error is not None:
                    raise error
            self.sent += batch
            self.report.sent = len(self.sent)
            await service.until(
                lambda figures: len(self.sent) - _ended(figures) <= _BACKLOG_MAX,
                lambda figures: self.narrator.progress(len(self.sent), total, figures),
            )

    async def _settled(self, service: ServiceProcess, total: int) -> None:
        expected = min(total, len(self.sent))
        await service.until(
            lambda figures: _ended(figures) >= expected and figures.get("held") == 0,
            lambda figures: self.narrator.progress(expected, total, figures),
        )

    async def _dead(self) -> list[DeadLetter]:
        async with aclosing(
            scan_dead_letters(self.dead_letters, now=lambda: datetime.now(UTC))
        ) as letters:
            return [letter async for letter in letters]


def _ended(figures: dict[str, Any]) -> int:
    return sum(int(figures.get(kind, 0)) for kind in ("recorded", "duplicates", "dead_lettered"))


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    """Let only these AWS and AUP settings hold, whatever the user's own are."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(("AWS_", "AUP_")):
            del os.environ[name]
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


async def _publish(settings: Settings, version: str) -> None:
    now = datetime.now(UTC)
    async with AUPRepository(settings.aws) as repository:
        await repository.publish_policy(
            Policy(
                policy_id=POLICY,
                version=version,
                title="Acceptable Use Policy",
                content_sha256=hashlib.sha256(TEXTS[version].encode()).hexdigest(),
                published_at=now,
                effective_at=now,
            )
        )


async def _take_stock(stage: _Stage) -> None:
    """Count what is where by reading tables and queues, past everything that wrote them."""
    report = stage.report
    recorded = Counter(item["event_id"]["S"] for item in await _scan(stage.settings))
    dead = Counter(letter.message.body for letter in await stage._dead())  # noqa: SLF001 - one room
    report.recorded = recorded.total()
    sent = Counter(stage.sent)
    for body, times in sent.items():
        event_id = event_of(body)
        missing = times - dead[body] if event_id not in recorded else 0
        report.lost += max(0, missing)
        report.doubled += max(0, dead[body] - times)
    report.doubled += sum(times - 1 for times in recorded.values())
    copies = Counter(event for body in stage.sent if (event := event_of(body)) is not None)
    report.duplicates = sum(times - 1 for event, times in copies.items() if event in recorded)
    state = await stage.source.state()
    report.lost += state.depth


async def _scan(settings: Settings) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    async with new_session().client(
        "dynamodb",
        region_name=settings.aws.region,
        endpoint_url=settings.aws.dynamodb_endpoint_url,
    ) as client:
        request: dict[str, Any] = {"TableName": settings.aws.user_table_name}
        while True:
            answer: dict[str, Any] = dict(await client.scan(**request))
            items += answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return items
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
