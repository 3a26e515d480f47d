"""Checks of the queues: type, redrive, timeouts, retention, sizes and encryption."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from worker.aws.sqs_responses import QueueState
from worker.domain.dead_letter import ATTRIBUTE_RESERVED_BYTES
from worker.domain.message import MESSAGE_MAX_BYTES
from worker.operations.doctor.result import CheckResult, failed, passed, unknown, warned
from worker.settings import Settings

SOURCE: Final = "queue"
DEAD_LETTERS: Final = "dead-letter queue"
_VARIABLES: Final = {SOURCE: "AUP_QUEUE", DEAD_LETTERS: "AUP_DEAD_LETTER_QUEUE"}
_NOT_CUSTOMER_KEYS: Final = {"SSE-SQS", "alias/aws/sqs"}
# Amazon SQS developer guide, "Key management". A replay needs both permissions on both queues.
_KMS_ACTIONS: Final = {
    SOURCE: "kms:Decrypt (and kms:GenerateDataKey for producers)",
    DEAD_LETTERS: "kms:GenerateDataKey and kms:Decrypt",
}


def of_source(
    state: QueueState, dead_letters: QueueState | None, settings: Settings
) -> list[CheckResult]:
    """Run all checks of the queue of acceptances.

    Args:
        state: its attributes.
        dead_letters: attributes of the dead-letter queue, if they are known.
        settings: the settings of the service.
    """
    results = [exists(SOURCE, state), kind(SOURCE, state), redrive(state, settings)]
    if dead_letters is not None:
        results += redrive_target(state, dead_letters)
    return [
        *results,
        visibility(state, settings),
        source_retention(state, settings),
        encryption(SOURCE, state),
        plain_http(SOURCE, state),
    ]


def of_dead_letters(state: QueueState, source: QueueState | None) -> list[CheckResult]:
    """Run all checks of the dead-letter queue.

    Args:
        state: its attributes.
        source: attributes of the queue of acceptances, if they are known.
    """
    results = [exists(DEAD_LETTERS, state), kind(DEAD_LETTERS, state)]
    if source is not None:
        results += [
            retention(source, state),
            message_size(source, state),
            redrive_allow(source, state),
        ]
    return [*results, encryption(DEAD_LETTERS, state), plain_http(DEAD_LETTERS, state)]


def at_start(source: QueueState, dead_letters: QueueState, settings: Settings) -> list[CheckResult]:
    """Run the checks that decide whether messages are processed and dead letters are kept."""
    return [
        kind(SOURCE, source),
        redrive(source, settings),
        *redrive_target(source, dead_letters),
        kind(DEAD_LETTERS, dead_letters),
        retention(source, dead_letters),
        message_size(source, dead_letters),
        redrive_allow(source, dead_letters),
    ]


def attempts_before_redrive(state: QueueState, settings: Settings) -> int:
    """Return how many attempts the service makes, at most `settings.max_attempts`.

    One fewer than maxReceiveCount, because SQS moves a message without a reason after the last.
    """
    if state.max_receive_count is None:
        return settings.max_attempts
    return min(settings.max_attempts, max(1, state.max_receive_count - 1))


def exists(name: str, state: QueueState) -> CheckResult:
    """Return the result for a queue that was found."""
    return passed(name, state.url)


def kind(name: str, state: QueueState) -> CheckResult:
    """Check that the queue is a standard queue.

    The service does not depend on order, and FIFO queues limit throughput.
    """
    check = f"{name}: type"
    if state.fifo:
        return failed(
            check,
            f"{state.url} is a FIFO queue",
            f"set {_VARIABLES[name]} to a standard queue",
            prevents_start=True,
        )
    return passed(check, "standard")


def redrive(state: QueueState, settings: Settings) -> CheckResult:
    """Check that SQS moves a message to the dead-letter queue, and later than the service does."""
    check, attempts = "redrive policy", settings.max_attempts
    count = state.max_receive_count
    if count is None:
        return warned(
            check,
            "none: a message that crashes the worker is received again until it expires",
            f"set a RedrivePolicy with a maxReceiveCount of {attempts + 2}",
        )
    if count <= attempts:
        return warned(
            check,
            f"maxReceiveCount {count} is not above AUP_MAX_ATTEMPTS {attempts}: the service makes "
            f"only {attempts_before_redrive(state, settings)}, because dead letters that SQS moves "
            "have no reason",
            f"set maxReceiveCount above {attempts}, or AUP_MAX_ATTEMPTS below {count}",
        )
    return passed(check, f"maxReceiveCount {count}, above AUP_MAX_ATTEMPTS {attempts}")


def redrive_target(state: QueueState, dead_letters: QueueState) -> list[CheckResult]:
    """Check that SQS and the service use the same dead-letter queue.

    Returns:
        One result; none for a queue without a redrive policy.
    """
    check = "redrive target"
    if state.arn == dead_letters.arn:
        found = f"AUP_QUEUE and AUP_DEAD_LETTER_QUEUE are the same queue, {state.url}"
        remedy = "set AUP_DEAD_LETTER_QUEUE to another queue"
        return [failed(check, found, remedy, prevents_start=True)]
    if state.redrives_to is None:
        return []
    if state.redrives_to != dead_letters.arn:
        return [
            failed(
                check,
                f"{state.redrives_to} is not AUP_DEAD_LETTER_QUEUE",
                f"set deadLetterTargetArn to {dead_letters.arn}, or change AUP_DEAD_LETTER_QUEUE",
            )
        ]
    return [passed(check, "AUP_DEAD_LETTER_QUEUE")]


def visibility(state: QueueState, settings: Settings) -> CheckResult:
    """Check the queue's visibility timeout against the deadline of a call.

    The service sets its own visibility timeout in every receive. The queue's applies to other
    consumers: a message is delivered again if a response takes longer.
    """
    check, own = "queue: visibility", state.visibility_timeout_seconds
    deadline = settings.aws.call_timeout_seconds
    service = f"the service uses {settings.visibility_timeout_seconds} s"
    if own <= deadline:
        return warned(
            check,
            f"{own} s, not above AUP_CALL_TIMEOUT_SECONDS {deadline:g}; {service}",
            f"set VisibilityTimeout to {settings.visibility_timeout_seconds} for other consumers",
        )
    return passed(check, f"{own} s; {service}")


def source_retention(state: QueueState, settings: Settings) -> CheckResult:
    """Check that a message does not expire before its last attempt."""
    check, kept = "queue: retention", state.retention_seconds
    each = settings.hold_seconds + settings.backoff_cap_seconds
    needed = settings.max_attempts * each
    if needed >= kept:
        return warned(
            check,
            f"{_duration(kept)}, but {settings.max_attempts} attempts can take {_duration(needed)}",
            "set a longer MessageRetentionPeriod, or lower AUP_MAX_ATTEMPTS, AUP_HOLD_SECONDS or "
            "AUP_BACKOFF_CAP_SECONDS",
        )
    return passed(check, f"{_duration(kept)}; all attempts take at most {_duration(needed)}")


def retention(source: QueueState, dead_letters: QueueState) -> CheckResult:
    """Check that the dead-letter queue retains messages for longer than the queue.

    SQS keeps the original time of a message that it moves.
    Source: Amazon SQS developer guide, "Dead-letter queues".
    """
    check = "dead-letter queue: retention"
    own, other = dead_letters.retention_seconds, source.retention_seconds
    if own <= other:
        return failed(
            check,
            f"{_duration(own)}, not above the queue's {_duration(other)}: messages that SQS moves "
            "may expire at once",
            "set its MessageRetentionPeriod to 1209600 (14 days)",
        )
    return passed(check, f"{_duration(own)}, above the queue's {_duration(other)}")


def message_size(source: QueueState, dead_letters: QueueState) -> CheckResult:
    """Check that the dead-letter queue accepts every body of the queue together with the reason.

    SQS allows 1 MiB at most: if both queues allow it, the largest messages lose the reason.
    """
    check = "dead-letter queue: message size"
    own, other = dead_letters.message_max_bytes, source.message_max_bytes
    remedy = f"set its MaximumMessageSize to {MESSAGE_MAX_BYTES}"
    if own < other:
        return failed(
            check,
            f"{own:,} bytes, below the queue's {other:,}: larger messages cannot be dead-lettered",
            remedy,
        )
    if own < min(other + ATTRIBUTE_RESERVED_BYTES, MESSAGE_MAX_BYTES):
        return failed(
            check,
            f"{own:,} bytes, the queue's {other:,}: too small for the largest messages with their "
            "reason",
            remedy,
        )
    return passed(check, f"{own:,} bytes, the queue's {other:,}")


def redrive_allow(source: QueueState, dead_letters: QueueState) -> CheckResult:
    """Check that the dead-letter queue accepts messages that SQS moves from the queue.

    Source: Amazon SQS API reference, SetQueueAttributes, RedriveAllowPolicy.
    """
    check = "dead-letter queue: redrive-allow"
    allowed = dead_letters.redrive_allow or {}
    permission = allowed.get("redrivePermission", "allowAll")
    if permission == "allowAll":
        return passed(check, "any queue")
    if permission == "byQueue" and source.arn in allowed.get("sourceQueueArns", []):
        return passed(check, "this queue")
    return failed(
        check,
        f"{permission} excludes this queue",
        f"add {source.arn} to its RedriveAllowPolicy",
    )


def encryption(name: str, state: QueueState) -> CheckResult:
    """Check that messages are encrypted at rest."""
    check = f"{name}: encryption"
    if state.encryption is None:
        return unknown(check, "not reported by SQS", "make sure that SSE-SQS or a KMS key is set")
    if not state.encryption:
        return warned(check, "none", "set SqsManagedSseEnabled to true, or set a KmsMasterKeyId")
    if state.encryption in _NOT_CUSTOMER_KEYS:
        return passed(check, state.encryption)
    return passed(check, f"{state.encryption}; needs {_KMS_ACTIONS[name]} on this key")


def plain_http(name: str, state: QueueState) -> CheckResult:
    """Check that the queue's policy denies requests without TLS.

    Source: Amazon SQS developer guide, "Security best practices".
    """
    check = f"{name}: plain HTTP"
    if _denies_plain_http(state.policy or {}):
        return passed(check, "denied")
    return warned(
        check,
        "allowed",
        'add a Deny of sqs:* for all principals with "Bool": {"aws:SecureTransport": "false"}',
    )


def _denies_plain_http(policy: Mapping[str, Any]) -> bool:
    return any(
        isinstance(statement, dict)
        and statement.get("Effect") == "Deny"
        and statement.get("Principal") in ("*", {"AWS": "*"}, {"AWS": ["*"]})
        and _covers_all(statement.get("Action"))
        and _is_without_tls(statement.get("Condition"))
        for statement in _many(policy.get("Statement"))
    )


def _covers_all(actions: Any) -> bool:
    return any(str(action).lower() in {"*", "sqs:*"} for action in _many(actions))


def _is_without_tls(condition: Any) -> bool:
    # Any other operator or key would narrow the Deny.
    if not isinstance(condition, dict) or len(condition) != 1:
        return False
    keys = condition.get("Bool") or condition.get("BoolIfExists")
    if not isinstance(keys, dict) or len(keys) != 1:
        return False
    return any(
        str(key).lower() == "aws:securetransport"
        and [str(value).lower() for value in _many(values)] == ["false"]
        for key, values in keys.items()
    )


def _duration(seconds: float) -> str:
    two_days = 2 * 86_400  # below that, hours are easier to read
    return f"{seconds / 86_400:.3g} days" if seconds >= two_days else f"{seconds / 3600:.3g} hours"


def _many(value: Any) -> list[Any]:
    """Return a list: IAM allows a single value in place of a list of one."""
    return value if isinstance(value, list) else [] if value is None else [value]
