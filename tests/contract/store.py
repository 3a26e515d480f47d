"""Lend the repository a pair of tables of its own, on any of the servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal
from uuid import uuid4

import aioboto3
import pytest

from tests.contract.facts import NOW
from tests.contract.running import RunningServers
from tests.simulation.faults import Faults
from tests.simulation.simulated_dynamodb import SimulatedDynamoDB
from tests.simulation.simulated_session import SimulatedSession
from tests.simulation.simulated_sqs import SimulatedSQS
from worker.repository import AUPRepository
from worker.settings import AWSSettings

POLICY_KEY = {"policy_id": "S", "version": "S"}
ACCEPTANCE_KEY = {"user_id": "S", "policy_version": "S"}


@dataclass(frozen=True, slots=True)
class AcceptanceStore:
    """A server, the way to write to it, and whether the calls go past most of the SDK."""

    server: str
    write_api: Literal["batch", "put"]
    fast_calls: bool = True

    def __str__(self) -> str:
        return f"{self.server}-{self.write_api}{'' if self.fast_calls else '-stock'}"


LEDGERS = [
    pytest.param(store, id=str(store), marks=marks)
    for store, marks in (
        (AcceptanceStore("simulated", "batch"), []),
        (AcceptanceStore("simulated", "put"), []),
        (AcceptanceStore("moto", "put"), []),
        (AcceptanceStore("moto", "put", fast_calls=False), []),
        (AcceptanceStore("dynamodb_local", "batch"), [pytest.mark.servers]),
        (AcceptanceStore("dynamodb_local", "batch", fast_calls=False), [pytest.mark.servers]),
        (AcceptanceStore("dynamodb_local", "put"), [pytest.mark.servers]),
        (AcceptanceStore("ministack", "batch"), [pytest.mark.servers]),
        (AcceptanceStore("ministack", "put"), [pytest.mark.servers]),
    )
]

# The simulation's table of acceptances never changes, as the worker needs it.
REAL_LEDGERS = [each for each in LEDGERS if not str(each.id).startswith("simulated")]


@cache
def real_session() -> aioboto3.Session:
    """Return one session for all tests: reading AWS's service models takes it a while."""
    return aioboto3.Session()


class LedgerPlace:
    """Two table names that nobody else uses, and the session that leads to them."""

    def __init__(self, store: AcceptanceStore, servers: RunningServers) -> None:
        unique = uuid4().hex[:12]
        self.store = store
        self.simulated: SimulatedDynamoDB | None = None
        self.session: Any = real_session()
        self._values: dict[str, Any] = {
            "region": "us-east-1",
            "table_name": f"policies-{unique}",
            "user_table_name": f"acceptances-{unique}",
            "write_api": store.write_api,
            "fast_calls": store.fast_calls,
        }
        if store.server == "simulated":
            faults = Faults(1)
            self.simulated = SimulatedDynamoDB(
                faults, amendable_tables=[self._values["table_name"]]
            )
            self.session = SimulatedSession(SimulatedSQS(faults), self.simulated)
        else:
            self._values["dynamodb_endpoint_url"] = servers.url(store.server)
        if store.server == "moto":
            # Its conditional put is not atomic: of two at once, both may win.
            self._values["write_concurrency"] = 1

    def settings(self, **changes: Any) -> AWSSettings:
        """Return settings that lead here."""
        return AWSSettings(**(self._values | changes))

    def repository(self, **changes: Any) -> AUPRepository:
        """Construct the repository; its present is always the same moment."""
        return AUPRepository(self.settings(**changes), self.session, now=_now)

    def client(self) -> Any:
        """Return a context manager that opens a resource of our own, for its client."""
        settings = self.settings()
        return self.session.resource(
            "dynamodb",
            region_name=settings.region,
            endpoint_url=settings.dynamodb_endpoint_url,
        )

    async def make_tables(self) -> None:
        """Make both tables as the repository wants them."""
        settings = self.settings()
        await self.make_table(settings.table_name, POLICY_KEY)
        await self.make_table(settings.user_table_name, ACCEPTANCE_KEY)

    async def make_table(self, name: str, key: Mapping[str, str]) -> None:
        """Make a table whose key has these attributes of these types."""
        async with self.client() as resource:
            await resource.meta.client.create_table(
                TableName=name,
                KeySchema=[
                    {"AttributeName": attribute, "KeyType": kind}
                    for attribute, kind in zip(key, ("HASH", "RANGE"), strict=False)
                ],
                AttributeDefinitions=[
                    {"AttributeName": attribute, "AttributeType": kind}
                    for attribute, kind in key.items()
                ],
                BillingMode="PAY_PER_REQUEST",
            )

    async def items(self) -> list[dict[str, Any]]:
        """Read every acceptance that is kept, past the repository."""
        found: list[dict[str, Any]] = []
        request: dict[str, Any] = {"TableName": self.settings().user_table_name}
        async with self.client() as resource:
            while True:
                answer = await resource.meta.client.scan(**request)
                found += answer["Items"]
                if not answer.get("LastEvaluatedKey"):
                    return found
                request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def _now() -> Any:
    return NOW
