"""Make the errors that botocore raises, with the codes that the services give."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

# The old query protocol's codes, which SQS still puts into Error.Code.
_QUERY_CODES = {
    "AccessDeniedException": "AccessDenied",
    "BatchEntryIdsNotDistinct": "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
    "BatchRequestTooLong": "AWS.SimpleQueueService.BatchRequestTooLong",
    "EmptyBatchRequest": "AWS.SimpleQueueService.EmptyBatchRequest",
    "InvalidBatchEntryId": "AWS.SimpleQueueService.InvalidBatchEntryId",
    "InvalidParameterValueException": "InvalidParameterValue",
    "KmsThrottled": "KMS.ThrottlingException",
    "MessageNotInflight": "AWS.SimpleQueueService.MessageNotInflight",
    "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
    "QueueNameExists": "QueueAlreadyExists",
    "TooManyEntriesInBatchRequest": "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
}


def sqs_error(operation: str, code: str, message: str = "", *, status: int = 400) -> ClientError:
    """Make an SQS error: `code` becomes QueryErrorCode, and Error.Code its old name."""
    fault = "Receiver" if status >= 500 else "Sender"
    error = {"Message": message or code, "Code": _QUERY_CODES.get(code, code)}
    return _client_error(operation, error | {"QueryErrorCode": code, "Type": fault}, status)


def dynamodb_error(
    operation: str, code: str, message: str = "", *, status: int = 400
) -> ClientError:
    """Make a DynamoDB error, which has one code only."""
    return _client_error(operation, {"Message": message or code, "Code": code}, status)


def _client_error(operation: str, error: dict[str, str], status: int) -> ClientError:
    response: Any = {"Error": error, "ResponseMetadata": metadata(status)}
    return ClientError(response, operation)


def metadata(status: int = 200) -> dict[str, Any]:
    """Make the ResponseMetadata of an answer."""
    return {"HTTPStatusCode": status, "HTTPHeaders": {}, "RetryAttempts": 0}
