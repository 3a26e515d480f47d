"""Faults in the parent of several processes and in the sum of their status."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_CHANNEL: Final = "worker/processes/channel.py"
_COUNT: Final = "worker/processes/count.py"
_ENVIRONMENT: Final = "worker/processes/environment.py"
_METRICS: Final = "worker/pipeline/metrics.py"
_STATUS: Final = "worker/processes/status.py"
_CHANNEL_TESTS: Final = ("tests/unit/processes/test_channel.py",)
_COUNT_TESTS: Final = ("tests/unit/processes/test_count.py",)
_ENVIRONMENT_TESTS: Final = ("tests/unit/processes/test_environment.py",)
_STATUS_TESTS: Final = ("tests/unit/processes/test_status.py",)

MUTANTS: Final = (
    Mutant(
        "the counts of a process that ended are forgotten",
        _STATUS,
        "        self._ended.add(metrics)\n",
        "",
        _STATUS_TESTS,
    ),
    Mutant(
        "messages of a killed process stay held",
        _STATUS,
        "        if abandons:\n",
        "        if False:\n",
        _STATUS_TESTS,
    ),
    Mutant(
        "abandoned messages do not count in the accounting",
        _METRICS,
        "settled + self.abandoned + self.held",
        "settled + self.held",
        _STATUS_TESTS,
    ),
    Mutant(
        "the service is ready when any process is",
        _STATUS,
        "        first, *others = by_number.values()\n",
        "        if not all(by_number.values()):\n            return []\n"
        "        first, *others = by_number.values()\n",
        _STATUS_TESTS,
    ),
    Mutant(
        "the service is live although a process does not respond",
        _STATUS,
        "if member.process_id is not None and silent_seconds >",
        "if member.process_id is None and silent_seconds >",
        _STATUS_TESTS,
    ),
    Mutant(
        "the service has started when one process has",
        _STATUS,
        "[] if each.has_started else self._not_ready(each)",
        "[] if any(other.has_started for other in self._members.values()) else ['starting']",
        _STATUS_TESTS,
    ),
    Mutant(
        "the death of a process undoes the start of the service",
        _STATUS,
        "member.has_started |= snapshot.is_started",
        "member.has_started = snapshot.is_started",
        _STATUS_TESTS,
    ),
    Mutant(
        "an incomplete line of a killed process is parsed",
        _CHANNEL,
        '        if not line.endswith(b"\\n"):\n',
        "        if not line:\n",
        _CHANNEL_TESTS,
    ),
    Mutant(
        "what a suspended process does not read is kept without limit",
        _CHANNEL,
        " or transport.get_write_buffer_size() > _UNREAD_MAX_BYTES",
        "",
        _CHANNEL_TESTS,
    ),
    Mutant(
        "memory is not divided among processes",
        _ENVIRONMENT,
        "max(1, limit // count)",
        "max(1, limit)",
        _ENVIRONMENT_TESTS,
    ),
    Mutant(
        "each process notifies systemd",
        _ENVIRONMENT,
        '"NOTIFY_SOCKET",',
        "",
        _ENVIRONMENT_TESTS,
    ),
    Mutant(
        "limits of the cgroups around the own one are ignored",
        _COUNT,
        "for each in (folder, *folder.parents):",
        "for each in (folder,):",
        _COUNT_TESTS,
    ),
    Mutant(
        "a CPU limit is rounded up",
        _COUNT,
        "int(min(limits) + 0.5)",
        "int(min(limits) + 0.99)",
        _COUNT_TESTS,
    ),
)
