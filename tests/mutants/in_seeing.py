"""Faults in observability and evidence."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_ECS: Final = "worker/observability/ecs.py"
_EMF: Final = "worker/observability/emf.py"
_ENDPOINTS: Final = "worker/observability/endpoints.py"
_HEALTH: Final = "worker/cli/health.py"
_PROMETHEUS: Final = "worker/observability/prometheus.py"
_SERVICE_STATUS: Final = "worker/observability/service_status.py"
_SYSTEMD: Final = "worker/observability/systemd.py"
_COVERAGE: Final = "worker/operations/evidence/coverage.py"
_ERASURE: Final = "worker/operations/evidence/erasure.py"
_PRIVACY: Final = "worker/domain/privacy.py"
_ECS_TESTS: Final = ("tests/unit/observability/test_ecs.py",)
_EMF_TESTS: Final = ("tests/unit/observability/test_emf.py",)
_ENDPOINTS_TESTS: Final = ("tests/unit/observability/test_endpoints.py",)
_HEALTH_TESTS: Final = ("tests/golden/test_json.py",)
_PROMETHEUS_TESTS: Final = ("tests/unit/observability/test_prometheus.py",)
_SERVICE_STATUS_TESTS: Final = ("tests/unit/observability/test_service_status.py",)
_SYSTEMD_TESTS: Final = ("tests/unit/observability/test_systemd.py",)
_COVERAGE_TESTS: Final = ("tests/unit/operations/evidence/test_coverage.py",)
_ERASURE_TESTS: Final = ("tests/unit/operations/evidence/test_erasure.py",)
_PRIVACY_TESTS: Final = ("tests/unit/domain/test_privacy.py",)

_MONITORING: Final = (
    Mutant(
        "the watchdog is notified by time instead of progress",
        _SYSTEMD,
        "return self._stopping or not self._service.why_not_live()",
        "return True",
        _SYSTEMD_TESTS,
    ),
    Mutant(
        "systemd may kill a drain",
        _SYSTEMD,
        "extends = self._stopping or not self._ready",
        "extends = not self._ready",
        _SYSTEMD_TESTS,
    ),
    Mutant(
        "the service is ready before the first poll",
        _SYSTEMD,
        "if not (self._ready or self._stopping or self._service.why_not_started()):",
        "if not (self._ready or self._stopping):",
        _SYSTEMD_TESTS,
    ),
    Mutant(
        "the start has succeeded before the first poll",
        _SERVICE_STATUS,
        "if self.poll_age_seconds is None else []",
        "if self._state is None else []",
        _SERVICE_STATUS_TESTS,
    ),
    Mutant(
        "a service that is not ready has not started",
        _SERVICE_STATUS,
        "return self.why_not_ready() if self.poll_age_seconds is None else []",
        "return self.why_not_ready()",
        _SERVICE_STATUS_TESTS,
    ),
    Mutant(
        "the watchdog of another process is used",
        _SYSTEMD,
        "if watched_pid != str(os.getpid()) or not microseconds.isdecimal()",
        "if not microseconds.isdecimal()",
        _SYSTEMD_TESTS,
    ),
    Mutant(
        "scale-in protection is never renewed",
        _ECS,
        "return True if since is None or now - since >= self._minutes * 30 else None",
        "return True if since is None else None",
        _ECS_TESTS,
    ),
    Mutant(
        "scale-in protection is never released",
        _ECS,
        "return None if self._protected_at is None else False",
        "return None",
        _ECS_TESTS,
    ),
    Mutant(
        "scale-in protection misses messages between two checks",
        _ECS,
        "if accounting.held or accounting.received != self._received:",
        "if accounting.held:",
        _ECS_TESTS,
    ),
    Mutant(
        "a failure in a response with status 200 counts as success",
        _ECS,
        "        if failure:\n            return _reason(failure)\n",
        "",
        _ECS_TESTS,
    ),
    Mutant(
        "metrics contain totals instead of differences",
        _EMF,
        "received = current.accounting.received - before.accounting.received",
        "received = current.accounting.received",
        _EMF_TESTS,
    ),
    Mutant(
        "an unready service responds with status 200",
        _ENDPOINTS,
        "status=503 if reasons else 200",
        "status=200",
        _ENDPOINTS_TESTS,
    ),
    Mutant(
        "a health check of the start does not include liveness",
        _HEALTH,
        "if started and not reasons:",
        "if started and reasons:",
        _HEALTH_TESTS,
    ),
    Mutant(
        "metrics are missing before the first event",
        _PROMETHEUS,
        "[(each.value, accounting.dead_by_reason[each.value]) for each in Reason]",
        "sorted(accounting.dead_by_reason.items())",
        _PROMETHEUS_TESTS,
    ),
)

_PROOF: Final = (
    Mutant(
        "a table scan ignores its rate",
        _COVERAGE,
        "while (left := self._free_at - self._clock()) > 0:",
        "while (left := self._free_at - self._clock()) > 1e9:",
        _COVERAGE_TESTS,
    ),
    Mutant(
        "a throttled page is skipped",
        _COVERAGE,
        "RetryPolicy(attempts=12, ",
        "RetryPolicy(attempts=1, ",
        _COVERAGE_TESTS,
    ),
    Mutant(
        "altered evidence is erased",
        _ERASURE,
        '    if erasure.problem:\n        erasure.problem += "; not changed"\n        return\n',
        "",
        _ERASURE_TESTS,
    ),
    Mutant(
        "an address mapped into IPv6 is truncated as IPv6",
        _PRIVACY,
        "if address.ipv4_mapped is None:",
        "if True:",
        _PRIVACY_TESTS,
    ),
    Mutant(
        "a record lacks its reductions",
        _PRIVACY,
        "return acceptance.model_copy(update=changes), reductions",
        "return acceptance.model_copy(update=changes), {}",
        _PRIVACY_TESTS,
    ),
)

MUTANTS: Final = (*_MONITORING, *_PROOF)
