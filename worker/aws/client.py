"""Sessions and clients of the AWS SDK, configured for the worker."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import aioboto3
from aiobotocore.config import AioConfig

from worker import __version__
from worker.aws.connection import StrictSession
from worker.aws.credentials import CredentialsSession
from worker.aws.responses import check_response
from worker.aws.sdk_errors import translating
from worker.aws.sdk_files import certificate_problems, token_problems
from worker.aws.sdk_models import ModelLoader
from worker.errors import SettingsError
from worker.settings import AWSSettings

# Attempts of the SDK for one call, including the first one. A failed poll is retried by the worker,
# one poll at a time.
SDK_ATTEMPTS: Final = 3
SDK_POLL_ATTEMPTS: Final = 1


def new_session() -> aioboto3.Session:
    """Create a session that rejects responses which AWS cannot have sent.

    The SDK takes an HTML page or an empty body for a response without members: a write that never
    happened would count as a success, and a policy would be absent. Bytes that are not text, and
    failures to retrieve credentials, it raises as exceptions outside its own hierarchy.

    Raises:
        SettingsError: The profile does not exist, or a file of profiles, certificates or tokens
            cannot be read.
    """
    with translating("AWS"):
        core = CredentialsSession()
        core.register_component("data_loader", ModelLoader(core.get_config_variable("data_path")))
        session = aioboto3.Session(botocore_session=core)
        _check_files(core)
    for service in ("sqs", "dynamodb"):
        session.events.register(f"before-parse.{service}", check_response)
    return session


def _check_files(core: CredentialsSession) -> None:
    bundle = core.get_config_variable("ca_bundle")
    name = "AWS_CA_BUNDLE" if os.environ.get("AWS_CA_BUNDLE") else "ca_bundle of the profile"
    if not bundle:
        bundle, name = os.environ.get("REQUESTS_CA_BUNDLE"), "REQUESTS_CA_BUNDLE"
        # An empty variable would disable the verification of certificates.
        core.set_config_variable("ca_bundle", bundle or True)
    problems = certificate_problems(name, bundle) if bundle else []
    problems += token_problems()
    if problems:
        raise SettingsError(problems)


def client_config(*, pool: int, read_timeout_seconds: float, attempts: int) -> Any:
    """Return the configuration of one client.

    Args:
        pool: Maximum number of connections; at least the number of concurrent calls.
        read_timeout_seconds: Must exceed the wait time of a long poll.
        attempts: Attempts of the SDK, including the first one.
    """
    return AioConfig(
        connect_timeout=3,
        read_timeout=read_timeout_seconds,
        max_pool_connections=pool,
        retries={"mode": "standard", "total_max_attempts": attempts},
        tcp_keepalive=True,
        user_agent_extra=f"aup-worker/{__version__}",
        http_session_cls=StrictSession,
    )


@asynccontextmanager
async def open_client(
    session: aioboto3.Session, service: str, aws: AWSSettings, config: Any = None
) -> AsyncIterator[Any]:
    """Open a client of the SDK and close it on exit.

    Args:
        session: Session that creates the client.
        service: Name of the service, such as `SQS`; starts the text of errors.
        aws: Settings with the region and the endpoints of SQS and DynamoDB.
        config: Configuration from `client_config`; by default that of the SDK.

    Raises:
        AWSError: Credentials cannot be retrieved.
        SettingsError: The region, profile or endpoint is missing or wrong.
    """
    endpoints = {"SQS": aws.sqs_endpoint_url, "DynamoDB": aws.dynamodb_endpoint_url}
    create: Any = session.client  # its stub lists the names of services
    context = create(
        service.lower(),
        region_name=aws.region,
        endpoint_url=endpoints.get(service),
        config=config,
    )
    async with AsyncExitStack() as stack:
        with translating(service):
            try:
                client = await stack.enter_async_context(context)
            except ValueError as error:  # invalid endpoint in the profile
                raise SettingsError([f"{service}: {error}: correct endpoint_url"]) from None
        yield client
