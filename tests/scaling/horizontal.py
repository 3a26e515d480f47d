"""A model of the Horizontal Pod Autoscaler that KEDA creates on Kubernetes.

The rules and their sources (Kubernetes documentation, "Horizontal Pod Autoscaling"):

- Every 15 s each metric proposes a number of pods, and the largest counts: waiting messages
  `ceil(messages / target)`, and the CPU `ceil(ready pods * utilization / target)`. A metric within
  a tenth of its target changes nothing.
- When the CPU scales out, pods that start count as idle. If they turn the ratio around, nothing
  changes.
- A scale-in goes to the largest proposal of its stabilization window, a scale-out at once.
  A scale-out at most doubles the pods, or adds 4, in 15 s.
- The number of waiting messages is a minute old (Amazon SQS API reference,
  "GetQueueAttributes"), the CPU half a minute (metrics-server). A pod takes 30 s until its first
  poll, or up to 120 s if its node has to be started first.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

from tests.scaling.model import Scaler

SYNC_SECONDS: Final = 15
TOLERANCE: Final = 0.1
_BACKLOG_AGE_SECONDS: Final = 60
_CPU_AGE_SECONDS: Final = 30
_START_SECONDS: Final = (30, 120)
_ADDED_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True)
class HorizontalPolicy:
    """Scaling parameters of the ScaledObject.

    Attributes:
        queue_length: Target of waiting messages per pod.
        cpu_percent: Target of the CPU utilization; None for no such trigger.
        in_window_seconds: Stabilization window of a scale-in.
    """

    queue_length: float
    cpu_percent: float | None
    pods_min: int
    pods_max: int
    in_window_seconds: int

    @property
    def start_seconds(self) -> tuple[int, int]:
        """Shortest and longest time until the first poll of a pod."""
        return _START_SECONDS

    def scaler(self, tasks: int) -> Scaler:
        """Return an autoscaler with these parameters."""
        return _Autoscaler(self, tasks)


class _Autoscaler:
    """Horizontal Pod Autoscaler with a metric of the queue and one of the CPU."""

    def __init__(self, policy: HorizontalPolicy, pods: int) -> None:
        self._policy = policy
        self._backlogs: deque[float] = deque(maxlen=_BACKLOG_AGE_SECONDS)
        self._cpus: deque[float] = deque(maxlen=_CPU_AGE_SECONDS)
        self._proposals: deque[int] = deque(
            [pods], maxlen=max(1, policy.in_window_seconds // SYNC_SECONDS)
        )
        self.desired = pods

    def observe(self, second: int, backlog: float, running: int, cpu: float) -> None:
        """Note the state, and decide every 15 s."""
        self._backlogs.append(backlog)
        self._cpus.append(cpu)
        if (second + 1) % SYNC_SECONDS == 0:
            self._decide(running)

    def _decide(self, running: int) -> None:
        proposed = max(self._by_backlog(), self._by_cpu(running))
        highest = max(2 * self.desired, self.desired + _ADDED_AT_ONCE)
        proposed = max(self._policy.pods_min, min(self._policy.pods_max, highest, proposed))
        self._proposals.append(proposed)
        self.desired = proposed if proposed > self.desired else min(
            self.desired, max(self._proposals)
        )  # fmt: skip

    def _by_backlog(self) -> int:
        wanted = self._backlogs[0] / self._policy.queue_length
        if abs(wanted / self.desired - 1) <= TOLERANCE:
            return self.desired
        return math.ceil(wanted - 1e-9)

    def _by_cpu(self, running: int) -> int:
        if self._policy.cpu_percent is None:
            return 0
        cpu = sum(self._cpus) / len(self._cpus)
        ratio = 100 * cpu / self._policy.cpu_percent
        if ratio > 1 and running < self.desired:
            # Pods that start are idle.
            ratio *= running / self.desired
            if ratio <= 1 + TOLERANCE:
                return self.desired
            return max(self.desired, math.ceil(ratio * self.desired - 1e-9))
        if abs(ratio - 1) <= TOLERANCE:
            return self.desired
        return math.ceil(ratio * running - 1e-9)
