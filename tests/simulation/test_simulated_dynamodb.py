"""State how the simulated DynamoDB behaves."""

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
from tests.simulation.simulated_table import LedgerChangedError
from tests.simulation.virtual_clock import simulated

INSERT = """INSERT INTO "facts" VALUE {'user_id': ?, 'policy_version': ?, 'n': ?}"""
KEY = {"user_id": "u", "policy_version": "p#1"}


async def _opened(*amendable: str) -> SimulatedDynamoDB:
    dynamodb = SimulatedDynamoDB(Faults(0), amendable_tables=amendable)
    await dynamodb.create_table(
        TableName="facts",
        KeySchema=[
            {"AttributeName": "user_id", "KeyType": "HASH"},
            {"AttributeName": "policy_version", "KeyType": "RANGE"},
        ],
    )
    return dynamodb


async def _inserted(dynamodb: SimulatedDynamoDB, *keys: tuple[str, str]) -> list[Any]:
    answer = await dynamodb.batch_execute_statement(
        Statements=[{"Statement": INSERT, "Parameters": [*key, 1]} for key in keys]
    )
    responses: list[Any] = answer["Responses"]
    return [response.get("Error", {}).get("Code") for response in responses]


def _code(error: pytest.ExceptionInfo[ClientError]) -> str:
    told: Any = error.value.response["Error"]
    code: str = told["Code"]
    return code


@simulated
async def test_an_insert_stores_the_item() -> None:
    dynamodb = await _opened()
    assert await _inserted(dynamodb, ("u", "p#1")) == [None]
    answer = await dynamodb.get_item(TableName="facts", Key=KEY, ConsistentRead=True)
    assert answer["Item"] == {**KEY, "n": Decimal(1)}


@simulated
async def test_an_insert_of_an_existing_key_fails_alone() -> None:
    dynamodb = await _opened()
    await _inserted(dynamodb, ("u", "p#1"))
    codes = await _inserted(dynamodb, ("u", "p#0"), ("u", "p#1"), ("u", "p#2"))
    assert codes == [None, "DuplicateItem", None]
    dynamodb.verify()


@simulated
async def test_the_same_key_twice_in_one_batch_fails_it_whole() -> None:
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
async def test_a_bad_statement_fails_alone(
    statement: str, parameters: list[Any], code: str
) -> None:
    dynamodb = await _opened()
    answer = await dynamodb.batch_execute_statement(
        Statements=[
            {"Statement": statement, "Parameters": parameters},
            {"Statement": INSERT, "Parameters": ["good", "p#1", 1]},
        ]
    )
    bad, good = answer["Responses"]
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
async def test_overwriting_an_item_is_a_violation_even_when_swallowed() -> None:
    dynamodb = await _opened()
    await dynamodb.put_item(TableName="facts", Item={**KEY, "n": 1})
    await dynamodb.put_item(TableName="facts", Item={**KEY, "n": 1})  # the same: no change
    dynamodb.verify()
    with pytest.raises(LedgerChangedError):
        await dynamodb.put_item(TableName="facts", Item={**KEY, "n": 2})
    with pytest.raises(LedgerChangedError, match="overwritten"):
        dynamodb.verify()


@simulated
async def test_an_item_that_changed_or_vanished_is_noticed() -> None:
    dynamodb = await _opened()
    await dynamodb.put_item(TableName="facts", Item={**KEY, "n": 1})
    partition = dynamodb.tables["facts"].partitions["u"]
    partition["p#1"].item["n"] = Decimal(2)
    with pytest.raises(LedgerChangedError, match="changed"):
        dynamodb.verify()
    del partition["p#1"]
    with pytest.raises(LedgerChangedError, match="vanished"):
        dynamodb.verify()


@simulated
async def test_values_come_back_as_a_real_resource_gives_them() -> None:
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
async def test_neither_sender_nor_receiver_of_an_item_can_change_it_afterwards() -> None:
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
async def test_a_query_gives_one_partition_in_order(request_members: dict[str, Any]) -> None:
    dynamodb = await _opened()
    await _inserted(dynamodb, ("u", "b"), ("other", "x"), ("u", "a"), ("u", "c"))
    answer = await dynamodb.query(TableName="facts", **request_members)
    assert [item["policy_version"] for item in answer["Items"]] == ["a", "b", "c"]
    assert "LastEvaluatedKey" not in answer
    answer = await dynamodb.query(TableName="facts", ScanIndexForward=False, **request_members)
    assert [item["policy_version"] for item in answer["Items"]] == ["c", "b", "a"]


@simulated
async def test_a_query_can_narrow_the_sort_key() -> None:
    dynamodb = await _opened()
    await _inserted(dynamodb, ("u", "p#1"), ("u", "p#2"), ("u", "q#1"))
    user = Key("user_id").eq("u")
    prefix = user & Key("policy_version").begins_with("p#")
    answer = await dynamodb.query(TableName="facts", KeyConditionExpression=prefix)
    assert answer["Count"] == 2
    exact = user & Key("policy_version").eq("q#1")
    answer = await dynamodb.query(TableName="facts", KeyConditionExpression=exact)
    assert answer["Count"] == 1


@pytest.mark.parametrize("forward", [True, False])
@simulated
async def test_pages_follow_one_another_without_gap_or_repetition(*, forward: bool) -> None:
    dynamodb = await _opened()
    await _inserted(dynamodb, *[("u", str(n)) for n in range(6)])
    seen: list[str] = []
    start: dict[str, Any] = {}
    pages = 0
    while pages == 0 or start:
        answer = await dynamodb.query(
            TableName="facts",
            KeyConditionExpression=Key("user_id").eq("u"),
            ScanIndexForward=forward,
            Limit=2,
            **start,
        )
        seen += [item["policy_version"] for item in answer["Items"]]
        last_key = answer.get("LastEvaluatedKey")
        start = {"ExclusiveStartKey": last_key} if last_key else {}
        pages += 1
    assert seen == sorted("012345", reverse=not forward)
    assert pages == 4  # a full last page still names a key to go on from


@simulated
async def test_a_scan_sees_every_item_once_through_all_its_pages() -> None:
    dynamodb = await _opened()
    keys = [(user, version) for user in "abc" for version in "12"]
    await _inserted(dynamodb, *keys)
    seen: list[tuple[str, str]] = []
    answer = await dynamodb.scan(TableName="facts", Limit=4)
    while answer["Items"]:
        seen += [(item["user_id"], item["policy_version"]) for item in answer["Items"]]
        if "LastEvaluatedKey" not in answer:
            break
        answer = await dynamodb.scan(
            TableName="facts", Limit=4, ExclusiveStartKey=answer["LastEvaluatedKey"]
        )
    assert seen == keys


@simulated
async def test_an_update_needs_its_condition_and_an_amendable_table() -> None:
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
    answer = await dynamodb.update_item(**request, ReturnValues="ALL_NEW")
    assert answer["Attributes"] == {**KEY, "retired_at": "now", "n": Decimal(3)}
    dynamodb.verify()


@simulated
async def test_updating_an_item_of_a_ledger_is_a_violation() -> None:
    dynamodb = await _opened()
    await _inserted(dynamodb, ("u", "p#1"))
    with pytest.raises(LedgerChangedError):
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
async def test_a_table_is_described_and_made_once() -> None:
    dynamodb = await _opened()
    answer = await dynamodb.describe_table(TableName="facts")
    assert answer["Table"]["TableStatus"] == "ACTIVE"
    with pytest.raises(ClientError) as error:
        await dynamodb.create_table(
            TableName="facts", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}]
        )
    assert _code(error) == "ResourceInUseException"


@simulated
async def test_an_expression_that_is_not_modelled_is_refused() -> None:
    dynamodb = await _opened()
    with pytest.raises(ClientError) as error:
        await dynamodb.put_item(TableName="facts", Item=KEY, ConditionExpression="n > :n")
    assert _code(error) == "ValidationException"


@simulated
async def test_an_item_above_its_limit_is_refused_alone() -> None:
    dynamodb = await _opened()
    key_bytes = len("user_id" + "u" + "policy_version" + "p" + "n")
    largest = "x" * (400 * 1024 - key_bytes)
    answer = await dynamodb.batch_execute_statement(
        Statements=[
            {"Statement": INSERT, "Parameters": [user, "p", text]}
            for user, text in (("u", largest), ("v", largest + "x"), ("w", ""))
        ]
    )
    first, second, third = answer["Responses"]
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
async def test_an_update_statement_sets_what_is_missing_and_creates_nothing() -> None:
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
async def test_an_update_statement_that_is_not_modelled_is_refused(statement: str) -> None:
    dynamodb = await _opened("facts")
    await _inserted(dynamodb, ("u", "p#1"))
    parameters = ["x"] * statement.count("?")
    with pytest.raises(ClientError) as error:
        await dynamodb.execute_statement(Statement=statement, Parameters=parameters)
    assert _code(error) == "ValidationException"
