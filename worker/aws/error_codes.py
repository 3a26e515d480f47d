"""Mapping of AWS error codes to the errors of this program."""

from __future__ import annotations

import re
from typing import Final

from worker import errors
from worker.runtime.redaction import error_code

# Amazon SQS and DynamoDB API references, "Common errors" and each action's "Errors".
_THROTTLED: Final = {
    "KmsThrottled", "KMS.ThrottlingException", "LimitExceededException", "OverLimit",
    "ProvisionedThroughputExceeded", "ProvisionedThroughputExceededException",
    "RequestLimitExceeded", "RequestThrottled", "RequestThrottledException", "SlowDown",
    "Throttling", "ThrottlingError", "ThrottlingException", "TooManyRequestsException",
    "TransactionConflict", "TransactionConflictException",
}  # fmt: skip
_NO_PERMISSION: Final = {"AccessDenied", "AccessDeniedException", "NotAuthorized"}
_STALE_CREDENTIALS: Final = {
    "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId",
    "UnrecognizedClientException",
}  # fmt: skip
_SKEWED_CLOCK: Final = {"RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"}
_DENIED: Final = _NO_PERMISSION | _STALE_CREDENTIALS | _SKEWED_CLOCK | {
    "401", "403", "407", "AuthFailure", "IncompleteSignature", "IncompleteSignatureException",
    "InvalidSecurity", "InvalidSignatureException", "KMS.AccessDeniedException",
    "KMS.DisabledException", "KMS.InvalidStateException", "KMS.NotFoundException",
    "KMS.OptInRequired", "KmsAccessDenied", "KmsDisabled", "KmsInvalidState", "KmsNotFound",
    "KmsOptInRequired", "MissingAuthenticationToken", "MissingAuthenticationTokenException",
    "OptInRequired", "SignatureDoesNotMatch",
}  # fmt: skip
_NOT_FOUND: Final = {
    "InvalidAddress", "NonExistentQueue", "QueueDoesNotExist", "ResourceNotFound",
    "ResourceNotFoundException", "TableNotFoundException",
}  # fmt: skip
_LEASE_LOST: Final = {"InvalidReceiptHandle", "MessageNotInflight", "ReceiptHandleIsInvalid"}
_REJECTED: Final = {
    "413", "BatchEntryIdsNotDistinct", "BatchRequestTooLong", "ConditionalCheckFailed",
    "ConditionalCheckFailedException", "DuplicateItem", "EmptyBatchRequest",
    "InvalidAttributeName",
    "InvalidAttributeValue", "InvalidMessageContents", "InvalidParameterCombination",
    "InvalidParameterValue", "ItemCollectionSizeLimitExceeded",
    "ItemCollectionSizeLimitExceededException", "MalformedQueryString", "MissingParameter",
    "ResourceInUseException",
    "SerializationException", "ValidationError", "ValidationException",
}  # fmt: skip
# Operations that servers other than AWS may not implement, such as PartiQL.
_UNSUPPORTED: Final = {
    "501", "InvalidAction", "NotImplemented", "UnknownOperation", "UnknownOperationException",
    "UnsupportedOperation", "UnsupportedOperationException",
}  # fmt: skip
_BY_CODE: Final[dict[str, type[errors.AWSError]]] = {
    **dict.fromkeys(_THROTTLED, errors.AWSThrottledError),
    **dict.fromkeys(_DENIED, errors.AWSDeniedError),
    **dict.fromkeys(_NOT_FOUND, errors.AWSNotFoundError),
    **dict.fromkeys(_UNSUPPORTED, errors.AWSUnsupportedError),
    **dict.fromkeys(_LEASE_LOST, errors.LeaseLostError),
    **dict.fromkeys(_REJECTED, errors.AWSRejectedError),
}
# AWS reports clock skew under the codes of a wrong key too ("Common errors" of both services).
_CLOCK_SKEW_TEXTS: Final = ("signature expired", "signature not yet current")
_KMS_DENIED: Final = {"KMS.AccessDeniedException", "KmsAccessDenied"}
_KMS_UNUSABLE: Final = {
    "KMS.DisabledException", "KMS.InvalidStateException", "KMS.NotFoundException", "KmsDisabled",
    "KmsInvalidState", "KmsNotFound",
}  # fmt: skip
# AWS Key Management Service developer guide, "Troubleshooting key access".
_KMS_KEY: Final = re.compile(
    r"perform: (?P<action>kms:\w{1,40})(?: on (?:the )?resource: (?P<key>[\w:/.-]{1,200}[\w]))?"
)
KMS_ADVICE: Final = "; allow "
GRANT_ADVICE: Final = "; grant the permissions listed in infra/operations.md"
REGION_ADVICE: Final = "pass --region, or set AWS_REGION (or a profile: --profile, AWS_PROFILE)"
PROFILE_ADVICE: Final = "name an existing profile: --profile (AWS_PROFILE)"
CREDENTIALS_ADVICE: Final = (
    "configure a role, a profile (--profile, AWS_PROFILE) or valid access keys (--env-file, "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) for this process"
)
QUEUE_ADVICE: Final = (
    "create it with `aup-worker init`, or name another: --queue (AUP_QUEUE), --dead-letter-queue "
    "(AUP_DEAD_LETTER_QUEUE)"
)
STALE_CREDENTIALS_ADVICE: Final = f"; {CREDENTIALS_ADVICE}, and check this machine's clock"
# AWS quotes the value that it rejects, which may be part of a message.
_QUOTED: Final = re.compile(r"(?<!\w)([\"'`]).*\1(?!\w)|(?<=Value ).*(?= for parameter)", re.DOTALL)
_NEVER_QUOTING: Final = (errors.AWSDeniedError, errors.AWSNotFoundError)


def error_of(code: str, message: str) -> errors.AWSError:
    """Return the error for an AWS error code.

    Args:
        code: `Error.Code` of a response, or the code of one entry of a batch; namespaces are
            ignored.
        message: Message from AWS; quoted values are left out if they may be private.

    Returns:
        An error of the subclass for the code. An unknown code counts as a temporary failure, so
        that the call is retried.
    """
    short = code.rsplit("#", maxsplit=1)[-1]
    kind = _BY_CODE.get(short) or _BY_CODE.get(short.rsplit(".", maxsplit=1)[-1])
    kind = kind or errors.AWSUnavailableError
    text = message if kind in _NEVER_QUOTING else _QUOTED.sub("…", message)
    return kind(f"{error_code(short)}: {one_line(text) or 'no message'}{_hint(short, message)}")


def one_line(text: str) -> str:
    """Return text on one line of at most 300 characters."""
    return " ".join(text.split())[:300]


def _hint(code: str, message: str) -> str:
    """Return what to do about an error, if the message from AWS does not say it."""
    if code in _SKEWED_CLOCK or any(text in message.lower() for text in _CLOCK_SKEW_TEXTS):
        return "; check this machine's clock"
    if code in _STALE_CREDENTIALS:
        return STALE_CREDENTIALS_ADVICE
    key = _KMS_KEY.search(message)
    if code in _KMS_DENIED or key:
        action, arn = (key["action"], key["key"]) if key else ("", "")
        actions = action or "kms:Decrypt to receive or read, kms:GenerateDataKey to send"
        return f"{KMS_ADVICE}{actions} on {arn or 'the KMS key of the queue or table'}"
    if code in _KMS_UNUSABLE:
        return "; check that the KMS key of the queue or table exists and is enabled"
    if code in _NO_PERMISSION:
        return GRANT_ADVICE
    return ""
