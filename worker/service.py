"""The service: open, check, run, drain, close."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

import structlog

from worker import __version__
from worker.aws.sqs import Queue, open_queues
from worker.errors import AWSError, GaveUpError
from worker.observability.background import background_tasks, embedded_metrics, traced
from worker.observability.service_status import ServiceStatus
from worker.operations.doctor.preflight import check
from worker.pipeline.assembly import Pipeline, assemble
from worker.pipeline.metrics import Metrics
from worker.repository import AUPRepository
from worker.runtime.garbage_collection import collect_less_often
from worker.runtime.logs import LINES_DROPPED, count_drops_in
from worker.runtime.loop_watchdog import EventLoopWatchdog
from worker.runtime.retry import RetryPolicy, retry
from worker.runtime.signals import on_signals
from worker.runtime.stopping import unless_stopped
from worker.settings import Settings

if TYPE_CHECKING:
    import aioboto3

    from worker.observability.emf import EMF
    from worker.observability.tracing import OpenTelemetry

_log: Final = structlog.get_logger()
# The worker may start before the network does.
START_RETRIES: Final = RetryPolicy(base_seconds=1.0, cap_seconds=15.0)
Background = Callable[[Pipeline], Coroutine[Any, Any, None]]


async def serve(
    settings: Settings,
    *,
    session: aioboto3.Session | None = None,
    background: Background | None = None,
) -> None:
    """Run the service until SIGTERM or SIGINT; a second signal stops it immediately.

    After a signal both are ignored, so that the process can exit undisturbed.

    Args:
        settings: Settings of the service.
        session: Session to use instead of one from the environment.
        background: Runs in the background of the pipeline, and is cancelled at its end.

    Raises:
        SettingsError: Queues or tables do not fit the settings.
        GaveUpError: It cannot continue, or a second signal stopped it during the drain.
        AWSError: Queues or tables could not be checked.
    """
    stopping = asyncio.Event()
    watchdog = EventLoopWatchdog(settings.stall_seconds)
    status = ServiceStatus(settings, stopping, watchdog, asyncio.get_running_loop().time)
    drained = False
    with _stopping_on_signals(stopping):
        try:
            async with (
                watchdog,
                background_tasks(status),
                traced(_log_tracing_problem) as tracing,
                _open_pipeline(status, session, tracing) as pipeline,
            ):
                if pipeline is not None:
                    await _run(pipeline, background, embedded_metrics(status))
                    drained = True
        except asyncio.CancelledError:
            # The second signal came before the first message or after the last one.
            if not _is_second_signal(stopping):
                raise
            if not drained:
                raise GaveUpError("stopped immediately: no messages were in flight") from None


async def _run(pipeline: Pipeline, background: Background | None, emf: EMF | None) -> None:
    settings = pipeline.state.settings
    tasks = [asyncio.create_task(_log_summaries(pipeline, settings.summary_seconds, emf))]
    if background is not None:
        tasks.append(asyncio.create_task(background(pipeline)))
    try:
        await pipeline.run()
    except asyncio.CancelledError:
        if not _is_second_signal(pipeline.stopping):
            raise
        raise GaveUpError(
            f"stopped immediately: {pipeline.metrics.accounting.held} messages in flight become "
            f"visible again within {settings.visibility_timeout_seconds} s"
        ) from None
    finally:
        for task in tasks:
            task.cancel()
        _log.info("stopped", **_summary(pipeline))
        if emf is not None:
            emf.write("stopped")
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_second_signal(stopping: asyncio.Event) -> bool:
    """Return whether the second signal cancelled the current task, and undo that."""
    task = asyncio.current_task()
    return stopping.is_set() and task is not None and not task.uncancel()


@asynccontextmanager
async def _open_pipeline(
    status: ServiceStatus, session: aioboto3.Session | None, tracing: OpenTelemetry | None
) -> AsyncIterator[Pipeline | None]:
    """Open and check queues and tables; yield None if a signal came first."""
    stopping, started_at = status.stopping, asyncio.get_running_loop().time()
    repository = AUPRepository(status.settings.aws, session)
    metrics = Metrics(calls=repository.calls)
    count_drops_in(metrics.events)
    async with repository, AsyncExitStack() as stack:
        opening = _open_and_check(stack, status.settings, repository, metrics)
        opened = await unless_stopped(stopping, opening)
        if opened is None:
            yield None
            return
        queues, settings = opened
        # Without collecting first, which would delay the first poll: the start leaves few cycles.
        gc.freeze()
        collect_less_often()
        _log_started(queues, repository, asyncio.get_running_loop().time() - started_at)
        if tracing is not None:
            repository.trace(tracing)
        pipeline = assemble(
            queues, repository, settings, metrics=metrics, stopping=stopping, tracing=tracing
        )
        status.begin(pipeline.state, lambda: repository.write_concurrency)
        yield pipeline


async def _open_and_check(
    stack: AsyncExitStack,
    settings: Settings,
    repository: AUPRepository,
    metrics: Metrics,
) -> tuple[tuple[Queue, Queue], Settings]:
    """Return the queues, and the settings that fit them; retry while AWS is unavailable."""
    deadline = asyncio.get_running_loop().time() + settings.give_up_seconds

    async def open_both() -> tuple[Queue, Queue]:
        # One session: each would read the SDK's files and retrieve credentials again.
        session = repository.session
        opening = open_queues(settings, calls=metrics.calls, events=metrics.events, session=session)
        return await stack.enter_async_context(opening)

    # Queues given by name are looked up, which needs AWS as much as the checks do.
    queues = await retry(START_RETRIES, open_both, until=deadline, on_retry=log_retry)
    fitted = await retry(
        START_RETRIES, check, settings, *queues, repository, until=deadline, on_retry=log_retry
    )
    return queues, fitted


def _log_started(
    queues: tuple[Queue, Queue], repository: AUPRepository, start_seconds: float
) -> None:
    source, dead_letters = queues
    _log.info(
        "started",
        version=__version__,
        process_id=os.getpid(),
        queue=source.url,
        dead_letter_queue=dead_letters.url,
        table=repository.table_name,
        user_table=repository.user_table_name,
        start_seconds=round(start_seconds, 3),
    )


def _log_tracing_problem(problem: str) -> None:
    _log.warning("traces are not exported", problem=problem)


def log_retry(error: AWSError, delay_seconds: float) -> None:
    """Log that the start is retried."""
    _log.warning(
        "AWS unavailable, retrying", error=str(error), retry_seconds=round(delay_seconds, 1)
    )


@contextmanager
def _stopping_on_signals(stopping: asyncio.Event) -> Iterator[None]:
    """Drain on the first signal, cancel the current task on the second."""
    main = asyncio.current_task()

    def drain(number: signal.Signals) -> None:
        stopping.set()
        _log.info("stopping", signal=number.name, hint="a second signal stops immediately")

    def cancel(number: signal.Signals) -> None:
        if main is not None and not main.cancelling():
            main.cancel()
            _log.warning("stopping immediately", signal=number.name)

    with on_signals(drain, cancel):
        yield


async def _log_summaries(pipeline: Pipeline, interval_seconds: float, emf: EMF | None) -> None:
    received_before = 0
    while True:
        await asyncio.sleep(interval_seconds)
        if emf is not None:
            emf.write("summary")
            continue
        received = pipeline.metrics.accounting.received
        rate = (received - received_before) / interval_seconds
        received_before = received
        _log.info("summary", rate_per_second=round(rate, 1), **_summary(pipeline))


def _summary(pipeline: Pipeline) -> dict[str, Any]:
    metrics = pipeline.metrics
    return {
        **metrics.accounting.figures(),
        "in_flight": pipeline.slots.in_flight,
        "p50_ms": round(1000 * metrics.settling.quantile(0.5), 1),
        "p99_ms": round(1000 * metrics.settling.quantile(0.99), 1),
        "not_ready": pipeline.health.why_not_ready(),
        LINES_DROPPED: metrics.events[LINES_DROPPED],
        "calls": dict(sorted(metrics.calls.items())),
        "events": dict(sorted(metrics.events.items())),
    }
