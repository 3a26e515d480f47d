"""Coverage-guided fuzzing of the decoder: `RUNS=20000 SEED=1 python -m tests.fuzz.guided`.

Needs atheris, which exists only for Linux. A body that violates an invariant is written to the
folder CRASHES, by default the current one.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Final

try:
    import atheris
except ImportError:  # not available for this platform
    sys.stderr.write("guided fuzzing skipped: atheris is not installed\n")
    sys.exit(0)

with atheris.instrument_imports(include=["worker.domain.envelope", "worker.domain.acceptance"]):
    from worker.domain import envelope as decode  # noqa: F401 - instrumented before its first import

from tests.fuzz.bodies import bodies
from tests.fuzz.decoding import Decoding

_STARTING_BODIES: Final = 400
_LONGEST_BYTES: Final = 4_096


def main() -> None:
    """Run many inputs; the fuzzer ends the process, with exit code 0 if it found nothing."""
    runs = int(os.environ.get("RUNS") or 20_000)
    seed = int(os.environ.get("SEED") or secrets.randbelow(10**9))
    crashes = Path(os.environ.get("CRASHES") or ".")
    decoding = Decoding()
    with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
        for number, body in enumerate(bodies(seed, _STARTING_BODIES)):
            raw = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
            Path(folder, str(number)).write_bytes(raw[:_LONGEST_BYTES])
        options = [
            f"-runs={runs}", f"-seed={seed}", f"-max_len={_LONGEST_BYTES}", "-print_final_stats=1",
            f"-artifact_prefix={crashes}/", "-verbosity=0",
        ]  # fmt: skip
        atheris.Setup([sys.argv[0], *options, folder], decoding.decode)
        sys.stderr.write(f"guided: RUNS={runs} SEED={seed}\n")
        atheris.Fuzz()


if __name__ == "__main__":
    main()
