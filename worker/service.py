"""The service: open, check, run, drain, close."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

import structlog

from worker import __version__
from worker.aws.sqs import Queue, open_queues
from worker.errors import AWSError, GaveUpError
from worker.observability.background import background_tasks, traced
from worker.observability.service_status import PipelineStatus
from worker.observability.summary import stopped_immediately, summaries
from worker.operations.doctor.preflight import check
from worker.pipeline.assembly import Pipeline, assemble
from worker.pipeline.metrics import Metrics
from worker.repository import AUPRepository
from worker.runtime.garbage_collection import collect_less_often
from worker.runtime.logs import count_drops_in
from worker.runtime.loop_watchdog import EventLoopWatchdog
from worker.runtime.retry import RetryPolicy, retry
from worker.runtime.signals import on_signals
from worker.runtime.stopping import unless_stopped
from worker.settings import Settings

if TYPE_CHECKING:
    import aioboto3

    from worker.observability.tracing import OpenTelemetry

_log: Final = structlog.get_logger()
# The worker may start before the network does.
START_RETRIES: Final = RetryPolicy(base_seconds=1.0, cap_seconds=15.0)
Background = Callable[[Pipeline], Coroutine[Any, Any, None]]
# Returns the settings that fit queues and tables; see `worker.operations.doctor.preflight.check`.
Check = Callable[[Settings, Queue, Queue, AUPRepository], Awaitable[Settings]]


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
    status = PipelineStatus(settings, stopping, watchdog, asyncio.get_running_loop().time)
    pipeline: Pipeline | None = None
    with _stopping_on_signals(stopping):
        try:
            async with (
                watchdog,
                background_tasks(status),
                traced(log_tracing_problem) as tracing,
                open_pipeline(status, tracing, session=session) as pipeline,
            ):
                if pipeline is not None:
                    await _run(pipeline, status, background)
        except asyncio.CancelledError:
            # The second signal came before the first message or after the last one.
            if not _is_second_signal(stopping):
                raise
            if pipeline is None or not pipeline.is_drained:
                raise GaveUpError(stopped_immediately(status)) from None


async def _run(pipeline: Pipeline, status: PipelineStatus, background: Background | None) -> None:
    async with summaries(status), _running(background, pipeline):
        try:
            await pipeline.run()
        except asyncio.CancelledError:
            if not _is_second_signal(pipeline.stopping):
                raise
            raise GaveUpError(stopped_immediately(status)) from None


@asynccontextmanager
async def _running(background: Background | None, pipeline: Pipeline) -> AsyncIterator[None]:
    """Run a coroutine in the background until the block ends."""
    task = None if background is None else asyncio.create_task(background(pipeline))
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _is_second_signal(stopping: asyncio.Event) -> bool:
    """Return whether the second signal cancelled the current task, and undo that."""
    task = asyncio.current_task()
    return stopping.is_set() and task is not None and not task.uncancel()


@asynccontextmanager
async def open_pipeline(
    status: PipelineStatus,
    tracing: OpenTelemetry | None,
    *,
    session: aioboto3.Session | None = None,
    check: Check = check,
) -> AsyncIterator[Pipeline | None]:
    """Open and check queues and tables; yield None if the service stops before.

    Args:
        status: status of the service, which follows the pipeline from now on.
        tracing: traces messages and calls.
        session: session to use instead of one from the environment.
        check: checks the settings against queues and tables.
    """
    stopping, started_at = status.stopping, asyncio.get_running_loop().time()
    repository = AUPRepository(status.settings.aws, session)
    metrics = Metrics(calls=repository.calls)
    count_drops_in(metrics.events)
    async with repository, AsyncExitStack() as stack:
        opening = _open_and_check(stack, status.settings, repository, metrics, check)
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
    check: Check,
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


def log_tracing_problem(problem: str) -> None:
    """Log why traces are off although they are configured."""
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
