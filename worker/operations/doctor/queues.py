"""The queues as they are set up, against what the worker expects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from worker.aws.sqs import QueueState
from worker.domain.dead_letter import ATTRIBUTE_RESERVED_BYTES
from worker.domain.message import MESSAGE_MAX_BYTES
from worker.operations.doctor.result import CheckResult, failed, passed, unknown, warned
from worker.settings import Settings

SOURCE: Final = "queue"
DEAD_LETTERS: Final = "dead-letter queue"
_NONE: Final = "none"
_NO_KEY_OF_YOURS: Final = {"SSE-SQS", "alias/aws/sqs"}
# Amazon SQS developer guide, "Key management". A replay does both on both.
_KMS_ACTIONS: Final = {
    SOURCE: "kms:Decrypt (and kms:GenerateDataKey for producers)",
    DEAD_LETTERS: "kms:GenerateDataKey and kms:Decrypt",
}


def of_source(
    state: QueueState, dead_letters: QueueState | None, settings: Settings
) -> list[CheckResult]:
    """Check the queue of acceptances."""
    findings = [
        exists(SOURCE, state),
        kind(SOURCE, state, "AUP_QUEUE"),
        redrive(state, settings),
        visibility(state, settings),
        patience(state, settings),
        encryption(SOURCE, state),
        plain_http(SOURCE, state),
    ]
    if dead_letters is not None and (state.redrives_to or state.arn == dead_letters.arn):
        findings.insert(3, redrive_target(state, dead_letters))
    return findings


def of_dead_letters(state: QueueState, source: QueueState | None) -> list[CheckResult]:
    """Check the dead-letter queue."""
    findings = [exists(DEAD_LETTERS, state), kind(DEAD_LETTERS, state, "AUP_DEAD_LETTER_QUEUE")]
    if source is not None:
        findings += [
            retention(source, state),
            message_size(source, state),
            redrive_allow(source, state),
        ]
    return [*findings, encryption(DEAD_LETTERS, state), plain_http(DEAD_LETTERS, state)]


def exists(name: str, state: QueueState) -> CheckResult:
    """Say which queue it is."""
    return passed(name, state.url)


def kind(name: str, state: QueueState, variable: str) -> CheckResult:
    """Check that the queue is a standard one: the worker relies on no order, and FIFO costs it."""
    check = f"{name}: type"
    if state.fifo:
        return failed(check, "FIFO", f"name a standard queue in {variable}")
    return passed(check, "standard")


def redrive(state: QueueState, settings: Settings) -> CheckResult:
    """Check that SQS gives up a message, and later than the worker does."""
    check, attempts = "redrive policy", settings.max_attempts
    count = state.max_receive_count
    if count is None:
        return warned(
            check,
            "none: a message that kills every worker comes back until it expires",
            f"set a RedrivePolicy with a maxReceiveCount of {attempts + 2}",
        )
    if count <= attempts:
        return failed(
            check,
            f"maxReceiveCount {count}, AUP_MAX_ATTEMPTS {attempts}: SQS may come first, and its "
            "dead letters have no reason",
            f"maxReceiveCount above {attempts}, or AUP_MAX_ATTEMPTS below {count}",
        )
    return passed(check, f"maxReceiveCount {count}, above AUP_MAX_ATTEMPTS {attempts}")


def redrive_target(state: QueueState, dead_letters: QueueState) -> CheckResult:
    """Check that what SQS gives up ends where the verbs look for it."""
    check = "redrive target"
    if state.arn == dead_letters.arn:
        return failed(check, "both queues are the same", "name another in AUP_DEAD_LETTER_QUEUE")
    if state.redrives_to != dead_letters.arn:
        return failed(
            check,
            f"{state.redrives_to} is not AUP_DEAD_LETTER_QUEUE",
            f"set it to {dead_letters.arn}, or AUP_DEAD_LETTER_QUEUE to that one",
        )
    return passed(check, "AUP_DEAD_LETTER_QUEUE")


def visibility(state: QueueState, settings: Settings) -> CheckResult:
    """Check the queue's own visibility timeout against the deadline of a call.

    The worker names its own lease in every receive, and the settings are checked for that one. The
    queue's holds for whoever names none: an answer that takes longer is handed out twice.
    """
    check, own = "queue: visibility", state.visibility_timeout_seconds
    deadline = settings.aws.call_timeout_seconds
    worker = f"the worker asks for {settings.visibility_timeout_seconds} s itself"
    if own <= deadline:
        return warned(
            check,
            f"{own} s, not above AUP_CALL_TIMEOUT_SECONDS {deadline:g}; {worker}",
            f"set VisibilityTimeout to {settings.visibility_timeout_seconds}, for other readers",
        )
    return passed(check, f"{own} s; {worker}")


def patience(state: QueueState, settings: Settings) -> CheckResult:
    """Check that a message has all its attempts before it expires, or it is gone unexplained."""
    check, kept = "queue: retention", state.retention_seconds
    each = settings.hold_seconds + settings.backoff_cap_seconds
    needed = settings.max_attempts * each
    if needed >= kept:
        return warned(
            check,
            f"{_days(kept)}, and {settings.max_attempts} attempts may take {_days(needed)}",
            "longer retention, fewer AUP_MAX_ATTEMPTS, or less of AUP_HOLD_SECONDS and "
            "AUP_BACKOFF_CAP_SECONDS",
        )
    return passed(check, f"{_days(kept)}; all attempts take {_days(needed)} at most")


def retention(source: QueueState, dead_letters: QueueState) -> CheckResult:
    """Check that dead letters outlive the queue: SQS counts from the first sending.

    Source: Amazon SQS developer guide, "Dead-letter queues".
    """
    check = "dead-letter queue: retention"
    own, other = dead_letters.retention_seconds, source.retention_seconds
    if own <= other:
        return failed(
            check,
            f"{_days(own)}, the queue's {_days(other)}: what SQS moves late expires at once",
            "set its MessageRetentionPeriod to 1209600 (14 days)",
        )
    return passed(check, f"{_days(own)}, above the queue's {_days(other)}")


def message_size(source: QueueState, dead_letters: QueueState) -> CheckResult:
    """Check that the dead-letter queue takes every body of the queue, with the reason beside it.

    No limit exceeds 1 MiB: where both queues have that, the largest messages lose the reason.
    """
    check = "dead-letter queue: message size"
    own, other = dead_letters.message_max_bytes, source.message_max_bytes
    advice = f"set its MaximumMessageSize to {MESSAGE_MAX_BYTES}"
    if own < other:
        return failed(
            check,
            f"{own:,} bytes, below the queue's {other:,}: larger messages cannot be dead-lettered",
            advice,
        )
    if own < min(other + ATTRIBUTE_RESERVED_BYTES, MESSAGE_MAX_BYTES):
        return failed(
            check,
            f"{own:,} bytes, the queue's {other:,}: no room for the reason of the largest messages",
            advice,
        )
    return passed(check, f"{own:,} bytes, the queue's {other:,}")


def redrive_allow(source: QueueState, dead_letters: QueueState) -> CheckResult:
    """Check that the dead-letter queue takes what SQS moves from ours.

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
        f"{permission}: not this queue",
        f"let its RedriveAllowPolicy name {source.arn}",
    )


def encryption(name: str, state: QueueState) -> CheckResult:
    """Check that messages are encrypted at rest."""
    check = f"{name}: encryption"
    if state.encryption is None:
        return unknown(check, "SQS does not say", "see that SSE-SQS or a KMS key is set")
    if not state.encryption:
        return warned(check, _NONE, "set SqsManagedSseEnabled to true, or a KmsMasterKeyId")
    if state.encryption in _NO_KEY_OF_YOURS:
        return passed(check, state.encryption)
    return passed(check, f"{state.encryption}; needs {_KMS_ACTIONS[name]} on it")


def plain_http(name: str, state: QueueState) -> CheckResult:
    """Check that the queue's policy refuses who comes without TLS.

    Source: Amazon SQS developer guide, "Security best practices".
    """
    check = f"{name}: plain HTTP"
    if _refuses_plain_http(state.policy or {}):
        return passed(check, "refused")
    return warned(
        check,
        "not refused",
        'add a Deny of sqs:* for all where "Bool": {"aws:SecureTransport": "false"}',
    )


def _refuses_plain_http(policy: Mapping[str, Any]) -> bool:
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
    # Another operator or key beside it would make the Deny narrower.
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


def _days(seconds: float) -> str:
    two_days = 2 * 86_400  # below, hours tell more
    return f"{seconds / 86_400:.3g} days" if seconds >= two_days else f"{seconds / 3600:.3g} hours"


def _many(value: Any) -> list[Any]:
    """IAM lets a list of one go without its brackets."""
    return value if isinstance(value, list) else [] if value is None else [value]
