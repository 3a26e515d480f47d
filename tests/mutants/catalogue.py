"""All mutants."""

from __future__ import annotations

from typing import Final

from tests.mutants import (
    in_clocks,
    in_dead_letters,
    in_edges,
    in_evidence,
    in_health,
    in_pipeline,
    in_processes,
    in_repository,
    in_seeing,
    in_settling,
    in_status,
    in_tracing,
    in_wire,
)
from tests.mutants.mutant import Mutant

MUTANTS: Final[tuple[Mutant, ...]] = (
    *in_pipeline.MUTANTS,
    *in_settling.MUTANTS,
    *in_repository.MUTANTS,
    *in_edges.MUTANTS,
    *in_clocks.MUTANTS,
    *in_health.MUTANTS,
    *in_dead_letters.MUTANTS,
    *in_seeing.MUTANTS,
    *in_tracing.MUTANTS,
    *in_wire.MUTANTS,
    *in_status.MUTANTS,
    *in_evidence.MUTANTS,
    *in_processes.MUTANTS,
)
