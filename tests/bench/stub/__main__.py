"""Command of the stub: `python -m tests.bench.stub`; `--measure` measures its capacity."""

from __future__ import annotations

import argparse
import sys

from tests.bench.stub.launch import running_stub
from tests.bench.stub.load import measure
from tests.bench.stub.server import print_address, run_quickly, serve


def main() -> int:
    """Serve until SIGTERM, or measure."""
    parser = argparse.ArgumentParser(description="An AWS that only has to be fast.")
    parser.add_argument("--measure", action="store_true", help="Measure the capacity and exit.")
    parser.add_argument("--messages", type=int, default=50_000, help="to measure with")
    arguments = parser.parse_args()
    if not arguments.measure:
        run_quickly(serve(print_address))
        return 0
    with running_stub() as stub:
        capacities = measure(stub, arguments.messages)
    for each in capacities:
        print(  # noqa: T201 - the result
            f"{each.operation:24}{each.requests_per_second:>10,.0f} requests/s"
            f"{each.cpu_us_per_request:>8.1f} us CPU per request"
            f"{each.cpu_us_per_message:>8.2f} us CPU per message"
        )
    total = sum(each.cpu_us_per_message for each in capacities)
    print(f"{'total per message':24}{total:>8.2f} us CPU")  # noqa: T201 - the result
    return 0


if __name__ == "__main__":
    sys.exit(main())
