"""Mapping of error codes to errors, and the hints in their texts."""

from __future__ import annotations

import pytest

from tests import private
from tests.private import find_private_text
from worker import errors
from worker.aws.error_codes import error_of

CODES: dict[type[errors.AWSError], list[str]] = {
    errors.AWSThrottledError: [
        "RequestThrottled", "OverLimit", "KmsThrottled", "KMS.ThrottlingException",
        "ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded",
        "TransactionConflict", "AWS.SimpleQueueService.OverLimit",
    ],
    errors.AWSUnsupportedError: [
        "InvalidAction", "UnknownOperationException", "UnsupportedOperation",
        "AWS.SimpleQueueService.UnsupportedOperation",
    ],
    errors.AWSDeniedError: [
        "AccessDenied", "AccessDeniedException", "ExpiredToken", "InvalidClientTokenId",
        "SignatureDoesNotMatch", "UnrecognizedClientException", "InvalidSecurity",
        "ExpiredTokenException", "InvalidSignatureException", "RequestExpired",
        "RequestInTheFuture", "RequestTimeTooSkewed", "IncompleteSignatureException",
        "MissingAuthenticationTokenException", "401", "403", "407", "KmsDisabled",
        "KmsNotFound", "KmsInvalidState", "KmsAccessDenied",
    ],
    errors.AWSNotFoundError: [
        "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "InvalidAddress",
        "ResourceNotFoundException", "com.amazonaws.sqs#QueueDoesNotExist",
    ],
    errors.LeaseLostError: [
        "ReceiptHandleIsInvalid", "MessageNotInflight",
        "AWS.SimpleQueueService.MessageNotInflight",
    ],
    errors.AWSRejectedError: [
        "ValidationException", "ConditionalCheckFailedException", "InvalidMessageContents",
        "AWS.SimpleQueueService.BatchRequestTooLong", "InvalidParameterValue",
    ],
    errors.AWSUnavailableError: [
        "InternalError", "InternalServerError", "ServiceUnavailable", "500", "Unheard.Of", "",
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "code"), [(kind, code) for kind, codes in CODES.items() for code in codes]
)
def test_error_class_depends_on_the_code(kind: type[errors.AWSError], code: str) -> None:
    assert type(error_of(code, "text")) is kind


def test_error_without_a_message_says_so() -> None:
    assert str(error_of("UnknownOperationException", "")) == "UnknownOperationException: no message"


def test_error_is_one_line_of_limited_length() -> None:
    text = str(error_of("ValidationException", "first\nsecond " + "x" * 1000))
    assert text.startswith("ValidationException: first second x")
    assert "\n" not in text
    assert len(text) < 400


_LATE = "Signature expired: 20261101T100000Z is now earlier than 20261101T101500Z"
_EARLY = "Signature not yet current: 20261101T100000Z is still later than 20261101T094500Z"
_CLOCK = "check this machine's clock"
_CREDENTIALS = (
    "configure a role, a profile (--profile, AWS_PROFILE) or valid access keys (--env-file, "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) for this process, and check this machine's clock"
)
_GRANT = "grant the permissions listed in infra/operations.md"


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        ("RequestTimeTooSkewed", "no", _CLOCK),
        ("RequestExpired", "no", _CLOCK),
        ("RequestInTheFuture", "no", _CLOCK),
        ("InvalidSignatureException", _LATE, _CLOCK),
        ("SignatureDoesNotMatch", _EARLY, _CLOCK),
        ("com.amazon.coral.service#ExpiredTokenException", "no", _CREDENTIALS),
        ("InvalidClientTokenId", "no", _CREDENTIALS),
        ("UnrecognizedClientException", "no", _CREDENTIALS),
        ("AccessDeniedException", "no", _GRANT),
    ],
)
def test_denial_says_what_to_do(code: str, message: str, hint: str) -> None:
    assert str(error_of(code, message)).endswith(f"{message}; {hint}")


@pytest.mark.parametrize("code", ["InvalidSignatureException", "SignatureDoesNotMatch"])
def test_wrong_key_has_no_hint_about_the_clock(code: str) -> None:
    message = "The request signature we calculated does not match the signature you provided."
    assert str(error_of(code, message)) == f"{code}: {message}"


PRIVATE_BYTES = f"{private.IP} {private.SESSION_ID}"


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (
            "ValidationException",
            f"1 error: Value '{PRIVATE_BYTES}' at 'entries.1.member.messageBody' failed: Too long",
            "1 error: Value … failed: Too long",
        ),
        (
            "InvalidParameterValue",
            f"Value {PRIVATE_BYTES} for parameter MessageBody is invalid. Reason: Too long.",
            "Value … for parameter MessageBody is invalid. Reason: Too long.",
        ),
        ("InternalFailure", f'{{"ip": "{PRIVATE_BYTES}", "a": 1}}', "{…: 1}"),
        ("InvalidMessageContents", "It wasn't the table's fault.", "It wasn't the table's fault."),
        (PRIVATE_BYTES, "text", "text"),
    ],
)
def test_values_quoted_by_aws_are_left_out(code: str, message: str, expected: str) -> None:
    text = str(error_of(code, message))
    assert text.endswith(f": {expected}")
    assert not find_private_text(text)


def test_denial_names_user_and_action() -> None:
    message = "User: 'arn:aws:iam::1:role/r' may not perform: 'sqs:DeleteMessage'"
    assert message in str(error_of("AccessDenied", message))


_KMS_KEY = "arn:aws:kms:eu-west-1:123456789012:key/0f1e2d3c-aaaa-bbbb-cccc-0123456789ab"
_KMS_DENIAL = "User: arn:aws:iam::123456789012:user/worker is not authorized to perform: {}"


@pytest.mark.parametrize(
    ("code", "message", "advice"),
    [
        (
            "KMS.AccessDeniedException",
            (
                f"{_KMS_DENIAL.format('kms:GenerateDataKey')} on resource: {_KMS_KEY} because no "
                f"identity-based policy allows the action {'x' * 400}"
            ),
            f"; allow kms:GenerateDataKey on {_KMS_KEY}",
        ),
        (
            "AccessDeniedException",
            f"{_KMS_DENIAL.format('kms:Decrypt')} on the resource: {_KMS_KEY}.",
            f"; allow kms:Decrypt on {_KMS_KEY}",
        ),
        (
            "AccessDeniedException",
            f"{_KMS_DENIAL.format('kms:Decrypt')} with an explicit deny",
            "; allow kms:Decrypt on the KMS key of the queue or table",
        ),
        (
            "KmsAccessDenied",
            "The caller doesn't have the required KMS access.",
            (
                "; allow kms:Decrypt to receive or read, kms:GenerateDataKey to send on the KMS "
                "key of the queue or table"
            ),
        ),
        (
            "KMS.DisabledException",
            "key is disabled",
            "; check that the KMS key of the queue or table exists and is enabled",
        ),
    ],
)
def test_denial_by_kms_names_permission_and_key(code: str, message: str, advice: str) -> None:
    error = error_of(code, message)
    assert type(error) is errors.AWSDeniedError
    assert str(error).endswith(advice)
    assert "\n" not in str(error)
