"""The service: open, check, run, drain, close."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from worker import __version__
from worker.aws.sqs import Queue, open_queues
from worker.errors import AWSThrottledError, AWSUnavailableError, GaveUpError
from worker.observability.background import background_tasks, embedded_metrics, traced
from worker.observability.service_status import ServiceStatus
from worker.operations.doctor.preflight import check
from worker.pipeline.flow import Flow
from worker.pipeline.metrics import Metrics
from worker.repository import AUPRepository
from worker.runtime.backoff import full_jitter
from worker.runtime.logs import LINES_DROPPED, count_drops_in
from worker.runtime.loop_watchdog import EventLoopWatchdog
from worker.runtime.signals import on_signals
from worker.runtime.stopping import unless_stopped
from worker.settings import Settings

if TYPE_CHECKING:
    import aioboto3

    from worker.observability.emf import EMF
    from worker.observability.tracing import OpenTelemetry

_log: Final = structlog.get_logger()
ResultT = TypeVar("ResultT")
Beside = Callable[[Flow], Coroutine[Any, Any, None]]


async def serve(
    settings: Settings, *, session: aioboto3.Session | None = None, beside: Beside | None = None
) -> None:
    """Run the service until SIGTERM or SIGINT; a second signal stops it at once.

    Args:
        settings: everything it can be told.
        session: instead of one from the environment.
        beside: runs beside the flow, and is cancelled when that has ended.

    Raises:
        SettingsError: queues or tables do not fit the settings.
        GaveUpError: it cannot go on, or a second signal stopped it before it had drained.
        AWSError: queues or tables could not be asked.
    """
    stopping = asyncio.Event()
    guard = EventLoopWatchdog(settings.stall_seconds)
    view = ServiceStatus(settings, stopping, guard, asyncio.get_running_loop().time)
    drained = False
    with _stopping_on_signals(stopping):
        try:
            async with (
                guard,
                background_tasks(view),
                traced(_tell_of_traces) as tracing,
                _opened(settings, stopping, session, view, tracing) as flow,
            ):
                if flow is not None:
                    await _run(flow, settings, beside, embedded_metrics(view))
                    drained = True
        except asyncio.CancelledError:
            # The second signal came when nothing was held any more, or not yet.
            task = asyncio.current_task()
            if not stopping.is_set() or task is None or task.uncancel():
                raise
            if not drained:
                raise GaveUpError("stopped at once: nothing was held") from None


async def _run(flow: Flow, settings: Settings, beside: Beside | None, emf: EMF | None) -> None:
    loop = asyncio.get_running_loop()
    companions = [loop.create_task(_report(flow, settings.summary_seconds, emf))]
    if beside is not None:
        companions.append(loop.create_task(beside(flow)))
    try:
        await flow.run()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if not flow.stopping.is_set() or task is None or task.uncancel():
            raise
        raise GaveUpError(
            f"stopped at once: {flow.metrics.accounting.held} held messages reappear in the queue "
            f"within {settings.visibility_timeout_seconds} s"
        ) from None
    finally:
        for companion in companions:
            companion.cancel()
        _log.info("stopped", **_summary(flow))
        if emf is not None:
            emf.write("stopped")
        await asyncio.gather(*companions, return_exceptions=True)


@asynccontextmanager
async def _opened(
    settings: Settings,
    stopping: asyncio.Event,
    session: aioboto3.Session | None,
    view: ServiceStatus | None = None,
    tracing: OpenTelemetry | None = None,
) -> AsyncIterator[Flow | None]:
    """Open and check everything; None when a signal came first."""
    started_at = time.monotonic()
    repository = AUPRepository(settings.aws, session)
    metrics = Metrics(calls=repository.calls)
    count_drops_in(metrics.events)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(repository)

        async def open_both() -> tuple[Queue, Queue]:
            queues = open_queues(
                settings, calls=metrics.calls, events=metrics.events, session=session
            )
            return await stack.enter_async_context(queues)

        deadline = started_at + settings.give_up_seconds
        # Queues named by name are looked up, which needs AWS as much as the checks do.
        queues = await unless_stopped(stopping, _patiently(open_both, deadline))
        if queues is None:
            yield None
            return
        source, dead_letters = queues
        checking = _patiently(lambda: check(settings, source, dead_letters, repository), deadline)
        fitted = await unless_stopped(stopping, checking)
        if fitted is None:
            yield None
            return
        _spare_collections()
        _tell_start(source, dead_letters, repository, started_at)
        if tracing is not None:
            repository.trace(tracing)
        flow = Flow(
            source,
            dead_letters,
            repository,
            fitted,
            metrics=metrics,
            stopping=stopping,
            tracing=tracing,
        )
        if view is not None:
            view.begin(flow, lambda: repository.write_concurrency)
        yield flow


def _tell_start(
    source: Queue, dead_letters: Queue, repository: AUPRepository, started_at: float
) -> None:
    _log.info(
        "started",
        version=__version__,
        process_id=os.getpid(),
        queue=source.url,
        dead_letter_queue=dead_letters.url,
        table=repository.table_name,
        user_table=repository.user_table_name,
        start_seconds=round(time.monotonic() - started_at, 3),
    )


def _tell_of_traces(problem: str) -> None:
    _log.warning("traces are not exported", problem=problem)


async def _patiently(attempt: Callable[[], Awaitable[ResultT]], deadline: float) -> ResultT:
    """Try until AWS answers: a worker may start before the network does."""
    failures = 0
    while True:
        try:
            return await attempt()
        except (AWSUnavailableError, AWSThrottledError) as error:
            failures += 1
            delay = full_jitter(failures, base_seconds=1.0, cap_seconds=15.0)
            if time.monotonic() + delay >= deadline:
                raise
            _log.warning("AWS does not answer yet", error=str(error), retry_seconds=round(delay, 1))
            await asyncio.sleep(delay)


@contextmanager
def _stopping_on_signals(stopping: asyncio.Event) -> Iterator[None]:
    """Drain on the first signal, cancel the task on the second."""
    main = asyncio.current_task()

    def drain(number: signal.Signals) -> None:
        stopping.set()
        _log.info("stopping", signal=number.name, hint="a second signal stops at once")

    def cancel(number: signal.Signals) -> None:
        if main is not None and not main.cancelling():
            main.cancel()
            _log.warning("stopping at once", signal=number.name)

    with on_signals(drain, cancel):
        yield


def _spare_collections() -> None:
    """Let the collector pass over what the start made, and look less often at what lives shortly.

    A message makes hundreds of objects and no cycle of them, so that looking for cycles after
    every 700 would take a tenth of the processor's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)


async def _report(flow: Flow, interval_seconds: float, emf: EMF | None) -> None:
    received_before = 0
    while True:
        await asyncio.sleep(interval_seconds)
        if emf is not None:
            emf.write("summary")
            continue
        received = flow.metrics.accounting.received
        rate = (received - received_before) / interval_seconds
        received_before = received
        _log.info("summary", rate_per_second=round(rate, 1), **_summary(flow))


def _summary(flow: Flow) -> dict[str, Any]:
    return {
        **flow.metrics.accounting.figures(),
        "in_flight": flow.slots.in_flight,
        "p50_ms": _milliseconds(flow, 0.5),
        "p99_ms": _milliseconds(flow, 0.99),
        "not_ready": flow.health.why_not_ready(),
        LINES_DROPPED: flow.metrics.events[LINES_DROPPED],
        "calls": dict(sorted(flow.metrics.calls.items())),
        "events": dict(sorted(flow.metrics.events.items())),
    }


def _milliseconds(flow: Flow, share: float) -> float:
    return round(1000 * flow.metrics.settling.quantile(share), 1)
