"""The fast tests on each supported Python that this machine has: `python -m tests.pythons`.

Options are passed to pytest. Each Python has an environment of its own, from the lock.
"""

import subprocess
import sys
from typing import Final

from tests.bench.environments import NotInstalledError, find_python, python_environment
from tests.documents import ROOT

# From `requires-python` to the newest release.
MINORS: Final = range(11, 15)
TIERS: Final = ("tests/unit", "tests/wire", "tests/golden", "tests/evidence")
_LOCK: Final = ROOT / "infra/locks/requirements-dev.lock"


def main() -> int:
    """Run the tests, print a line for each Python, and return the exit code."""
    results = {minor: _run(minor, sys.argv[1:]) for minor in MINORS}
    for minor, result in results.items():
        sys.stdout.write(f"Python 3.{minor}: {result}\n")
    return int("failed" in results.values())


def _run(minor: int, options: list[str]) -> str:
    try:
        python = find_python(minor, exactly=True)
    except NotInstalledError as error:
        return f"not run: {error}"
    environment = ROOT / f".cache/python-3.{minor}"
    python_environment(environment, _LOCK, python)
    command = (str(environment / "bin/python"), "-m", "pytest", *options, *TIERS)
    failed = subprocess.run(command, cwd=ROOT, check=False).returncode  # noqa: S603 - pytest
    return "failed" if failed else "passed"


if __name__ == "__main__":
    sys.exit(main())
