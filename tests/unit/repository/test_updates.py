"""Tests of the requests of conditional updates."""

from __future__ import annotations

import re

from worker.repository.updates import Update

KEY = {"user_id": "u", "policy_version": "p#1"}
ERASURE = Update("users-1", KEY, removed={"ip": "203.0.113.7", "ip_salt": b"salt"})
END = Update("policies", {"policy_id": "p", "version": "1"}, added={"retired_at": "now"})


def test_statement_sets_only_missing_attributes() -> None:
    assert END.execute_statement() == {
        "Statement": 'UPDATE "policies" SET "retired_at" = ? '
        'WHERE "policy_id" = ? AND "version" = ? AND "retired_at" IS MISSING',
        "Parameters": ["now", "p", "1"],
    }


def test_statement_removes_only_unchanged_attributes() -> None:
    assert ERASURE.execute_statement() == {
        "Statement": 'UPDATE "users-1" REMOVE "ip" REMOVE "ip_salt" '
        'WHERE "user_id" = ? AND "policy_version" = ? AND "ip" = ? AND "ip_salt" = ?',
        "Parameters": ["u", "p#1", "203.0.113.7", b"salt"],
    }


def test_update_item_has_the_same_conditions_and_requires_the_item() -> None:
    assert END.update_item() == {
        "TableName": "policies",
        "Key": {"policy_id": "p", "version": "1"},
        "UpdateExpression": "SET #0 = :0",
        "ConditionExpression": "attribute_exists(policy_id) AND attribute_not_exists(#0)",
        "ExpressionAttributeNames": {"#0": "retired_at"},
        "ExpressionAttributeValues": {":0": "now"},
    }
    assert ERASURE.update_item() == {
        "TableName": "users-1",
        "Key": KEY,
        "UpdateExpression": "REMOVE #0, #1",
        "ConditionExpression": "attribute_exists(user_id) AND #0 = :0 AND #1 = :1",
        "ExpressionAttributeNames": {"#0": "ip", "#1": "ip_salt"},
        "ExpressionAttributeValues": {":0": "203.0.113.7", ":1": b"salt"},
    }


def test_erasure_names_only_the_key_and_the_removed_attributes() -> None:
    # The eraser's role may name nothing else: what it may name in a condition, it may also set.
    named = set(re.findall(r'"([a-z_]+)"', ERASURE.execute_statement()["Statement"]))
    assert named == {"user_id", "policy_version", "ip", "ip_salt"}
