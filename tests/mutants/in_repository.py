"""Faults in the repository: writes, lookups, cache, evidence and the singleton."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_ACCEPTANCES: Final = "worker/repository/acceptances.py"
_CACHE: Final = "worker/repository/cache.py"
_EVIDENCE: Final = "worker/domain/evidence.py"
_POLICIES: Final = "worker/repository/policies.py"
_RETRY: Final = "worker/runtime/retry.py"
_SINGLETON: Final = "worker/repository/singleton.py"
_TABLES: Final = "worker/repository/tables.py"
_UPDATES: Final = "worker/repository/updates.py"
_WRITES: Final = "worker/repository/writes.py"
_ACCEPTANCE_TESTS: Final = ("tests/unit/repository/test_acceptances.py",)
_AUP_TESTS: Final = ("tests/unit/repository/test_aup.py",)
_CACHE_TESTS: Final = ("tests/unit/repository/test_cache.py",)
_EVIDENCE_TESTS: Final = ("tests/unit/domain/test_evidence.py",)
_TEXT_TESTS: Final = ("tests/unit/repository/test_texts.py",)
_POLICY_TESTS: Final = ("tests/unit/repository/test_policies.py",)
_SINGLETON_TESTS: Final = ("tests/unit/repository/test_singleton.py",)
_WRITES_TESTS: Final = ("tests/unit/repository/test_writes.py",)

_WRITING: Final = (
    Mutant(
        "a throttled statement is not retried",
        _RETRY,
        "TRANSIENT: Final = (AWSThrottledError, AWSUnavailableError)",
        "TRANSIENT: Final = (AWSUnavailableError,)",
        _ACCEPTANCE_TESTS,
    ),
    Mutant(
        "write concurrency is unlimited",
        _ACCEPTANCES,
        "            concurrency=limit,",
        "            concurrency=10_000,",
        _ACCEPTANCE_TESTS,
    ),
    Mutant(
        "throttling does not lower write concurrency",
        _ACCEPTANCES,
        "        self._writes.concurrency = self._concurrency.allowed\n",
        "",
        _ACCEPTANCE_TESTS,
    ),
    Mutant(
        "write concurrency never recovers",
        _WRITES,
        "min(self._limit, self._allowed + 1 / self._allowed)",
        "self._allowed",
        _WRITES_TESTS,
    ),
    Mutant(
        "conflicts count as duplicates",
        _ACCEPTANCES,
        "if same_event and not same_content(existing, acceptance, reductions):",
        "if False:",
        _ACCEPTANCE_TESTS,
    ),
    Mutant(
        "our own write counts as a duplicate if its response was lost",
        _ACCEPTANCES,
        'if existing.get("record_id") == item["record_id"]:',
        "if False:",
        _ACCEPTANCE_TESTS,
    ),
    Mutant(
        "an existing record counts as new",
        _WRITES,
        'if code in {"DuplicateItem", "ConditionalCheckFailed"}:\n        return Inserted.EXISTS',
        'if code in {"DuplicateItem", "ConditionalCheckFailed"}:\n        return Inserted.NEW',
        _WRITES_TESTS,
    ),
    Mutant(
        "PutItem overwrites a record",
        _WRITES,
        'f"attribute_not_exists({self.key_name})"',
        '"attribute_not_exists(nothing)"',
        _WRITES_TESTS,
    ),
    Mutant(
        "a failed statement is ignored",
        _WRITES,
        'return error_of(code, message if isinstance(message, str) else "")',
        "return Inserted.NEW",
        _WRITES_TESTS,
    ),
    Mutant(
        "one invalid statement fails its whole batch",
        _WRITES,
        "return await split_if_rejected(self._execute, items)",
        "return await self._execute(items)",
        _WRITES_TESTS,
    ),
    Mutant(
        "an item of another program raises KeyError",
        _ACCEPTANCES,
        'if existing.get("record_id") == item["record_id"]:',
        'if existing["record_id"] == item["record_id"]:',
        _ACCEPTANCE_TESTS,
    ),
    Mutant(
        "an item without an event id counts as the same event",
        _ACCEPTANCES,
        'existing.get("event_id") == item["event_id"]',
        'existing.get("event_id", item["event_id"]) == item["event_id"]',
        _ACCEPTANCE_TESTS,
    ),
    Mutant(
        "retiring a version overwrites its end",
        _UPDATES,
        "conditions += [f'\"{name}\" IS MISSING' for name in self.added]",
        "pass",
        _POLICY_TESTS,
    ),
    Mutant(
        "retiring a version overwrites its end, by UpdateItem",
        _UPDATES,
        'conditions += [f"attribute_not_exists({names[name]})" for name in self.added]',
        "pass",
        _POLICY_TESTS,
    ),
    Mutant(
        "UpdateItem creates the item that it should change",
        _UPDATES,
        'conditions = [f"attribute_exists({next(iter(self.key))})"]',
        "conditions = []",
        _POLICY_TESTS,
    ),
    Mutant(
        "publishing gives up at the first throttling",
        _POLICIES,
        "self._try_insert, item, until=deadline",
        "self._try_insert, item, until=0.0",
        _POLICY_TESTS,
    ),
    Mutant(
        "the repository ignores the origin of a message",
        _ACCEPTANCES,
        "origin or Origin(now)",
        "Origin(now)",
        _ACCEPTANCE_TESTS,
    ),
    Mutant(
        "an erasure ignores changes since the read",
        _UPDATES,
        "for name in (*self.key, *self.removed)]",
        "for name in self.key]",
        ("tests/unit/repository/test_updates.py",),
    ),
    Mutant(
        "an erasure ignores changes since the read, by UpdateItem",
        _UPDATES,
        'conditions += [f"{names[name]} = :{names[name][1:]}" for name in self.removed]',
        "pass",
        ("tests/unit/repository/test_updates.py",),
    ),
    Mutant(
        "an erasure changes another record than the one shown",
        _ACCEPTANCES,
        'stored.get("record_sha256") != expected:',
        "False:",
        ("tests/contract/test_repository.py", "-k", "different_or_missing and moto"),
    ),
)

_READING: Final = (
    Mutant(
        "concurrent cache misses read the policy several times",
        _CACHE,
        "reading = self._reading.get(key)",
        "reading = None",
        _CACHE_TESTS,
    ),
    Mutant(
        "a missing policy is cached for ever",
        _CACHE,
        "is_short = recheck or value is None",
        "is_short = recheck",
        _CACHE_TESTS,
    ),
    Mutant(
        "record_sha256 excludes a field",
        _EVIDENCE,
        '{"record_sha256", *ERASABLE',
        '{"record_sha256", "channel", *ERASABLE',
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "the hash includes erasable values",
        _EVIDENCE,
        '{"record_sha256", *ERASABLE, ',
        '{"record_sha256", ',
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "bytes in hexadecimal are verified as bytes",
        _EVIDENCE,
        "if name in binary and not is_binary(value):",
        "if False:",
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "canonical JSON sorts names by code point",
        "worker/domain/canonical_json.py",
        'key=lambda name: name.encode("utf-16-be", "surrogatepass")',
        "key=str",
        ("tests/unit/domain/test_canonical_json.py",),
    ),
    Mutant(
        "canonical JSON keeps the order of ASCII names",
        "worker/domain/canonical_json.py",
        "return _encode_sorted(fields)",
        "return _encode(fields)",
        ("tests/unit/domain/test_canonical_json.py",),
    ),
    Mutant(
        "canonical JSON sorts all names as it sorts ASCII names",
        "worker/domain/canonical_json.py",
        'if "".join(fields).isascii():',
        "if True:",
        ("tests/unit/domain/test_canonical_json.py",),
    ),
    Mutant(
        "a timestamp has the second of another day",
        _EVIDENCE,
        "_second(moment.toordinal(), moment.hour",
        "_second(1, moment.hour",
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "a timestamp is local time",
        _EVIDENCE,
        "        moment = moment.astimezone(UTC)\n",
        "        pass\n",
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "a commitment does not name its field",
        _EVIDENCE,
        "salt + _LABELS[name] + value.encode()",
        "salt + value.encode()",
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "the hash leaves out the commitments",
        _EVIDENCE,
        "        fields[commitment_name] = commitment.hex()\n",
        "",
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "the record lacks the edits of the message",
        _EVIDENCE,
        "if origin.edits:",
        "if False:",
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "a record of format 1 is compared exactly",
        _EVIDENCE,
        "number = Decimal if item.get",
        "number = Decimal if True or item.get",
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "a stored text is not compared with its hash",
        "worker/repository/texts.py",
        "if text is None or text.sha256 != sha256:",
        "if text is None:",
        _TEXT_TESTS,
    ),
    Mutant(
        "of two languages published at once one is lost",
        "worker/repository/texts.py",
        "if await self._insert(item) is Inserted.NEW:",
        "if await self._insert(item):",
        _TEXT_TESTS,
    ),
    Mutant(
        "another text of a language is published",
        "worker/repository/texts.py",
        "if each.sha256 == text.sha256:",
        "if True:",
        _TEXT_TESTS,
    ),
    Mutant(
        "a record lacks the hash of its text",
        _EVIDENCE,
        '    item["policy_sha256"] = bytes.fromhex(text.sha256)\n',
        "",
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "a version is read without its languages",
        _POLICIES,
        "return await self._with_texts(self._as_policy(item))",
        "return self._as_policy(item)",
        _TEXT_TESTS,
    ),
    Mutant(
        "texts are listed as policies",
        _POLICIES,
        "items = [item async for item in pages if not is_text(item)]",
        "items = [item async for item in pages]",
        _TEXT_TESTS,
    ),
    Mutant(
        "a text larger than an item is sent to the table",
        "worker/repository/texts.py",
        "len(compressed) > _ITEM_MAX_BYTES - _OTHER_BYTES",
        "False",
        _TEXT_TESTS,
    ),
    Mutant(
        "a failed recheck returns the cached version",
        _CACHE,
        "if recheck or value is None:\n                raise",
        "if value is None:\n                raise",
        _CACHE_TESTS,
    ),
    Mutant(
        "each wrong hash reads its version again",
        _CACHE,
        "self._absence_seconds if is_short else self._seconds",
        "0.0 if recheck else self._absence_seconds if is_short else self._seconds",
        ("tests/unit/pipeline/test_texts.py",),
    ),
    Mutant(
        "a text added to a cached version is not found",
        _CACHE,
        "is_short = recheck or value is None",
        "is_short = value is None",
        _TEXT_TESTS,
    ),
    Mutant(
        "lookups lack ConsistentRead",
        _TABLES,
        "TableName=table_name, Key=key, ConsistentRead=True",
        "TableName=table_name, Key=key",
        _AUP_TESTS,
    ),
    Mutant(
        "reads of policy versions lack ConsistentRead",
        _POLICIES,
        '{"TableName": self._table_name, "ConsistentRead": True}',
        '{"TableName": self._table_name}',
        _AUP_TESTS,
    ),
    Mutant(
        "all erasable fields share one salt",
        _EVIDENCE,
        "        begin += _SALT_BYTES\n",
        "",
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "a salt contains the public record_id",
        _EVIDENCE,
        "begin = _ID_BYTES",
        "begin = 0",
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "a salt is the same in every record",
        _EVIDENCE,
        "entropy = random_bytes(_ID_BYTES + _SALT_BYTES * len(values))",
        "entropy = random_bytes(_ID_BYTES) + bytes(range(_SALT_BYTES * len(values)))",
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "a salt is too short",
        _EVIDENCE,
        "entropy[begin : begin + _SALT_BYTES]",
        "entropy[begin : begin + 4]",
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "a number is verified as text",
        _EVIDENCE,
        "elif name not in binary and not isinstance(value, str):",
        "elif False:",
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "attributes of another program are compared as content",
        _EVIDENCE,
        "compared = _STATED - ignored",
        "compared = frozenset({*item, *_STATED}) - ignored",
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "reads of acceptances lack ConsistentRead",
        _ACCEPTANCES,
        "KeyConditionExpression=condition,\n            ConsistentRead=True",
        "KeyConditionExpression=condition",
        _AUP_TESTS,
    ),
    Mutant(
        "an absent field counts as erased",
        _EVIDENCE,
        'if f"{name}_commitment" in item and name not in item]',
        "if name not in item]",
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "reduced fields are compared as content",
        _EVIDENCE,
        "compared = _STATED - ignored",
        "compared = _STATED",
        ("tests/unit/domain/test_privacy.py",),
    ),
)

_ONE: Final = (
    Mutant(
        "the singleton has no lock",
        _SINGLETON,
        "        with SingletonMeta._lock:\n            if cls",
        "        if True:\n            if cls",
        _SINGLETON_TESTS,
    ),
    Mutant(
        "the singleton ignores different arguments",
        _SINGLETON,
        "if arguments != constructed_with:",
        "if False:",
        _SINGLETON_TESTS,
    ),
    Mutant(
        "a fork keeps the instance",
        _SINGLETON,
        "after_in_child=SingletonMeta._start_empty",
        "after_in_child=lambda: None",
        _SINGLETON_TESTS,
    ),
    Mutant(
        "a loop of another thread counts as the owner",
        "worker/repository/dynamodb.py",
        "if self._thread_id == get_ident() and self._loop",
        "if self._loop",
        ("tests/unit/repository/test_dynamodb.py",),
    ),
    Mutant(
        "a loop that does not run any more counts as the owner",
        "worker/repository/dynamodb.py",
        " and self._loop.is_running():",
        ":",
        ("tests/unit/repository/test_dynamodb.py",),
    ),
    Mutant(
        "each concurrent first user opens a resource",
        "worker/repository/dynamodb.py",
        "if self._opening is None:",
        "if True:",
        ("tests/unit/repository/test_dynamodb.py",),
    ),
    Mutant(
        "a closed repository continues to work",
        "worker/repository/dynamodb.py",
        "        self._closed = True\n",
        "",
        ("tests/unit/repository/test_dynamodb.py",),
    ),
)

MUTANTS: Final = (*_WRITING, *_READING, *_ONE)
