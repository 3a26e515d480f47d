"""One line about the running service at the bottom of a terminal, redrawn continuously."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

from worker.domain.outcome import OutcomeKind
from worker.observability.service_status import ServiceStatus
from worker.pipeline.metrics import Accounting
from worker.runtime.event_lines import paint, terminal_columns
from worker.runtime.logs import TerminalSink

_REDRAW_SECONDS: Final = 0.5
# Shorter, the rate would jump with every batch.
_RATE_SAMPLES: Final = 10
_GAP: Final = "  "
_GREEN: Final = "32"
_YELLOW: Final = "33"


@asynccontextmanager
async def live_line(status: ServiceStatus, sink: TerminalSink) -> AsyncIterator[None]:
    """Show the figures and the state of the service below the log until the block ends."""
    task = asyncio.create_task(_redraw(status, sink))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        sink.show("")


async def _redraw(status: ServiceStatus, sink: TerminalSink) -> None:
    clock = asyncio.get_running_loop().time
    samples: deque[tuple[float, int]] = deque(maxlen=_RATE_SAMPLES + 1)
    while True:
        accounting = status.metrics.accounting
        samples.append((clock(), accounting.received))
        seconds = samples[-1][0] - samples[0][0]
        rate = (samples[-1][1] - samples[0][1]) / seconds if seconds else 0.0
        state = state_of(status)
        hint = "Ctrl-C stops immediately" if status.stopping.is_set() else "Ctrl-C drains"
        sink.show(compose(accounting, rate, state, hint, terminal_columns() - 1))
        await asyncio.sleep(_REDRAW_SECONDS)


def state_of(status: ServiceStatus) -> str:
    """Return the state of the service: ready, draining, or the first reason why it is not ready."""
    if status.stopping.is_set():
        return f"draining, {status.metrics.accounting.held:,} held"
    return next(iter(status.why_not_ready()), "ready")


def compose(
    accounting: Accounting, rate_per_second: float, state: str, hint: str, columns: int
) -> str:
    """Return the line: in full, or as much of it as fits, the least important left out.

    Args:
        accounting: Message accounting.
        rate_per_second: Messages received per second.
        state: State of the service.
        hint: What Ctrl-C does.
        columns: Maximum width.
    """
    rate = f"{rate_per_second:,.1f}/s"
    for figures, ending in _variants(accounting, hint):
        shown = _GAP.join([*figures, rate])
        length = sum(len(_GAP) + len(each) for each in (state, *ending)) + len(shown)
        if length <= columns:
            break
    else:
        # Only a long state is left: its start says what is wrong.
        state = state[: max(columns - len(shown) - len(_GAP), 0)]
    style = _GREEN if state == "ready" else _YELLOW
    return _GAP.join([shown, paint(state, style), *ending])


def _variants(accounting: Accounting, hint: str) -> Iterator[tuple[list[str], list[str]]]:
    """Yield figures and ending, shorter and shorter."""
    names = {
        "received": accounting.received,
        "recorded": accounting.by_kind[OutcomeKind.RECORDED],
        "duplicates": accounting.by_kind[OutcomeKind.DUPLICATE],
        "dead-lettered": accounting.by_kind[OutcomeKind.DEAD_LETTERED],
    }
    if returned := accounting.by_kind[OutcomeKind.RETURNED]:
        names["returned"] = returned
    full = [f"{name} {count:,}" for name, count in names.items()]
    # As in the table of `status`.
    short = [each.replace("duplicates", "dupl.").replace("dead-lettered", "dead") for each in full]
    yield full, [hint]
    yield short, [hint]
    yield short[:4], [hint]
    yield short[:4], []
    yield short[1:4], []
    yield [], []
