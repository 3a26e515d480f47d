"""The peers: what they are, how they are installed and what they leave out."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from tests.bench.environments import CACHE, find_python, node_environment, python_environment
from tests.bench.scenarios import Scenario

Writes = Literal["none", "each", "batch"]
_HERE: Final = Path(__file__).parent
_NODE: Final = "sqs_consumer"
_ALL: Final = "validation, evidence, dead letters"


@dataclass(frozen=True)
class PeerProgram:
    """A program of the comparison.

    Attributes:
        name: Name in `results.json`.
        package: Package whose version is shown.
        module: Module of this package, or the argument of the Node program.
        lock: Lock without its suffix.
        messages: Number of messages that gives steady figures.
        writes: Whether it writes nothing, each message, or batches by hand-written code.
        leaves_out: What the worker does for each message and this program does not.
        python: Minor version of Python 3 that it needs.
    """

    name: str
    package: str
    module: str
    lock: str
    messages: int
    writes: Writes
    leaves_out: str = _ALL
    python: int = 11

    @property
    def title(self) -> str:
        """Package, version and variant."""
        variant = {"none": ", empty handler", "each": "", "batch": ", hand-written batch write"}
        loop = " loop" if self.package == "boto3" else ""
        return f"{self.package}{loop} {self.version}{variant[self.writes]}"

    @property
    def version(self) -> str:
        """Locked version of the package."""
        if self.lock == _NODE:
            text = (_HERE / _NODE / "package.json").read_text()
            found = re.search(rf'"{re.escape(self.package)}": "([^"]+)"', text)
        else:
            text = (_HERE / "locks" / f"{self.lock}.lock").read_text()
            found = re.search(rf"^{re.escape(self.package)}==(\S+)", text, re.MULTILINE)
        assert found, self.package
        return found[1]

    def install(self) -> Scenario:
        """Install the program, unless that is done already.

        Returns:
            The scenario that runs it.

        Raises:
            NotInstalledError: It cannot be installed on this machine.
        """
        folder = CACHE / "peers" / self.lock
        if self.lock == _NODE:
            node_environment(folder, _HERE / _NODE)
            interpreter = (shutil.which("node") or "node", "consumer.mjs")
            return self._scenario(interpreter, (self.module,), folder)
        python = find_python(self.python) if self.python > 11 else sys.executable
        python_environment(folder, _HERE / "locks" / f"{self.lock}.lock", python)
        interpreter = (str(folder / "bin" / "python"), "-m")
        return self._scenario(interpreter, (f"tests.bench.peers.{self.module}",))

    def _scenario(
        self, interpreter: tuple[str, ...], module: tuple[str, ...], folder: Path | None = None
    ) -> Scenario:
        scenario = Scenario(
            self.name,
            self.title,
            module,
            self.messages,
            interpreter=interpreter,
            writes=self.writes != "none",
        )
        return scenario if folder is None else replace(scenario, folder=folder)


PEERS: Final = (
    PeerProgram(
        "fanferro-empty", "fanferro", "fanferro_empty", "fanferro", 40_000, "none",
        f"the write, {_ALL.removesuffix(', dead letters')}", python=12,
    ),
    PeerProgram(
        "fanferro-batch", "fanferro", "fanferro_batch", "fanferro", 20_000, "batch",
        _ALL.removesuffix(", dead letters"), python=12,
    ),
    PeerProgram("sqs-consumer-batch", "sqs-consumer", "batch", _NODE, 10_000, "batch"),
    PeerProgram("boto3-batch", "boto3", "boto3_batch", "boto3", 10_000, "batch"),
    PeerProgram("sqs-consumer", "sqs-consumer", "put", _NODE, 5_000, "each"),
    PeerProgram("boto3", "boto3", "boto3_loop", "boto3", 3_000, "each"),
    PeerProgram("sqs-workers", "sqs-workers", "sqs_workers", "sqs_workers", 3_000, "each"),
    PeerProgram("powertools", "aws-lambda-powertools", "powertools", "powertools", 3_000, "each"),
    PeerProgram("taskiq-aio-sqs", "taskiq-aio-sqs", "taskiq_sqs", "taskiq", 2_000, "each"),
)  # fmt: skip
