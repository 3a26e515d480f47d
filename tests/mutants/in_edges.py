"""Faults around the pipeline: delays, settings, signals, giving up."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

MUTANTS: Final = (
    Mutant(
        "a backoff without a cap",
        "worker/backoff.py",
        "min(cap_seconds, base_seconds * 2.0 ** min(attempt - 1, 60))",
        "base_seconds * 2.0 ** min(attempt - 1, 60)",
        ("tests/unit/test_backoff.py",),
    ),
    Mutant(
        "a backoff without jitter",
        "worker/backoff.py",
        "return random_unit() * ceiling",
        "return ceiling",
        ("tests/unit/test_backoff.py",),
    ),
    Mutant(
        "settings that contradict each other unchecked",
        "worker/settings.py",
        "problems += contradictions(settings)",
        "pass",
        ("tests/unit/test_settings.py",),
    ),
    Mutant(
        "more attempts than the queue's redrive policy leaves",
        "worker/preflight.py",
        "last = max(1, source.max_receive_count - 1)",
        "last = source.max_receive_count",
        ("tests/unit/test_preflight.py",),
    ),
    Mutant(
        "a second signal ignored",
        "worker/service.py",
        "main.cancel()",
        "pass",
        ("tests/unit/test_service.py", "-k", "signal"),
    ),
    Mutant(
        "a signal ignored",
        "worker/service.py",
        "            stopping.set()",
        "            pass",
        ("tests/unit/test_service.py", "-k", "drains"),
    ),
    Mutant(
        "patience without an end",
        "worker/pipeline/patience.py",
        "if self._denied_seconds >= self._seconds:",
        "if False:",
        ("tests/unit/test_patience.py",),
    ),
    Mutant(
        "a loop that stands still is left alone",
        "worker/stall.py",
        "if overdue > 1:",
        "if False:",
        ("tests/unit/test_stall.py",),
    ),
    Mutant(
        "the last of two equal names becomes evidence",
        "worker/strict_json.py",
        "if 2 * _strings_of(data) != _unescaped_quotes(raw):",
        "if False:",
        ("tests/unit/test_strict_json.py",),
    ),
    Mutant(
        "an escaped backslash taken for the escape of a quote",
        "worker/strict_json.py",
        'raw.replace(b"\\\\\\\\", b"") if b"\\\\\\\\" in raw else raw',
        "raw",
        ("tests/unit/test_strict_json.py",),
    ),
    Mutant(
        "strings in nested values not counted",
        "worker/strict_json.py",
        "            count += _strings_of(each)",
        "            count += len(each)",
        ("tests/unit/test_strict_json.py",),
    ),
    Mutant(
        "an edit decides which of two equal names is kept",
        "worker/strict_json.py",
        "object_pairs_hook=_unique, ",
        "",
        ("tests/unit/test_repair.py",),
    ),
    Mutant(
        "control characters in identifiers",
        "worker/policy.py",
        "    if _CONTROL.search(text):",
        "    if False:",
        ("tests/unit/test_decode.py",),
    ),
    Mutant(
        "a leap second at any time of day",
        "worker/acceptance.py",
        "    if minute % _DAY_MINUTES != _LEAP_SECOND_MINUTE:",
        "    if False:",
        ("tests/unit/test_acceptance.py",),
    ),
    Mutant(
        "the offset of a leap second with the wrong sign",
        "worker/acceptance.py",
        'minutes if offset[0] == "+" else -minutes',
        'minutes if offset[0] == "-" else -minutes',
        ("tests/unit/test_acceptance.py",),
    ),
    Mutant(
        "an empty certificate variable turns off verification",
        "worker/aws.py",
        'core.set_config_variable("ca_bundle", bundle or True)',
        "pass",
        ("tests/unit/test_aws.py", "-k", "certificates"),
    ),
    Mutant(
        "an endpoint without a host",
        "worker/settings.py",
        "    if not host:",
        "    if False:",
        ("tests/unit/test_settings.py", "-k", "endpoint"),
    ),
    Mutant(
        "a queue given as ARN",
        "worker/settings.py",
        'if name.startswith("arn:"):',
        "if False:",
        ("tests/unit/test_settings.py", "-k", "queue"),
    ),
    Mutant(
        "keys blamed by a server without STS",
        "worker/doctor/account.py",
        'return unknown(check, str(error), "set AWS_ENDPOINT_URL_STS, if there is an STS")',
        "return failed(check, str(error), _GIVE)",
        ("tests/unit/test_doctor_account.py",),
    ),
)
