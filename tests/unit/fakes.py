"""What the unit tests share: sample facts, scripted queues and a small simulated AWS."""
# ruff: noqa: N803 - the arguments bear AWS's names

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from botocore.exceptions import ConnectionClosedError

from tests import private
from tests.given import given
from tests.simulation.dynamodb_expressions import insert_statement
from tests.simulation.faults import Durations, Faults
from tests.simulation.simulated_dynamodb import SimulatedDynamoDB
from tests.simulation.simulated_session import SimulatedSession
from tests.simulation.simulated_sqs import SimulatedSQS
from tests.simulation.virtual_clock import START, WallClock
from worker.aws.access import CallObserver, Operation, Probe
from worker.aws.sqs import Queue
from worker.domain.acceptance import Acceptance
from worker.domain.message import OutgoingMessage, ReceivedMessage
from worker.domain.origin import Origin
from worker.domain.policy import Policy, PolicyText
from worker.errors import AWSError
from worker.pipeline.metrics import Metrics
from worker.pipeline.service_state import ServiceState
from worker.pipeline.slots import Slots
from worker.repository import AUPRepository, RecordResult
from worker.settings import AWSSettings, Settings

TEXT_SHA256 = hashlib.sha256(b"Be kind.").hexdigest()
TEXT = PolicyText(TEXT_SHA256)
ORIGIN = Origin.at(START, "message-0", hashlib.sha256(b"{}").hexdigest())
IP, USER_AGENT, SESSION_ID = private.IP, private.USER_AGENT, private.SESSION_ID
SOURCE = "aup-acceptances"
DEAD_LETTERS = "aup-acceptances-dead"
ABSENT = object()


def message(number: int = 0, /, **changes: Any) -> dict[str, Any]:
    """Give the fields of a good acceptance, some changed or, if ABSENT, left out."""
    fields = {
        "event_id": f"event-{number}",
        "user_id": f"u-{number}",
        "policy_id": "acceptable-use",
        "version": "2026-01",
        "accepted_at": "2026-11-22T09:59:00Z",
        "content_sha256": TEXT_SHA256,
        "locale": "es-ES",
        "method": "clickwrap",
        "channel": "web",
        **private.PRIVATE,
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not ABSENT}


def body(number: int = 0, /, **changes: Any) -> str:
    """Give the same as a message's body."""
    return json.dumps(message(number, **changes))


def acceptance(number: int = 0, /, **changes: Any) -> Acceptance:
    """Give the same as an acceptance."""
    return Acceptance.model_validate(message(number, **changes))


def body_digest(item: Mapping[str, Any], sha256: str) -> bytes:
    """Give the digest in a record of a body with a hash in hexadecimal."""
    names = ("ip_salt", "user_agent_salt", "session_id_salt")
    salts = b"".join(bytes(item[name]) for name in names if name in item)
    return hashlib.sha256(salts + bytes.fromhex(sha256)).digest()


def policy(version: str = "2026-01", **changes: Any) -> Policy:
    """Give a published policy."""
    fields = {
        "policy_id": "acceptable-use",
        "version": version,
        "title": "Acceptable Use Policy",
        "content_sha256": TEXT_SHA256,
        "published_at": START - timedelta(days=9),
        "effective_at": START - timedelta(days=9),
        **changes,
    }
    return Policy.model_validate(fields)


def received_message(number: int = 0, /, **changes: Any) -> ReceivedMessage:
    """Give a delivery of a good acceptance."""
    fields: dict[str, Any] = {
        "message_id": f"message-{number}",
        "receipt_handle": f"handle-{number}",
        "body": body(number),
        "sent_at": START,
        "first_received_at": START,
        **changes,
    }
    for name in ("sent", "first_received"):
        fields[f"{name}_ms"] = round(fields.pop(f"{name}_at").timestamp() * 1000)
    return ReceivedMessage(**fields)


def aws_settings(**changes: Any) -> AWSSettings:
    """Give settings of the repository that read nothing but these."""
    return given(AWSSettings, {"region": "eu-west-1", "fast_calls": False, **changes})


def settings(**changes: Any) -> Settings:
    """Give settings of the service."""
    return given(Settings, {"aws": aws_settings(), **changes})


def service_state(
    chosen: Settings | None = None, slots: Slots | None = None, *, probes: Sequence[Probe] = ()
) -> ServiceState:
    """Return the state of a service that knows SQS time, on the running loop's clock."""
    state = ServiceState(
        chosen or settings(),
        Metrics(),
        slots or Slots(1),
        probes=probes,
        stopping=asyncio.Event(),
        now=clock,
    )
    state.sqs_clock.learn(received_message(sent_at=clock(), first_received_at=clock()))
    return state


def in_child(check: Callable[[], bool]) -> bool:
    """Fork, and say whether the check held in the child."""
    process_id = os.fork()
    if process_id == 0:  # pragma: no cover - another process
        code = 2
        try:
            signal.alarm(10)
            code = 0 if check() else 1
        finally:
            os._exit(code)
    _, status = os.waitpid(process_id, 0)
    return os.waitstatus_to_exitcode(status) == 0


Answer = Sequence[AWSError | None] | AWSError
Script = Callable[[Sequence[Any]], Answer]


def agree(entries: Sequence[Any]) -> list[AWSError | None]:
    """Answer that every entry succeeded."""
    return [None] * len(entries)


class FakeQueue(Queue):
    """Note every batch and answer as the script says, after a while.

    Attributes:
        log: (operation, entries) of every call, in order.
    """

    def __init__(self, *, seconds: float = 0.01) -> None:
        super().__init__(cast("Any", None), "https://sqs.test/queue")
        self.log: list[tuple[str, list[Any]]] = []
        self.on_delete: Script = agree
        self.on_change: Script = agree
        self.on_send: Script = agree
        self.seconds = seconds
        self.under_way = Counter[str]()
        self.most_under_way = Counter[str]()

    def of(self, operation: str) -> list[list[Any]]:
        """Give the batches of one operation."""
        return [entries for name, entries in self.log if name == operation]

    def entries(self, operation: str) -> list[Any]:
        """Give the entries of one operation."""
        return [entry for batch in self.of(operation) for entry in batch]

    async def _answer(
        self, operation: str, script: Script, entries: Sequence[Any]
    ) -> list[AWSError | None]:
        self.log.append((operation, list(entries)))
        self.under_way[operation] += 1
        self.most_under_way[operation] = max(
            self.most_under_way[operation], self.under_way[operation]
        )
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.under_way[operation] -= 1
        answer = script(entries)
        if isinstance(answer, AWSError):
            raise answer
        return list(answer)

    async def delete(self, messages: Sequence[ReceivedMessage]) -> list[AWSError | None]:
        return await self._answer("delete", self.on_delete, messages)

    async def change_visibility(
        self, changes: Sequence[tuple[ReceivedMessage, float]]
    ) -> list[AWSError | None]:
        return await self._answer("change", self.on_change, changes)

    async def send(self, messages: Sequence[OutgoingMessage]) -> list[AWSError | None]:
        return await self._answer("send", self.on_send, messages)


class FakeAcceptanceStore:
    """Answer as told: `policies` by version, `results` or errors one after the other."""

    def __init__(self, *policies: Policy) -> None:
        self.policies = {(each.policy_id, each.version): each for each in policies}
        self.results: list[RecordResult | Exception] = []
        self.policy_error: Exception | None = None
        self.recorded: list[Acceptance] = []
        self.texts: list[PolicyText] = []
        self.origins: list[Origin] = []
        self.rechecks = 0
        self.rechecked: Policy | None = None
        self.seconds = 0.0
        self.observer: CallObserver | None = None

    def observe(self, observer: CallObserver) -> None:
        self.observer = observer

    def probes(self) -> list[Probe]:
        return []

    def _observe(self, operation: Operation, result: object) -> None:
        if self.observer is not None:
            self.observer.observe(operation, [result])

    def known_policy(self, policy_id: str, version: str) -> Policy | None:
        return None if self.policy_error else self.policies.get((policy_id, version))

    async def policy(self, policy_id: str, version: str, *, recheck: bool = False) -> Policy | None:
        self.rechecks += recheck
        self._observe(Operation.READ_POLICY, self.policy_error)
        if self.policy_error is not None:
            raise self.policy_error
        if recheck and self.rechecked is not None:
            return self.rechecked
        return self.policies.get((policy_id, version))

    async def record(
        self, acceptance: Acceptance, text: PolicyText, origin: Origin
    ) -> RecordResult:
        self.recorded.append(acceptance)
        self.texts.append(text)
        self.origins.append(origin)
        await asyncio.sleep(self.seconds)
        result = self.results.pop(0) if self.results else RecordResult.RECORDED
        self._observe(Operation.WRITE, result)
        if isinstance(result, Exception):
            raise result
        return result


class WatchedDynamoDB(SimulatedDynamoDB):
    """A simulated DynamoDB that counts what is asked of it, and fails where it is told to.

    Attributes:
        batches: the acceptances of every BatchExecuteStatement; a policy is published alone.
        reads: GetItem calls by table.
        spoil_item: gives the error code of an item's statement, or None.
        spoil_call: gives the error of a whole call, or None.
        lose_answers: how many writes land without an answer.
    """

    def __init__(self, faults: Faults) -> None:
        super().__init__(faults, mutable_tables=("aup-policies",))
        self.batches: list[list[dict[str, Any]]] = []
        self.puts: list[dict[str, Any]] = []
        self.reads = Counter[str]()
        self.read_error: Exception | None = None
        self.spoil_item: Callable[[dict[str, Any]], str | None] = lambda _: None
        self.spoil_call: Callable[[list[dict[str, Any]]], Exception | None] = lambda _: None
        self.lose_answers = 0
        self.writing = 0
        self.most_writing = 0

    async def batch_execute_statement(
        self, *, Statements: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        items = [insert_statement(s["Statement"]).item(s["Parameters"]) for s in Statements]
        if "user_id" in items[0]:
            self.batches.append(items)
        with self._writing():
            await self._fail(items)
            codes = [self.spoil_item(item) for item in items]
            good = [each for each, code in zip(Statements, codes, strict=True) if code is None]
            answers: list[Any] = []
            if good:
                answer = await super().batch_execute_statement(Statements=good)
                answers = list(answer["Responses"])
            self._lose()
            return {
                "Responses": [
                    answers.pop(0) if code is None else {"Error": {"Code": code, "Message": "no"}}
                    for code in codes
                ]
            }

    async def put_item(self, **request: Any) -> dict[str, Any]:
        self.puts.append(dict(request["Item"]))
        with self._writing():
            await self._fail([dict(request["Item"])])
            answer = await super().put_item(**request)
            self._lose()
            return answer

    async def get_item(self, **request: Any) -> dict[str, Any]:
        self.reads[request["TableName"]] += 1
        if self.read_error is not None:
            raise self.read_error
        return await super().get_item(**request)

    def _writing(self) -> _Writing:
        return _Writing(self)

    async def _fail(self, items: list[dict[str, Any]]) -> None:
        await asyncio.sleep(0.01)
        error = self.spoil_call(items)
        if error is not None:
            raise error

    def _lose(self) -> None:
        if self.lose_answers:
            self.lose_answers -= 1
            raise ConnectionClosedError(endpoint_url="https://dynamodb.test/")


class _Writing:
    def __init__(self, dynamodb: WatchedDynamoDB) -> None:
        self._dynamodb = dynamodb

    def __enter__(self) -> None:
        self._dynamodb.writing += 1
        self._dynamodb.most_writing = max(self._dynamodb.most_writing, self._dynamodb.writing)

    def __exit__(self, *_: object) -> None:
        self._dynamodb.writing -= 1


@dataclass
class World:
    """A simulated AWS with our queues and tables in it."""

    faults: Faults
    sqs: SimulatedSQS
    dynamodb: WatchedDynamoDB
    session: SimulatedSession
    source: Queue
    dead_letters: Queue
    calls: Counter[str] = field(default_factory=Counter)

    def repository(self, aws: AWSSettings | None = None, **changes: Any) -> AUPRepository:
        """Give a repository of this world, on its clock."""
        chosen = aws or aws_settings(**changes)
        clock: Callable[[], datetime] = WallClock().now
        return AUPRepository(chosen, cast("Any", self.session), clock)

    async def push(self, *bodies: str, attributes: Mapping[str, Any] | None = None) -> None:
        """Send messages to the source."""
        for start in range(0, len(bodies), 10):
            batch = [OutgoingMessage(each, attributes or {}) for each in bodies[start : start + 10]]
            assert await self.source.send(batch) == [None] * len(batch)

    def bodies(self, name: str) -> list[str]:
        """Give the bodies that a queue holds, in any state."""
        return [each.body for each in self.sqs.queue(name).messages.values()]

    def records(self) -> list[dict[str, Any]]:
        """Give the recorded acceptances."""
        return self.dynamodb.tables["aup-acceptances"].items()


async def open_world(
    *, seed: int = 0, max_receive_count: int = 0, durations: Durations | None = None
) -> World:
    """Make queues and tables, and publish nothing."""
    faults = Faults(seed, durations=durations or Durations())
    sqs, dynamodb = SimulatedSQS(faults), WatchedDynamoDB(faults)
    dead_url = (await sqs.create_queue(QueueName=DEAD_LETTERS))["QueueUrl"]
    redrive = {
        "deadLetterTargetArn": sqs.queue(DEAD_LETTERS).arn,
        "maxReceiveCount": max_receive_count,
    }
    attributes = {"RedrivePolicy": json.dumps(redrive)} if max_receive_count else {}
    url = (await sqs.create_queue(QueueName=SOURCE, Attributes=attributes))["QueueUrl"]
    for name, keys in (
        ("aup-policies", ("policy_id", "version")),
        ("aup-acceptances", ("user_id", "policy_version")),
    ):
        await dynamodb.create_table(
            TableName=name,
            KeySchema=[
                {"AttributeName": keys[0], "KeyType": "HASH"},
                {"AttributeName": keys[1], "KeyType": "RANGE"},
            ],
        )
    calls = Counter[str]()
    return World(
        faults=faults,
        sqs=sqs,
        dynamodb=dynamodb,
        session=SimulatedSession(sqs, dynamodb),
        source=Queue(cast("Any", sqs), url, calls=calls),
        dead_letters=Queue(cast("Any", sqs), dead_url, calls=calls),
        calls=calls,
    )


def clock() -> datetime:
    """Give the simulation's time."""
    return START + timedelta(seconds=asyncio.get_running_loop().time())


def fixed_now() -> datetime:
    """Give one moment."""
    return datetime(2026, 11, 22, 10, tzinfo=UTC)
