"""What `init` makes is what the worker needs, and nothing is made twice."""

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
from worker.aws.queue_lookup import open_queues
from worker.errors import UsageError
from worker.operations.doctor.preflight import check
from worker.repository import AUPRepository
from worker.settings import AWSSettings, Settings

SERVERS = ["simulated", "moto", pytest.param("ministack", marks=pytest.mark.servers)]


@pytest.mark.parametrize("server", SERVERS)
async def test_what_is_missing_is_made_once_and_fits_the_worker(
    server: str, servers: RunningServers
) -> None:
    unique = uuid4().hex[:12]
    place: dict[str, Any] = {"region": "us-east-1"}
    session: Any = real_session()
    if server == "simulated":
        faults = Faults(1)
        session = SimulatedSession(SimulatedSQS(faults), SimulatedDynamoDB(faults))
    else:
        url = servers.url(server)
        place |= {"sqs_endpoint_url": url, "dynamodb_endpoint_url": url}
    if server == "moto":
        place["write_api"] = "put"  # it has no PartiQL
    place |= {"table_name": f"policies-{unique}", "user_table_name": f"users-{unique}"}
    settings = Settings(
        aws=AWSSettings(**place), queue=f"source-{unique}", dead_letter_queue=f"dead-{unique}"
    )
    made = await provision(settings, session=session)
    assert made == {
        f"queue dead-{unique}": True,
        f"queue source-{unique}": True,
        f"table policies-{unique}": True,
        f"table users-{unique}": True,
    }
    assert await provision(settings, session=session) == dict.fromkeys(made, False)
    async with (
        AUPRepository(settings.aws, session) as repository,
        open_queues(settings, session=session) as (source, dead_letters),
    ):
        # The worker's own attempts end before the queue would move a message unexplained.
        assert await check(settings, source, dead_letters, repository) == settings
        states = await source.state(), await dead_letters.state()
    assert states[0].redrives_to == states[1].arn
    assert states[0].max_receive_count == settings.max_attempts + 2
    assert states[1].retention_seconds > states[0].retention_seconds


async def test_a_queue_that_is_named_by_url_cannot_be_made() -> None:
    url = "https://sqs.eu-west-1.amazonaws.com/000000000000/source"
    with pytest.raises(UsageError, match="is a URL; set a name"):
        await provision(Settings(queue=url))
