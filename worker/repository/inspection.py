"""Configuration of the tables, as DynamoDB describes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from worker.repository.aup import AUPRepository


@dataclass(frozen=True, slots=True)
class TableState:
    """Configuration and status of a table.

    Attributes:
        name: Name of the table.
        status: `TableStatus`, such as `ACTIVE`.
        keys: Name and type of the partition key, then of the sort key.
        write_units: Provisioned write units per second; None if on demand.
        is_deletion_protected: Whether deletion protection is enabled.
        kms_key: ARN of the account's KMS key; None if DynamoDB uses its own key.
    """

    name: str
    status: str
    keys: tuple[tuple[str, str], ...]
    write_units: int | None
    is_deletion_protected: bool
    kms_key: str | None = None


async def table_state(repository: AUPRepository, table_name: str) -> TableState:
    """Return the configuration and status of a table.

    Raises:
        AWSError: The table does not exist, or DescribeTable is not permitted.
    """
    async with repository.tables.client("DescribeTable", table_name) as client:
        response = await client.describe_table(TableName=table_name)
    table: dict[str, Any] = dict(response["Table"])
    types = {
        each["AttributeName"]: each["AttributeType"]
        for each in table.get("AttributeDefinitions", [])
    }
    schema = sorted(table.get("KeySchema", []), key=lambda key: str(key["KeyType"]))
    mode = table.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED")
    units = table.get("ProvisionedThroughput", {}).get("WriteCapacityUnits", 0)
    return TableState(
        name=table_name,
        status=str(table.get("TableStatus", "")),
        keys=tuple((key["AttributeName"], types.get(key["AttributeName"], "?")) for key in schema),
        write_units=None if mode == "PAY_PER_REQUEST" else int(units),
        is_deletion_protected=bool(table.get("DeletionProtectionEnabled")),
        kms_key=table.get("SSEDescription", {}).get("KMSMasterKeyArn"),
    )


async def has_recovery(repository: AUPRepository, table_name: str) -> bool:
    """Return whether point-in-time recovery is enabled for a table.

    Raises:
        AWSError: The server does not support it, or DescribeContinuousBackups is not permitted.
    """
    async with repository.tables.client("DescribeContinuousBackups", table_name) as client:
        response: Any = await client.describe_continuous_backups(TableName=table_name)
    backups = response.get("ContinuousBackupsDescription", {})
    recovery = backups.get("PointInTimeRecoveryDescription", {})
    return bool(recovery.get("PointInTimeRecoveryStatus") == "ENABLED")
