"""`init` creates what the worker needs, and nothing twice."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.contract.running import RunningServers
from tests.contract.store import real_session
from tests.simulation.faults import Faults
from tests.simulation.simulated_dynamodb import SimulatedDynamoDB
from tests.simulation.simulated_session import SimulatedSession
from tests.simulation.simulated_sqs import SimulatedSQS
from worker.aws.provision import provision
from worker.aws.sqs import open_queues
from worker.errors import UsageError
from worker.operations.doctor.preflight import check
from worker.repository import AUPRepository
from worker.settings import AWSSettings, Settings

SERVERS = ["simulated", "moto", pytest.param("ministack", marks=pytest.mark.servers)]


@pytest.mark.parametrize("server", SERVERS)
async def test_provision_creates_missing_resources_once_as_the_worker_needs_them(
    server: str, servers: RunningServers
) -> None:
    unique = uuid4().hex[:12]
    aws: dict[str, Any] = {"region": "us-east-1"}
    session: Any = real_session()
    if server == "simulated":
        faults = Faults(1)
        session = SimulatedSession(SimulatedSQS(faults), SimulatedDynamoDB(faults))
    else:
        url = servers.url(server)
        aws |= {"sqs_endpoint_url": url, "dynamodb_endpoint_url": url}
    if server == "moto":
        aws["write_api"] = "put"  # it has no PartiQL
    aws |= {"table_name": f"policies-{unique}", "user_table_name": f"users-{unique}"}
    settings = Settings(
        aws=AWSSettings(**aws), queue=f"source-{unique}", dead_letter_queue=f"dead-{unique}"
    )
    created = await provision(settings, session=session)
    assert created == {
        f"queue dead-{unique}": True,
        f"queue source-{unique}": True,
        f"table policies-{unique}": True,
        f"table users-{unique}": True,
    }
    assert await provision(settings, session=session) == dict.fromkeys(created, False)
    async with (
        AUPRepository(settings.aws, session) as repository,
        open_queues(settings, session=session) as (source, dead_letters),
    ):
        # The worker dead-letters, with a reason, before the redrive policy would, without one.
        assert await check(settings, source, dead_letters, repository) == settings
        states = await source.state(), await dead_letters.state()
    assert states[0].redrives_to == states[1].arn
    assert states[0].max_receive_count == settings.max_attempts + 2
    assert states[1].retention_seconds > states[0].retention_seconds


async def test_queue_given_as_url_cannot_be_created() -> None:
    url = "https://sqs.eu-west-1.amazonaws.com/000000000000/source"
    with pytest.raises(UsageError, match="is a URL; set a name"):
        await provision(Settings(queue=url))
