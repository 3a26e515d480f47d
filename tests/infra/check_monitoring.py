"""Checks of infra/monitoring: `python -m tests.infra.check_monitoring`.

Grafana's types read the dashboard. promtool checks the rules, the documented configuration and the
queries of the dashboard, and runs the tests of the alerts. It is the installed one, or that of
Debian's package prometheus, which is unpacked without installing it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.documents import Document, blocks
from tests.infra.security_audit import ROOT, report, run, tools
from tests.servers.download import DownloadError, bring, exclusive_download
from tests.servers.parts import Part

DASHBOARD: Final = ROOT / "infra" / "monitoring" / "dashboard.json"
RULES: Final = "infra/monitoring/rules.yaml"
TESTS: Final = "tests/infra/alerts.yaml"
_PACKAGE: Final = Part("prometheus", "the package of Debian, which apt verifies")
# What Grafana replaces before it sends a query.
_VARIABLES: Final = {"$job": "aup-worker", "$instance": ".*"}


def main() -> int:
    """Run all checks, and return the exit code."""
    try:
        checks = [_check_fields(), _check_queries()]
    except DownloadError as error:
        report(f"monitoring: {error}")
        return 1
    return 0 if all(checks) else 1


def _check_fields() -> bool:
    python = tools("grafana") / "bin" / "python"
    done = run(str(python), "tests/infra/grafana_schema.py", stdin=DASHBOARD.read_text())
    for line in done.stdout.splitlines():
        report(f"grafana: {line}")
    return done.returncode == 0


def _check_queries() -> bool:
    promtool = program("promtool")
    if promtool is None:
        report("promtool: not checked because it is missing (Debian: apt-get install prometheus)")
        return True
    with tempfile.TemporaryDirectory() as directory:
        queries = Path(directory) / "queries.yaml"
        # A rule is the form in which promtool parses a query. JSON is YAML.
        rules = [
            {"record": f"query:{number}", "expr": each}
            for number, each in enumerate(dashboard_queries(), 1)
        ]
        queries.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
        documented = Path(directory) / "prometheus.yaml"
        [configuration] = blocks(Document("infra/monitoring/README.md").text, "yaml")
        documented.write_text(configuration)
        (Path(directory) / "infra").symlink_to(ROOT / "infra")
        results = [
            _run(promtool, "check", "rules", RULES),
            _run(promtool, "check", "config", str(documented)),
            _run(promtool, "check", "rules", str(queries)),
            _run(promtool, "test", "rules", TESTS),
        ]
    return all(results)


def dashboard_queries(rate_interval: str = "5m") -> Iterator[str]:
    """Yield every query of the dashboard as Grafana sends it."""
    dashboard = json.loads(DASHBOARD.read_text())
    sources: list[dict[str, Any]] = [
        *(target for panel in dashboard["panels"] for target in panel["targets"]),
        *dashboard["annotations"]["list"],
    ]
    for source in sources:
        query: str = source["expr"]
        for name, value in (_VARIABLES | {"$__rate_interval": rate_interval}).items():
            query = query.replace(name, value)
        yield query


def program(name: str) -> Path | None:
    """Return the path of a program of Prometheus, or None where it cannot be installed.

    Raises:
        DownloadError: The package cannot be downloaded.
    """
    if installed := shutil.which(name):
        return Path(installed)
    if not shutil.which("apt-get"):
        return None
    with exclusive_download():
        if not _PACKAGE.is_complete:
            bring(_PACKAGE, _unpack)
    return _PACKAGE.directory / "usr" / "bin" / name


def _unpack(directory: Path) -> None:
    download = ["apt-get", "download", "--quiet=2", "prometheus"]
    try:
        _succeed(download, directory)
    except DownloadError:
        # A new machine has no lists of packages yet.
        _succeed(["apt-get", "update", "--quiet=2"], directory)
        _succeed(download, directory)
    (package,) = directory.glob("*.deb")
    _succeed(["dpkg-deb", "--extract", str(package), str(directory)], directory)
    package.unlink()


def _succeed(command: list[str], directory: Path) -> None:
    done = subprocess.run(  # noqa: S603 - the commands are those of this module
        command, cwd=directory, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DownloadError(f"{' '.join(command)} failed: {done.stderr.strip()}")


def _run(promtool: Path, *arguments: str) -> bool:
    done = run(str(promtool), *arguments)
    lines = " ".join(done.stdout.split()) if done.returncode == 0 else done.stdout.strip()
    report(f"promtool {' '.join(arguments[:2])}: {lines}")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
