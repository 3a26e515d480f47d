"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tests.bench.cost import Prices
from tests.bench.results import Case, Measured, Peer, Results
from tests.bench.targets import Target, targets

_CHARTS: Final = "charts"


def markdown(results: Results, prices: Prices) -> str:
    """Return the report of all results."""
    sections = [
        _head(results),
        _targets(targets(results)),
        _scenarios(results),
        _calls(results),
        _savings(results),
        _ratios(results),
        _peers(results),
        _cost(results, prices),
        _growth(results.growth),
        _sizes(results.sizes),
        _latencies(results.latencies),
        _idle_and_single(results),
        _stub(results),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose first column is text and whose others are figures."""
    lines = [_row(heads), _row(["---", *["---:"] * (len(heads) - 1)])]
    return "\n".join([*lines, *map(_row, rows)])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def figure(value: float) -> str:
    """Format a figure with three significant digits."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1:
        return f"{value:.2f}"
    return f"{value:.3g}"


def _head(results: Results) -> str:
    machine = results.machine
    used = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return (
        "# What the worker costs\n\n"
        f"Measured on {results.measured_on}: {machine['processor']}, {machine['cores']} cores, "
        f"{int(machine['memory_mib']) // 1024} GiB, {machine['system']}; {used}.\n\n"
        "Compare the ratios: absolute figures depend on the machine. Created by `make bench`; "
        "every figure is a median over interleaved rounds after a warm-up, with minimum and "
        "maximum in brackets. [results.json](results.json) has all digits."
    )


def _targets(checked: Sequence[Target]) -> str:
    if not checked:
        return ""
    rows = [
        (
            target.what,
            f"{figure(target.value)}{target.unit}",
            f"{'≥' if target.least else '≤'} {figure(target.bound)}{target.unit}",
            "met" if target.met else "**not met**",
        )
        for target in checked
    ]
    return "## Targets\n\n" + table(("figure", "measured", "target", "result"), rows)


def _scenarios(results: Results) -> str:
    if not results.scenarios:
        return ""
    heads = (
        "variant", "CPU µs per message", "messages/s", "messages per CPU second", "p50 ms",
        "p99 ms", "RSS MB", "start s", "messages, rounds",
    )  # fmt: skip
    rows = [_scenario(name, measured) for name, measured in results.scenarios.items()]
    return f"## Variants\n\n{table(heads, rows)}\n\n{_chart('savings')}"


def _scenario(name: str, measured: Measured) -> tuple[str, ...]:
    return (
        f"**{name}** {measured.title}",
        _spread(measured, "cpu_us_per_message"),
        _spread(measured, "messages_per_second"),
        figure(measured.messages_per_cpu_second),
        figure(measured.p50_ms),
        figure(measured.p99_ms),
        figure(measured.rss_mb),
        figure(measured.start_seconds),
        f"{measured.messages:,}, {measured.rounds}",
    )


def _spread(measured: Measured, name: str) -> str:
    least, most = measured.spread[name]
    middle = figure(float(getattr(measured, name)))
    return middle if measured.rounds == 1 else f"{middle} ({figure(least)} to {figure(most)})"


def _calls(results: Results) -> str:
    if not results.scenarios:
        return ""
    heads = (
        "variant",
        "calls per message",
        "by operation",
        "connections",
        "TLS handshakes",
        "per 1,000",
    )
    rows = [
        (
            f"**{name}**",
            f"{measured.calls_per_message:.3f}",
            ", ".join(
                f"{operation} {rate:.3g}" for operation, rate in measured.calls_by_operation.items()
            ),
            f"{measured.connections:,}",
            f"{measured.tls_handshakes:,}",
            figure(1000 * measured.connections_per_message),
        )
        for name, measured in results.scenarios.items()
    ]
    return f"## Calls and connections\n\n{table(heads, rows)}"


def _savings(results: Results) -> str:
    """Return what shared clients save, and what batching saves in addition."""
    rows = [
        row
        for suffix, transport in (("", "HTTP"), ("-tls", "TLS"))
        for one, other in (("A", "C"), ("B", "C"), ("C", "D"), ("B", "D"))
        for row in _saving(results, one + suffix, other + suffix, transport)
    ]
    if not rows:
        return ""
    heads = ("from, to", "transport", "CPU saved", "connections saved, per message", "calls saved")
    return "## What sharing and batching save\n\n" + table(heads, rows)


def _saving(results: Results, one: str, other: str, transport: str) -> Iterator[tuple[str, ...]]:
    before, after = results.scenarios.get(one), results.scenarios.get(other)
    if before is None or after is None:
        return
    what = {"AC": "sharing", "BC": "sharing", "CD": "batching", "BD": "both"}[one[0] + other[0]]
    yield (
        f"{one[0]} to {other[0]}: {what}",
        transport,
        saved(before.cpu_us_per_message, after.cpu_us_per_message),
        saved(before.connections_per_message, after.connections_per_message),
        saved(before.calls_per_message, after.calls_per_message),
    )


def saved(before: float, after: float) -> str:
    """Format a reduction in percent."""
    return f"{(1 - after / before) * 100:.1f} %"


def _ratios(results: Results) -> str:
    rows = [
        (name, figure(each.median), figure(each.least), figure(each.most))
        for name, each in results.ratios.items()
    ]
    if not rows:
        return ""
    return (
        "## Ratios within one round\n\n"
        "`cpu` is CPU per message, `wall` messages per second; `cores` is what two processes would "
        "reach if neither waited for a core.\n\n"
        + table(("ratio", "median", "minimum", "maximum"), rows)
    )


def _peers(results: Results) -> str:
    if not results.peers and not results.not_run:
        return ""
    heads = (
        "consumer", "leaves out", "CPU µs per message", "CPU by ours", "messages/s",
        "calls per message", "RSS MB", "messages, rounds",
    )  # fmt: skip
    rows = [_peer(each) for each in results.peers]
    rows += [(name, f"not run: {why}", *("",) * 6) for name, why in results.not_run.items()]
    return (
        "## Other consumers\n\n"
        "Each is written as its documentation recommends, runs in an environment of its own, and "
        "receives, writes on a condition and deletes on the same stub, in turn with the worker. "
        "`make bench-peers` runs only these.\n\n"
        + table(heads, rows)
        + (f"\n\n{_chart('peers')}" if results.peers else "")
    )


def _peer(peer: Peer) -> tuple[str, ...]:
    measured, by_ours = peer.measured, peer.cpu_by_ours
    spread = f" ({figure(by_ours.least)} to {figure(by_ours.most)})" if measured.rounds > 1 else ""
    return (
        measured.title,
        peer.leaves_out,
        _spread(measured, "cpu_us_per_message"),
        f"{figure(by_ours.median)}{spread}",
        figure(measured.messages_per_second),
        f"{measured.calls_per_message:.3f}",
        figure(measured.rss_mb),
        f"{measured.messages:,}, {measured.rounds}",
    )


def _cost(results: Results, prices: Prices) -> str:
    if not results.cost_per_million_messages:
        return ""
    rows = [
        (f"**{name}**", *(f"{part:.3f}" for part in (*parts.values(), sum(parts.values()))))
        for name, parts in results.cost_per_million_messages.items()
    ]
    heads = ("variant", "SQS requests", "write units", "read units", "total")
    price = prices.per_million
    return (
        f"## Cost of a million messages, in {prices.currency}\n\n"
        f"At {price.sqs_requests:g} per million SQS requests, {price.write_units:g} for write "
        f"units and {price.read_units:g} for read units. To use other prices, edit "
        "[prices.toml](../../worker/aws/prices.toml) and run "
        f"`python -m tests.bench --render`.\n\n{table(heads, rows)}\n\n{_chart('cost')}"
    )


def _growth(growth: Sequence[Case]) -> str:
    if not growth:
        return ""
    rows = [
        (
            f"{each.measured.messages:,}",
            figure(each.measured.cpu_us_per_message),
            figure(each.measured.messages_per_second),
            f"{each.measured.connections}",
            figure(each.measured.rss_mb),
            ", ".join(f"{rss:.1f} at {settled:,}" for settled, rss in each.measured.rss_at),
        )
        for each in growth
    ]
    heads = ("messages", "CPU µs per message", "messages/s", "connections", "peak RSS MB", "RSS MB")
    return f"## Growth\n\n{table(heads, rows)}\n\n{_chart('growth')}"


def _sizes(sizes: Sequence[Case]) -> str:
    if not sizes:
        return ""
    rows = [
        (
            f"{each.message_kib:g} KiB",
            figure(each.measured.cpu_us_per_message),
            figure(each.measured.messages_per_second),
            f"{each.measured.calls_per_message:.3f}",
            figure(each.measured.write_units_per_message),
            figure(each.measured.sqs_requests_per_message),
            figure(each.measured.rss_mb),
        )
        for each in sizes
    ]
    heads = (
        "body", "CPU µs per message", "messages/s", "calls", "write units", "SQS requests billed",
        "RSS MB",
    )  # fmt: skip
    return f"## Message size\n\n{table(heads, rows)}"


def _latencies(latencies: Sequence[Case]) -> str:
    if not latencies:
        return ""
    heads = (
        "SQS / DynamoDB", "messages/s", "CPU µs per message", "calls", "p50 ms", "p99 ms", "RSS MB",
        "maximum by Little's law",
    )  # fmt: skip
    return (
        "## Latency of the services\n\n"
        "A setting allows as many messages per second as may be in flight, divided by the time of "
        "each: a slot is held for two calls of SQS and one of DynamoDB. All settings are the "
        "defaults.\n\n"
        f"{table(heads, map(_latency, latencies))}\n\n{_chart('latency')}"
    )


def _latency(each: Case) -> tuple[str, ...]:
    name, rate = bound(each)
    return (
        f"{each.sqs_latency_ms:g} / {each.dynamodb_latency_ms:g} ms",
        figure(each.measured.messages_per_second),
        figure(each.measured.cpu_us_per_message),
        f"{each.measured.calls_per_message:.3f}",
        figure(each.measured.p50_ms),
        figure(each.measured.p99_ms),
        figure(each.measured.rss_mb),
        f"{figure(rate)} (`{name}`)" if name else "CPU",
    )


def bound(each: Case) -> tuple[str, float]:
    """Return the most limiting setting and its rate, or an empty name if none limits it."""
    return min(each.bounds.items(), key=lambda item: item[1], default=("", float("inf")))


def _idle_and_single(results: Results) -> str:
    rows = []
    if results.idle is not None:
        idle = results.idle
        rows += [
            (f"calls per minute, idle for {idle.seconds:.0f} s", figure(idle.calls_per_minute)),
            ("CPU while idle", f"{figure(idle.cpu_percent)} %"),
        ]
    if results.lone is not None:
        lone = results.lone
        rows += [
            ("a single message, from receive to delete, D", f"{figure(lone.worker_ms)} ms"),
            ("the same, C", f"{figure(lone.call_for_each_step_ms)} ms"),
        ]
    return "## Low load\n\n" + table(("figure", "measured"), rows) if rows else ""


def _stub(results: Results) -> str:
    if not results.stub:
        return ""
    rows = [
        (
            served.operation,
            figure(served.requests_per_second),
            figure(served.cpu_us_per_request),
            figure(served.cpu_us_per_message),
        )
        for served in results.stub
    ]
    total = sum(served.cpu_us_per_message for served in results.stub)
    worker = results.scenarios.get("D")
    outrun = (
        f" The worker uses {figure(worker.cpu_us_per_message / total)} times as much."
        if worker is not None
        else ""
    )
    heads = ("operation", "requests/s", "CPU µs per request", "CPU µs per message")
    return (
        "## Capacity of the stub\n\n"
        f"A message costs the stub {figure(total)} µs of CPU.{outrun}\n\n"
        f"{table(heads, rows)}"
    )


def _chart(name: str) -> str:
    return f"![{name}]({_CHARTS}/{name}.svg)"
