"""Checks of the queues: type, redrive, timeouts, retention, sizes and encryption."""

from __future__ import annotations

from typing import Any, Final

from worker.aws.sqs_responses import QueueState
from worker.domain.dead_letter import ATTRIBUTE_RESERVED_BYTES
from worker.domain.message import MESSAGE_MAX_BYTES
from worker.errors import AWSError, AWSNotFoundError
from worker.operations.doctor.result import (
    CheckResult,
    CheckStatus,
    failed,
    from_error,
    passed,
    unknown,
    warned,
)
from worker.settings import Settings

SOURCE: Final = "queue"
DEAD_LETTERS: Final = "dead-letter queue"
_REDRIVE: Final = "redrive policy"
_NAMED_BY: Final = {
    SOURCE: "--queue (AUP_QUEUE)",
    DEAD_LETTERS: "--dead-letter-queue (AUP_DEAD_LETTER_QUEUE)",
}
_EVERYONE: Final = ("*", {"AWS": "*"}, {"AWS": ["*"]})
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
    results = [passed(SOURCE, state.url), kind(SOURCE, state), redrive(state, settings)]
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
    results = [passed(DEAD_LETTERS, state.url), kind(DEAD_LETTERS, state)]
    if source is not None:
        results += [
            retention(source, state),
            message_size(source, state),
            redrive_allow(source, state),
        ]
    return [*results, encryption(DEAD_LETTERS, state), plain_http(DEAD_LETTERS, state)]


def at_start(source: QueueState, dead_letters: QueueState, settings: Settings) -> list[CheckResult]:
    """Return what to report at the start: failures, and the result for the redrive policy."""
    results = [
        *of_source(source, dead_letters, settings),
        *of_dead_letters(dead_letters, source),
    ]
    return [each for each in results if each.status is CheckStatus.FAIL or each.check == _REDRIVE]


def attempts_before_redrive(state: QueueState, settings: Settings) -> int:
    """Return how many attempts the service makes, at most `settings.max_attempts`.

    One fewer than maxReceiveCount, because SQS moves a message without a reason after the last.
    """
    if state.max_receive_count is None:
        return settings.max_attempts
    return min(settings.max_attempts, max(1, state.max_receive_count - 1))


def not_found(name: str, error: AWSError) -> CheckResult:
    """Return the result for a queue that cannot be found or described."""
    if isinstance(error, AWSNotFoundError):
        found = str(error).partition(": create it")[0]
        remedy = f"create it (`aup-worker init`), or name another: {_NAMED_BY[name]}"
        return failed(name, found, remedy)
    remedy = "allow sqs:GetQueueAttributes (and sqs:GetQueueUrl unless it is set by URL or ARN)"
    return from_error(name, error, remedy=remedy)


def kind(name: str, state: QueueState) -> CheckResult:
    """Check that the queue is a standard queue.

    The service does not depend on order, and FIFO queues limit throughput.
    """
    check = f"{name}: type"
    if state.fifo:
        remedy = f"name a standard queue: {_NAMED_BY[name]}"
        return failed(check, f"{state.url} is a FIFO queue", remedy, prevents_start=True)
    return passed(check, "standard")


def redrive(state: QueueState, settings: Settings) -> CheckResult:
    """Check that SQS moves a message to the dead-letter queue, and later than the service does."""
    attempts, count = settings.max_attempts, state.max_receive_count
    if count is None:
        found = "none: a message that crashes the worker is received again until it expires"
        remedy = f"set a RedrivePolicy with a maxReceiveCount of {attempts + 2}"
        return warned(_REDRIVE, found, remedy)
    if count <= attempts:
        return warned(
            _REDRIVE,
            f"maxReceiveCount {count} is not above AUP_MAX_ATTEMPTS {attempts}: the service makes "
            f"only {attempts_before_redrive(state, settings)}, because dead letters that SQS moves "
            "have no reason",
            f"set maxReceiveCount above {attempts}, or AUP_MAX_ATTEMPTS below {count}",
        )
    return passed(_REDRIVE, f"maxReceiveCount {count}, above AUP_MAX_ATTEMPTS {attempts}")


def redrive_target(state: QueueState, dead_letters: QueueState) -> list[CheckResult]:
    """Check that SQS and the service use the same dead-letter queue.

    Returns:
        One result; none for a queue without a redrive policy.
    """
    check = "redrive target"
    if state.arn == dead_letters.arn:
        found = f"AUP_QUEUE and AUP_DEAD_LETTER_QUEUE are the same queue, {state.url}"
        remedy = f"name another: {_NAMED_BY[DEAD_LETTERS]}"
        return [failed(check, found, remedy, prevents_start=True)]
    if state.redrives_to is None:
        return []
    if state.redrives_to != dead_letters.arn:
        found = f"{state.redrives_to} is not AUP_DEAD_LETTER_QUEUE"
        remedy = f"set deadLetterTargetArn to {dead_letters.arn}, or change AUP_DEAD_LETTER_QUEUE"
        return [failed(check, found, remedy)]
    return [passed(check, "AUP_DEAD_LETTER_QUEUE")]


def visibility(state: QueueState, settings: Settings) -> CheckResult:
    """Check the queue's visibility timeout against the deadline of a call.

    The service sets its own visibility timeout in every receive. The queue's applies to other
    consumers: a message is delivered again if a response takes longer.
    """
    check, own = "queue: visibility", state.visibility_timeout_seconds
    seconds, deadline = settings.visibility_timeout_seconds, settings.aws.call_timeout_seconds
    if own <= deadline:
        found = f"{own} s, not above AUP_CALL_TIMEOUT_SECONDS {deadline:g}"
        remedy = f"set VisibilityTimeout to {seconds} for other consumers"
        return warned(check, f"{found}; the service uses {seconds} s", remedy)
    return passed(check, f"{own} s; the service uses {seconds} s")


def source_retention(state: QueueState, settings: Settings) -> CheckResult:
    """Check that a message does not expire before its last attempt."""
    check, kept = "queue: retention", state.retention_seconds
    needed = settings.max_attempts * (settings.hold_seconds + settings.backoff_cap_seconds)
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
        found = f"{_duration(own)}, not above the queue's {_duration(other)}"
        return failed(
            check,
            f"{found}: messages that SQS moves may expire at once",
            "set its MessageRetentionPeriod to 1209600 (14 days)",
        )
    return passed(check, f"{_duration(own)}, above the queue's {_duration(other)}")


def message_size(source: QueueState, dead_letters: QueueState) -> CheckResult:
    """Check that the dead-letter queue accepts every body of the queue together with the reason.

    SQS allows 1 MiB at most: if both queues allow it, the largest messages lose the reason.
    """
    check = "dead-letter queue: message size"
    own, other = dead_letters.message_max_bytes, source.message_max_bytes
    sizes = f"{own:,} bytes, the queue's {other:,}"
    if own < other:
        sizes = f"{own:,} bytes, below the queue's {other:,}"
        found = f"{sizes}: larger messages cannot be dead-lettered"
    elif own < min(other + ATTRIBUTE_RESERVED_BYTES, MESSAGE_MAX_BYTES):
        found = f"{sizes}: too small for the largest messages with their reason"
    else:
        return passed(check, sizes)
    return failed(check, found, f"set its MaximumMessageSize to {MESSAGE_MAX_BYTES}")


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
    remedy = f"add {source.arn} to its RedriveAllowPolicy"
    return failed(check, f"{permission} excludes this queue", remedy)


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
    if any(map(_denies_plain_http, _many((state.policy or {}).get("Statement")))):
        return passed(check, "denied")
    remedy = 'add a Deny of sqs:* for all principals with "Bool": {"aws:SecureTransport": "false"}'
    return warned(check, "allowed", remedy)


def _denies_plain_http(statement: Any) -> bool:
    match statement:
        case {"Effect": "Deny", "Principal": principal, "Action": actions, "Condition": condition}:
            return (
                principal in _EVERYONE
                and any(str(action).lower() in {"*", "sqs:*"} for action in _many(actions))
                and _is_without_tls(condition)
            )
    return False


def _is_without_tls(condition: Any) -> bool:
    match condition:
        # Any other operator or key would narrow the Deny.
        case {"Bool": dict(keys), **others} | {"BoolIfExists": dict(keys), **others} if not others:
            found = {
                key.lower(): [str(value).lower() for value in _many(values)]
                for key, values in keys.items()
            }
            return found == {"aws:securetransport": ["false"]}
    return False


def _duration(seconds: float) -> str:
    two_days = 2 * 86_400  # below that, hours are easier to read
    return f"{seconds / 86_400:.3g} days" if seconds >= two_days else f"{seconds / 3600:.3g} hours"


def _many(value: Any) -> list[Any]:
    """Return a list: IAM allows a single value in place of a list of one."""
    return value if isinstance(value, list) else [] if value is None else [value]
