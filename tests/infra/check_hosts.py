"""Check the unit and the Dockerfile, each with its own tool: `python -m tests.infra.check_hosts`.

A tool that this machine does not have is named and passed over: it prints what was not checked.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
MOST_EXPOSURE: Final = 1.2
_UNIT: Final = ROOT / "infra" / "systemd" / "aup-worker@.service"
_DOCKERFILE: Final = ROOT / "infra" / "Dockerfile"
_LOCK: Final = Path(__file__).with_name("hadolint.lock")
_ENVIRONMENT: Final = ROOT / ".cache" / "hadolint"


def main() -> int:
    """Check both; return the exit code."""
    results = [_check_unit(), _check_dockerfile()]
    return 0 if all(results) else 1


def _check_unit() -> bool:
    if not shutil.which("systemd-analyze"):
        _say("systemd-analyze: not checked, it is missing (Debian: apt-get install systemd)")
        return True
    with tempfile.TemporaryDirectory() as directory:
        # The program that it names is installed on no machine that only checks.
        unit = Path(directory) / _UNIT.name
        text = _UNIT.read_text()
        unit.write_text(text.replace("/opt/aup-worker/current/bin/aup-worker", sys.executable))
        verified = _run("systemd-analyze", "verify", "--man=no", str(unit))
    threshold = f"--threshold={MOST_EXPOSURE * 10:.0f}"
    secure = _run("systemd-analyze", "security", "--offline=true", threshold, str(_UNIT))
    return verified and secure


def _check_dockerfile() -> bool:
    return _run(str(_hadolint()), "--no-color", str(_DOCKERFILE))


def _hadolint() -> Path:
    pin = hashlib.sha256(_LOCK.read_bytes()).hexdigest()
    stamp = _ENVIRONMENT / ".complete"
    _ENVIRONMENT.mkdir(parents=True, exist_ok=True)
    with (_ENVIRONMENT / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != pin:
            venv.create(_ENVIRONMENT, symlinks=True, with_pip=True)
            python = str(_ENVIRONMENT / "bin" / "python")
            install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([python, *install, "--require-hashes", "-r", _LOCK], check=True)  # noqa: S603
            stamp.write_text(pin)
    return _ENVIRONMENT / "bin" / "hadolint"


def _run(*command: str) -> bool:
    done = subprocess.run(  # noqa: S603 - the commands are those of this module
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    shown = done.stdout.strip()
    if done.returncode == 0:
        shown = shown.splitlines()[-1] if shown else "nothing to say"
    _say(f"{Path(command[0]).name} {command[1]}: {shown}")
    return done.returncode == 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
