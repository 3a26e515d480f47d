"""Build wheel and sdist of the commit that is checked out, and write them to dist/.

Run by `make dist`, in the environment of infra/tools/release.lock. The files are built twice, in
different directories; their times are that of the commit, so everyone gets the same bytes.
"""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[1]
_BIN: Final = Path(sys.executable).parent
_LIMIT_BYTES: Final = 1_000_000


def main() -> None:
    """Build, compare, check, and list the contents."""
    if _git("status", "--porcelain", "--untracked-files=no"):
        sys.stderr.write("dist: changes that are not committed are left out\n")
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        files = _build(Path(first))
        differing = [name for name, built in _build(Path(second)).items() if built != files[name]]
    if differing:
        sys.exit(f"dist: {', '.join(differing)}: two builds differ")
    target = _ROOT / "dist"
    target.mkdir(exist_ok=True)
    for old in target.glob("aup_worker-*"):
        old.unlink()
    for name, built in files.items():
        (target / name).write_bytes(built)
    _run(str(_BIN / "twine"), "check", "--strict", *(str(target / name) for name in files))
    for name, built in files.items():
        _list(name, built)


def _git(*arguments: str) -> bytes:
    return _run("git", "-C", str(_ROOT), *arguments)


def _build(folder: Path) -> dict[str, bytes]:
    """Return the contents of both files by name."""
    with tarfile.open(fileobj=io.BytesIO(_git("archive", "HEAD"))) as archive:
        archive.extractall(folder / "source", filter="data")
    time = _git("log", "-1", "--format=%ct").decode().strip()
    build = (str(_BIN / "pyproject-build"), "--no-isolation", "--outdir", str(folder / "built"))
    _run(*build, str(folder / "source"), SOURCE_DATE_EPOCH=time)
    return {path.name: path.read_bytes() for path in sorted((folder / "built").iterdir())}


def _run(*command: str, **environment: str) -> bytes:
    done = subprocess.run(  # noqa: S603 - git and the tools next to this Python
        command, env=os.environ | environment, capture_output=True, check=False
    )
    if done.returncode:
        sys.stderr.buffer.write(done.stdout + done.stderr)
        sys.exit(f"dist: {Path(command[0]).name} failed with exit code {done.returncode}")
    return done.stdout


def _list(name: str, built: bytes) -> None:
    """Print the number of files below each directory."""
    if len(built) > _LIMIT_BYTES:
        sys.exit(f"dist: {name} has {len(built):,} bytes, more than {_LIMIT_BYTES:,}")
    if name.endswith(".whl"):
        paths = zipfile.ZipFile(io.BytesIO(built)).namelist()
    else:
        with tarfile.open(fileobj=io.BytesIO(built)) as archive:
            paths = [each.partition("/")[2] for each in archive.getnames()]
    folders = ["/".join(Path(path).parts[:2]) if "/" in path else path for path in paths]
    counts = {folder: folders.count(folder) for folder in sorted(folders)}
    sys.stdout.write(f"dist/{name}: {len(built):,} bytes, {len(paths)} files\n")
    for folder, count in counts.items():
        sys.stdout.write(f"  {folder}{f': {count} files' if count > 1 else ''}\n")


if __name__ == "__main__":
    main()
