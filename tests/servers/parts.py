"""Name what is downloaded for the tests, and know whether it is all there."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
CACHE = SOURCES.parents[1] / ".cache" / "servers"


class NotDownloadedError(Exception):
    """Something that the tests run on is not downloaded."""


@dataclass(frozen=True, slots=True)
class Part:
    """One download: its folder, and the pin that says exactly what belongs in it."""

    name: str
    pin: str

    @property
    def directory(self) -> Path:
        """Return the folder that holds the download."""
        return CACHE / self.name

    @property
    def is_complete(self) -> bool:
        """Tell whether everything that the pin names is in place."""
        try:
            return self._stamp.read_text() == self.pin
        except FileNotFoundError:
            return False

    def require(self) -> Path:
        """Return the folder of a complete download, or say how to get it."""
        if not self.is_complete:
            raise NotDownloadedError(
                f"{self.name} is not downloaded in the version that the tests need:"
                " run `make servers`"
            )
        return self.directory

    def begin(self) -> None:
        """Make an interruption from here on count as no download."""
        self._stamp.unlink(missing_ok=True)

    def finish(self) -> None:
        """Declare the download complete."""
        self._stamp.write_text(self.pin)

    @property
    def _stamp(self) -> Path:
        return self.directory / ".complete"


def _digest(*files: str) -> str:
    content = b"".join((SOURCES / file).read_bytes() for file in files)
    return hashlib.sha256(content).hexdigest()


# The package ships AWS's own program; its licence allows no copy in this repository.
DYNAMODB_LOCAL_PACKAGE = "amplify-dynamodb-simulator@2.9.30"

DYNAMODB_LOCAL = Part(
    "dynamodb-local",
    "sha512-xTeeRLvzEfqyd5lh3bH4c0kHvSHHmmhD5ZDsHFKAQ5g2Zl6JqlFdutaQhCLHzxEp6Ry1o7TB6niIoXuQAnSewQ==",
)
MINISTACK = Part("ministack", _digest("ministack.lock"))
AWSCLI = Part("awscli", _digest("awscli.lock"))
FAUXQS = Part("fauxqs", _digest("fauxqs/package.json", "fauxqs/package-lock.json"))
