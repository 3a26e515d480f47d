"""What happens to workers and servers, and when: all of it drawn from one seed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import Random
from typing import Final

from tests.faults.kinds import Fault
from tests.soak.servers import KeptTable, SwitchedProxy
from tests.soak.workers import LEASE_SECONDS, Worker

_STRIKE_SECONDS: Final = (0.4, 1.8)
_RESTART_SECONDS: Final = (25.0, 45.0)
_CALM_SECONDS: Final = (2.0, 6.0)
_TROUBLE_SECONDS: Final = (3.0, 8.0)
_OUTAGES: Final = (
    Fault.THROTTLED, Fault.ERROR_HTML, Fault.RESET_BEFORE, Fault.RESET_AFTER,
    Fault.STALLED_BEFORE, Fault.HTML, Fault.EMPTY, Fault.GARBAGE,
)  # fmt: skip


class Chaos:
    """Strike at whatever is due.

    Args:
        prey: the workers that may be killed.
        proxies: before each service.
        table: the server that may be restarted.
        random: draws everything.
    """

    def __init__(
        self,
        prey: Sequence[Worker],
        proxies: Sequence[SwitchedProxy],
        table: KeptTable,
        random: Random,
    ) -> None:
        self._prey = prey
        self._proxies = proxies
        self._table = table
        self._random = random
        now = time.monotonic()
        self._strike_at = now + 2.0
        self._restart_at = now + random.uniform(*_RESTART_SECONDS)
        self._turn_at = [now] * len(proxies)
        self._in_trouble = [False] * len(proxies)

    def step(self) -> None:
        """Do what is due now."""
        now = time.monotonic()
        if now >= self._strike_at:
            self._strike(now)
        if now >= self._restart_at:
            self._restart_at = now + self._random.uniform(*_RESTART_SECONDS)
            self._table.restart(kill=self._random.random() < 0.7)
        for index in range(len(self._proxies)):
            if now >= self._turn_at[index]:
                self._turn(index, now)

    def _strike(self, now: float) -> None:
        candidates = [worker for worker in self._prey if worker.is_prey]
        if not candidates:
            return  # tried again at the next step
        self._strike_at = now + self._random.uniform(*_STRIKE_SECONDS)
        worker = self._random.choice(candidates)
        (blow,) = self._random.choices(("kill", "term", "stop"), (50, 38, 12))
        if blow == "kill":
            worker.kill()
        elif blow == "term":
            worker.ask_to_end()
        else:
            worker.stop(LEASE_SECONDS + self._random.uniform(0.5, 3.0))

    def _turn(self, index: int, now: float) -> None:
        self._in_trouble[index] = not self._in_trouble[index]
        if self._in_trouble[index]:
            self._proxies[index].switch(self._trouble())
            self._turn_at[index] = now + self._random.uniform(*_TROUBLE_SECONDS)
        else:
            self._proxies[index].switch({})
            self._turn_at[index] = now + self._random.uniform(*_CALM_SECONDS)

    def _trouble(self) -> dict[Fault, float]:
        """Draw an outage, or a drizzle of several faults."""
        if self._random.random() < 0.25:
            return {self._random.choice(_OUTAGES): 1.0}
        kinds = self._random.sample(list(Fault), 5)
        return {kind: self._random.uniform(0.05, 0.25) for kind in kinds}

    def cease(self) -> None:
        """Let nothing fail any more."""
        for proxy in self._proxies:
            proxy.switch({})
        for worker in self._prey:
            worker.resume()
