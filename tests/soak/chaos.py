"""Failures of workers and servers, drawn from a seed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import Random
from typing import Final

from tests.faults.kinds import Fault
from tests.soak.servers import PersistentTable, ProxyProcess
from tests.soak.workers import LEASE_SECONDS, Worker

_ACTION_SECONDS: Final = (0.4, 1.8)
_RESTART_SECONDS: Final = (25.0, 45.0)
_FAULT_FREE_SECONDS: Final = (2.0, 6.0)
_FAULT_SECONDS: Final = (3.0, 8.0)
_OUTAGES: Final = (
    Fault.THROTTLED, Fault.ERROR_HTML, Fault.RESET_BEFORE, Fault.RESET_AFTER,
    Fault.STALLED_BEFORE, Fault.HTML, Fault.EMPTY, Fault.GARBAGE,
)  # fmt: skip


class Chaos:
    """Schedule of failures.

    Args:
        workers: the workers that may be killed.
        proxies: Proxies in front of the services.
        table: Table server that may be restarted.
        random: Source of all decisions.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        proxies: Sequence[ProxyProcess],
        table: PersistentTable,
        random: Random,
    ) -> None:
        self._workers = workers
        self._proxies = proxies
        self._table = table
        self._random = random
        now = time.monotonic()
        self._action_at = now + 2.0
        self._restart_at = now + random.uniform(*_RESTART_SECONDS)
        self._toggle_at = [now] * len(proxies)
        self._has_faults = [False] * len(proxies)

    def step(self) -> None:
        """Perform the failures that are due."""
        now = time.monotonic()
        if now >= self._action_at:
            self._act_on_worker(now)
        if now >= self._restart_at:
            self._restart_at = now + self._random.uniform(*_RESTART_SECONDS)
            self._table.restart(kill=self._random.random() < 0.7)
        for index in range(len(self._proxies)):
            if now >= self._toggle_at[index]:
                self._toggle_faults(index, now)

    def _act_on_worker(self, now: float) -> None:
        candidates = [worker for worker in self._workers if worker.can_be_killed]
        if not candidates:
            return  # retried at the next step
        self._action_at = now + self._random.uniform(*_ACTION_SECONDS)
        worker = self._random.choice(candidates)
        (action,) = self._random.choices(("kill", "child", "term", "stop"), (25, 25, 38, 12))
        if action == "kill":
            worker.kill()
        elif action == "child":
            worker.kill_child(self._random)
        elif action == "term":
            worker.terminate()
        else:
            worker.stop(LEASE_SECONDS + self._random.uniform(0.5, 3.0))

    def _toggle_faults(self, index: int, now: float) -> None:
        self._has_faults[index] = not self._has_faults[index]
        if self._has_faults[index]:
            self._proxies[index].switch(self._draw_faults())
            self._toggle_at[index] = now + self._random.uniform(*_FAULT_SECONDS)
        else:
            self._proxies[index].switch({})
            self._toggle_at[index] = now + self._random.uniform(*_FAULT_FREE_SECONDS)

    def _draw_faults(self) -> dict[Fault, float]:
        """Draw an outage, or several faults with low rates."""
        if self._random.random() < 0.25:
            return {self._random.choice(_OUTAGES): 1.0}
        kinds = self._random.sample(list(Fault), 5)
        return {kind: self._random.uniform(0.05, 0.25) for kind in kinds}

    def stop(self) -> None:
        """Stop all failures."""
        for proxy in self._proxies:
            proxy.switch({})
        for worker in self._workers:
            worker.resume()
