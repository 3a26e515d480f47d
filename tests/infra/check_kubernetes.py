"""Checks of infra/kubernetes: `python -m tests.infra.check_kubernetes`.

Kustomize renders the base and the example, their manifests are validated against the schemas of
Kubernetes, KEDA and the Prometheus operator, and checkov audits the example.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.infra.security_audit import ROOT, audit, report, run, tools
from tests.servers.download import DownloadError

DIRECTORIES: Final = ("base", "keda", "monitoring", "example")
KUBERNETES: Final = ROOT / "infra" / "kubernetes"
_SCHEMAS: Final = "tests/infra/kubernetes_schemas.py"


class RenderError(Exception):
    """Kustomize did not render a directory."""


def main() -> int:
    """Render, validate and audit, and return the exit code."""
    try:
        programs = tools("kubernetes") / "bin"
        rendered = {each: render(programs / "kubectl", KUBERNETES / each) for each in DIRECTORIES}
    except (DownloadError, RenderError) as error:
        report(f"kubernetes: {error}")
        return 1
    valid = [_validate(programs / "python", name, text) for name, text in rendered.items()]
    with tempfile.TemporaryDirectory() as directory:
        example = Path(directory) / "example.yaml"
        example.write_text(rendered["example"])
        return 0 if all([*valid, audit("kubernetes", [str(example)])]) else 1


def render(kubectl: Path, directory: Path) -> str:
    """Return the manifests of a directory with a kustomization.

    Raises:
        RenderError: Kustomize failed.
    """
    done = run(str(kubectl), "kustomize", str(directory))
    if done.returncode:
        raise RenderError(f"{directory.name}: {done.stdout.strip()}")
    return done.stdout


def _validate(python: Path, name: str, manifests: str) -> bool:
    done = run(str(python), _SCHEMAS, stdin=manifests)
    for line in done.stdout.splitlines():
        report(f"kubernetes/{name}: {line}")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
