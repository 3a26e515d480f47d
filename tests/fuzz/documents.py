"""JSON documents and texts drawn by Hypothesis."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.unit.fakes import message
from worker.domain.acceptance import Acceptance

_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=25,
)
_CHANGES = st.dictionaries(st.sampled_from([*Acceptance.model_fields, "x", "data"]), _VALUES)
_BODIES = st.one_of(
    _VALUES.map(json.dumps),
    _CHANGES.map(lambda changes: json.dumps(message(**changes))),
    _CHANGES.map(lambda changes: json.dumps(message(**changes), ensure_ascii=False)),
    st.text(max_size=60),
    st.binary(max_size=60),
)


def drawn(number: int, count: int) -> list[str | bytes]:
    """Draw `count` bodies, the same ones for the same seed `number`."""
    bodies: list[str | bytes] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(_BODIES)
    def draw(body: str | bytes) -> None:
        bodies.append(body)

    draw()
    return bodies[:count]
