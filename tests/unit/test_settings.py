"""Settings from environment variables, and one line for each problem."""

from __future__ import annotations

import re
from typing import Any

import pytest
from botocore.utils import is_valid_endpoint_url, is_valid_ipv6_endpoint_url
from pydantic import ValidationError

from worker.errors import SettingsError
from worker.runtime.addresses import check_queue
from worker.settings import AWSSettings, Settings, load, variable


def _problems(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[str]:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load()
    for problem in caught.value.problems:
        assert "\n" not in problem
    return caught.value.problems


def test_defaults_are_valid_together() -> None:
    settings = load()
    assert settings.queue == "aup-acceptances"
    assert settings.aws.region == "us-east-1"
    assert settings.aws.dynamodb_endpoint_url is None


VARIABLES = [
    variable(model, field)
    for model in (AWSSettings, Settings)
    for field in model.model_fields
    if field != "aws"
]


def test_every_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "AUP_TABLE_NAME": "my-policies",
        "AUP_USER_TABLE_NAME": "my-acceptances",
        "AUP_WRITE_API": "put",
        "AUP_FAST_CALLS": "False",
        "AUP_IP": "truncated",
        "AUP_USER_AGENT": "omit",
        "AUP_HEALTH_HOST": "::",
        "AUP_ECS_PROTECTION": "True",
        "AUP_EMF": "True",
        "AUP_EMF_NAMESPACE": "Acme/AUP",
        "AUP_QUEUE": "q",
        "AUP_DEAD_LETTER_QUEUE": "https://sqs.us-east-1.amazonaws.com/1/d",
        "AUP_LOG_LEVEL": "debug",
        "AUP_LOG_FORMAT": "json",
        "AUP_CALL_TIMEOUT_SECONDS": "1.5",
        "AUP_WAIT_SECONDS": "3",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    numbers = [name for name in VARIABLES if name.startswith("AUP_") and name not in values]
    for offset, name in enumerate(numbers):
        monkeypatch.setenv(name, str(101 + offset))
    monkeypatch.setenv("AUP_DRAIN_TIMEOUT_SECONDS", "4")
    monkeypatch.setenv("AUP_BACKOFF_CAP_SECONDS", "999")
    monkeypatch.setenv("AUP_STOP_TIMEOUT_SECONDS", "5")
    monkeypatch.setenv("AUP_WRITE_ATTEMPTS", "7")
    monkeypatch.setenv("AUP_VISIBILITY_TIMEOUT_SECONDS", "77")
    settings = load()
    found: dict[str, Any] = {}
    for model in (settings.aws, settings):
        for field in type(model).model_fields:
            found[variable(type(model), field)] = getattr(model, field)
    for name, value in values.items():
        assert str(found[name]) == value
    assert found["AUP_STOP_TIMEOUT_SECONDS"] == 5
    fixed = {"AUP_DRAIN_TIMEOUT_SECONDS", "AUP_BACKOFF_CAP_SECONDS", "AUP_STOP_TIMEOUT_SECONDS",
             "AUP_WRITE_ATTEMPTS", "AUP_VISIBILITY_TIMEOUT_SECONDS"}  # fmt: skip
    for offset, name in enumerate(numbers):
        assert name in fixed or float(found[name]) == 101 + offset, name


def test_endpoints_and_region_are_read_from_the_variables_of_aws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:5000")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:8000")
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-south-2")
    aws = load().aws
    assert aws.sqs_endpoint_url == "http://127.0.0.1:5000"
    assert aws.dynamodb_endpoint_url == "http://127.0.0.1:8000"
    assert aws.region == "eu-south-2"


WRONG = [
    ("AUP_WAIT_SECONDS", "21", "less than or equal to 20"),
    ("AUP_WAIT_SECONDS", "-1", "greater than or equal to 0"),
    ("AUP_WAIT_SECONDS", "soon", "must be an integer"),
    ("AUP_SLOTS", "0", "greater than or equal to 1"),
    ("AUP_SLOTS", "1.5", "must be an integer"),
    ("AUP_POLL_CONCURRENCY", "201", "less than or equal to 200"),
    ("AUP_SETTLE_CONCURRENCY", "0", "greater than or equal to 1"),
    ("AUP_WRITE_CONCURRENCY", "0", "greater than or equal to 1"),
    ("AUP_WRITE_CONCURRENCY", "1001", "less than or equal to 1000"),
    ("AUP_WRITE_ATTEMPTS", "21", "less than or equal to 20"),
    ("AUP_WRITE_API", "bulk", "'batch' or 'put'"),
    ("AUP_IP", "none", "'full', 'truncated' or 'omit'"),
    ("AUP_USER_AGENT", "truncated", "'full' or 'omit'"),
    ("AUP_VISIBILITY_TIMEOUT_SECONDS", "43201", "less than or equal to 43200"),
    ("AUP_VISIBILITY_TIMEOUT_SECONDS", "1", "greater than or equal to 2"),
    ("AUP_HOLD_SECONDS", "43201", "less than or equal to 43200"),
    ("AUP_DRAIN_TIMEOUT_SECONDS", "0", "greater than 0"),
    ("AUP_DRAIN_TIMEOUT_SECONDS", "nan", "finite number"),
    ("AUP_BACKOFF_BASE_SECONDS", "inf", "finite number"),
    ("AUP_CLOCK_SKEW_SECONDS", "-1", "greater than or equal to 0"),
    ("AUP_TABLE_NAME", "a b", "match pattern"),
    ("AUP_USER_TABLE_NAME", "ab", "match pattern"),
    ("AUP_LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
    ("AUP_LOG_FORMAT", "xml", "'auto', 'json' or 'text'"),
    ("AUP_MAX_ATTEMPTS", "0", "greater than or equal to 1"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG)
def test_invalid_value_is_reported_in_one_line_with_variable_value_and_requirement(
    name: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (problem,) = _problems(monkeypatch, **{name: value})
    assert problem.startswith(f"{name}={value}: ")
    assert allowed in problem


@pytest.mark.parametrize(
    "name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_SQS"]
)
def test_invalid_endpoint_is_reported_with_the_variable_that_is_set(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = _problems(monkeypatch, **{name: "localhost:5000"})
    assert problems == [f"{name}=localhost:5000: must start with http:// or https://"]


BAD_URLS = [
    ("http://", "must name a host"),
    ("https:///path", "must name a host"),
    ("http://:4566", "must name a host"),
    ("http://local host:4566", "white space or control characters"),
    ("http://localhost:4566 ", "white space or control characters"),
    ("http://localhost:4566\n", "white space or control characters"),
    ("http://local\thost", "white space or control characters"),
    ("http://localhost\x1b[2J", "white space or control characters"),
    ("http://localhost:port", "not a valid URL: Port could not be cast"),
    ("http://localhost:99999", "not a valid URL: Port out of range"),
    ("http://localhost:0", "the port must be between 1 and 65535"),
    ("http://localhost:", "the port must be between 1 and 65535"),
    ("http://[::1", "not a valid URL: Invalid IPv6 URL"),
    ("http://local_stack:4566", "letters, digits, dots and hyphens"),
    ("http://-a.example", "letters, digits, dots and hyphens"),
    ("http://a..example", "letters, digits, dots and hyphens"),
    ("ftp://localhost", "must start with http:// or https://"),
    ("//localhost", "must start with http:// or https://"),
    ("http:localhost", "must start with http:// or https://"),
]


@pytest.mark.parametrize(
    "name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_SQS"]
)
@pytest.mark.parametrize(("url", "allowed"), BAD_URLS)
def test_endpoint_that_the_sdk_rejects_is_reported_in_one_line(
    name: str, url: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (problem,) = _problems(monkeypatch, **{name: url})
    assert problem.startswith(f"{name}=")
    assert problem.isprintable()
    assert allowed in problem


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:4566",
        "https://sqs.eu-west-1.amazonaws.com",
        "http://[::1]:8000",
        "https://vpce-0a1b-2c3d.sqs.eu-west-1.vpce.amazonaws.com/",
        "http://127.0.0.1",
        "http://host.:65535/path",
        "http://LOCALHOST:1",
    ],
)
def test_endpoint_that_the_sdk_accepts_is_accepted(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    assert load().aws.sqs_endpoint_url == url
    assert is_valid_endpoint_url(url) or is_valid_ipv6_endpoint_url(url)


BAD_QUEUES = [
    (
        "arn:aws:sqs:eu-west-1:123456789012:my-queue",
        (
            "must be a name or URL, not an ARN; use my-queue or "
            "https://sqs.eu-west-1.amazonaws.com/123456789012/my-queue"
        ),
    ),
    (
        "arn:aws-cn:sqs:cn-north-1:123456789012:q.fifo",
        (
            "must be a name or URL, not an ARN; use q.fifo or "
            "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/q.fifo"
        ),
    ),
    ("arn:aws:sns:eu-west-1:123456789012:topic", "must be a name or URL, not an ARN"),
    (
        "https://sqs.us-east-1.amazonaws.com/1/q/",
        "must not end with a slash; use https://sqs.us-east-1.amazonaws.com/1/q",
    ),
    ("https://sqs.us-east-1.amazonaws.com/", "must not end with a slash"),
    (
        "https://sqs.us-east-1.amazonaws.com",
        "must end with the queue name, as in https://HOST/ACCOUNT/NAME",
    ),
    ("https://sqs.us-east-1.amazonaws.com/1/a b", "must not contain white space"),
    ("my queue", "must be a URL, or a name of at most 80 letters, digits, hyphens and underscores"),
    ("q" * 81, "must be a URL, or a name of at most 80 letters, digits, hyphens and underscores"),
    ("sqs.us-east-1.amazonaws.com/1/q", "must be a URL, or a name"),
    ("1/q", "must be a URL, or a name"),
]


@pytest.mark.parametrize("name", ["AUP_QUEUE", "AUP_DEAD_LETTER_QUEUE"])
@pytest.mark.parametrize(("value", "allowed"), BAD_QUEUES)
def test_invalid_queue_is_reported_in_one_line_that_says_what_to_use(
    name: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (problem,) = _problems(monkeypatch, **{name: value})
    assert problem.startswith(f"{name}={value}: {allowed}")
    advised = problem.partition("; use ")[2].split(" or ")
    for queue in advised if advised != [""] else []:
        assert check_queue(queue) == queue


@pytest.mark.parametrize("value", ["q", "Q_1-2", "q" * 80, "q.fifo", "http://127.0.0.1:4566/1/q"])
def test_queue_is_accepted_by_name_and_by_url(value: str) -> None:
    assert check_queue(value) == value


CONTRADICTIONS = [
    (
        {"AUP_WAIT_SECONDS": "20", "AUP_DRAIN_TIMEOUT_SECONDS": "20"},
        "AUP_DRAIN_TIMEOUT_SECONDS=20: must be greater than AUP_WAIT_SECONDS (20)",
    ),
    (
        {"AUP_DRAIN_TIMEOUT_SECONDS": "25", "AUP_STOP_TIMEOUT_SECONDS": "25"},
        "AUP_STOP_TIMEOUT_SECONDS=25: must be greater than AUP_DRAIN_TIMEOUT_SECONDS (25)",
    ),
    (
        {"AUP_VISIBILITY_TIMEOUT_SECONDS": "39"},
        (
            "AUP_VISIBILITY_TIMEOUT_SECONDS=39: must be at least four times "
            "AUP_CALL_TIMEOUT_SECONDS (10)"
        ),
    ),
    (
        {"AUP_BACKOFF_BASE_SECONDS": "9", "AUP_BACKOFF_CAP_SECONDS": "8"},
        "AUP_BACKOFF_CAP_SECONDS=8: must be at least AUP_BACKOFF_BASE_SECONDS (9)",
    ),
    (
        {"AUP_HOLD_SECONDS": "43100"},
        (
            "AUP_HOLD_SECONDS=43100: must not exceed 43200 when added to "
            "AUP_VISIBILITY_TIMEOUT_SECONDS (120)"
        ),
    ),
    (
        {
            "AWS_REGION": "eu-west-1",
            "AUP_QUEUE": "https://sqs.eu-west-1.amazonaws.com/1/q",
            "AUP_DEAD_LETTER_QUEUE": "https://vpce-1.sqs.us-east-1.vpce.amazonaws.com/1/d",
        },
        (
            "AUP_DEAD_LETTER_QUEUE=https://vpce-1.sqs.us-east-1.vpce.amazonaws.com/1/d: "
            "region us-east-1 differs from AWS_REGION (eu-west-1)"
        ),
    ),
    (
        {"AUP_QUEUE": "one", "AUP_DEAD_LETTER_QUEUE": "one"},
        "AUP_DEAD_LETTER_QUEUE=one: must differ from AUP_QUEUE (one)",
    ),
]


@pytest.mark.parametrize(("variables", "problem"), CONTRADICTIONS)
def test_contradiction_is_reported_in_one_line(
    variables: dict[str, str], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _problems(monkeypatch, **variables) == [problem]


def test_values_at_the_limits_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AUP_WAIT_SECONDS": "20",
        "AUP_DRAIN_TIMEOUT_SECONDS": "20.1",
        "AUP_STOP_TIMEOUT_SECONDS": "20.2",
        "AUP_CALL_TIMEOUT_SECONDS": "10",
        "AUP_VISIBILITY_TIMEOUT_SECONDS": "40",
        "AUP_BACKOFF_BASE_SECONDS": "5",
        "AUP_BACKOFF_CAP_SECONDS": "5",
    }.items():
        monkeypatch.setenv(name, value)
    assert load().visibility_timeout_seconds == 40


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("AUP_SLOT", "did you mean AUP_SLOTS?"),
        ("AUP_DRAIN_TIMEOUT", "did you mean AUP_DRAIN_TIMEOUT_SECONDS?"),
        ("AUP_TABEL_NAME", "did you mean AUP_TABLE_NAME?"),
        ("AUP_ZZZZZZ", "aup-worker settings lists them"),
    ],
)
def test_unknown_variable_is_reported_with_the_closest_name(
    name: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _problems(monkeypatch, **{name: "7"}) == [f"unknown setting {name} ({hint})"]


def test_all_problems_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = _problems(
        monkeypatch,
        AUP_SLOT="1",
        AUP_SLOTS="0",
        AUP_WRITE_API="bulk",
        AUP_TABLE_NAME="!",
    )
    assert sorted(re.findall(r"AUP_\w+", problem)[0] for problem in problems) == [
        "AUP_SLOT",
        "AUP_SLOTS",
        "AUP_TABLE_NAME",
        "AUP_WRITE_API",
    ]


def test_nested_model_has_no_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (problem,) = _problems(monkeypatch, AUP_AWS="eu-west-1")
    assert problem.startswith("unknown setting AUP_AWS ")


def test_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUP_SLOTS", "")
    assert load().slots == 1500


@pytest.mark.parametrize(
    ("slots", "calls", "writes"),
    [("1", 1, 1), ("101", 11, 5), ("1500", 150, 60), ("30000", 200, 1000)],
)
def test_concurrency_follows_from_slots(
    monkeypatch: pytest.MonkeyPatch, slots: str, calls: int, writes: int
) -> None:
    monkeypatch.setenv("AUP_SLOTS", slots)
    loaded = load()
    assert (loaded.poll_concurrency, loaded.settle_concurrency) == (calls, calls)
    assert loaded.aws.write_concurrency == writes


def test_stated_concurrency_does_not_follow_from_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SLOTS", "900"), ("POLL_CONCURRENCY", "3"), ("WRITE_CONCURRENCY", "60")):
        monkeypatch.setenv(f"AUP_{name}", value)
    loaded = load()
    assert (loaded.poll_concurrency, loaded.settle_concurrency) == (3, 90)
    assert loaded.aws.write_concurrency == 60


def test_invalid_slots_are_reported_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUP_SLOTS", "many")
    with pytest.raises(SettingsError) as caught:
        load()
    assert caught.value.problems == ["AUP_SLOTS=many: must be an integer"]


def test_aws_settings_alone_have_the_concurrency_of_the_default_slots() -> None:
    assert AWSSettings().write_concurrency == 60


def test_changes_override_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUP_SLOTS", "7")
    assert load(slots=9).slots == 9


def test_settings_are_immutable_and_compared_by_value() -> None:
    settings = load()
    with pytest.raises(ValidationError, match="frozen"):
        settings.slots = 1
    assert AWSSettings() == AWSSettings()
    assert AWSSettings(table_name="other") != AWSSettings()
