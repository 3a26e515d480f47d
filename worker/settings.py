"""Settings from the environment: frozen, validated and checked against each other at start."""

from __future__ import annotations

import difflib
import json
import os
import re
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from worker.errors import SettingsError

Seconds = Annotated[float, Field(gt=0, le=43_200, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=100_000)]
Name = Annotated[str, Field(min_length=1, max_length=1024)]
TableName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{3,255}$")]

_CONFIG: Final = SettingsConfigDict(
    env_prefix="AUP_", frozen=True, extra="forbid", env_ignore_empty=True, populate_by_name=True
)


_REGION: Final = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_HOST: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*\.?", re.ASCII)
_QUEUE_NAME: Final = re.compile(r"[\w-]{1,80}|[\w-]{1,75}\.fifo", re.ASCII)
_QUEUE_ARN: Final = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):sqs:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):"
    r"(?P<name>[\w-]{1,80}(\.fifo)?)",
    re.ASCII,
)
# Amazon SQS developer guide, "Visibility timeout".
_LEASE_MAX_SECONDS: Final = 43_200


def check_url(url: str) -> str:
    """Return an endpoint's URL unchanged.

    Raises:
        ValueError: the SDK cannot call it.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    if not url.isprintable() or " " in url:
        raise ValueError("must not contain white space or control characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:  # of brackets or of the port
        raise ValueError(f"not a valid URL: {error}") from None
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError("the port must be between 1 and 65535")
    if not host:
        raise ValueError("must name a host, such as http://127.0.0.1:4566")
    # The SDK refuses others, underscores among them; an IPv6 address comes in brackets.
    if "[" not in parts.netloc and not _HOST.fullmatch(host):
        raise ValueError("the host must consist of letters, digits, dots and hyphens")
    return url


def check_queue(name: str) -> str:
    """Return a queue's name or URL unchanged.

    Raises:
        ValueError: it is neither; says which name or URL to use instead.
    """
    if name.startswith("arn:"):
        raise ValueError(f"must be a name or URL, not an ARN{_instead_of_arn(name)}")
    if not name.startswith(("http://", "https://")):
        if not _QUEUE_NAME.fullmatch(name):
            raise ValueError("must be a URL or a name of at most 80 letters, digits, - and _")
        return name
    check_url(name)
    if name.endswith("/"):
        bare = name.rstrip("/")
        instead = f", use {bare}" if urlsplit(bare).path else ""
        raise ValueError(f"must not end with a slash{instead}")
    if not urlsplit(name).path:
        raise ValueError("must end with the queue's name, as in https://HOST/ACCOUNT/NAME")
    return name


def _instead_of_arn(arn: str) -> str:
    found = _QUEUE_ARN.fullmatch(arn)
    if found is None:
        return ""
    suffix = ".cn" if found["partition"] == "aws-cn" else ""
    return (
        f", use {found['name']} or "
        f"https://sqs.{found['region']}.amazonaws.com{suffix}/{found['account']}/{found['name']}"
    )


class AWSSettings(BaseSettings):
    """What the repository needs to know; equal settings mean the same repository."""

    model_config = _CONFIG

    region: Annotated[
        str | None,
        Field(
            validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"),
            description="AWS region; without it, that of the default profile",
        ),
    ] = None
    dynamodb_endpoint_url: Annotated[
        str | None,
        Field(
            validation_alias=AliasChoices("AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL"),
            description="another SQS and DynamoDB than AWS's own",
        ),
    ] = None
    sqs_endpoint_url: Annotated[
        str | None,
        Field(
            validation_alias=AliasChoices("AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL"),
            description="another SQS and DynamoDB than AWS's own",
        ),
    ] = None
    table_name: Annotated[TableName, Field(description="table of the policies")] = "aup-policies"
    user_table_name: Annotated[TableName, Field(description="table of what users accepted")] = (
        "aup-acceptances"
    )
    write_api: Annotated[
        Literal["batch", "put"],
        Field(description="`batch` inserts 25 in a call; `put` is for servers without PartiQL"),
    ] = "batch"
    write_concurrency: Annotated[
        Count, Field(le=1000, description="requests to the table under way at most")
    ] = 16
    write_attempts: Annotated[
        Count, Field(le=20, description="tries of a throttled write before its message is held")
    ] = 4
    policy_cache_seconds: Annotated[
        Seconds, Field(description="how long a policy that was read is believed")
    ] = 300.0
    policy_absence_seconds: Annotated[
        Seconds, Field(description="how long the absence of a policy is believed")
    ] = 2.0
    call_timeout_seconds: Annotated[
        Seconds, Field(description="deadline of every call to AWS, its retries included")
    ] = 10.0
    fast_calls: Annotated[
        bool, Field(description="whether the calls of every message go past most of the SDK")
    ] = True
    ip: Annotated[
        Literal["full", "truncated", "omit"],
        Field(description="what is kept of `ip`: all, its network (/24 or /48), nothing"),
    ] = "full"
    user_agent: Annotated[
        Literal["full", "omit"], Field(description="what is kept of `user_agent`: all, nothing")
    ] = "full"

    @field_validator("dynamodb_endpoint_url", "sqs_endpoint_url")
    @classmethod
    def _is_url(cls, url: str | None) -> str | None:
        return None if url is None else check_url(url)


class Settings(BaseSettings):
    """Everything that the service can be told."""

    model_config = _CONFIG

    aws: Annotated[AWSSettings, NoDecode, Field(default_factory=AWSSettings)]
    queue: Annotated[Name, Field(description="queue of acceptances, by URL or name")] = (
        "aup-acceptances"
    )
    dead_letter_queue: Annotated[
        Name, Field(description="queue of what cannot be recorded, by URL or name")
    ] = "aup-acceptances-dead"
    slots: Annotated[Count, Field(description="messages held at once at most")] = 500
    held_mib: Annotated[
        Count, Field(le=65_536, description="memory that messages held at once may take, in MiB")
    ] = 64
    poll_concurrency: Annotated[
        Count, Field(le=200, description="polls under way at most; one when idle")
    ] = 8
    settle_concurrency: Annotated[
        Count, Field(le=200, description="deletes, returns and extensions under way at most, each")
    ] = 8
    wait_seconds: Annotated[
        int, Field(ge=0, le=20, description="how long a poll waits for a message")
    ] = 20
    visibility_timeout_seconds: Annotated[
        int, Field(ge=2, le=43_200, description="lease on a message; extended while it is held")
    ] = 120
    max_attempts: Annotated[
        Count,
        Field(le=1000, description="receives after which a message that keeps failing is dead"),
    ] = 8
    backoff_base_seconds: Annotated[
        Seconds, Field(description="upper end of the first delay; doubles with every receive")
    ] = 1.0
    backoff_cap_seconds: Annotated[Seconds, Field(description="what no delay exceeds")] = 300.0
    hold_seconds: Annotated[
        Seconds,
        Field(
            description="how long a message is held through throttling before it is returned",
        ),
    ] = 600.0
    unknown_policy_seconds: Annotated[
        Seconds, Field(description="how long an unknown version may still be published")
    ] = 60.0
    clock_skew_seconds: Annotated[
        float,
        Field(
            ge=0,
            le=86_400,
            description="how far `accepted_at` may be in the future, and this clock from SQS's",
        ),
    ] = 300.0
    drain_timeout_seconds: Annotated[
        Seconds, Field(description="how long a stop finishes what is held")
    ] = 25.0
    stop_timeout_seconds: Annotated[
        Seconds, Field(description="after which the supervisor kills (ECS: stopTimeout)")
    ] = 30.0
    give_up_seconds: Annotated[
        Seconds, Field(description="how long access may be denied or the queue gone before exit 1")
    ] = 300.0
    stall_seconds: Annotated[
        Seconds, Field(description="how long the event loop may stand still before exit 1")
    ] = 60.0
    look_seconds: Annotated[
        int, Field(ge=1, le=43_200, description="how long a dead letter looked at is hidden")
    ] = 120
    summary_seconds: Annotated[Seconds, Field(description="interval of the summary line")] = 30.0
    health_host: Annotated[Name, Field(description="where the health endpoints listen")] = (
        "127.0.0.1"
    )
    health_port: Annotated[
        int | None,
        Field(
            ge=1, le=65_535, description="port of `/livez`, `/readyz` and `/metrics`; unset: off"
        ),
    ] = None
    ecs_protection: Annotated[
        bool, Field(description="whether an ECS task that holds messages is kept from scale-in")
    ] = False
    ecs_protection_minutes: Annotated[
        int,
        Field(ge=1, le=2880, description="how long ECS keeps it unasked; renewed at the half"),
    ] = 10
    emf: Annotated[
        bool, Field(description="summaries as CloudWatch Embedded Metric Format, on stdout")
    ] = False
    emf_namespace: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9._/#:-]{1,255}$", description="CloudWatch namespace of those"),
    ] = "AUPWorker"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="least level logged")
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "text"],
        Field(description="`auto`: text on a terminal, JSON lines elsewhere"),
    ] = "auto"

    @field_validator("queue", "dead_letter_queue")
    @classmethod
    def _is_queue(cls, name: str) -> str:
        return check_queue(name)

    @field_validator("emf_namespace")
    @classmethod
    def _is_ours(cls, namespace: str) -> str:
        if namespace.startswith(("AWS/", ":")):
            raise ValueError("must not begin with AWS/ or a colon")
        return namespace


def variable(model: type[BaseSettings], field: str) -> str:
    """Name the environment variable of a field."""
    alias = model.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[-1] if field.endswith("_url") else alias.choices[0])
    return f"AUP_{field.upper()}"


def load(**changes: Any) -> Settings:
    """Read the settings from the environment.

    Args:
        changes: values that take precedence over the environment.

    Raises:
        SettingsError: one line for each wrong, contradictory or misspelt variable.
    """
    problems = _misspelt()
    settings: Settings | None = None
    aws: AWSSettings | None = None
    try:
        aws = AWSSettings()
    except ValidationError as error:
        problems += _lines(AWSSettings, error)
    try:
        settings = Settings(**{"aws": aws or AWSSettings.model_construct(), **changes})
    except ValidationError as error:
        problems += _lines(Settings, error)
    if settings is not None and aws is not None:
        problems += contradictions(settings)
    if problems or settings is None:
        # Two settings may come from one variable: told once.
        raise SettingsError(list(dict.fromkeys(problems)))
    return settings


def contradictions(settings: Settings) -> list[str]:
    """Check the relations between the numbers.

    Returns:
        One line for each that does not hold.
    """
    call = settings.aws.call_timeout_seconds
    checks = [
        (settings.wait_seconds < settings.drain_timeout_seconds,
         "drain_timeout_seconds", "above AUP_WAIT_SECONDS", settings.wait_seconds),
        (settings.drain_timeout_seconds < settings.stop_timeout_seconds,
         "stop_timeout_seconds", "above AUP_DRAIN_TIMEOUT_SECONDS", settings.drain_timeout_seconds),
        # A lease is renewed at its half, and settled without renewal: two calls must fit.
        (settings.visibility_timeout_seconds >= 4 * call,
         "visibility_timeout_seconds", "at least four times AUP_CALL_TIMEOUT_SECONDS", call),
        (settings.backoff_base_seconds <= settings.backoff_cap_seconds,
         "backoff_cap_seconds", "at least AUP_BACKOFF_BASE_SECONDS", settings.backoff_base_seconds),
        # SQS ends a lease twelve hours after the receive, however often it was extended.
        (settings.hold_seconds + settings.visibility_timeout_seconds <= _LEASE_MAX_SECONDS,
         "hold_seconds", f"at most {_LEASE_MAX_SECONDS} with AUP_VISIBILITY_TIMEOUT_SECONDS",
         settings.visibility_timeout_seconds),
        (settings.queue != settings.dead_letter_queue,
         "dead_letter_queue", "another queue than AUP_QUEUE", settings.queue),
    ]  # fmt: skip
    problems = [
        f"{variable(Settings, field)}={getattr(settings, field)}: must be {allowed} ({other})"
        for holds, field, allowed, other in checks
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
                f"{variable(Settings, field)}={getattr(settings, field)}: is in {named[0]}, but "
                f"AWS_REGION is {region}"
            )
    return problems


def _lines(model: type[BaseSettings], error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors():
        field = str(problem["loc"][0])
        name = _read_from(field) if field.startswith("AWS_") else variable(model, field)
        allowed = problem["msg"].removeprefix("Value error, ")
        lines.append(f"{name}={_shown(problem['input'])}: {allowed[0].lower()}{allowed[1:]}")
    return lines


def _shown(value: Any) -> str:
    """Return a value as it is if it can stand in a line, and escaped if not."""
    text = str(value)
    return text if text.isprintable() else json.dumps(text)


def _read_from(alias: str) -> str:
    """Name the variable that was set, of those that a field may come from."""
    aliases = [field.validation_alias for field in AWSSettings.model_fields.values()]
    choices = [each.choices for each in aliases if isinstance(each, AliasChoices)]
    names = next((names for names in choices if alias in names), [alias])
    return next((str(name) for name in names if os.environ.get(str(name))), alias)


def _misspelt() -> list[str]:
    known = [
        variable(model, field)
        for model in (AWSSettings, Settings)
        for field in model.model_fields
        if field != "aws"  # read from variables of its own
    ]
    lines = []
    for name in sorted(os.environ):
        if name.startswith("AUP_") and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else "; see the README's table"
            lines.append(f"{name}={_shown(os.environ[name])}: is no setting{hint}")
    return lines
