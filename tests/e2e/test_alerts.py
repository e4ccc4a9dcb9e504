"""The profile `monitoring` on a stack that is broken for real: the alert is raised, told, and taken back."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.diagnosis import diagnose
from tests.e2e.listening import own_address
from tests.e2e.oracle import assert_nothing_to_do
from tests.e2e.steps import healthy, runs
from tests.support.ports import free_port
from tests.support.sandbox import Sandbox, monitoring_images, names_of, sandbox
from tests.support.template import Template
from tests.support.waiting import eventually, request

pytestmark = [pytest.mark.engine, pytest.mark.compose, pytest.mark.slow]

MONITORING = ("prometheus", "alertmanager")
OFF = {"COMPOSE_PROFILES": ""}
KEPT = ("alertmanager_data", "postgres_data", "prometheus_data")


@dataclass
class Webhook:
    """What was posted: the state and the annotations of each alert, by its name, as told last."""

    told: dict[str, tuple[str, Mapping[str, str]]] = field(default_factory=dict)

    def state(self, alert: str) -> str:
        """Return what was told last of an alert: firing, or resolved, as everything is that nobody told of."""
        return self.told.get(alert, ("resolved", {}))[0]


@contextmanager
def webhook() -> Iterator[tuple[Webhook, str]]:
    """Take what Alertmanager posts for the length of a block; yield it, and where it is posted to."""
    received = Webhook()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for alert in posted["alerts"]:
                received.told[alert["labels"]["alertname"]] = alert["status"], alert["annotations"]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((own_address(), 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        # By its address: `server_name` is what this machine's resolver makes of it, which a container may not know.
        yield received, f"http://{server.server_address[0]!s}:{server.server_port}/"
        server.shutdown()


@dataclass(frozen=True)
class Watched:
    """A stack with the profile on, where its two services answer, and what they have told."""

    project: Sandbox
    prometheus: str
    alertmanager: str
    webhook: Webhook

    def ask(self, path: str) -> Any:
        """Ask Prometheus' API."""
        return request("GET", f"http://{self.prometheus}/api/v1/{path}").json()["data"]

    def firing(self) -> set[str]:
        """Return the alerts that fire, by Prometheus."""
        return {a["labels"]["alertname"] for a in self.ask("alerts")["alerts"] if a["state"] == "firing"}

    def arrived(self) -> set[str]:
        """Return the alerts that fire, by Alertmanager."""
        alerts = request("GET", f"http://{self.alertmanager}/api/v2/alerts").json()
        return {alert["labels"]["alertname"] for alert in alerts}

    def metrics(self) -> set[str]:
        """Return the names of everything that the app has told."""
        return set(self.ask('label/__name__/values?match[]={job="stockhelper"}'))


def hasten(folder: Path) -> None:
    """Have a copy of the configuration look every second, and alarm and tell at once."""
    for name, pattern, value in (
        ("prometheus.yml", r"(?<=_interval: )15s", "1s"),
        ("alerts.yml", r"(?<= for: )\w+", "1s"),
        ("alertmanager-webhook.yml", r"(?<=group_wait: )10s|(?<=group_interval: )5m", "1s"),
    ):
        text, count = re.subn(pattern, value, (folder / name).read_text())
        assert count
        (folder / name).write_text(text)


@pytest.fixture(scope="module")
def watched(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A stack with bars and a verified backup, watched by the second."""
    folder = tmp_path_factory.mktemp("watched")
    prometheus, alertmanager = (f"127.0.0.1:{free_port()}" for _ in MONITORING)
    settings = {
        **monitoring_images(),
        "COMPOSE_PROFILES": "monitoring",
        "PROMETHEUS_BIND": prometheus,
        "ALERTMANAGER_BIND": alertmanager,
        "ALERT_WEBHOOK_FILE": str(folder / "webhook"),
    }
    with webhook() as (received, address), sandbox(folder, **settings) as project:
        (folder / "webhook").write_text(f"{address}\n")
        hasten(project.root / "compose" / "monitoring")
        template.copy_into(project)
        project.up()
        assert project.run("data", "sync").code == 0
        assert project.run("backup", "create", "--verify").code == 0
        yield Watched(project, prometheus, alertmanager, received)


def test_whatever_a_rule_asks_for_the_app_tells(watched: Watched) -> None:
    rules = (watched.project.root / "compose" / "monitoring" / "alerts.yml").read_text()
    asked = set(re.findall(r"\bstockhelper_\w+", rules))
    assert len(asked) > 10
    eventually(lambda: watched.metrics() >= asked)
    # None was applied in the first second; and looking by the second, a look that is late by one raises an alert.
    eventually(lambda: {rule["health"] for rule in watched.ask("rules")["groups"][0]["rules"]} == {"ok"})
    eventually(lambda: watched.firing() == watched.arrived() == set())


def value(watched: Watched, metric: str) -> float:
    """Return what Prometheus was last told of a metric, 0 if nothing."""
    found = watched.ask(f"query?query={metric}")["result"]
    return float(found[0]["value"][1]) if found else 0.0


def test_the_metrics_tell_of_the_backup_that_was_verified(watched: Watched) -> None:
    (backup,) = watched.project.run("backup", "list", "--json").json["result"]["backups"]
    made = datetime.fromisoformat(backup["created"]).timestamp()
    eventually(lambda: value(watched, "stockhelper_backup_timestamp_seconds") == made)


def test_monitoring_services_are_reported_like_the_others(watched: Watched) -> None:
    """`status`, `doctor` and Compose treat Prometheus and Alertmanager like the other services."""
    project = watched.project
    status = project.run("status", "--json")
    assert status.code == 0
    health = {service["service"]: service["health"] for service in status.json["result"]["services"]}
    assert {health[name] for name in MONITORING} <= {"healthy", "starting"}
    assert diagnose(project).named == set()
    eventually(lambda: "Listening on" in project.run("logs", "prometheus").out)
    assert_nothing_to_do(project, "db", "app", *MONITORING)


@pytest.mark.parametrize("service", MONITORING)
def test_monitoring_services_have_least_privilege(watched: Watched, service: str) -> None:
    """Prometheus and Alertmanager have minimal rights and limits, and are reachable from this machine only."""
    container = watched.project.container(service)
    host = container["HostConfig"]
    assert container["Config"]["User"] == "65534:65534"
    assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], None, False)
    assert (host["ReadonlyRootfs"], host["PidsLimit"], host["Init"]) == (True, 200, True)
    assert host["MemorySwap"] == host["Memory"] > 0
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
    ports = [port for bindings in container["NetworkSettings"]["Ports"].values() for port in bindings or ()]
    assert [port["HostIp"] for port in ports] == ["127.0.0.1"]


def test_without_the_profile_nothing_of_the_rest_differs(watched: Watched) -> None:
    project = watched.project
    before = runs(project)
    assert project.up(environment=OFF).plan == []
    status = project.run("status", "--json", environment=OFF).json["result"]
    shown = {service["service"] for service in status["services"]}
    assert (shown, status["orphans"]) == ({"db", "migrate", "app", *MONITORING}, [])  # as long as they run
    assert_nothing_to_do(project, "db", "app", environment=OFF)
    assert runs(project) == before


@pytest.mark.parametrize(
    ("service", "alert", "others"),
    [("app", "AppDown", {"HealthFailing"}), ("db", "HealthFailing", {"AppDown"})],
)
def test_what_breaks_is_told_and_so_is_that_it_is_well_again(
    watched: Watched, service: str, alert: str, others: set[str]
) -> None:
    project = watched.project
    # As it was before the app was up for the first time, too.
    eventually(lambda: watched.webhook.state(alert) == "resolved")
    assert project.run("stop", service).code == 0
    eventually(lambda: watched.webhook.state(alert) == "firing")
    # Looking by the second, a look that is late by one takes the alert back until the next.
    eventually(lambda: alert in watched.arrived() and alert in (firing := watched.firing()) and not others & firing)
    assert watched.webhook.told[alert][1]["description"].endswith("Next: stockhelper doctor")

    assert project.run("start", service).code == 0
    eventually(lambda: watched.webhook.state(alert) == "resolved")
    eventually(lambda: watched.firing() == set())
    assert healthy(project)


def test_a_rule_that_was_changed_is_read_by_a_restart(watched: Watched) -> None:
    rules = watched.project.root / "compose" / "monitoring" / "alerts.yml"
    changed = rules.with_suffix(".new")
    changed.write_text(rules.read_text().replace("AppDown", "NobodyHome"))
    changed.replace(rules)
    assert watched.project.run("restart", "prometheus").code == 0
    (group,) = watched.ask("rules")["groups"]
    assert group["rules"][0]["name"] == "NobodyHome"


def test_down_takes_them_along_whether_the_profile_is_on_or_not(watched: Watched) -> None:
    project = watched.project
    assert project.run("down", environment=OFF).code == 0
    assert names_of(project.name) == [f"{project.name}_{name}" for name in KEPT]
    gone = project.run("--profile", "monitoring", "down", "--volumes", "--no-backup", "--yes", environment=OFF)
    assert gone.code == 0
    assert names_of(project.name) == []
