"""What each verb says, to a person and to a program, and the code it exits with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from stockhelper_cli.engine.protocol import ExecResult
from stockhelper_cli.errors import ERROR_CODES, EngineError, StockhelperError
from tests.cli.conftest import World
from tests.support.snapshots import Snapshot

VERBS = (
    "init", "setup", "up", "down", "restart", "stop", "start", "status", "doctor", "logs", "exec", "shell", "psql",
    "migrate", "db", "db upgrade", "data", "data import", "data sync", "build", "images", "config", "completion",
    "version",
)  # fmt: skip


def ordered(text: str) -> str:
    """Sort progress lines: what happens side by side ends in any order."""
    return "\n".join(sorted(text.splitlines()))


def only_object(text: str) -> Any:
    (line,) = text.splitlines()
    return json.loads(line)


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help(world: World, snapshot: Snapshot, verb: str) -> None:
    answer = world.run(*verb.split(), "--help")
    assert (answer.code, answer.err) == (0, "")
    snapshot(answer.out)


def test_up_builds_starts_and_reports_the_address(world: World, snapshot: Snapshot) -> None:
    """The first `up` builds the image, starts every service and prints the address of the app."""
    answer = world.run("up")
    assert answer.code == 0
    snapshot(f"{answer.out}--- stderr\n{ordered(answer.err)}")


def test_up_again_reports_nothing_to_do(world: World, snapshot: Snapshot) -> None:
    """A second `up` says that there is nothing to do and does not change the engine."""
    world.run("up")
    calls = list(world.engine.calls)
    answer = world.run("up")
    assert (answer.code, world.engine.calls) == (0, calls)
    snapshot(answer.out)


def test_up_dry_run_prints_the_plan_with_causes_and_does_nothing(world: World, snapshot: Snapshot) -> None:
    answer = world.run("up", "--dry-run")
    assert (answer.code, answer.err, world.engine.calls) == (0, "", [])
    snapshot(answer.out)


@pytest.mark.parametrize(
    "said",
    [
        "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed'))",
        "Err: Certificate verification failed: The certificate is NOT trusted.",
    ],
    ids=["pip", "apt"],
)
def test_build_behind_untrusted_proxy_suggests_setup(world: World, said: str) -> None:
    """A build that rejects the certificate of a proxy fails, and the message suggests `setup`."""
    world.engine.build_failure = [said, "returned a non-zero code: 1"]
    answer = world.run("up")
    assert answer.code == 1
    assert "  why:  the build does not trust a certificate" in answer.err
    assert "  next: stockhelper setup" in answer.err
    assert "BUILD_CA_FILE" in answer.err


def test_config_plan_is_the_dry_run(world: World) -> None:
    assert world.run("config", "--plan").out == world.run("up", "--dry-run").out


def test_status_before_up_says_missing_and_exits_1(world: World, snapshot: Snapshot) -> None:
    answer = world.run("status")
    assert answer.code == 1
    snapshot(answer.out)


def test_status_of_a_running_stack_exits_0(world: World, snapshot: Snapshot) -> None:
    world.run("up")
    answer = world.run("status")
    assert (answer.code, answer.err) == (0, "")
    snapshot(answer.out)


def test_ps_is_status(world: World) -> None:
    world.run("up")
    assert world.run("ps").out == world.run("status").out


def test_down_removes_containers_and_network_and_keeps_the_data(world: World, snapshot: Snapshot) -> None:
    world.run("up")
    answer = world.run("down")
    assert answer.code == 0
    assert [volume.name for volume in world.engine.volumes([])] == ["stockhelper_postgres_data"]
    snapshot(f"{answer.out}--- stderr\n{ordered(answer.err)}")


def test_down_with_volumes_wants_a_backup_or_a_word(world: World, snapshot: Snapshot) -> None:
    world.run("up")
    without_word = world.run("down", "--volumes")
    without_terminal = world.run("down", "--volumes", "--no-backup")
    assert (without_word.code, without_terminal.code) == (9, 9)
    assert world.engine.volumes([])
    snapshot(without_word.err + without_terminal.err)
    assert world.run("down", "--volumes", "--no-backup", "--yes").code == 0
    assert not world.engine.volumes([])


@pytest.mark.parametrize("arguments", [["--json", "up"], ["up", "--json"]], ids=["before", "after"])
def test_json_is_one_object_wherever_it_is_asked_for(world: World, arguments: list[str]) -> None:
    answer = world.run(*arguments)
    said = only_object(answer.out)
    assert (answer.code, answer.err) == (0, "")
    assert {key: said[key] for key in ("schema", "command", "ok", "warnings", "error")} == {
        "schema": 1, "command": "up", "ok": True, "warnings": [], "error": None,
    }  # fmt: skip
    assert said["result"]["changed"] is True
    assert {"action": "build", "kind": "image"}.items() <= said["result"]["plan"][0].items()


@pytest.mark.parametrize(
    "arguments",
    ["nonsense", "up --bogus", "up --timeout nan", "up nobody", "logs --tail x", "logs --since yesterday",
     "migrate current 0001", "images", "exec app"],
)  # fmt: skip
def test_a_wrong_call_exits_2_with_one_object(world: World, arguments: str) -> None:
    answer = world.run("--json", *arguments.split())
    assert answer.code == 2
    said = only_object(answer.out)
    assert (said["ok"], said["error"]["code"], said["result"]) == (False, "usage", None)


def test_an_app_that_exits_is_told_with_its_last_lines(world: World, snapshot: Snapshot) -> None:
    world.engine.scripts = lambda name: 0 if "migrate" in name else 3 if "app" in name else None
    world.engine.log["stockhelper-app-1"] = ["Traceback", "ImportError: no module named bars"]
    answer = world.run("up", "-q")
    assert (answer.code, answer.out) == (5, "")
    snapshot(answer.err)


def test_a_failed_migration_exits_6(world: World, snapshot: Snapshot) -> None:
    world.engine.scripts = lambda name: 1 if "migrate" in name else None
    world.engine.log["stockhelper-migrate-1"] = ['FAILED: relation "stocks" already exists']
    answer = world.run("up", "-q")
    assert answer.code == 6
    snapshot(answer.err)


def test_a_changed_password_is_named_as_drift(world: World, snapshot: Snapshot) -> None:
    refusal = b'psql: error: FATAL:  password authentication failed for user "stockhelper"'
    world.engine.answer = lambda name, command: ExecResult(2, b"", refusal)
    answer = world.run("up", "-q")
    assert answer.code == 3
    snapshot(answer.err)


@pytest.mark.parametrize("code", sorted(ERROR_CODES))
def test_every_error_exits_with_the_code_of_the_table(world: World, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    def fail(labels: Sequence[str]) -> None:
        raise StockhelperError(code, "what failed", cause="why", next=["what to type"], details=["a line"])

    monkeypatch.setattr(world.engine, "containers", fail)
    answer = world.run("status")
    assert answer.code == ERROR_CODES[code]
    assert answer.err == "error: what failed\n  | a line\n  why:  why\n  next: what to type\n"


def test_a_bug_is_told_in_one_line_and_traced_on_demand(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(labels: Sequence[str]) -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr(world.engine, "containers", fail)
    quiet, loud = world.run("status"), world.run("--verbose", "status")
    assert (quiet.code, loud.code) == (1, 1)
    assert "Traceback" not in quiet.err
    assert "RuntimeError: surprise" in loud.err


def test_no_secret_is_shown_unless_asked_for(world: World) -> None:
    said = [world.run(*call).out for call in (["config"], ["config", "--json"], ["up", "--json"], ["status", "--json"])]
    assert not any("canary-secret" in text for text in said)
    assert "canary-secret" in world.run("config", "--show-secrets").out


def test_a_lost_engine_exits_4(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise EngineError("engine.lost", "could not start the container x", cause="connection reset")

    monkeypatch.setattr(world.engine, "start", fail)
    answer = world.run("up", "-q")
    assert answer.code == 4
    assert answer.err.splitlines()[0] == "error: could not start the container x"


def test_orphans_are_named_and_removed_on_demand(world: World) -> None:
    world.run("up")
    override = world.root / "more.yaml"
    override.write_text("services: {extra: {image: 'postgres:15-alpine'}}\n")
    both = ["-f", "compose/compose.yaml", "-f", "more.yaml"]
    assert world.run(*[str(world.root / a) if a.endswith("yaml") else a for a in both], "up").code == 0
    named = world.run("up")
    assert "stockhelper-extra-1 belongs to no service of the project" in named.err
    assert world.run("up", "--remove-orphans").code == 0
    assert all(container.name != "stockhelper-extra-1" for container in world.engine.containers([]))
