"""Data of a stacked bar chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bars:
    """Series of a stacked bar chart.

    Attributes:
        labels: Label of each bar, oldest first.
        series: Values of each series by name, one for each bar.
    """

    labels: Sequence[str]
    series: Mapping[str, Sequence[int]]
