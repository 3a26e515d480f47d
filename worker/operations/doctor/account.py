"""Who we are for AWS, and where it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from worker.aws.calls import calling
from worker.aws.client import client_config, opened
from worker.aws.error_codes import CREDENTIALS_ADVICE, STALE_CREDENTIALS_ADVICE
from worker.aws.sdk_errors import code_of
from worker.aws.sdk_files import config_problems
from worker.errors import AWSDeniedError, AWSError, AWSUnsupportedError
from worker.operations.doctor.result import CheckResult, failed, passed, unknown, warned
from worker.settings import AWSSettings

if TYPE_CHECKING:
    import aioboto3

_LOCAL: Final = {"localhost", "127.0.0.1", "::1"}
# Everybody may ask who they are, so these come from something in between.
_NO_WORD_ON_KEYS: Final = {"403", "AccessDenied", "AccessDeniedException"}
# botocore.credentials: `METHOD` of each provider.
_SOURCES: Final = {
    "env": "the environment",
    "shared-credentials-file": "the credentials file",
    "config-file": "the configuration file",
    "assume-role": "a role that the profile assumes",
    "assume-role-with-web-identity": "a web identity token",
    "sso": "single sign-on",
    "login": "a login",
    "custom-process": "the profile's credential_process",
    "container-role": "the container's role",
    "iam-role": "the instance's role",
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """What we sign with, without what is secret."""

    source: str
    key_end: str


async def credentials_of(session: Any, timeout_seconds: float) -> Credentials | None:
    """Find what calls are signed with.

    Returns:
        None where there is nothing.

    Raises:
        AWSError: their source does not give them.
    """
    async with calling("credentials", timeout_seconds):
        found = await session.get_credentials()
        if found is None:
            return None
        keys = await found.get_frozen_credentials()
    method = str(found.method)
    return Credentials(_SOURCES.get(method, method), keys.access_key[-4:])


async def credentials(session: aioboto3.Session, aws: AWSSettings) -> CheckResult:
    """Check that there are credentials, and say where they come from."""
    check = "credentials"
    try:
        found = await credentials_of(session, aws.call_timeout_seconds)
    except AWSError as error:
        return failed(check, str(error).removesuffix(f"; {CREDENTIALS_ADVICE}"), CREDENTIALS_ADVICE)
    if found is None:
        return failed(check, "; ".join(["there are none", *config_problems()]), CREDENTIALS_ADVICE)
    return passed(check, f"from {found.source}, access key id …{found.key_end}")


async def identity(
    session: aioboto3.Session, aws: AWSSettings, environment: Mapping[str, str] = os.environ
) -> CheckResult:
    """Ask STS who these credentials are; anybody may.

    Source: AWS STS API reference, GetCallerIdentity.
    """
    check = "identity"
    named = environment.get("AWS_ENDPOINT_URL_STS") or environment.get("AWS_ENDPOINT_URL")
    if aws.sqs_endpoint_url and aws.dynamodb_endpoint_url and not named:
        return unknown(
            check,
            "SQS and DynamoDB are not AWS's own, and no STS is named",
            "set AWS_ENDPOINT_URL_STS, if there is one",
        )
    timeout = aws.call_timeout_seconds
    config = client_config(pool=1, read_timeout_seconds=timeout, attempts=1)
    context: Any = session.client("sts", region_name=aws.region, config=config)
    try:
        async with opened(context, "STS") as client, calling("GetCallerIdentity", timeout):
            answer = await client.get_caller_identity()
    except AWSDeniedError as error:
        told = str(error).removesuffix(STALE_CREDENTIALS_ADVICE)
        if code_of(error) in _NO_WORD_ON_KEYS:
            return unknown(check, told, "see the policy of the VPC endpoint of STS, or the proxy")
        return failed(check, told, CREDENTIALS_ADVICE)
    except AWSUnsupportedError as error:
        return unknown(check, str(error), "set AWS_ENDPOINT_URL_STS, if there is an STS")
    except AWSError as error:
        return unknown(check, str(error), "see the endpoint of STS, and try again")
    return of_arn(str(answer.get("Arn", "")))


def of_arn(arn: str) -> CheckResult:
    """Judge who we are."""
    if not arn.startswith("arn:"):
        return unknown("identity", "STS answers without a name", "see whether it is AWS's own")
    if arn.endswith(":root"):
        return warned("identity", f"{arn}: may do everything", "give the worker a role of its own")
    return passed("identity", arn)


def region(aws: AWSSettings, of_profile: str | None) -> CheckResult:
    """Say which region is asked."""
    if aws.region:
        return passed("region", f"{aws.region}, from AWS_REGION")
    if of_profile:
        return passed("region", f"{of_profile}, from the profile")
    return failed("region", "none is set", "set AWS_REGION (or AWS_PROFILE)")


def endpoint(service: str, url: str | None, *, answered: bool | None) -> CheckResult:
    """Judge where a service is, and whether anybody answered there.

    Args:
        service: as people call it.
        url: of another endpoint than AWS's own.
        answered: whether any call to it had an answer, good or bad; None without a call.
    """
    check, place = f"{service} endpoint", url or "AWS's own"
    if answered is None:
        return unknown(check, f"{place}: not asked, without credentials", "see above")
    if not answered:
        return failed(
            check,
            f"{place}: no answer",
            "see network, proxy, DNS and VPC endpoints"
            + (f", and AWS_ENDPOINT_URL_{service.upper()}" if url else " of the region"),
        )
    address = urlsplit(url or "https://")
    if address.scheme == "http" and address.hostname not in _LOCAL:
        return warned(check, f"{place}: acceptances travel in the clear", "use https://")
    return passed(check, f"{place}: answers")
