"""The service on a real systemd, installed as described in infra/README.md."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.documents import commands
from tests.infra.host import CLONE, Host, booted, reason_unavailable, wait_until
from tests.infra.test_runbook import ON_HOSTS, RUNBOOK
from tests.process.environment import Environment, body
from tests.servers.launch import moto

pytestmark = [
    pytest.mark.hosts,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        reason_unavailable() is not None, reason=f"cannot boot systemd: {reason_unavailable()}"
    ),
]

_PROBE: Final = Path(__file__).with_name("sandbox_probe.py")
_HOME: Final = "/opt/aup-worker"
# Oldest first; a process runs from the second one.
_OLD_RELEASES: Final = [f"0.{minor}.0-2026010{minor + 1}T000000Z" for minor in range(5)]
_KEYS: Final = "[default]\naws_access_key_id = test\naws_secret_access_key = test\n"


class Worker:
    """One instance of the unit."""

    def __init__(self, host: Host, name: str) -> None:
        self.host = host
        self.name = name
        self.unit = f"aup-worker@{name}.service"

    def change(self, *lines: str) -> None:
        """Add a drop-in for this instance, as an operator would."""
        text = "\n".join(["[Service]", *lines, ""])
        self.host.run("mkdir", "-p", f"/etc/systemd/system/{self.unit}.d")
        self.host.write(f"/etc/systemd/system/{self.unit}.d/test.conf", text)
        self.host.run("systemctl", "daemon-reload")

    def start(self) -> None:
        done = self.host.run("systemctl", "start", self.unit, check=False)
        assert done.returncode == 0, [each["MESSAGE"] for each in self.journal()]

    def stop(self) -> dict[str, Any]:
        """Stop it, and return its final figures."""
        self.host.run("systemctl", "stop", self.unit)
        assert self.show("Result") == "success"
        assert self.show("ExecMainStatus") == "0"
        return next(line for line in reversed(self.log()) if line["event"] == "stopped")

    def show(self, what: str) -> str:
        return self.host.show(self.unit, what)

    def kill(self, number: signal.Signals) -> None:
        options = [f"--signal={number.name}", "--kill-whom=main"]
        self.host.run("systemctl", "kill", *options, self.unit)

    def journal(self) -> list[dict[str, str]]:
        self.host.run("journalctl", "--sync")
        read = self.host.run("journalctl", "--unit", self.unit, "--output", "json", "--no-pager")
        return [json.loads(line) for line in read.stdout.splitlines()]

    def log(self) -> list[dict[str, Any]]:
        """Return the log lines of the worker itself."""
        own_lines = [each for each in self.journal() if each["_TRANSPORT"] == "stdout"]
        assert {each["SYSLOG_IDENTIFIER"] for each in own_lines} <= {f"aup-worker@{self.name}"}
        return [json.loads(each["MESSAGE"]) for each in own_lines]

    def wait_for_restart(self, reason: str) -> None:
        wait_until(lambda: self.show("NRestarts") == "1", f"{self.unit}: restarted {reason}")
        wait_until(lambda: self.show("ActiveState") == "active", f"{self.unit}: ready {reason}")


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with booted() as host:
        for each in _OLD_RELEASES:
            host.shell(f"mkdir -p {_HOME}/{each}; cp /bin/sleep {_HOME}/{each}")
        host.run("systemd-run", f"{_HOME}/{_OLD_RELEASES[1]}/sleep", "infinity")
        host.shell(f"{CLONE}/infra/systemd/install.sh")
        host.write("/etc/credstore/aup-worker.aws-credentials", _KEYS)
        yield host


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with moto() as url:
        yield url


@pytest.fixture
def environment(host: Host, url: str) -> Environment:
    """Create queues and tables, and configure all workers of the host with them."""
    environment = Environment(url)
    environment.set_up()
    excluded = {"PATH", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    settings = [
        f"{name}={text}" for name, text in environment.variables.items() if name not in excluded
    ]
    host.write("/etc/aup-worker/aup-worker.env", "\n".join([*settings, ""]))
    return environment


def _events(first: int, count: int) -> Counter[str]:
    return Counter(f"e-{number}" for number in range(first, first + count))


def test_installation_keeps_three_releases_and_those_in_use(host: Host) -> None:
    current = host.run("readlink", f"{_HOME}/current").stdout.strip()
    # The link was renamed within one file system, and nothing else is left behind.
    found = host.run("ls", "-A", _HOME).stdout.split()
    assert set(found) == {
        "current", Path(current).name, _OLD_RELEASES[1], *_OLD_RELEASES[-2:],
    }  # fmt: skip


def test_documented_commands_pause_and_roll_back(host: Host, environment: Environment) -> None:
    assert environment.variables
    worker = Worker(host, "1")
    worker.start()
    older = f"{_HOME}/{_OLD_RELEASES[-1]}"
    host.shell(f"cp -a {_HOME}/current/. {older}")
    pause, roll_back = (commands(RUNBOOK.section(each), ("# ",)) for each in ON_HOSTS)
    host.shell(pause[0])
    assert worker.show("ActiveState") == "inactive"
    host.shell("\n".join(pause[1:]))
    host.shell("\n".join([f"RELEASE={older}", *roll_back]))
    assert worker.show("ActiveState") == "active"
    assert host.run("readlink", f"{_HOME}/current").stdout.strip() == older
    worker.stop()


def test_unit_is_active_after_its_first_poll_logs_json_and_drains_on_stop(
    host: Host, environment: Environment
) -> None:
    worker = Worker(host, "1")
    worker.start()
    started_at, ready = (
        int(worker.show(f"{what}TimestampMonotonic")) for what in ("ExecMainStart", "ActiveEnter")
    )
    assert ready - started_at >= int(environment.variables["AUP_WAIT_SECONDS"]) * 1e6
    assert worker.show("StatusText").startswith("ready; ")

    environment.send(*(body(number) for number in range(40)))
    wait_until(lambda: environment.recorded().total() > 0, "the first messages are recorded")
    figures = worker.stop()
    assert figures["balanced"]
    assert figures["held"] == 0
    recorded = environment.recorded()
    assert recorded.total() + environment.visible("AUP_QUEUE") == 40, "no message is in flight"
    assert recorded == _events(0, 40) & recorded


def test_two_workers_on_one_host_share_the_load(host: Host, environment: Environment) -> None:
    workers = [Worker(host, name) for name in ("2", "3")]
    for worker in workers:
        worker.start()
    assert len({worker.show("UID") for worker in workers}) == 2, "each runs as a different user"
    sent = 0
    deadline = time.monotonic() + 30
    shares = Counter[str]()
    while len(shares) < 2 or sent < 60:
        assert time.monotonic() < deadline, f"one worker received everything: {shares}"
        environment.send(*(body(number) for number in range(sent, sent + 20)))
        sent += 20
        wait_until(lambda: environment.recorded().total() == sent, "all are recorded")  # noqa: B023
        shares += Counter(
            worker.name
            for worker in workers
            if any(line.get("received", 0) for line in worker.log())
        )
    figures = [worker.stop() for worker in workers]
    assert [each["balanced"] for each in figures] == [True, True]
    assert min(each["received"] for each in figures) > 0
    assert environment.recorded() == _events(0, sent)


def test_hung_worker_and_killed_worker_are_restarted(host: Host, environment: Environment) -> None:
    hung, killed = Worker(host, "hung"), Worker(host, "killed")
    hung.change("WatchdogSec=2", "RestartSec=100ms")
    killed.change("RestartSec=100ms")
    for worker in (hung, killed):
        worker.start()
    hung.kill(signal.SIGSTOP)
    killed.kill(signal.SIGKILL)
    killed.wait_for_restart("after SIGKILL")
    hung.wait_for_restart("by the watchdog")
    assert any("Watchdog timeout" in str(each["MESSAGE"]) for each in hung.journal())
    environment.send(*(body(number) for number in range(20)))
    wait_until(lambda: environment.recorded() == _events(0, 20), "both work again")
    for worker in (hung, killed):
        assert worker.stop()["balanced"]


def test_invalid_settings_do_not_restart_the_unit(host: Host, environment: Environment) -> None:
    assert environment.variables
    worker = Worker(host, "wrong")
    worker.change("RestartSec=100ms")
    host.write("/etc/aup-worker/wrong.env", "AUP_SLOTS=none\n")
    assert host.run("systemctl", "start", worker.unit, check=False).returncode != 0
    wait_until(lambda: worker.show("ActiveState") == "failed", "it failed")
    assert (worker.show("ExecMainStatus"), worker.show("NRestarts")) == ("2", "0")
    messages = [str(each["MESSAGE"]) for each in worker.journal()]
    assert any("AUP_SLOTS=none" in each for each in messages)


def test_sandbox_denies_every_attempt(host: Host, environment: Environment) -> None:
    assert environment.variables
    worker = Worker(host, "probe")
    host.write("/opt/aup-worker/probe.py", _PROBE.read_text())
    worker.change(
        "Type=oneshot",
        "Restart=no",
        "ExecStart=",
        "ExecStart=/opt/aup-worker/current/bin/python3 /opt/aup-worker/probe.py",
    )
    worker.start()
    (found,) = worker.log()
    assert found.pop("uid") not in {0, 65534}
    assert found.pop("keys") == _KEYS
    assert [name for name, messages in found.items() if messages == "allowed"] == [], found
    assert len(found) >= 20
