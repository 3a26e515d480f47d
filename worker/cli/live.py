"""What `status` draws, once or again and again."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import termios
import tty
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from worker.cli import screen
from worker.domain.outcome import OutcomeKind
from worker.errors import AWSError
from worker.operations.status.observer import QueueStatus, ReasonCounts, Status, WorkerStatus

_HISTORY_SAMPLES: Final = 200
_WORKER_COLUMNS: Final = 72
_BAR_COLUMNS: Final = 40
_KEYS_BYTES: Final = 1024
_UNKNOWN: Final = "unknown"
_NOTHING: Final = Text("")
_LEVELS: Final = "▁▂▃▄▅▆▇█"
_PLAIN_LEVELS: Final = "_.:-=+*#"

Observe = Callable[[], Awaitable[Status]]


class History:
    """The figures that a live view draws over time."""

    def __init__(self) -> None:
        self.series: dict[str, deque[float | None]] = {}

    def add(self, status: Status) -> None:
        """Take in what was seen."""
        figures: dict[str, float | None] = {
            "queue": status.queue.depth,
            "dead letters": status.dead_letters.depth,
        }
        if status.workers:
            figures["recorded/s"] = status.recorded_per_second
        else:
            figures["net/s"] = status.queue.net_per_second
        for name, value in figures.items():
            self.series.setdefault(name, deque(maxlen=_HISTORY_SAMPLES)).append(value)

    def __len__(self) -> int:
        return max(map(len, self.series.values()), default=0)


class Sparkline:
    """The newest of some figures as bars of one line, as many as there is room for.

    The highest reaches the top; zero stands at the bottom, and what is unknown leaves a gap.
    """

    def __init__(self, values: Sequence[float | None]) -> None:
        self._values = list(values)

    def text(self, columns: int, levels: str = _LEVELS) -> str:
        """Draw it."""
        shown = self._values[-columns:]
        most = max((abs(each) for each in shown if each is not None), default=0)
        return "".join(
            " " if each is None else levels[_level(abs(each), most, len(levels) - 1)]
            for each in shown
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        levels = _PLAIN_LEVELS if options.ascii_only else _LEVELS
        yield Text(self.text(options.max_width, levels), no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, options.max_width)


def _level(value: float, most: float, top: int) -> int:
    return math.ceil(value / most * top) if most else 0


def draw(status: Status, columns: int, history: History | None = None) -> RenderableType:
    """Lay out everything that is known.

    Args:
        status: what is known.
        columns: of the terminal.
        history: what was seen before, for a live view.
    """
    parts: list[RenderableType] = [_queues(status)]
    if status.workers:
        parts += [_NOTHING, *_workers(status.workers, columns)]
    if history is not None:
        parts += [_NOTHING, _sparklines(history)]
    return Group(*parts, _NOTHING, *_reasons(status, columns))


def line(status: Status) -> str:
    """Write everything that is known in one line, for where there is no terminal."""
    queue, dead = status.queue, status.dead_letters
    state, net = queue.state, _told(queue.net_per_second, signed=True)
    parts = [
        status.at.isoformat(timespec="seconds"),
        f"queue {state.visible:,} visible",
        f"{state.in_flight:,} in flight",
        f"{state.delayed:,} delayed",
        f"oldest {_age(queue)}",
        f"net {net}",
        f"dead letters {dead.depth:,}{_counted(status.reason_counts)}",
    ]
    for each in status.workers:
        told = each.sample
        if told.problem:
            parts.append(f"{told.address} {told.problem}")
        else:
            recorded = _told(_of(each, OutcomeKind.RECORDED))
            parts.append(f"{told.address} {_state(each)}, recorded {recorded}, {told.held:,} held")
    return "; ".join(parts)


def _counted(reason_counts: ReasonCounts) -> str:
    if not reason_counts.counts:
        return ""
    return f" ({', '.join(f'{name} {count:,}' for name, count in reason_counts.counts.items())})"


def _queues(status: Status) -> Table:
    table = _figures("", "visible", "in flight", "delayed", "oldest", "net/s")
    for name, queue in (("queue", status.queue), ("dead letters", status.dead_letters)):
        state = queue.state
        counts = [f"{each:,}" for each in (state.visible, state.in_flight, state.delayed)]
        table.add_row(name, *counts, _age(queue), _rate(queue.net_per_second, signed=True))
    return table


def _figures(first: str, *columns: str) -> Table:
    table = screen.table(first)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _age(queue: QueueStatus) -> str:
    if not queue.depth:
        return "-"
    seconds = queue.oldest_age_seconds
    return _UNKNOWN if seconds is None else screen.duration(seconds)


def _rate(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "-"
    return (
        f"{value:+,.1f}"
        if signed and round(value, 1)
        else f"{abs(value) if signed else value:,.1f}"
    )


def _told(value: float | None, *, signed: bool = False) -> str:
    return _UNKNOWN if value is None else f"{_rate(value, signed=signed)}/s"


def _of(worker: WorkerStatus, kind: OutcomeKind) -> float | None:
    return None if worker.rates is None else worker.rates[kind]


def _state(worker: WorkerStatus) -> str:
    if worker.sample.problem:
        return "no answer" if worker.sample.problem.startswith("no response") else "no worker"
    return "ready" if worker.sample.ready else "not ready"


def _workers(workers: Sequence[WorkerStatus], columns: int) -> Iterator[RenderableType]:
    shown = [
        ("recorded/s", OutcomeKind.RECORDED),
        ("dupl./s", OutcomeKind.DUPLICATE),
        ("dead/s", OutcomeKind.DEAD_LETTERED),
    ]
    if columns >= _WORKER_COLUMNS:
        shown.append(("returned/s", OutcomeKind.RETURNED))
    table = _figures("worker", "state", *(name for name, _ in shown), "held")
    for each in workers:
        told = each.sample
        rates = [_rate(_of(each, kind)) for _, kind in shown]
        held = "-" if told.problem else f"{told.held:,}"
        table.add_row(screen.plain(told.address), _state(each), *rates, held)
    if len(workers) > 1:
        table.add_row(*_together(workers, [kind for _, kind in shown]), style="bold")
    yield table
    for each in workers:
        why = each.sample.problem or "; ".join(each.sample.reasons)
        if why:
            yield screen.plain(f"{each.sample.address}: {why}")


def _together(workers: Sequence[WorkerStatus], kinds: Sequence[OutcomeKind]) -> Iterator[str]:
    yield "together"
    yield f"{sum(each.sample.ready for each in workers)} of {len(workers)}"
    told = [each.rates for each in workers if each.rates is not None]
    for kind in kinds:
        yield _rate(sum(rates[kind] for rates in told) if told else None)
    yield f"{sum(each.sample.held for each in workers):,}"


def _sparklines(history: History) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    table.add_column("over time")
    table.add_column("", ratio=1)
    table.add_column("now", justify="right", no_wrap=True)
    table.add_column("peak", justify="right", no_wrap=True)
    for name, values in history.series.items():
        digits = ".1f" if name.endswith("/s") else ".0f"
        known = [each for each in values if each is not None]
        peak = format(max(known, key=abs), f",{digits}") if known else "-"
        now = "-" if values[-1] is None else format(values[-1], f",{digits}")
        table.add_row(name, Sparkline(values), now, peak)
    return table


def _reasons(status: Status, columns: int) -> Iterator[RenderableType]:
    reason_counts = status.reason_counts
    title = Text("dead letters by reason", style="bold")
    if reason_counts.counts is None:
        yield title + screen.plain(f": {_UNKNOWN} ({reason_counts.unknown})")
        return
    if not reason_counts.counts:
        yield title + Text(": none")
        return
    table = _figures("dead letters by reason", "count")
    table.add_column("")
    most = max(reason_counts.counts.values())
    room = min(_BAR_COLUMNS, max(columns - 40, 8))
    for name, count in reason_counts.counts.items():
        bar = Text("#" * math.ceil(count / most * room), style="dim")
        table.add_row(screen.plain(name), f"{count:,}", bar)
    yield table
    about = list(_about(status))
    together = "; ".join(about)
    for told in [together] if len(together) <= columns else about:
        yield Text(told, style="dim")


def _about(status: Status) -> Iterator[str]:
    reason_counts = status.reason_counts
    if not reason_counts.complete:
        seen, known = reason_counts.seen, reason_counts.known
        yield f"saw {seen:,} of about {known:,}: `dead-letters list` counts all"
    if reason_counts.expires_at is not None:
        left = (reason_counts.expires_at - status.at).total_seconds()
        yield f"the first expires in {screen.duration(left)}"
    if reason_counts.scanned_at is not None:
        ago = (status.at - reason_counts.scanned_at).total_seconds()
        if ago >= 1:
            yield f"looked at {screen.duration(ago)} ago"


class _View:
    """The live view: what was seen last, and what went wrong since.

    Args:
        live: where it is drawn.
        interval_seconds: told in its first line.
    """

    def __init__(self, live: Live, interval_seconds: float) -> None:
        self._live = live
        self._interval_seconds = interval_seconds
        self._history = History()
        self._status: Status | None = None
        self._problem = ""

    def show(self, status: Status) -> None:
        self._history.add(status)
        self._status, self._problem = status, ""
        self.redraw()

    def complain(self, error: AWSError) -> None:
        """Say what went wrong, beside what was known before.

        Raises:
            AWSError: nothing was known before.
        """
        if self._status is None:
            raise error
        self._problem = str(error)
        self.redraw()

    def redraw(self) -> None:
        columns = self._live.console.width
        status = self._status
        if status is None:
            self._live.update(Text("asking …"), refresh=True)
            return
        title = Text("aup-worker status", style="bold")
        title.append(
            f"  {status.at.astimezone():%H:%M:%S}, every {self._interval_seconds:g} s; q ends",
            style="not bold",
        )
        parts: list[RenderableType] = [title]
        if self._problem:
            parts.append(screen.plain(f"no news: {self._problem}"))
        parts += [_NOTHING, draw(status, columns, self._history)]
        self._live.update(Group(*parts), refresh=True)


async def watch(observe: Observe, console: Console, interval_seconds: float) -> None:
    """Draw a live view until q, SIGINT or SIGTERM; the terminal is as before then.

    Args:
        observe: gives what is to be shown.
        console: a terminal.
        interval_seconds: between two looks.

    Raises:
        AWSError: the queues cannot be asked at the start.
    """
    ended = asyncio.Event()
    with _keys(ended), Live(console=console, screen=True, auto_refresh=False) as live:
        view = _View(live, interval_seconds)
        view.redraw()
        asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, view.redraw)

        async def turn() -> None:
            try:
                view.show(await observe())
            except AWSError as error:
                view.complain(error)

        try:
            await repeat(turn, interval_seconds, ended)
        finally:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGWINCH)


async def repeat(
    turn: Callable[[], Awaitable[None]], interval_seconds: float, ended: asyncio.Event
) -> None:
    """Take turns until told to end, or SIGINT or SIGTERM come: it ends at once, in mid-turn too."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)

    async def turns() -> None:
        while True:
            began = loop.time()
            await turn()
            await asyncio.sleep(max(interval_seconds - (loop.time() - began), 0))

    turning = asyncio.create_task(turns())
    ending = asyncio.create_task(ended.wait())
    await asyncio.wait((turning, ending), return_when=asyncio.FIRST_COMPLETED)
    for task in (turning, ending):
        task.cancel()
    with suppress(asyncio.CancelledError):
        await turning


def _keyboard() -> int | None:
    """Find where keys are pressed for us; None in the background and without a terminal."""
    try:
        descriptor = sys.stdin.fileno()
        ours = os.isatty(descriptor) and os.tcgetpgrp(descriptor) == os.getpgrp()
    except (AttributeError, OSError):  # stdin is closed, or the terminal is another session's
        return None
    return descriptor if ours else None


@contextmanager
def _keys(ended: asyncio.Event) -> Iterator[None]:
    """Take keys as they are pressed; q ends."""
    descriptor = _keyboard()
    if descriptor is None:
        yield
        return
    loop = asyncio.get_running_loop()
    before = termios.tcgetattr(descriptor)

    def pressed() -> None:
        keys = os.read(descriptor, _KEYS_BYTES)
        if not keys or b"q" in keys.lower():
            ended.set()

    tty.setcbreak(descriptor)
    quiet = termios.tcgetattr(descriptor)
    # Suspended it would leave its screen to the shell.
    quiet[6][termios.VSUSP] = os.fpathconf(descriptor, "PC_VDISABLE").to_bytes(1, "big")
    termios.tcsetattr(descriptor, termios.TCSANOW, quiet)
    loop.add_reader(descriptor, pressed)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
