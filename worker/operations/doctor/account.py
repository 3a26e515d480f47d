"""Checks of the account: credentials, identity, region, endpoints and clock."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from worker.aws.calls import calling
from worker.aws.client import client_config, open_client
from worker.aws.error_codes import CREDENTIALS_ADVICE, REGION_ADVICE, STALE_CREDENTIALS_ADVICE
from worker.aws.sdk_errors import code_of
from worker.aws.sdk_files import config_problems
from worker.errors import AWSDeniedError, AWSError, AWSUnsupportedError
from worker.operations.doctor.result import CheckResult, failed, passed, unknown, warned
from worker.pipeline.sqs_clock import date_seconds
from worker.runtime.variables import label
from worker.settings import AWSSettings

if TYPE_CHECKING:
    import aioboto3

_STS_REMEDY: Final = "set AWS_ENDPOINT_URL_STS if there is an STS endpoint"
_LOCAL: Final = {"localhost", "127.0.0.1", "::1"}
# GetCallerIdentity needs no permission, so a denial comes from a proxy or an endpoint policy.
_DENIED_ON_THE_WAY: Final = {"403", "AccessDenied", "AccessDeniedException"}
_ACCURATE_SECONDS: Final = 5.0
# AWS General Reference, "Signature Version 4": a signature is valid for five minutes.
_SIGNATURE_SECONDS: Final = 300.0
_CLOCK_REMEDY: Final = "synchronize the clock of this host (chrony, systemd-timesyncd)"
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


async def credentials(session: aioboto3.Session, aws: AWSSettings) -> CheckResult:
    """Check that there are credentials, and report their source without secrets."""
    check = "credentials"
    try:
        async with calling("credentials", aws.call_timeout_seconds):
            found: Any = await session.get_credentials()  # type: ignore[misc] # a coroutine
            keys = found and await found.get_frozen_credentials()
    except AWSError as error:
        return failed(check, str(error).removesuffix(f"; {CREDENTIALS_ADVICE}"), CREDENTIALS_ADVICE)
    if keys is None:
        problems = "; ".join(["no credentials found", *config_problems()])
        return failed(check, problems, CREDENTIALS_ADVICE)
    source = _SOURCES.get(found.method, found.method)
    return passed(check, f"from {source}, access key id …{keys.access_key[-4:]}")


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
        remedy = "run the service with a role of its own"
        return warned("identity", f"{arn} has every permission", remedy)
    return passed("identity", arn)


def region(aws: AWSSettings, profile_region: str | None) -> CheckResult:
    """Check that a region is set."""
    if aws.region:
        return passed("region", f"{aws.region}, from {label('AWS_REGION')}")
    if profile_region:
        return passed("region", f"{profile_region}, from the profile")
    return failed("region", "not set", REGION_ADVICE)


def endpoint(service: str, url: str | None, *, responded: bool | None) -> CheckResult:
    """Check that a service's endpoint responds, and over TLS.

    Args:
        service: name of the service, such as `SQS`.
        url: custom endpoint; None for the default endpoint of AWS.
        responded: whether any call got a response, an error included; None without a call.
    """
    check, address = f"{service} endpoint", url or "AWS default"
    if responded is None:
        found = f"{address}: not called without valid credentials"
        return unknown(check, found, "fix the credentials first")
    if not responded:
        remedy = "check network, proxy, DNS and VPC endpoints"
        remedy += f", and AWS_ENDPOINT_URL_{service.upper()}" if url else " of the region"
        return failed(check, f"{address}: no response", remedy)
    parts = urlsplit(url or "https://")
    if parts.scheme == "http" and parts.hostname not in _LOCAL:
        return warned(check, f"{address}: acceptances are sent unencrypted", "use https://")
    return passed(check, f"{address}: responds")


def clock(offset_seconds: float | None, tolerance_seconds: float) -> CheckResult:
    """Check the offset between this host's clock and that of AWS.

    Args:
        offset_seconds: how far this host is ahead; None if no response had a date.
        tolerance_seconds: AUP_CLOCK_SKEW_SECONDS.
    """
    if offset_seconds is None:
        return unknown("clock", "no response from AWS had a date", "check the endpoints")
    direction = "ahead of" if offset_seconds > 0 else "behind"
    offset = f"{abs(offset_seconds):.0f} s {direction} AWS"
    if abs(offset_seconds) >= _SIGNATURE_SECONDS:
        found = f"{offset}: AWS rejects the signature of every request"
        return failed("clock", found, _CLOCK_REMEDY)
    if abs(offset_seconds) > max(tolerance_seconds, 2 * _ACCURATE_SECONDS):
        found = f"{offset}, more than AUP_CLOCK_SKEW_SECONDS: the service will not become ready"
        return failed("clock", found, _CLOCK_REMEDY)
    if abs(offset_seconds) > _ACCURATE_SECONDS:
        found = f"{offset}: recorded_at in the evidence is wrong by as much"
        return warned("clock", found, _CLOCK_REMEDY)
    return passed("clock", f"within {_ACCURATE_SECONDS:.0f} s of AWS")


class Responses:
    """Responses that the clients of a session received, errors included.

    Args:
        clock: returns the local time in Unix seconds.

    Attributes:
        services: services that sent at least one response.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.services: set[str] = set()
        self._offsets: list[float] = []
        self._clock = clock

    def listen(self, session: Any) -> None:
        """Observe the responses to all clients that the session creates from now on."""
        for service in ("sqs", "dynamodb", "sts"):
            # Before parsing: a response that cannot be parsed is a response too.
            session.events.register_first(f"before-parse.{service}", self._observe)

    def _observe(self, operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
        service = operation_model.service_model.service_name
        self.add(service, response_dict["headers"].get("date", ""))

    def add(self, service: str, date: str) -> None:
        """Add a response.

        Args:
            service: the service that sent it.
            date: its `Date` header, truncated to whole seconds by the server.
        """
        self.services.add(service)
        stated = date_seconds(date)
        if stated is not None:
            self._offsets.append(self._clock() - stated - 0.5)

    def offset_seconds(self) -> float | None:
        """Return how far the local clock is ahead, or None if no response had a date."""
        return statistics.median(self._offsets) if self._offsets else None
