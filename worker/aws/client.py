"""Sessions and clients of the SDK, as the worker configures them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import aioboto3
from aiobotocore.config import AioConfig

from worker import __version__
from worker.aws.connection import StrictSession
from worker.aws.credentials import CredentialsSession
from worker.aws.responses import check_response
from worker.aws.sdk_errors import translating
from worker.aws.sdk_files import certificate_problem, token_problems
from worker.errors import SettingsError

ClientT = TypeVar("ClientT")


def new_session() -> aioboto3.Session:
    """Make a session that believes no answer which AWS cannot have given.

    The SDK takes a page of HTML, or nothing, for an answer without fields: so a write that never
    happened would have succeeded, and a policy would be absent. And what is no text it raises past
    every handler of its errors, as it does with what goes wrong on the way to credentials.

    Raises:
        SettingsError: the profile does not exist; or its file, that of certificates or that of a
            token cannot be read.
    """
    with translating("AWS"):
        core = CredentialsSession()
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
        # An empty variable would turn off the verification of certificates.
        core.set_config_variable("ca_bundle", bundle or True)
    problems = token_problems()
    problem = certificate_problem(name, bundle) if bundle else None
    if problem or problems:
        raise SettingsError([*([problem] if problem else []), *problems])


def client_config(*, pool: int, read_timeout_seconds: float, attempts: int) -> Any:
    """Configure one client.

    Args:
        pool: connections at most; as many as calls may be under way.
        read_timeout_seconds: must exceed the wait of a long poll.
        attempts: tries of the SDK itself, the first included.
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
async def opened(
    context: AbstractAsyncContextManager[ClientT], service: str
) -> AsyncIterator[ClientT]:
    """Open a client or resource of the SDK, and close it at the end.

    Raises:
        AWSError: credentials cannot be had.
        SettingsError: region, profile or endpoint are missing or wrong.
    """
    async with AsyncExitStack() as stack:
        with translating(service):
            try:
                client = await stack.enter_async_context(context)
            except ValueError as error:  # an endpoint of the profile that the SDK cannot call
                raise SettingsError([f"{service}: {error}: correct endpoint_url"]) from None
        yield client
