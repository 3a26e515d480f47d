"""Reproducible SVG charts of the results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.bench.cost import Prices
from tests.bench.report import bound, figure
from tests.bench.results import Case, Measured, Peer, Results

_WITHOUT_TLS, _WORKER, _OTHER = "#9aa5b1", "#0b7a75", "#d9a441"
_WRITES: Final = {"none": "#d5dbe1", "each": _WITHOUT_TLS, "batch": _OTHER}
_COLOURS: Final = ("#0b7a75", "#d9a441", "#7b6d8d", "#c8553d", "#588b8b", "#9aa5b1")


def draw(results: Results, prices: Prices, folder: Path) -> list[Path]:
    """Draw the charts of the parts that were run.

    Returns:
        The files written.
    """
    folder.mkdir(exist_ok=True)
    written = []
    with mpl.rc_context(
        {
            "svg.hashsalt": "bench",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 10,
            "axes.titleweight": "bold",
        }
    ):
        for name, chart in (
            ("savings", _savings(results)),
            ("cost", _cost(results, prices)),
            ("growth", _growth(results.growth)),
            ("latency", _latency(results.latencies)),
            ("peers", _peers(results.peers)),
        ):
            if chart is not None:
                file = folder / f"{name}.svg"
                chart.savefig(file, metadata={"Date": None, "Creator": None})
                written.append(file)
    return written


def _savings(results: Results) -> Figure | None:
    variants = {name: results.scenarios[name] for name in "ABCD" if name in results.scenarios}
    if "D" not in variants:
        return None
    chart = Figure(figsize=(10, 2.9), layout="constrained")
    left, middle, right = chart.subplots(1, 3)
    _bars(left, variants, [each.cpu_us_per_message for each in variants.values()])
    left.set_title("CPU µs per message")
    _bars(middle, variants, [1000 * each.connections_per_message for each in variants.values()])
    middle.set_title("connections per 1,000 messages")
    _stacked_calls(right, variants)
    right.set_title("calls per message")
    chart.legend(fontsize=7, frameon=False, loc="outside right upper")
    names = "   ".join(f"{name}: {each.title}" for name, each in variants.items())
    chart.supxlabel(names, fontsize=8)
    return chart


def _bars(axes: Axes, variants: dict[str, Measured], values: Sequence[float]) -> None:
    colours = [_WORKER if name == "D" else _WITHOUT_TLS for name in variants]
    bars = axes.bar(list(variants), list(values), color=colours)
    axes.bar_label(bars, [figure(value) for value in values], padding=2, fontsize=8)
    axes.set_yscale("log")
    axes.margins(y=0.2)
    axes.tick_params(axis="y", which="both", labelsize=7)


def _stacked_calls(axes: Axes, variants: dict[str, Measured]) -> None:
    operations = sorted(
        {
            name
            for each in variants.values()
            for name, rate in each.calls_by_operation.items()
            if rate
        }
    )
    below = [0.0] * len(variants)
    for operation, colour in zip(operations, _COLOURS, strict=False):
        rates = [each.calls_by_operation.get(operation, 0.0) for each in variants.values()]
        axes.bar(list(variants), rates, bottom=below, color=colour, label=operation)
        below = [lower + rate for lower, rate in zip(below, rates, strict=True)]
    for position, total in enumerate(below):
        axes.annotate(f"{total:.2f}", (position, total), ha="center", va="bottom", fontsize=8)
    axes.margins(y=0.12)


def _cost(results: Results, prices: Prices) -> Figure | None:
    costs = {
        name: parts
        for name, parts in results.cost_per_million_messages.items()
        if not name.endswith("-tls")
    }
    if not costs:
        return None
    chart = Figure(figsize=(6, 2.6), layout="constrained")
    axes = chart.subplots()
    names = list(reversed(costs))
    left = [0.0] * len(names)
    for part, colour in zip(next(iter(costs.values())), _COLOURS, strict=False):
        values = [costs[name][part] for name in names]
        axes.barh(names, values, left=left, color=colour, label=part.replace("_", " "))
        left = [lower + value for lower, value in zip(left, values, strict=True)]
    for position, total in enumerate(left):
        axes.annotate(f" {total:.3f}", (total, position), va="center", fontsize=8)
    axes.set_title(f"a million messages, in {prices.currency}")
    axes.margins(x=0.12)
    chart.legend(fontsize=8, frameon=False, loc="outside lower center", ncols=3)
    return chart


def _growth(growth: Sequence[Case]) -> Figure | None:
    if len(growth) < 2:
        return None
    counts = [each.measured.messages for each in growth]
    chart = Figure(figsize=(8, 2.8), layout="constrained")
    left, right = chart.subplots(1, 2)
    left.plot(counts, [each.measured.cpu_us_per_message for each in growth], "o-", color=_WORKER)
    left.set_title("CPU µs per message")
    right.plot(counts, [each.measured.rss_mb for each in growth], "o-", color=_WORKER)
    right.set_title("peak RSS, MB")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.minorticks_off()
        axes.set_xlabel("messages")
        axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
    return chart


def _latency(latencies: Sequence[Case]) -> Figure | None:
    if not latencies:
        return None
    chart = Figure(figsize=(8, 3.2), layout="constrained")
    axes = chart.subplots()
    names = [f"{each.sqs_latency_ms:g} / {each.dynamodb_latency_ms:g} ms" for each in latencies]
    rates = [each.measured.messages_per_second for each in latencies]
    axes.bar_label(axes.bar(names, rates, color=_WORKER), [figure(rate) for rate in rates])
    top = 1.25 * max(rates)
    for position, each in enumerate(latencies):
        name, most = bound(each)
        if name and most <= top:
            axes.hlines(
                most, position - 0.45, position + 0.45, color="#c8553d", linestyles="dashed"
            )
    axes.set_title("messages per second by latency of SQS / DynamoDB (dashed: Little's law)")
    axes.set_ylim(0, top)
    return chart


def _peers(peers: Sequence[Peer]) -> Figure | None:
    if not peers:
        return None
    chart = Figure(figsize=(8, 0.6 + 0.3 * len(peers)), layout="constrained")
    axes = chart.subplots()
    # The slowest at the bottom.
    rows = sorted(peers, key=lambda each: -each.measured.cpu_us_per_message)
    bars = axes.barh(
        [each.measured.title for each in rows],
        [each.measured.cpu_us_per_message for each in rows],
        color=[_WORKER if each is peers[0] else _WRITES[each.writes] for each in rows],
    )
    axes.bar_label(
        bars, [figure(each.measured.cpu_us_per_message) for each in rows], padding=3, fontsize=8
    )
    axes.set_xscale("log")
    axes.set_title("CPU µs per message (lightest: writes nothing)")
    axes.margins(x=0.12)
    return chart
