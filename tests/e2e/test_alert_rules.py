"""The alerts, as promtool, amtool and the stack's Prometheus read them, and as the README tells of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from docker.models.containers import Container

from tests.support import ROOT
from tests.support.ports import free_port
from tests.support.readme import rows
from tests.support.sandbox import Sandbox, client, execute, monitoring_images, run_container
from tests.support.waiting import eventually, request

MONITORING = ROOT / "compose" / "monitoring"
RULES = MONITORING / "alerts.yml"
TESTS = Path(__file__).with_name("alert_rules.yml")
LABEL = {"stockhelper.test": "1"}

pytestmark = pytest.mark.engine


def alerts() -> list[Mapping[str, Any]]:
    """Return the rules that ship."""
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    rules: list[Mapping[str, Any]] = group["rules"]
    return rules


NAMES = [rule["alert"] for rule in alerts()]


@pytest.fixture(scope="module")
def images() -> Mapping[str, str]:
    return monitoring_images()


@pytest.fixture(scope="module")
def prometheus(images: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A container with promtool, the rules where the stack has them, their tests, and what a test writes at /tests."""
    folder = tmp_path_factory.mktemp("rules")
    container: Container = client().containers.run(
        images["PROMETHEUS_IMAGE"],
        ["-c", "trap exit TERM; sleep 600 & wait"],
        entrypoint="sh",
        user="0",
        detach=True,
        labels={**LABEL, "folder": str(folder)},
        volumes={
            str(MONITORING): {"bind": "/etc/stockhelper", "mode": "ro"},
            str(TESTS): {"bind": "/alert_rules.yml", "mode": "ro"},
            str(folder): {"bind": "/tests", "mode": "ro"},
        },
    )
    yield container
    container.remove(force=True, v=True)


def run(container: Container, script: str) -> tuple[int, str]:
    return execute(container, "sh", "-c", script)


def test_prometheus_takes_its_configuration_and_the_rules(prometheus: Container) -> None:
    code, said = run(prometheus, "promtool check config /etc/stockhelper/prometheus.yml")
    assert code == 0, said
    assert f"SUCCESS: {len(NAMES)} rules found" in said


@pytest.mark.parametrize("name", ["alertmanager", "alertmanager-webhook"])
def test_alertmanager_takes_its_configurations(images: Mapping[str, str], name: str) -> None:
    said = run_container(
        images["ALERTMANAGER_IMAGE"],
        ["check-config", f"/etc/stockhelper/{name}.yml"],
        entrypoint="amtool",
        user="0",
        labels=LABEL,
        volumes={str(MONITORING): {"bind": "/etc/stockhelper", "mode": "ro"}},
    )
    assert "SUCCESS" in said
    assert "1 receivers" in said


def test_every_alert_begins_and_ends_when_it_should(prometheus: Container) -> None:
    code, said = run(prometheus, "promtool test rules /alert_rules.yml")
    assert code == 0, said


def test_every_alert_is_tested_to_begin_and_not_to() -> None:
    cases = [case for test in yaml.safe_load(TESTS.read_text())["tests"] for case in test["alert_rule_test"]]
    for begins in (True, False):
        assert {case["alertname"] for case in cases if bool(case.get("exp_alerts")) is begins} == set(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "wrong"),
    [
        (r"expr:.*?(?=\n +for:)", "expr: vector(0) > 1"),
        (r"\bfor: \w+", "for: 0s"),
        (r"\bfor: \w+", "for: 5h"),
    ],
    ids=["never", "too soon", "too late"],
)
def test_rules_that_never_fire_or_fire_too_soon_or_late_fail(prometheus: Container, pattern: str, wrong: str) -> None:
    """Rules that never fire, or fire too soon or too late, fail their tests."""
    folder = Path(prometheus.labels["folder"])
    faulty, count = re.subn(pattern, wrong, RULES.read_text(), flags=re.S)
    assert count == len(NAMES)
    (folder / "faulty.yml").write_text(faulty)
    (folder / "tests.yml").write_text(TESTS.read_text().replace("/etc/stockhelper/alerts.yml", "/tests/faulty.yml"))
    code, said = run(prometheus, "promtool test rules /tests/tests.yml")
    assert code == 1
    assert set(re.findall(r"alertname: (\w+),", said)) == set(NAMES), said


def test_profile_monitoring_comes_up_and_shows_the_rules(project: Sandbox) -> None:
    """With the profile, `up` starts Prometheus, which has the rules and an Alertmanager to send alerts to."""
    services = ("prometheus", "alertmanager")
    binds = {service: f"127.0.0.1:{free_port()}" for service in services}
    settings = {**monitoring_images(), "COMPOSE_PROFILES": "monitoring"}
    for key, value in {**settings, **{f"{service.upper()}_BIND": binds[service] for service in services}}.items():
        project.set(key, value)
    assert {f"start container {project.name}-{service}-1" for service in services} <= set(project.up("--dry-run").plan)

    project.up(*services)

    def ask(path: str) -> Any:
        """Ask Prometheus' API; None until it answers."""
        try:
            answer = request("GET", f"http://{binds['prometheus']}/api/v1/{path}")
        except httpx.TransportError:
            return None
        return answer.json()["data"] if answer.status_code == 200 else None

    (group,) = eventually(lambda: ask("rules"))["groups"]
    assert [rule["name"] for rule in group["rules"]] == NAMES
    eventually(lambda: (found := ask("alertmanagers")) and found["activeAlertmanagers"])
    assert all(project.container(service)["State"]["Running"] for service in services)


def test_the_alerts_are_those_that_the_readme_tells_of() -> None:
    told = [(row[0].strip("`"), row[1], row[3].rstrip("| ")) for row in rows("Alerts")]
    assert told == [(rule["alert"], rule["labels"]["severity"], rule["for"]) for rule in alerts()]


@pytest.mark.parametrize("rule", alerts(), ids=NAMES)
def test_an_alert_says_what_is_the_matter_and_what_to_type(rule: Mapping[str, Any]) -> None:
    assert set(rule["annotations"]) == {"summary", "description"}
    assert rule["annotations"]["summary"].endswith(".")
    assert re.search(r"Next: (stockhelper|docker) \w+", rule["annotations"]["description"])
