"""Invalid names, files and URLs: one line each and exit code 2, in every verb."""

from __future__ import annotations

import json

import pytest

from tests.process.environment import Environment, acceptance, body

VERBS: dict[str, tuple[str, ...]] = {
    "run": ("run",),
    "push": ("push", "--user", "u", "--policy", "aup", "--version", "2026-01"),
    "dead-letters list": ("dead-letters", "list"),
    "dead-letters show": ("dead-letters", "show", "id"),
    "dead-letters export": ("dead-letters", "export", "letters.jsonl"),
    "replay": ("replay",),
    "policy list": ("policy", "list"),
    "accepted": ("accepted", "u"),
    "erase": ("erase", "u", "--fields", "ip", "--yes"),
    "coverage": ("coverage", "--policy", "aup", "--version", "2026-01", "--yes"),
    "status": ("status",),
    "doctor": ("doctor",),
    "init": ("init",),
}  # fmt: skip
EACH_VERB = pytest.mark.parametrize("verb", VERBS.values(), ids=list(VERBS))


def _mistakes(environment: Environment, verb: tuple[str, ...], **changes: str) -> list[str]:
    """Run a verb that must exit with code 2, and return its lines, one for each mistake."""
    done = environment.run(*verb, **changes)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert all(line.startswith("aup-worker: ") for line in lines)
    return [line.removeprefix("aup-worker: ") for line in lines]


@EACH_VERB
def test_missing_certificate_and_token_files_are_named(
    environment: Environment, verb: tuple[str, ...]
) -> None:
    changes = {
        "AWS_CA_BUNDLE": "/nowhere/ca.pem",
        "AWS_ACCESS_KEY_ID": "",
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/worker",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere/token",
    }
    assert _mistakes(environment, verb, **changes) == [
        "AWS_CA_BUNDLE=/nowhere/ca.pem: No such file or directory",
        "AWS_WEB_IDENTITY_TOKEN_FILE=/nowhere/token: No such file or directory",
    ]


@pytest.mark.parametrize("verb", [VERBS["run"], VERBS["push"], VERBS["doctor"]])
def test_invalid_endpoints_and_a_queue_given_as_arn_are_named(
    environment: Environment, verb: tuple[str, ...]
) -> None:
    arn = "arn:aws:sqs:us-east-1:123456789012:q"
    changes = {
        "AWS_ENDPOINT_URL": "http://local_stack:4566",
        "AWS_ENDPOINT_URL_SQS": "http://localhost:4566\n",
        "AUP_QUEUE": arn,
    }
    host, space, queue = _mistakes(environment, verb, **changes)
    assert host == (
        "AWS_ENDPOINT_URL=http://local_stack:4566: the host must contain only letters, digits, "
        "dots and hyphens"
    )
    assert space == (
        'AWS_ENDPOINT_URL_SQS="http://localhost:4566\\n": must not contain white space or control '
        "characters"
    )
    assert queue.startswith(f"AUP_QUEUE={arn}: must be a name or URL, not an ARN; use q or https:")


@pytest.mark.parametrize(
    ("queue", "advice"),
    [
        ("arn:aws:sqs:us-east-1:123456789012:q", "must be a name or URL, not an ARN; use q or"),
        ("http://127.0.0.1/1/q/", "must not end with a slash; use http://127.0.0.1/1/q"),
        ("two words", "must be a URL, or a name"),
    ],
)
def test_replay_to_an_invalid_queue_name_is_rejected(
    environment: Environment, queue: str, advice: str
) -> None:
    for options in ((), ("--dry-run",)):
        (line,) = _mistakes(environment, ("replay", "--to", queue, *options))
        assert line.startswith(f"--to {queue}: {advice}")


_CONTROL = "must not contain control characters"
NAMES: dict[str, tuple[tuple[str, ...], str]] = {
    "policy publish": (
        ("policy", "publish", "--policy", "a\tb", "--version", "1", "--sha256", "0" * 64),
        f"--policy: {_CONTROL}",
    ),
    "policy publish, version": (
        ("policy", "publish", "--policy", "p", "--version", "1\x85", "--sha256", "0" * 64),
        f"--version: {_CONTROL}",
    ),
    "policy publish, joint": (
        ("policy", "publish", "--policy", "a#b", "--version", "1", "--sha256", "0" * 64),
        "--policy: must not contain '#'",
    ),
    "policy publish, hash": (
        ("policy", "publish", "--policy", "p", "--version", "1", "--sha256", "0"),
        "content_sha256: must match pattern '^[0-9a-f]{64}$'",
    ),
    "policy retire": (
        ("policy", "retire", "--policy", "p", "--version", "\x1b[2J"),
        f"--version: {_CONTROL}",
    ),
    "policy list": (("policy", "list", "--policy", " "), "--policy: must not be blank"),
    "coverage": (
        ("coverage", "--policy", "p\n", "--version", "1", "--yes"),
        f"--policy: {_CONTROL}",
    ),
    "accepted": (("accepted", "u\udcff"), "USER: must be UTF-8"),
    "accepted, empty user": (("accepted", ""), "USER: must have at least 1 character"),
    "erase": (
        ("erase", "u", "--fields", "ip", "--policy", "\udcff", "--yes"),
        "--policy: must be UTF-8",
    ),
    "erase, long user": (
        ("erase", "u" * 257, "--fields", "ip", "--yes"),
        "USER: must have at most 256 characters",
    ),
}


@pytest.mark.parametrize(("verb", "line"), NAMES.values(), ids=list(NAMES))
def test_impossible_name_is_a_usage_error(
    environment: Environment, verb: tuple[str, ...], line: str
) -> None:
    assert _mistakes(environment, verb) == [line]


@pytest.mark.parametrize(
    ("arguments", "stdin", "problem"),
    [
        (("--user", "a\tb"), "", f"options:1: invalid: user_id: {_CONTROL}"),
        (("--user", "a\udcff"), "", "options:1: malformed: not UTF-8 at byte"),
        ((), body(1)[:-1] + ', "user_id": "u-2"}', "stdin:1: malformed: user_id: duplicate name"),
        ((), f"[{body(1)}]", "stdin:1: malformed: expected a JSON object, got an array (an array"),
        ((), body(1, user_id="a\x00b"), f"stdin:1: invalid: user_id: {_CONTROL}"),
    ],
)
def test_push_sends_nothing_that_would_be_dead_lettered(
    environment: Environment, arguments: tuple[str, ...], stdin: str, problem: str
) -> None:
    options = ("--policy", "aup", "--version", "2026-01", *arguments) if arguments else ()
    done = environment.run("push", *options, stdin=stdin)
    assert done.returncode == 2, done.stderr
    line, summary = done.stderr.splitlines()
    assert line.startswith(problem)
    assert "nothing was sent" in summary
    assert environment.depth("AUP_QUEUE") == 0


def test_user_recorded_with_a_control_character_by_an_earlier_release_is_shown(
    environment: Environment,
) -> None:
    table = environment.dynamodb.Table(environment.variables["AUP_USER_TABLE_NAME"])
    item = acceptance(1, user_id="a\tb", policy_version="aup#2026-01")
    table.put_item(Item=item)
    done = environment.run("accepted", "a\tb", "--json")
    assert done.returncode == 0, done.stderr
    (shown,) = json.loads(done.stdout)["acceptances"]
    assert shown["event_id"] == "e-1"


def test_empty_certificate_variable_does_not_stop_a_verb(environment: Environment) -> None:
    done = environment.run("policy", "list", "--json", AWS_CA_BUNDLE="", REQUESTS_CA_BUNDLE="")
    assert done.returncode == 0, done.stderr


def test_missing_credentials_file_is_named_if_there_are_no_other_credentials(
    environment: Environment,
) -> None:
    changes = {
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "AWS_SHARED_CREDENTIALS_FILE": "/nowhere/credentials",
        "AWS_CONFIG_FILE": "/dev/null",
    }
    lines = _mistakes(environment, ("policy", "list"), **changes)
    assert lines == ["AWS_SHARED_CREDENTIALS_FILE=/nowhere/credentials: No such file or directory"]
