"""Errors as botocore raises them, with the codes of the services."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

# Codes of the old query protocol, which SQS still returns in Error.Code.
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
    """Return an SQS error with `code` as QueryErrorCode and its old name as Error.Code."""
    fault = "Receiver" if status >= 500 else "Sender"
    error = {"Message": message or code, "Code": _QUERY_CODES.get(code, code)}
    return _client_error(operation, error | {"QueryErrorCode": code, "Type": fault}, status)


def dynamodb_error(
    operation: str, code: str, message: str = "", *, status: int = 400
) -> ClientError:
    """Return a DynamoDB error, which has only one code."""
    return _client_error(operation, {"Message": message or code, "Code": code}, status)


def _client_error(operation: str, error: dict[str, str], status: int) -> ClientError:
    response: Any = {"Error": error, "ResponseMetadata": metadata(status)}
    return ClientError(response, operation)


def metadata(status: int = 200) -> dict[str, Any]:
    """Return the ResponseMetadata of a response."""
    return {"HTTPStatusCode": status, "HTTPHeaders": {}, "RetryAttempts": 0}
