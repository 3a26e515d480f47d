"""Tests of the simulated DynamoDB."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from boto3.dynamodb.conditions import (  # type: ignore[import-untyped, unused-ignore] # boto3 has no types
    Attr,
    Key,
)
from boto3.dynamodb.types import (  # type: ignore[import-untyped, unused-ignore] # boto3 has no types
    Binary,
    TypeDeserializer,
    TypeSerializer,
)
from botocore.exceptions import ClientError

from tests.simulation.faults import Faults
from tests.simulation.simulated_dynamodb import SimulatedDynamoDB
from tests.simulation.simulated_table import RecordsChangedError
from tests.simulation.virtual_clock import simulated

INSERT = """INSERT INTO "facts" VALUE {'user_id': ?, 'policy_version': ?, 'n': ?}"""
KEY = {"user_id": "u", "policy_version": "p#1"}


async def _opened(*mutable: str) -> SimulatedDynamoDB:
    dynamodb = SimulatedDynamoDB(Faults(0), mutable_tables=mutable)
    await dynamodb.create_table(
        TableName="facts",
        KeySchema=[
            {"AttributeName": "user_id", "KeyType": "HASH"},
            {"AttributeName": "policy_version", "KeyType": "RANGE"},
        ],
    )
    return dynamodb


async def _inserted(dynamodb: SimulatedDynamoDB, *keys: tuple[str, str]) -> list[Any]:
    response = await dynamodb.batch_execute_statement(
        Statements=[{"Statement": INSERT, "Parameters": [*key, 1]} for key in keys]
    )
    responses: list[Any] = response["Responses"]
    return [response.get("Error", {}).get("Code") for response in responses]


def _code(error: pytest.ExceptionInfo[ClientError]) -> str:
    details: Any = error.value.response["Error"]
    code: str = details["Code"]
    return code


@simulated
async def test_an_insert_stores_the_item() -> None:
    dynamodb = await _opened()
    assert await _inserted(dynamodb, ("u", "p#1")) == [None]
    response = await dynamodb.get_item(TableName="facts", Key=KEY, ConsistentRead=True)
    assert response["Item"] == {**KEY, "n": Decimal(1)}


@simulated
async def test_insert_of_an_existing_key_fails_only_its_statement() -> None:
    dynamodb = await _opened()
    await _inserted(dynamodb, ("u", "p#1"))
    codes = await _inserted(dynamodb, ("u", "p#0"), ("u", "p#1"), ("u", "p#2"))
    assert codes == [None, "DuplicateItem", None]
    dynamodb.verify()


@simulated
async def test_duplicate_key_in_a_batch_fails_the_whole_batch() -> None:
    dynamodb = await _opened()
    with pytest.raises(ClientError) as error:
        await _inserted(dynamodb, ("u", "p#1"), ("v", "p#1"), ("u", "p#1"))
    assert _code(error) == "ValidationException"
    assert len(dynamodb.tables["facts"]) == 0


@pytest.mark.parametrize("count", [0, 26])
@simulated
async def test_a_batch_holds_one_to_twenty_five_statements(count: int) -> None:
    dynamodb = await _opened()
    with pytest.raises(ClientError) as error:
        await _inserted(dynamodb, *[("u", str(n)) for n in range(count)])
    assert _code(error) == "ValidationException"


@pytest.mark.parametrize(
    ("statement", "parameters", "code"),
    [
        ("INSERT INTO nonsense", [], "ValidationError"),
        (INSERT, ["u"], "ValidationError"),
        (INSERT, ["u", "", 1], "ValidationError"),
        (INSERT, ["u", 3, 1], "ValidationError"),
        (INSERT.replace("facts", "unknown"), ["u", "p", 1], "ResourceNotFound"),
    ],
)
@simulated
async def test_invalid_statement_fails_only_itself(
    statement: str, parameters: list[Any], code: str
) -> None:
    dynamodb = await _opened()
    response = await dynamodb.batch_execute_statement(
        Statements=[
            {"Statement": statement, "Parameters": parameters},
            {"Statement": INSERT, "Parameters": ["good", "p#1", 1]},
        ]
    )
    bad, good = response["Responses"]
    assert bad["Error"]["Code"] == code
    assert "Error" not in good


@pytest.mark.parametrize(
    "condition", ["attribute_not_exists(user_id)", Attr("user_id").not_exists()]
)
@simulated
async def test_a_conditional_put_writes_once(condition: Any) -> None:
    dynamodb = await _opened()
    await dynamodb.put_item(TableName="facts", Item=KEY, ConditionExpression=condition)
    with pytest.raises(ClientError) as error:
        await dynamodb.put_item(
            TableName="facts", Item={**KEY, "n": 2}, ConditionExpression=condition
        )
    assert _code(error) == "ConditionalCheckFailedException"
    dynamodb.verify()


@simulated
async def test_overwriting_an_item_is_a_violation_even_if_the_exception_is_swallowed() -> None:
    dynamodb = await _opened()
    await dynamodb.put_item(TableName="facts", Item={**KEY, "n": 1})
    await dynamodb.put_item(TableName="facts", Item={**KEY, "n": 1})  # same content: no change
    dynamodb.verify()
    with pytest.raises(RecordsChangedError):
        await dynamodb.put_item(TableName="facts", Item={**KEY, "n": 2})
    with pytest.raises(RecordsChangedError, match="overwritten"):
        dynamodb.verify()


@simulated
async def test_changed_or_missing_items_are_detected() -> None:
    dynamodb = await _opened()
    await dynamodb.put_item(TableName="facts", Item={**KEY, "n": 1})
    partition = dynamodb.tables["facts"].partitions["u"]
    partition["p#1"].item["n"] = Decimal(2)
    with pytest.raises(RecordsChangedError, match="changed"):
        dynamodb.verify()
    del partition["p#1"]
    with pytest.raises(RecordsChangedError, match="missing"):
        dynamodb.verify()


@simulated
async def test_values_are_returned_as_by_a_real_resource() -> None:
    item: dict[str, Any] = {
        **KEY,
        "number": 7,
        "decimal": Decimal("1.50"),
        "bytes": b"\x00\x01",
        "none": None,
        "yes": True,
        "list": [1, "two", {"three": b"3"}],
        "map": {"a": [], "b": {}},
        "words": {"x", "y"},
    }
    dynamodb = await _opened()
    await dynamodb.put_item(TableName="facts", Item=item)
    stored = (await dynamodb.get_item(TableName="facts", Key=KEY))["Item"]
    expected = {
        name: TypeDeserializer().deserialize(TypeSerializer().serialize(value))
        for name, value in item.items()
    }
    assert stored == expected
    assert isinstance(stored["bytes"], Binary)
    with pytest.raises(TypeError, match="Float"):
        await dynamodb.put_item(TableName="facts", Item={**KEY, "n": 0.5})


@simulated
async def test_stored_items_cannot_be_changed_through_arguments_or_results() -> None:
    dynamodb = await _opened()
    item: dict[str, Any] = {**KEY, "list": [1]}
    await dynamodb.put_item(TableName="facts", Item=item)
    item["list"].append(2)
    received = (await dynamodb.get_item(TableName="facts", Key=KEY))["Item"]
    received["list"].append(3)
    again = (await dynamodb.get_item(TableName="facts", Key=KEY))["Item"]
    assert again["list"] == [1]
    dynamodb.verify()


@pytest.mark.parametrize(
    "request_members",
    [
        {"KeyConditionExpression": Key("user_id").eq("u")},
        {
            "KeyConditionExpression": "#u = :u",
            "ExpressionAttributeNames": {"#u": "user_id"},
            "ExpressionAttributeValues": {":u": "u"},
        },
    ],
)
@simulated
async def test_query_returns_one_partition_in_order(request_members: dict[str, Any]) -> None:
    dynamodb = await _opened()
    await _inserted(dynamodb, ("u", "b"), ("other", "x"), ("u", "a"), ("u", "c"))
    response = await dynamodb.query(TableName="facts", **request_members)
    assert [item["policy_version"] for item in response["Items"]] == ["a", "b", "c"]
    assert "LastEvaluatedKey" not in response
    response = await dynamodb.query(TableName="facts", ScanIndexForward=False, **request_members)
    assert [item["policy_version"] for item in response["Items"]] == ["c", "b", "a"]


@simulated
async def test_a_query_can_narrow_the_sort_key() -> None:
    dynamodb = await _opened()
    await _inserted(dynamodb, ("u", "p#1"), ("u", "p#2"), ("u", "q#1"))
    user = Key("user_id").eq("u")
    prefix = user & Key("policy_version").begins_with("p#")
    response = await dynamodb.query(TableName="facts", KeyConditionExpression=prefix)
    assert response["Count"] == 2
    exact = user & Key("policy_version").eq("q#1")
    response = await dynamodb.query(TableName="facts", KeyConditionExpression=exact)
    assert response["Count"] == 1


@pytest.mark.parametrize("forward", [True, False])
@simulated
async def test_pages_have_no_gaps_or_repetitions(*, forward: bool) -> None:
    dynamodb = await _opened()
    await _inserted(dynamodb, *[("u", str(n)) for n in range(6)])
    seen: list[str] = []
    start: dict[str, Any] = {}
    pages = 0
    while pages == 0 or start:
        response = await dynamodb.query(
            TableName="facts",
            KeyConditionExpression=Key("user_id").eq("u"),
            ScanIndexForward=forward,
            Limit=2,
            **start,
        )
        seen += [item["policy_version"] for item in response["Items"]]
        last_key = response.get("LastEvaluatedKey")
        start = {"ExclusiveStartKey": last_key} if last_key else {}
        pages += 1
    assert seen == sorted("012345", reverse=not forward)
    assert pages == 4  # a full last page still returns LastEvaluatedKey


@simulated
async def test_scan_returns_every_item_once_over_all_pages() -> None:
    dynamodb = await _opened()
    keys = [(user, version) for user in "abc" for version in "12"]
    await _inserted(dynamodb, *keys)
    seen: list[tuple[str, str]] = []
    response = await dynamodb.scan(TableName="facts", Limit=4)
    while response["Items"]:
        seen += [(item["user_id"], item["policy_version"]) for item in response["Items"]]
        if "LastEvaluatedKey" not in response:
            break
        response = await dynamodb.scan(
            TableName="facts", Limit=4, ExclusiveStartKey=response["LastEvaluatedKey"]
        )
    assert seen == keys


@simulated
async def test_update_needs_its_condition_and_a_mutable_table() -> None:
    dynamodb = await _opened("facts")
    request: dict[str, Any] = {
        "TableName": "facts",
        "Key": KEY,
        "UpdateExpression": "SET #r = :r, n = :n",
        "ConditionExpression": "attribute_exists(user_id)",
        "ExpressionAttributeNames": {"#r": "retired_at"},
        "ExpressionAttributeValues": {":r": "now", ":n": 3},
    }
    with pytest.raises(ClientError) as error:
        await dynamodb.update_item(**request)
    assert _code(error) == "ConditionalCheckFailedException"
    await _inserted(dynamodb, ("u", "p#1"))
    response = await dynamodb.update_item(**request, ReturnValues="ALL_NEW")
    assert response["Attributes"] == {**KEY, "retired_at": "now", "n": Decimal(3)}
    dynamodb.verify()


@simulated
async def test_update_in_an_immutable_table_is_a_violation() -> None:
    dynamodb = await _opened()
    await _inserted(dynamodb, ("u", "p#1"))
    with pytest.raises(RecordsChangedError):
        await dynamodb.update_item(
            TableName="facts",
            Key=KEY,
            UpdateExpression="SET n = :n",
            ExpressionAttributeValues={":n": 9},
        )


@simulated
async def test_an_unknown_table_is_not_found() -> None:
    dynamodb = await _opened()
    with pytest.raises(ClientError) as error:
        await dynamodb.describe_table(TableName="unknown")
    assert _code(error) == "ResourceNotFoundException"


@simulated
async def test_table_is_described_and_created_once() -> None:
    dynamodb = await _opened()
    response = await dynamodb.describe_table(TableName="facts")
    assert response["Table"]["TableStatus"] == "ACTIVE"
    with pytest.raises(ClientError) as error:
        await dynamodb.create_table(
            TableName="facts", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}]
        )
    assert _code(error) == "ResourceInUseException"


@simulated
async def test_unsupported_expression_is_rejected() -> None:
    dynamodb = await _opened()
    with pytest.raises(ClientError) as error:
        await dynamodb.put_item(TableName="facts", Item=KEY, ConditionExpression="n > :n")
    assert _code(error) == "ValidationException"


@simulated
async def test_only_the_oversized_item_is_rejected() -> None:
    dynamodb = await _opened()
    key_bytes = len("user_id" + "u" + "policy_version" + "p" + "n")
    largest = "x" * (400 * 1024 - key_bytes)
    response = await dynamodb.batch_execute_statement(
        Statements=[
            {"Statement": INSERT, "Parameters": [user, "p", text]}
            for user, text in (("u", largest), ("v", largest + "x"), ("w", ""))
        ]
    )
    first, second, third = response["Responses"]
    assert second["Error"] == {
        "Code": "ValidationError",
        "Message": "Item size has exceeded the maximum allowed size",
    }
    assert "Error" not in first
    assert "Error" not in third
    item = {"user_id": "v", "policy_version": "p", "n": largest + "x"}
    with pytest.raises(ClientError, match="exceeded the maximum allowed size") as error:
        await dynamodb.put_item(TableName="facts", Item=item)
    assert _code(error) == "ValidationException"
    assert len(dynamodb.tables["facts"]) == 2


UPDATE = """UPDATE "facts" SET "end" = ? WHERE "user_id" = ? AND "policy_version" = ? \
AND "end" IS MISSING"""


@simulated
async def test_update_statement_sets_missing_attributes_and_creates_no_item() -> None:
    dynamodb = await _opened("facts")
    await _inserted(dynamodb, ("u", "p#1"))
    await dynamodb.execute_statement(Statement=UPDATE, Parameters=["first", "u", "p#1"])
    for user in ("u", "absent"):
        with pytest.raises(ClientError) as error:
            await dynamodb.execute_statement(Statement=UPDATE, Parameters=["2nd", user, "p#1"])
        assert _code(error) == "ConditionalCheckFailedException"
    assert dynamodb.tables["facts"].items() == [{**KEY, "n": Decimal(1), "end": "first"}]


@pytest.mark.parametrize(
    "statement",
    [
        'UPDATE "facts" REMOVE "end" WHERE "user_id" = ? AND "policy_version" = ?',
        'UPDATE "facts" SET "end" = ? WHERE "user_id" = ?',
        'UPDATE "facts" SET "end" = ? WHERE "user_id" = ? AND "policy_version" = ? AND "n" = ?',
        'UPDATE "facts" SET "end" = ? WHERE "user_id" = ? OR "policy_version" = ?',
    ],
)
@simulated
async def test_unsupported_update_statement_is_rejected(statement: str) -> None:
    dynamodb = await _opened("facts")
    await _inserted(dynamodb, ("u", "p#1"))
    parameters = ["x"] * statement.count("?")
    with pytest.raises(ClientError) as error:
        await dynamodb.execute_statement(Statement=statement, Parameters=parameters)
    assert _code(error) == "ValidationException"
