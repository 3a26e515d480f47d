"""DynamoDB servers, and an environment of two tables on one of them."""

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
class StoreVariant:
    """DynamoDB server, the API for writes, and whether calls use the signed fast path."""

    server: str
    write_api: Literal["batch", "put"]
    fast_calls: bool = True

    def __str__(self) -> str:
        return f"{self.server}-{self.write_api}{'' if self.fast_calls else '-stock'}"


STORE_VARIANTS = [
    pytest.param(store, id=str(store), marks=marks)
    for store, marks in (
        (StoreVariant("simulated", "batch"), []),
        (StoreVariant("simulated", "put"), []),
        (StoreVariant("moto", "put"), []),
        (StoreVariant("moto", "put", fast_calls=False), []),
        (StoreVariant("dynamodb_local", "batch"), [pytest.mark.servers]),
        (StoreVariant("dynamodb_local", "batch", fast_calls=False), [pytest.mark.servers]),
        (StoreVariant("dynamodb_local", "put"), [pytest.mark.servers]),
        (StoreVariant("ministack", "batch"), [pytest.mark.servers]),
        (StoreVariant("ministack", "put"), [pytest.mark.servers]),
    )
]

# The simulation permits no update of recorded acceptances, like the role of the worker.
UPDATABLE_VARIANTS = [each for each in STORE_VARIANTS if not str(each.id).startswith("simulated")]


@cache
def real_session() -> aioboto3.Session:
    """Return one session for all tests: loading the service models of AWS is slow."""
    return aioboto3.Session()


class StoreEnvironment:
    """Two unique table names on a server, and a session for it."""

    def __init__(self, store: StoreVariant, servers: RunningServers) -> None:
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
            self.simulated = SimulatedDynamoDB(faults, mutable_tables=[self._values["table_name"]])
            self.session = SimulatedSession(SimulatedSQS(faults), self.simulated)
        else:
            self._values["dynamodb_endpoint_url"] = servers.url(store.server)
        if store.server == "moto":
            # Its conditional put is not atomic: two concurrent ones may both succeed.
            self._values["write_concurrency"] = 1

    def settings(self, **changes: Any) -> AWSSettings:
        """Return settings for this environment."""
        return AWSSettings(**(self._values | changes))

    def repository(self, **changes: Any) -> AUPRepository:
        """Construct the repository, whose current time is always `NOW`."""
        return AUPRepository(self.settings(**changes), self.session, now=_now)

    def client(self) -> Any:
        """Return a context manager that opens a plain resource, for its client."""
        settings = self.settings()
        return self.session.resource(
            "dynamodb",
            region_name=settings.region,
            endpoint_url=settings.dynamodb_endpoint_url,
        )

    async def create_tables(self) -> None:
        """Create both tables as the repository requires them."""
        settings = self.settings()
        await self.create_table(settings.table_name, POLICY_KEY)
        await self.create_table(settings.user_table_name, ACCEPTANCE_KEY)

    async def create_table(self, name: str, key: Mapping[str, str]) -> None:
        """Create a table whose key has these attributes and types."""
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
        """Return every stored acceptance, read without the repository."""
        found: list[dict[str, Any]] = []
        request: dict[str, Any] = {"TableName": self.settings().user_table_name}
        async with self.client() as resource:
            while True:
                response = await resource.meta.client.scan(**request)
                found += response["Items"]
                if not response.get("LastEvaluatedKey"):
                    return found
                request["ExclusiveStartKey"] = response["LastEvaluatedKey"]


def _now() -> Any:
    return NOW
