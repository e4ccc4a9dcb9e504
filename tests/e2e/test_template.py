"""A stack that began with the template cannot be told from one that was started fresh."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final
from unittest.mock import patch

import pytest

from stockhelper_cli.compose.dotenv import load_dotenv
from tests.e2e.diagnosis import diagnose
from tests.e2e.steps import healthy, runs
from tests.e2e.tunnel import tunnel
from tests.support.sandbox import NEXT_POSTGRES, Sandbox, client, execute, names_of, sandbox
from tests.support.template import Template

# About the template, which no change of the product touches.
pytestmark = [pytest.mark.engine, pytest.mark.compose, pytest.mark.slow]

DATA: Final = "/var/lib/postgresql/data"


@pytest.fixture(scope="module")
def fresh(swept: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A stack that was started fresh."""
    with sandbox(tmp_path_factory.mktemp("fresh")) as made:
        made.up()
        yield made


@pytest.fixture(scope="module")
def copied(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A stack that began with the template."""
    with sandbox(tmp_path_factory.mktemp("copied")) as made:
        done = template.copy_into(made)
        first = made.up()
        # Where the tests may not reach the engine's volumes, both are fresh.
        assert ("create volume" in str(first.plan)) != done
        assert first.json["warnings"] == []
        yield made


def volume(project: Sandbox) -> dict[str, Any]:
    """Return what the engine says of the database's volume, without the time."""
    inspected: dict[str, Any] = client().api.inspect_volume(f"{project.name}_postgres_data")
    return {**inspected, "CreatedAt": ""}


def in_database(project: Sandbox, script: str) -> list[str]:
    code, output = execute(client().containers.get(f"{project.name}-db-1"), "sh", "-c", f"cd {DATA} && {script}")
    assert code == 0, output
    return output.splitlines()


def test_copied_stack_is_healthy_and_second_up_does_nothing(copied: Sandbox) -> None:
    before = runs(copied)

    assert healthy(copied)
    assert copied.run("status").code == 0
    second = copied.up()
    assert (second.plan, second.json["result"]["changed"], second.json["warnings"]) == ([], False, [])
    assert runs(copied) == before


def test_copied_stack_is_complete_to_compose(copied: Sandbox) -> None:
    said = copied.compose("--dry-run", "up", "-d").stderr

    assert f"{copied.name}-db-1  Running" in said
    assert "create" not in said.lower().replace("created", "")


def test_copied_stack_has_the_findings_of_a_fresh_one(copied: Sandbox, fresh: Sandbox) -> None:
    diagnoses = [diagnose(project) for project in (copied, fresh)]

    assert [diagnosis.named for diagnosis in diagnoses] == [set(), set()]
    found, wanted = ({id: finding["status"] for id, finding in d.findings.items()} for d in diagnoses)
    assert found == wanted


def test_copied_volume_is_what_up_creates(template: Template, project: Sandbox) -> None:
    template.copy_into(project)
    project.up("db")
    copied = volume(project)
    assert project.run("down", "--volumes", "--no-backup", "--yes").code == 0

    project.up("db")

    assert volume(project) == copied


def test_copied_files_have_the_owners_and_modes_of_fresh_ones(copied: Sandbox, fresh: Sandbox) -> None:
    """The data folder and everything at its top have the same names, kinds, owners and modes."""
    look = "stat -c '%n %F %u:%g %a' . $(ls -A) | sort"

    assert in_database(copied, look) == in_database(fresh, look)


@pytest.mark.parametrize("file", ["PG_VERSION", "pg_hba.conf", "pg_ident.conf", "postgresql.conf", "postmaster.opts"])
def test_copied_file_has_the_content_of_a_fresh_one(copied: Sandbox, fresh: Sandbox, file: str) -> None:
    assert in_database(copied, f"cat {file}") == in_database(fresh, f"cat {file}")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT datname, encoding, datcollate, datctype, datdba, datacl FROM pg_database ORDER BY 1",
        "SELECT rolname, rolsuper, rolcreatedb, rolcanlogin, rolconfig FROM pg_roles ORDER BY 1",
        "SELECT name, setting, source FROM pg_settings ORDER BY 1",
        "SELECT relname, relkind, relacl FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1",
    ],
    ids=["databases", "roles", "settings", "tables"],
)
def test_copied_database_is_that_of_a_fresh_stack(copied: Sandbox, fresh: Sandbox, sql: str) -> None:
    assert copied.psql(sql) == fresh.psql(sql)


def test_copies_share_only_the_owners_password(copied: Sandbox, template: Template, project: Sandbox) -> None:
    done = template.copy_into(project)

    own, other = (load_dotenv(made.root / ".env") for made in (copied, project))
    same = {key for key in ("POSTGRES_PASSWORD", "APP_DB_PASSWORD", "API_TOKEN") if own[key] == other[key]}
    assert same == ({"POSTGRES_PASSWORD"} if done else set())


@pytest.mark.parametrize(
    ("key", "value"),
    [("POSTGRES_DB", "other"), ("POSTGRES_USER", "other"), ("POSTGRES_IMAGE", NEXT_POSTGRES)],
)
def test_other_database_than_the_templates_starts_fresh(
    copied: Sandbox, template: Template, project: Sandbox, key: str, value: str
) -> None:
    project.set(key, value)
    before = (project.root / ".env").read_text()

    assert not template.copy_into(project)
    assert names_of(project.name) == []
    assert (project.root / ".env").read_text() == before


def test_volume_with_driver_options_starts_fresh(template: Template, project: Sandbox) -> None:
    (project.root / "own.yaml").write_text("volumes: {postgres_data: {driver_opts: {type: tmpfs, device: tmpfs}}}\n")
    project.set("COMPOSE_FILE", "compose/compose.yaml:own.yaml")

    assert not template.copy_into(project)
    assert names_of(project.name) == []


def test_without_root_or_over_tcp_a_stack_starts_fresh(template: Template, project: Sandbox) -> None:
    """Without root, or with an engine that is not on a local socket, nothing is copied."""
    with patch.object(os, "geteuid", return_value=1000):
        assert not template.copy_into(project)
    with tunnel() as remote, patch.dict(os.environ, remote.environment):
        remote.let_through()
        assert not template.copy_into(project)
    assert names_of(project.name) == []
