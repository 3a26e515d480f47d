"""Tests of the image on a machine without a container engine: `python -m tests.infra.image_host`.

A host is booted for them, with podman from the package archive of this machine. A Debian from
debootstrap, cached in .cache, replaces the base image, which only an image registry provides.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.infra.host import CLONE, ROOT, Host, booted, reason_unavailable

_BASE: Final = ROOT / ".cache" / "image-base.tar"
_SUITE: Final = "bookworm"
_APT: Final = Path("/etc/apt")
_OPTIONS: Final = {
    # Chroot isolation, because engines do not support the control groups of this host.
    "IMAGE_BUILD_OPTIONS": "--isolation=chroot --pull-never --network=host --format=docker"
    " --volume=/etc/ssl/certs:/etc/ssl/certs:ro --build-arg=PYTHON=localhost/python-base",
    "IMAGE_RUN_OPTIONS": "--cgroups=disabled --read-only-tmpfs=false",
}


def main() -> int:
    """Run the tests of the image on a host, and return their exit code."""
    reason = reason_unavailable() or (
        None if shutil.which("debootstrap") else "debootstrap is missing"
    )
    if reason:
        sys.stderr.write(f"image not built: {reason}\n")
        return 2
    if not _BASE.exists():
        _create_base()
    with booted() as host:
        _install_podman(host)
        with _BASE.open("rb") as base:
            host.run("podman", "import", "-", "localhost/python-base", source=base)
        options = [f"{name}={text}" for name, text in _OPTIONS.items()]
        test = [
            "-m",
            "pytest",
            "-m",
            "hosts",
            "-p",
            "no:cacheprovider",
            "tests/infra/test_image.py",
        ]
        tests = host.run(
            "env", f"--chdir={CLONE}", *options, sys.executable, *test, *sys.argv[1:], check=False
        )
        sys.stdout.write(tests.stdout + tests.stderr)
        sys.stdout.write(host.run("podman", "history", "aup-worker-tested", check=False).stdout)
        return tests.returncode


def _create_base() -> None:
    _BASE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_BASE.parent) as directory:
        root = Path(directory) / "root"
        packages = "--include=python3-venv,ca-certificates"
        _run("debootstrap", "--variant=minbase", packages, _SUITE, str(root), _archive())
        archive = Path(directory) / "base.tar"
        _run(
            "tar",
            "--create",
            f"--file={archive}",
            f"--directory={root}",
            "--exclude=./dev/*",
            ".",
        )
        archive.rename(_BASE)


def _archive() -> str:
    """Return the package archive that this machine uses."""
    for path in [*_APT.glob("sources.list.d/*.sources"), *_APT.glob("sources.list*")]:
        if path.is_file():
            text = path.read_text()
            found = re.search(rf"^URIs: (\S+)\nSuites:.*\b{_SUITE}\b", text, re.MULTILINE)
            found = found or re.search(rf"^deb (?:\[.*\] )?(\S+) {_SUITE} ", text, re.MULTILINE)
            if found:
                return found[1]
    sys.exit(f"image not built: this machine has no package archive of Debian {_SUITE}")


def _install_podman(host: Host) -> None:
    # Image layers cannot be stored on the overlay, which is the root of the host.
    host.shell("""
        mkdir -p /var/lib/containers
        mount -t tmpfs tmpfs /var/lib/containers
        apt-get update --quiet=2
        DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends \
            podman buildah crun >/tmp/apt.log 2>&1 || { cat /tmp/apt.log >&2; exit 1; }
        """)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
