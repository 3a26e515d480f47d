"""Faults in the ledger: writes, lookups, the cache, the evidence, the one instance."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_AUP: Final = "worker/repository/aup.py"
_CACHE: Final = "worker/repository/cache.py"
_EVIDENCE: Final = "worker/repository/evidence.py"
_SINGLETON: Final = "worker/repository/singleton.py"
_WRITES: Final = "worker/repository/writes.py"
_AUP_TESTS: Final = ("tests/unit/test_aup_repository.py",)
_CACHE_TESTS: Final = ("tests/unit/test_cache.py",)
_EVIDENCE_TESTS: Final = ("tests/unit/test_evidence.py",)
_SINGLETON_TESTS: Final = ("tests/unit/test_singleton.py",)
_WRITES_TESTS: Final = ("tests/unit/test_writes.py",)

_WRITING: Final = (
    Mutant(
        "a throttled statement not retried",
        _AUP,
        "except (AWSThrottledError, AWSUnavailableError):",
        "except AWSUnavailableError:",
        _AUP_TESTS,
    ),
    Mutant(
        "write concurrency unbounded",
        _AUP,
        "            concurrency=limit,",
        "            concurrency=10_000,",
        _AUP_TESTS,
    ),
    Mutant(
        "write concurrency that no throttling lowers",
        _AUP,
        "        self._writes.concurrency = self._concurrency.allowed\n",
        "",
        _AUP_TESTS,
    ),
    Mutant(
        "write concurrency that never recovers",
        _WRITES,
        "min(self._limit, self._allowed + 1 / self._allowed)",
        "self._allowed",
        _WRITES_TESTS,
    ),
    Mutant(
        "conflicts taken for duplicates",
        _AUP,
        "if same_event and not same_content(existing, acceptance, reductions):",
        "if False:",
        _AUP_TESTS,
    ),
    Mutant(
        "our own write taken for a duplicate when its answer was lost",
        _AUP,
        'if existing.get("record_id") == item["record_id"]:',
        "if False:",
        _AUP_TESTS,
    ),
    Mutant(
        "a write that exists taken for new",
        _WRITES,
        'if code in {"DuplicateItem", "ConditionalCheckFailed"}:\n        return Inserted.EXISTS',
        'if code in {"DuplicateItem", "ConditionalCheckFailed"}:\n        return Inserted.NEW',
        _WRITES_TESTS,
    ),
    Mutant(
        "a put that overwrites",
        _WRITES,
        'f"attribute_not_exists({self._key_name})"',
        '"attribute_not_exists(nothing)"',
        _WRITES_TESTS,
    ),
    Mutant(
        "a failed statement swallowed",
        _WRITES,
        'return error_of(code, error.get("Message", ""))',
        "return Inserted.NEW",
        _WRITES_TESTS,
    ),
    Mutant(
        "one bad statement spoils its whole batch",
        _WRITES,
        "if len(items) == 1:\n                return [error]",
        "if items:\n                return [error] * len(items)",
        _WRITES_TESTS,
    ),
)

_READING: Final = (
    Mutant(
        "a policy cache without single flight",
        _CACHE,
        "reading = self._reading.get(key)",
        "reading = None",
        _CACHE_TESTS,
    ),
    Mutant(
        "a negative cache for ever",
        _CACHE,
        "self._absence_seconds if value is None",
        'float("inf") if value is None',
        _CACHE_TESTS,
    ),
    Mutant(
        "a record_sha256 that leaves a field out",
        _EVIDENCE,
        '{"record_sha256", *ERASABLE',
        '{"record_sha256", "channel", *ERASABLE',
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "erasable values in the proof",
        _EVIDENCE,
        '{"record_sha256", *ERASABLE, ',
        '{"record_sha256", ',
        _EVIDENCE_TESTS,
    ),
)

_ONE: Final = (
    Mutant(
        "a singleton without a lock",
        _SINGLETON,
        "            with SingletonMeta._lock:\n                found",
        "            if True:\n                found",
        _SINGLETON_TESTS,
    ),
    Mutant(
        "a singleton that ignores other arguments",
        _SINGLETON,
        "if arguments != constructed_with:",
        "if False:",
        _SINGLETON_TESTS,
    ),
    Mutant(
        "a fork that keeps the instance",
        _SINGLETON,
        "after_in_child=SingletonMeta._start_empty",
        "after_in_child=lambda: None",
        _SINGLETON_TESTS,
    ),
    Mutant(
        "a resource opened by each of its first users",
        "worker/repository/dynamodb.py",
        "if self._opening is None:",
        "if True:",
        ("tests/unit/test_dynamodb_repository.py",),
    ),
    Mutant(
        "a closed repository that works on",
        "worker/repository/dynamodb.py",
        "        self._closed = True\n",
        "",
        ("tests/unit/test_dynamodb_repository.py",),
    ),
)

MUTANTS: Final = (*_WRITING, *_READING, *_ONE)
