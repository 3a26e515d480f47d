"""The queries of the dashboard and the rules, evaluated by Prometheus on a worker's metrics."""

from __future__ import annotations

import json
import signal
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.infra.check_monitoring import RULES, dashboard_queries, program
from tests.infra.security_audit import ROOT
from tests.process.environment import Environment, body, wait_until
from tests.servers.launch import moto
from tests.servers.ports import free_port
from tests.servers.process import serving

pytestmark = pytest.mark.servers

RATE_INTERVAL: Final = "10s"


def _configuration(worker_port: int) -> str:
    target = {"targets": [f"127.0.0.1:{worker_port}"]}
    job = {"job_name": "aup-worker", "static_configs": [target]}
    return json.dumps(
        {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ROOT / RULES)],
            "scrape_configs": [job],
        }
    )


@contextmanager
def _prometheus(directory: Path, worker_port: int) -> Iterator[str]:
    """Run Prometheus, which scrapes a worker, and yield its URL."""
    prometheus = program("prometheus")
    if prometheus is None:
        pytest.skip("prometheus is missing (Debian: apt-get install prometheus)")
    (directory / "prometheus.yaml").write_text(_configuration(worker_port))
    port = free_port()
    command = [
        str(prometheus), "--config.file=prometheus.yaml", "--storage.tsdb.path=data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with serving(command, port, directory=directory) as url:
        yield url


def _get(url: str, **parameters: str) -> Any:
    with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(parameters)}") as response:  # noqa: S310
        return json.load(response)["data"]


def _unanswered(url: str) -> list[str]:
    return [
        query
        for query in dashboard_queries(RATE_INTERVAL)
        if not _get(f"{url}/api/v1/query", query=query)["result"]
    ]


def test_every_query_has_a_result_and_every_rule_is_evaluated(tmp_path: Path) -> None:
    port = free_port()
    with moto() as aws, _prometheus(tmp_path, port) as url:
        environment = Environment(aws)
        environment.variables["XDG_STATE_HOME"] = str(tmp_path / "state")
        environment.set_up()
        environment.send(*(body(each) for each in range(20)), "{")
        with environment.service(AUP_HEALTH_PORT=str(port), AUP_PROCESSES="2") as service:
            wait_until(lambda: not _unanswered(url), "every query has a result")
            service.end(signal.SIGTERM)
        [group] = _get(f"{url}/api/v1/rules")["groups"]
        assert {rule["health"] for rule in group["rules"]} == {"ok"}
        firing = _get(f"{url}/api/v1/query", query='ALERTS{alertstate="firing"}')["result"]
        assert {each["metric"]["alertname"] for each in firing} <= {"DeadLetters"}
