"""Compare a Grafana dashboard from stdin with what Grafana's own types read of it.

Run by check_monitoring in the environment of tests/infra/grafana.lock. A field that the types do
not know is lost, and a value of another type is changed or refused.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, Final

from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

# Of annotations by Prometheus, which the types do not distinguish from others.
_NOT_TYPED: Final = {"$.annotations.list[0].titleFormat"}


def main() -> int:
    """Report each difference, and return the exit code."""
    plugins.register_default_plugins()
    dashboard = json.load(sys.stdin)
    read = json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder))
    differences = [each for each in _differences(dashboard, read, "$") if each not in _NOT_TYPED]
    sys.stdout.write("".join(f"{each}: unknown or of another type\n" for each in differences))
    panels = len(dashboard["panels"])
    sys.stdout.write(f"{panels} panels, {len(differences)} unknown fields\n")
    return 1 if differences else 0


def _differences(written: Any, read: Any, path: str) -> Iterator[str]:
    """Yield the paths of values that were not read as they were written."""
    if isinstance(written, dict) and isinstance(read, dict):
        for name, value in written.items():
            yield from _differences(value, read.get(name), f"{path}.{name}")
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for number, (value, other) in enumerate(zip(written, read, strict=True)):
            yield from _differences(value, other, f"{path}[{number}]")
    elif written != read:
        yield path


if __name__ == "__main__":
    sys.exit(main())
