"""Rounds of all peers, interleaved with the worker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from tests.bench.environments import NotInstalledError
from tests.bench.peers.catalogue import PEERS, PeerProgram
from tests.bench.results import Peer, ratio, summarize
from tests.bench.runs import Run
from tests.bench.scenarios import SCENARIOS, Scenario

# Runs a scenario once, for a label in the progress.
RunOnce = Callable[[Scenario, str], Run]


def install(programs: Iterable[PeerProgram] = PEERS) -> tuple[list[Scenario], dict[str, str]]:
    """Install all peers.

    Returns:
        The scenarios of those that can run, and the reason by title for each other one.
    """
    scenarios, not_run = [], {}
    for program in programs:
        try:
            scenarios.append(program.install())
        except NotInstalledError as error:
            not_run[program.title] = str(error)
    return scenarios, not_run


def compare(scenarios: list[Scenario], rounds: int, run_once: RunOnce) -> list[Peer]:
    """Run the worker and every peer in turn.

    Returns:
        The worker, then the peers by their CPU per message.
    """
    worker = SCENARIOS["D"]
    runs: defaultdict[str, list[Run]] = defaultdict(list)
    for number in range(rounds):
        turn = [worker, *scenarios]
        for scenario in turn if number % 2 == 0 else reversed(turn):
            runs[scenario.name].append(run_once(scenario, f"peers {number + 1}"))
    ours = [run.cpu_us_per_message for run in runs[worker.name]]
    programs = {program.name: program for program in PEERS}
    peers = [
        Peer(
            name=scenario.name,
            writes=programs[scenario.name].writes,
            leaves_out=programs[scenario.name].leaves_out,
            cpu_by_ours=ratio([run.cpu_us_per_message for run in runs[scenario.name]], ours),
            measured=summarize(scenario, runs[scenario.name]),
        )
        for scenario in scenarios
    ]
    first = Peer(
        name="aup-worker",
        writes="batch",
        leaves_out="nothing",
        cpu_by_ours=ratio(ours, ours),
        measured=summarize(worker, runs[worker.name]),
    )
    return [first, *sorted(peers, key=lambda peer: peer.measured.cpu_us_per_message)]
