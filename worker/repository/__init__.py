"""Acceptances and policies in DynamoDB, behind one shared object."""

from worker.repository.acceptances import RecordResult, ScanKey, ScanPage, TableSize
from worker.repository.aup import AUPRepository
from worker.repository.dynamodb import DynamoDBRepository
from worker.repository.singleton import SingletonMeta

__all__ = [
    "AUPRepository",
    "DynamoDBRepository",
    "RecordResult",
    "ScanKey",
    "ScanPage",
    "SingletonMeta",
    "TableSize",
]
