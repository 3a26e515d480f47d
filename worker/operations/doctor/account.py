"""Checks of credentials, identity, region and endpoints."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from worker.aws.calls import calling
from worker.aws.client import client_config, open_client
from worker.aws.error_codes import CREDENTIALS_ADVICE, STALE_CREDENTIALS_ADVICE
from worker.aws.sdk_errors import code_of
from worker.aws.sdk_files import config_problems
from worker.errors import AWSDeniedError, AWSError, AWSUnsupportedError
from worker.operations.doctor.result import CheckResult, failed, passed, unknown, warned
from worker.settings import AWSSettings

if TYPE_CHECKING:
    import aioboto3

_STS_REMEDY: Final = "set AWS_ENDPOINT_URL_STS if there is an STS endpoint"
_LOCAL: Final = {"localhost", "127.0.0.1", "::1"}
# GetCallerIdentity needs no permission, so a denial comes from a proxy or an endpoint policy.
_DENIED_ON_THE_WAY: Final = {"403", "AccessDenied", "AccessDeniedException"}
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
class CredentialSource:
    """Source of the credentials in use, without secrets.

    Attributes:
        name: the source in words.
        key_suffix: the last four characters of the access key id.
    """

    name: str
    key_suffix: str


async def credential_source(session: Any, timeout_seconds: float) -> CredentialSource | None:
    """Return the source of the credentials that sign requests, or None without credentials.

    Raises:
        AWSError: the credentials could not be retrieved.
    """
    async with calling("credentials", timeout_seconds):
        found = await session.get_credentials()
        if found is None:
            return None
        keys = await found.get_frozen_credentials()
    method = str(found.method)
    return CredentialSource(_SOURCES.get(method, method), keys.access_key[-4:])


async def credentials(session: aioboto3.Session, aws: AWSSettings) -> CheckResult:
    """Check that there are credentials."""
    check = "credentials"
    try:
        source = await credential_source(session, aws.call_timeout_seconds)
    except AWSError as error:
        return failed(check, str(error).removesuffix(f"; {CREDENTIALS_ADVICE}"), CREDENTIALS_ADVICE)
    if source is None:
        return failed(
            check, "; ".join(["no credentials found", *config_problems()]), CREDENTIALS_ADVICE
        )
    return passed(check, f"from {source.name}, access key id …{source.key_suffix}")


async def identity(
    session: aioboto3.Session, aws: AWSSettings, environment: Mapping[str, str] = os.environ
) -> CheckResult:
    """Check the caller's identity with STS, which needs no permission.

    Source: AWS STS API reference, GetCallerIdentity.
    """
    check = "identity"
    named = environment.get("AWS_ENDPOINT_URL_STS") or environment.get("AWS_ENDPOINT_URL")
    if aws.sqs_endpoint_url and aws.dynamodb_endpoint_url and not named:
        return unknown(check, "SQS and DynamoDB have custom endpoints, STS has none", _STS_REMEDY)
    timeout = aws.call_timeout_seconds
    config = client_config(pool=1, read_timeout_seconds=timeout, attempts=1)
    try:
        async with (
            open_client(session, "STS", aws, config) as client,
            calling("GetCallerIdentity", timeout),
        ):
            response = await client.get_caller_identity()
    except AWSDeniedError as error:
        found = str(error).removesuffix(STALE_CREDENTIALS_ADVICE)
        if code_of(error) in _DENIED_ON_THE_WAY:
            return unknown(check, found, "check the policy of the STS VPC endpoint, or the proxy")
        return failed(check, found, CREDENTIALS_ADVICE)
    except AWSUnsupportedError as error:
        return unknown(check, str(error), _STS_REMEDY)
    except AWSError as error:
        return unknown(check, str(error), "check the STS endpoint and try again")
    return of_arn(str(response.get("Arn", "")))


def of_arn(arn: str) -> CheckResult:
    """Check the ARN of the caller."""
    if not arn.startswith("arn:"):
        return unknown("identity", "the STS response has no ARN", "check the STS endpoint")
    if arn.endswith(":root"):
        return warned(
            "identity", f"{arn} has every permission", "run the service with a role of its own"
        )
    return passed("identity", arn)


def region(aws: AWSSettings, profile_region: str | None) -> CheckResult:
    """Check that a region is set."""
    if aws.region:
        return passed("region", f"{aws.region}, from AWS_REGION")
    if profile_region:
        return passed("region", f"{profile_region}, from the profile")
    return failed("region", "not set", "set AWS_REGION (or AWS_PROFILE)")


def endpoint(service: str, url: str | None, *, responded: bool | None) -> CheckResult:
    """Check that a service's endpoint responds, and over TLS.

    Args:
        service: name of the service, such as `SQS`.
        url: custom endpoint; None for the default endpoint of AWS.
        responded: whether any call got a response, an error included; None without a call.
    """
    check, address = f"{service} endpoint", url or "AWS default"
    if responded is None:
        return unknown(
            check, f"{address}: not called without valid credentials", "fix the credentials first"
        )
    if not responded:
        return failed(
            check,
            f"{address}: no response",
            "check network, proxy, DNS and VPC endpoints"
            + (f", and AWS_ENDPOINT_URL_{service.upper()}" if url else " of the region"),
        )
    parts = urlsplit(url or "https://")
    if parts.scheme == "http" and parts.hostname not in _LOCAL:
        return warned(check, f"{address}: acceptances are sent unencrypted", "use https://")
    return passed(check, f"{address}: responds")
