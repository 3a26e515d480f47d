"""The downloads that tests need, with their pins."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
CACHE = SOURCES.parents[1] / ".cache" / "servers"


class NotDownloadedError(Exception):
    """A download that the tests need is missing."""


@dataclass(frozen=True, slots=True)
class Part:
    """A download: its directory and the pin that identifies its content.

    Attributes:
        package: Name and version of the npm package that contains it, if there is one.
    """

    name: str
    pin: str
    package: str = ""

    @property
    def directory(self) -> Path:
        """The directory of the download."""
        return CACHE / self.name

    @property
    def is_complete(self) -> bool:
        """Whether the pinned content is complete."""
        try:
            return self._stamp.read_text() == self.pin
        except FileNotFoundError:
            return False

    def require(self) -> Path:
        """Return the directory of a complete download.

        Raises:
            NotDownloadedError: The download is missing.
        """
        if not self.is_complete:
            raise NotDownloadedError(
                f"{self.name} is not downloaded in the version that the tests need:"
                " run `make servers`"
            )
        return self.directory

    def begin(self) -> None:
        """Mark the download as incomplete."""
        self._stamp.unlink(missing_ok=True)

    def finish(self) -> None:
        """Mark the download as complete."""
        self._stamp.write_text(self.pin)

    @property
    def _stamp(self) -> Path:
        return self.directory / ".complete"


def _digest(*files: str) -> str:
    content = b"".join((SOURCES / file).read_bytes() for file in files)
    return hashlib.sha256(content).hexdigest()


DYNAMODB_LOCAL = Part(
    "dynamodb-local",
    "sha512-xTeeRLvzEfqyd5lh3bH4c0kHvSHHmmhD5ZDsHFKAQ5g2Zl6JqlFdutaQhCLHzxEp6Ry1o7TB6niIoXuQAnSewQ==",
    # It contains the program of AWS, whose licence allows no copy in this repository.
    "amplify-dynamodb-simulator@2.9.30",
)
# Checks of accessibility, for the tests in a browser.
AXE_CORE = Part(
    "axe-core",
    "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
    "axe-core@4.14.1",
)
MINISTACK = Part("ministack", _digest("ministack.lock"))
AWSCLI = Part("awscli", _digest("awscli.lock"))
FAUXQS = Part("fauxqs", _digest("fauxqs/package.json", "fauxqs/package-lock.json"))
