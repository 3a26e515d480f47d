"""Measure the service on a full queue: `python -m tests.integration.measure_throughput`.

It sends plain acceptances to a queue, then runs the worker on them until the queue is empty, and
prints messages per second and calls per message. Machines differ: read the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections import Counter
from contextlib import ExitStack

from tests.integration.environment import REAL, Environment, Servers, good
from tests.integration.running import ended, until, working
from tests.servers import launch
from worker.aws.sqs import open_queues
from worker.domain.outcome import OutcomeKind
from worker.operations.push import Line, push
from worker.runtime.logs import configure
from worker.settings import Settings

_LAUNCHES = {
    "fauxqs": launch.fauxqs,
    "dynamodb_local": launch.dynamodb_local,
    "ministack": launch.ministack,
}


def main() -> None:
    """Run the measurement of the command line."""
    known = {str(each): each for each in REAL}
    known["ministack+dynamodb_local"] = Servers("ministack", "dynamodb_local", "batch")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="messages")
    parser.add_argument("--servers", choices=known, default=str(REAL[0]))
    options = parser.parse_args()
    os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test")  # noqa: S106 -- emulators take any
    configure("warning", "text")
    servers = known[options.servers]
    with ExitStack() as stack:
        urls = {
            name: stack.enter_context(_LAUNCHES[name]()) for name in {servers.sqs, servers.dynamodb}
        }
        environment = Environment(urls[servers.sqs], urls[servers.dynamodb], servers)
        environment.create()
        asyncio.run(_measure(environment, options.count))


async def _measure(environment: Environment, count: int) -> None:
    settings = environment.settings(wait_seconds=1)
    await _fill(settings, count)
    began_at = time.perf_counter()
    cpu_began_at = time.process_time()
    async with working(settings) as pipeline:
        await until(lambda: ended(pipeline) >= count, seconds=600)
        seconds = time.perf_counter() - began_at
        cpu_seconds = time.process_time() - cpu_began_at
    accounting = pipeline.metrics.accounting
    _say(f"worker: {count / seconds:,.0f} messages/s ({seconds:.1f} s)")
    _say(f"worker's own processor time: {cpu_seconds / count * 1e6:,.0f} µs/message")
    outcomes = accounting.by_kind
    _say(f"recorded {outcomes[OutcomeKind.RECORDED]:,} of {count:,}; outcomes {dict(outcomes)}")
    _say_calls(pipeline.metrics.calls, count)


async def _fill(settings: Settings, count: int) -> None:
    lines = (Line("generated", number, body) for number, body in enumerate(good(count), 1))
    async with open_queues(settings) as (source, _):
        figures = await push(source, lines)
    if figures.sent != count:
        sys.exit(f"only {figures.sent} of {count} were sent: {figures.failures[:1]}")
    _say(f"push: {count / figures.seconds:,.0f} messages/s ({figures.seconds:.1f} s)")


def _say_calls(calls: Counter[str], count: int) -> None:
    _say(f"calls per message: {calls.total() / count:.4f}")
    for operation, number in calls.most_common():
        _say(f"  {operation:30} {number:7,}  {number / count:.4f}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
