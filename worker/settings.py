"""Settings from environment variables: immutable, validated, and checked for contradictions."""

from __future__ import annotations

import difflib
import os
import re
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from worker.errors import SettingsError
from worker.runtime.addresses import check_queue, check_url, shown
from worker.runtime.validation import describe

Seconds = Annotated[float, Field(gt=0, le=43_200, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=100_000)]
Name = Annotated[str, Field(min_length=1, max_length=1024)]
PROCESSES_MAX: Final = 256
TableName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{3,255}$")]

SettingsT = TypeVar("SettingsT", bound=BaseSettings)

_CONFIG: Final = SettingsConfigDict(
    env_prefix="AUP_", frozen=True, extra="forbid", env_ignore_empty=True, populate_by_name=True,
    loc_by_alias=False,
)  # fmt: skip


_REGION: Final = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
# Amazon SQS developer guide, "Visibility timeout".
_LEASE_MAX_SECONDS: Final = 43_200


DEFAULT_SLOTS: Final = 1500
MAX_CALLS: Final = 200
MAX_WRITES: Final = 1000


def calls_for(slots: int) -> int:
    """Return the concurrent SQS calls, of up to 10 messages each, that all slots can need."""
    return min(MAX_CALLS, -(-slots // 10))


def writes_for(slots: int) -> int:
    """Return the concurrent writes, of up to 25 messages each, that all slots can need."""
    return min(MAX_WRITES, -(-slots // 25))


def check_processes(value: Any) -> Any:
    """Return a number of processes as an integer, or `auto`.

    Raises:
        ValueError: It is neither.
    """
    text = str(value)
    if text == "auto":
        return text
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= PROCESSES_MAX):
        raise ValueError(f"must be a number from 1 to {PROCESSES_MAX}, or auto")
    return int(text)


class AWSSettings(BaseSettings):
    """Settings of the repository; equal settings mean the same repository."""

    model_config = _CONFIG

    region: str | None = Field(
        None,
        validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"),
        description="AWS region; default: the region of the AWS profile",
    )
    dynamodb_endpoint_url: str | None = Field(
        None,
        validation_alias=AliasChoices("AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL"),
        description="DynamoDB endpoint URL; default: the AWS endpoint",
    )
    sqs_endpoint_url: str | None = Field(
        None,
        validation_alias=AliasChoices("AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL"),
        description="SQS endpoint URL; default: the AWS endpoint",
    )
    table_name: TableName = Field("aup-policies", description="table of policies")
    user_table_name: TableName = Field("aup-acceptances", description="table of acceptances")
    write_api: Literal["batch", "put"] = Field(
        "batch", description="write API; `batch`: 25 inserts per call, `put`: without PartiQL"
    )
    write_concurrency: int = Field(
        None,
        validate_default=True,
        ge=1,
        le=MAX_WRITES,
        description="maximum concurrent write requests to DynamoDB; default: AUP_SLOTS / 25",
    )
    write_attempts: int = Field(
        4, ge=1, le=20, description="attempts of a throttled write before its message is held"
    )
    policy_cache_seconds: Seconds = Field(300.0, description="cache TTL of a policy")
    policy_absence_seconds: Seconds = Field(
        2.0, description="cache TTL of a missing policy or text"
    )
    call_timeout_seconds: Seconds = Field(
        10.0, description="deadline of an AWS call, SDK retries included"
    )
    fast_calls: bool = Field(
        True, description="signed fast path instead of the SDK for the AWS calls of each message"
    )
    ip: Literal["full", "truncated", "omit"] = Field(
        "full", description="recording of `ip`: in full, its network only (/24 or /48), or omitted"
    )
    user_agent: Literal["full", "omit"] = Field(
        "full", description="recording of `user_agent`: in full or omitted"
    )

    @field_validator("write_concurrency", mode="before")
    @classmethod
    def _derive(cls, value: Any) -> Any:
        return writes_for(DEFAULT_SLOTS) if value is None else value

    @field_validator("dynamodb_endpoint_url", "sqs_endpoint_url")
    @classmethod
    def _is_url(cls, url: str | None) -> str | None:
        return None if url is None else check_url(url)


class Settings(BaseSettings):
    """Settings of the service."""

    model_config = _CONFIG

    queue: Name = Field(
        "aup-acceptances", description="source queue of acceptances, by name or URL"
    )
    dead_letter_queue: Name = Field(
        "aup-acceptances-dead", description="dead-letter queue, by name or URL"
    )
    processes: Annotated[
        Annotated[int, Field(ge=1, le=PROCESSES_MAX)] | Literal["auto"],
        BeforeValidator(check_processes),
    ] = Field(
        1, description="number of processes, each with AUP_SLOTS; `auto`: one per CPU of its limit"
    )
    slots: Count = Field(
        DEFAULT_SLOTS, description="maximum messages in flight; no more are held than are needed"
    )
    # After `slots`, from which its write concurrency follows.
    aws: Annotated[AWSSettings, NoDecode] = Field(
        default_factory=AWSSettings, validate_default=True
    )
    held_mib: int = Field(
        64, ge=1, le=65_536, description="maximum memory of messages in flight, in MiB"
    )
    poll_concurrency: int = Field(
        None,
        validate_default=True,
        ge=1,
        le=MAX_CALLS,
        description="maximum concurrent receive calls, one when idle; default: AUP_SLOTS / 10",
    )
    settle_concurrency: int = Field(
        None,
        validate_default=True,
        ge=1,
        le=MAX_CALLS,
        description="maximum concurrent calls, each for deletes, returns and lease extensions; "
        "default: AUP_SLOTS / 10",
    )
    wait_seconds: int = Field(
        20, ge=0, le=20, description="long-polling time of a receive call (WaitTimeSeconds)"
    )
    visibility_timeout_seconds: int = Field(
        120,
        ge=2,
        le=43_200,
        description="visibility timeout of a message; extended while it is in flight",
    )
    max_attempts: int = Field(
        8, ge=1, le=1000, description="receives after which a failing message is dead-lettered"
    )
    backoff_base_seconds: Seconds = Field(
        1.0, description="upper bound of the first retry delay; doubles with every receive"
    )
    backoff_cap_seconds: Seconds = Field(300.0, description="maximum retry delay")
    hold_seconds: Seconds = Field(
        600.0, description="maximum time that a throttled message is held before it is returned"
    )
    unknown_policy_seconds: Seconds = Field(
        60.0, description="grace period for messages whose policy version is not published yet"
    )
    clock_skew_seconds: float = Field(
        300.0,
        ge=0,
        le=86_400,
        description="maximum clock skew, of `accepted_at` and of the local clock against SQS",
    )
    drain_timeout_seconds: Seconds = Field(
        25.0, description="time to finish messages in flight after a stop signal"
    )
    stop_timeout_seconds: Seconds = Field(
        30.0, description="grace period before SIGKILL (ECS stopTimeout, systemd TimeoutStopSec)"
    )
    give_up_seconds: Seconds = Field(
        300.0, description="time of denied access or a missing queue before exit code 1"
    )
    stall_seconds: Seconds = Field(
        60.0, description="time that the event loop may be blocked before exit code 1"
    )
    look_seconds: int = Field(
        120, ge=1, le=43_200, description="visibility timeout of dead letters during a scan"
    )
    summary_seconds: Seconds = Field(30.0, description="interval of summary log lines")
    health_host: Name = Field("127.0.0.1", description="listen address of the health endpoints")
    health_port: int | None = Field(
        None,
        ge=1,
        le=65_535,
        description="port of `/startupz`, `/livez`, `/readyz` and `/metrics`; default: disabled",
    )
    ecs_protection: bool = Field(
        False, description="ECS scale-in protection while messages are in flight"
    )
    ecs_protection_minutes: int = Field(
        10, ge=1, le=2880, description="expiry of ECS scale-in protection; renewed after half of it"
    )
    emf: bool = Field(False, description="summaries in CloudWatch Embedded Metric Format on stdout")
    emf_namespace: str = Field(
        "AUPWorker",
        pattern=r"^[A-Za-z0-9._/#:-]{1,255}$",
        description="CloudWatch namespace of EMF metrics",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="minimum log level"
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto",
        description="log format; `auto`: short lines on a terminal, JSON lines otherwise",
    )

    @field_validator("aws")
    @classmethod
    def _derive_write_concurrency(cls, aws: AWSSettings, info: ValidationInfo) -> AWSSettings:
        slots = info.data.get("slots", DEFAULT_SLOTS)  # invalid slots are reported themselves
        if "write_concurrency" in aws.model_fields_set:
            return aws
        return aws.model_copy(update={"write_concurrency": writes_for(slots)})

    @field_validator("poll_concurrency", "settle_concurrency", mode="before")
    @classmethod
    def _derive(cls, value: Any, info: ValidationInfo) -> Any:
        return calls_for(info.data.get("slots", DEFAULT_SLOTS)) if value is None else value

    @field_validator("queue", "dead_letter_queue")
    @classmethod
    def _is_queue(cls, name: str) -> str:
        return check_queue(name)

    @field_validator("emf_namespace")
    @classmethod
    def _is_not_reserved(cls, namespace: str) -> str:
        if namespace.startswith(("AWS/", ":")):
            raise ValueError("must not start with AWS/ or a colon")
        return namespace


def variables(model: type[BaseSettings], field: str) -> tuple[str, ...]:
    """Return the environment variables of a field; the first one that is set counts."""
    alias = model.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return tuple(map(str, alias.choices))
    return (f"AUP_{field.upper()}",)


def variable(model: type[BaseSettings], field: str) -> str:
    """Return the environment variable of a field; of an endpoint, the one for all services."""
    return variables(model, field)[-1 if field.endswith("_url") else 0]


def load(**changes: Any) -> Settings:
    """Read the settings from the environment.

    Args:
        changes: Values that override the environment.

    Raises:
        SettingsError: One line for each invalid, contradictory or unknown variable.
    """
    problems = _unknown()
    aws = _read(AWSSettings, problems)
    # With other AWS settings if these are invalid, to find every problem at once.
    values = {"aws": aws or AWSSettings.model_construct(), **changes}
    settings = _read(Settings, problems, **values)
    if settings is not None and aws is not None:
        problems += contradictions(settings)
    if problems or settings is None:
        # Two fields may come from one variable; report it once.
        raise SettingsError(list(dict.fromkeys(problems)))
    return settings


def contradictions(settings: Settings) -> list[str]:
    """Check the settings against each other.

    Returns:
        One line for each relation that does not hold.
    """
    call = settings.aws.call_timeout_seconds
    checks = [
        (settings.wait_seconds < settings.drain_timeout_seconds,
         "drain_timeout_seconds", "be greater than AUP_WAIT_SECONDS", settings.wait_seconds),
        (settings.drain_timeout_seconds < settings.stop_timeout_seconds,
         "stop_timeout_seconds", "be greater than AUP_DRAIN_TIMEOUT_SECONDS",
         settings.drain_timeout_seconds),
        # A lease is renewed after half its time, and not while settling: two calls must fit.
        (settings.visibility_timeout_seconds >= 4 * call,
         "visibility_timeout_seconds", "be at least four times AUP_CALL_TIMEOUT_SECONDS", call),
        (settings.backoff_base_seconds <= settings.backoff_cap_seconds,
         "backoff_cap_seconds", "be at least AUP_BACKOFF_BASE_SECONDS",
         settings.backoff_base_seconds),
        # SQS ends a lease twelve hours after the receive, regardless of extensions.
        (settings.hold_seconds + settings.visibility_timeout_seconds <= _LEASE_MAX_SECONDS,
         "hold_seconds",
         f"not exceed {_LEASE_MAX_SECONDS} when added to AUP_VISIBILITY_TIMEOUT_SECONDS",
         settings.visibility_timeout_seconds),
        (settings.queue != settings.dead_letter_queue,
         "dead_letter_queue", "differ from AUP_QUEUE", settings.queue),
    ]  # fmt: skip
    problems = [
        f"{variable(Settings, field)}={shown(getattr(settings, field))}: "
        f"must {requirement} ({shown(other)})"
        for holds, field, requirement, other in checks
        if not holds
    ]
    return problems + _in_other_regions(settings)


def _in_other_regions(settings: Settings) -> list[str]:
    region = settings.aws.region
    problems = []
    for field in ("queue", "dead_letter_queue"):
        host = urlsplit(getattr(settings, field)).hostname or ""
        named = [label for label in host.split(".") if _REGION.fullmatch(label)]
        if region and named and region not in named:
            problems.append(
                f"{variable(Settings, field)}={shown(getattr(settings, field))}: region {named[0]} "
                f"differs from AWS_REGION ({region})"
            )
    return problems


def _read(model: type[SettingsT], problems: list[str], **values: Any) -> SettingsT | None:
    """Read a model from the environment; add one line to `problems` for each invalid variable."""
    try:
        return model(**values)
    except ValidationError as error:
        for problem in error.errors():
            names = variables(model, str(problem["loc"][0]))
            name = next((name for name in names if os.environ.get(name)), names[0])
            problems.append(f"{name}={shown(problem['input'])}: {describe(problem)}")
        return None


def _unknown() -> list[str]:
    known = [
        variable(model, field)
        for model in (AWSSettings, Settings)
        for field in model.model_fields
        if field != "aws"  # a model with variables of its own
    ]
    lines = []
    for name in sorted(os.environ):
        if name.startswith("AUP_") and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else "aup-worker settings lists them"
            lines.append(f"unknown setting {name} ({hint})")
    return lines
