"""The ledger of acceptances and the table of policies, behind one shared object."""

from worker.repository.aup import AUPRepository, RecordResult, ScanKey, ScanPage, TableSize
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
