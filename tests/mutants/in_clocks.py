"""Faults in code that depends on time; the clock of the host must not decide anything."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_CHECK: Final = "worker/operations/evidence/verification.py"
_CLOCK: Final = "worker/pipeline/sqs_clock.py"
_DECODE: Final = "worker/pipeline/decode.py"
_ADMISSION: Final = "worker/domain/admission.py"
_CLOCK_TESTS: Final = ("tests/unit/pipeline/test_sqs_clock.py",)
_DECODE_TESTS: Final = ("tests/unit/pipeline/test_decode.py", "-k", "clock")
_RECORD_TESTS: Final = ("tests/unit/pipeline/test_record.py", "-k", "version")

MUTANTS: Final = (
    Mutant(
        "the clock of the host decides what is in the future",
        _DECODE,
        "now=sqs_clock.passed",
        "now=state.now()",
        _DECODE_TESTS,
    ),
    Mutant(
        "a future time is dead-lettered while clocks disagree",
        _DECODE,
        "            if not uncertainty:\n                raise",
        "            if state.now():\n                raise",
        _DECODE_TESTS,
    ),
    Mutant(
        "a wrong clock exhausts the attempts",
        _DECODE,
        'return Outcome.returned(f"{error.detail}; {uncertainty}", delay)',
        'return Outcome.returned(f"{error.detail}; {uncertainty}", 0.0)',
        _DECODE_TESTS,
    ),
    Mutant(
        "the clock of the host decides the wait for a version",
        "worker/pipeline/record.py",
        "now=self._state.sqs_clock.now(),",
        "now=self._state.now(),",
        ("tests/simulation/test_clocks.py", "-k", "version"),
    ),
    Mutant(
        "a wait for a version exceeds the remaining time",
        _ADMISSION,
        "delay = min(max(backoff_seconds, remaining / 2 ** (receives_left - 1)), remaining)",
        "delay = max(backoff_seconds, remaining / 2 ** (receives_left - 1))",
        _RECORD_TESTS,
    ),
    Mutant(
        "the last wait is rounded down",
        _ADMISSION,
        "float(ceil(delay)) if delay == remaining else delay",
        "delay",
        _RECORD_TESTS,
    ),
    Mutant(
        "a Date header that contradicts all others is trusted",
        _CLOCK,
        "        if is_first or self._exact:\n            return None",
        "        if False:\n            return None",
        _CLOCK_TESTS,
    ),
    Mutant(
        "a Date header with which AWS would reject the signature is trusted",
        _CLOCK,
        "return stated if plausible else None",
        "return stated",
        _CLOCK_TESTS,
    ),
    Mutant(
        "any receive counts as the first",
        _CLOCK,
        "message.receive_count == 1 and ",
        "",
        _CLOCK_TESTS,
    ),
    Mutant(
        "the clock estimate does not advance",
        _CLOCK,
        "return datetime.fromtimestamp(self._offset + self._clock(), UTC)",
        "return self.passed",
        _CLOCK_TESTS,
    ),
    Mutant(
        "contradictory times are not noted",
        _CHECK,
        "if seconds < -tolerance_seconds:",
        "if False:",
        ("tests/unit/operations/evidence/test_verification.py",),
    ),
    Mutant(
        "the wait for a killed replay grows with a clock jump",
        "worker/operations/dead_letters/journal.py",
        "min(self._visibility_timeout, self.hidden_until - now)",
        "(self.hidden_until - now)",
        ("tests/unit/operations/dead_letters/test_replay_resumed.py", "-k", "clock"),
    ),
)
