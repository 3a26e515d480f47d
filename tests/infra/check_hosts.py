"""Checks of the systemd unit and the Dockerfile, run by `make infra-check`.

Without systemd, the unit is reported as not checked.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
MAX_EXPOSURE: Final = 1.2
_UNIT: Final = ROOT / "infra" / "systemd" / "aup-worker@.service"
_DOCKERFILE: Final = ROOT / "infra" / "Dockerfile"
_HADOLINT: Final = ROOT / ".cache" / "tools" / "hadolint" / "bin" / "hadolint"


def main() -> int:
    """Check both, and return the exit code."""
    results = [_check_unit(), _check_dockerfile()]
    return 0 if all(results) else 1


def _check_unit() -> bool:
    if not shutil.which("systemd-analyze"):
        _print(
            "systemd-analyze: not checked because it is missing (Debian: apt-get install systemd)"
        )
        return True
    with tempfile.TemporaryDirectory() as directory:
        # The program of the unit is not installed on machines that only check it.
        unit = Path(directory) / _UNIT.name
        text = _UNIT.read_text()
        unit.write_text(text.replace("/opt/aup-worker/current/bin/aup-worker", sys.executable))
        verified = _run("systemd-analyze", "verify", "--man=no", str(unit))
    threshold = f"--threshold={MAX_EXPOSURE * 10:.0f}"
    secure = _run("systemd-analyze", "security", "--offline=true", threshold, str(_UNIT))
    return verified and secure


def _check_dockerfile() -> bool:
    return _run(str(_HADOLINT), "--no-color", str(_DOCKERFILE))


def _run(*command: str) -> bool:
    done = subprocess.run(  # noqa: S603 - the commands are those of this module
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    output = done.stdout.strip()
    if done.returncode == 0:
        output = output.splitlines()[-1] if output else "passed"
    _print(f"{Path(command[0]).name} {command[1]}: {output}")
    return done.returncode == 0


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
