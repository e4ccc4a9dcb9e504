"""Every verb with its main options, once, by the installed program in a fresh process, and every exit code.

The other tests run commands in their own process, which is warm: all modules are imported, and what a command needs
may be there already. What only a fresh process shows is found here. A story is a list of command lines that follow
each other. It leaves the stack running, so each story can also run alone.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker.errors
import pytest

from stockhelper_cli.commands.migrate import Step as MigrateStep
from stockhelper_cli.console import SCHEMA
from stockhelper_cli.errors import ERROR_CODES, ExitCode
from stockhelper_cli.lock import exclusive
from stockhelper_cli.main import VERBS
from tests.support.command_line import global_options, options, verbs
from tests.support.refusals import explained
from tests.support.revisions import HEAD
from tests.support.sandbox import RUN_PREFIX, Result, Sandbox, client, interrupt, sandbox

pytestmark = pytest.mark.engine

#: An image without content, in the place of all images of the stack: it is saved and loaded in a moment.
TINY = f"localhost/{RUN_PREFIX}tiny:1"
TINY_IMAGES = {"POSTGRES_IMAGE": TINY, "APP_IMAGE": TINY, "PYTHON_IMAGE": TINY}
#: An image that is built from one file.
SMALL = f"localhost/{RUN_PREFIX}small:1"
#: Stand-ins of a version that no machine has; recipes without content build them.
STAND_INS = {
    "PYTHON_IMAGE": f"localhost/stockhelper-python:{RUN_PREFIX}1",
    "POSTGRES_IMAGE": f"localhost/stockhelper-postgres:{RUN_PREFIX}1",
}
NO_ENGINE = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
COPY = {"BACKUP_COPY_COMMAND": "cp {} ../away/"}
HEADER = "symbol,trade_date,open,high,low,close,volume,turnover,adjustment_factor\n"
BAR = "600519.SH,2026-11-18,10,12,9,10,100,1000.5,1\n"


@contextmanager
def locked(project: Sandbox) -> Iterator[None]:
    """Hold the lock of the project, as another run does."""
    with exclusive(client().info()["ID"], project.name):
        yield


@contextmanager
def at_unknown_revision(project: Sandbox) -> Iterator[None]:
    """Let the database be at a revision that no code has."""

    def stand_at(revision: str, lineage: str) -> None:
        project.psql(f"UPDATE alembic_version SET version_num = '{revision}'")
        project.psql(f"COMMENT ON TABLE alembic_version IS '{lineage}'")

    before = project.psql("SELECT obj_description('alembic_version'::regclass, 'pg_class')")
    stand_at("beef", "")
    try:
        yield
    finally:
        stand_at(HEAD, before)


@contextmanager
def readable_by_others(project: Sandbox) -> Iterator[None]:
    """Let everybody read .env."""
    (project.root / ".env").chmod(0o644)
    yield
    assert (project.root / ".env").stat().st_mode & 0o777 == 0o600


@contextmanager
def sources_restored(project: Sandbox) -> Iterator[None]:
    """Remove the migrations that were added in the block."""
    versions = project.root / "migrations" / "versions"
    before = set(versions.iterdir())
    yield
    added = set(versions.iterdir()) - before
    assert len(added) == 1
    for path in added:
        path.unlink()


@dataclass(frozen=True, slots=True)
class Step:
    """A command line and what it must give."""

    #: The words after `stockhelper`. In all texts {name} stands for the project, {head} for the newest revision, and
    #: {bin} for a PATH that has a crontab.
    line: str
    #: Part of what it prints on stdout.
    said: str = ""
    code: int = ExitCode.DONE
    #: Part of the error message; with `--json` the code of the error.
    error: str = ""
    #: What `--json` calls the command, if not by the verb.
    command: str = ""
    stdin: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    #: What holds while it runs.
    during: Callable[[Sandbox], AbstractContextManager[object]] = nullcontext
    #: Sent when its first line was read.
    interrupted_by: signal.Signals | None = None

    @property
    def words(self) -> list[str]:
        return shlex.split(self.line)

    @property
    def _position(self) -> int:
        """Return the position of the verb among the words, their number if there is none."""
        return next((index for index, word in enumerate(self.words) if word in VERBS), len(self.words))

    @property
    def verb(self) -> str:
        """Return the verb, that of a group with the name of the group, "" if there is none."""
        first, second = [*self.words[self._position :], "", ""][:2]
        return f"{first} {second}" if f"{first} {second}" in COMMANDS else first

    @property
    def before_the_verb(self) -> set[str]:
        return set(self.words[: self._position])

    @property
    def after_the_verb(self) -> set[str]:
        return set(self.words[self._position + 1 :])


#: Each verb of the command line, also the hidden ones, and its command.
COMMANDS = dict(verbs(hidden=True))

#: The last story removes the stack; if another one follows, the stack is brought up again for it.
STORIES: Mapping[str, Sequence[Step]] = {
    "help": (
        Step("", "Usage: stockhelper [OPTIONS] COMMAND"),
        Step("--version", "stockhelper "),
        Step("version --json", '"engine": "'),
        Step("completion bash", "_STOCKHELPER_COMPLETE"),
        Step("upp", code=ExitCode.USAGE, error="upp"),
    ),
    "machine": (
        Step("-C ../bare init --json", '"created": true'),
        Step("-C ../bare setup --yes --json", '"how": "found"'),
        Step("-C ../recipes images build-base --json", STAND_INS["PYTHON_IMAGE"], environment=STAND_INS),
    ),
    "config": (
        Step("--env-file .env --profile monitoring config --show-secrets", "  prometheus:\n"),
        Step("config --plan --json", '"dry_run": true', command="up"),
        Step("config --json", code=ExitCode.CONFIGURATION, error="config.value", environment={"APP_PORT": "none"}),
    ),
    "status": (
        Step("-v ps --json", '"service": "app"', command="status"),
        Step("-p {name}-other --no-color status", "missing", code=ExitCode.FAILED),
        Step("status --json", code=ExitCode.ENVIRONMENT, error="engine.unreachable", environment=NO_ENGINE),
    ),
    "up": (
        Step("up --dev --build --dry-run --json", '"action": "build"'),
        Step("-f compose/compose.yaml -f ../brief.yaml up brief", code=ExitCode.UNHEALTHY, error="brief exited before"),
        Step(
            "up -d --no-build --no-migrate --no-backup --remove-orphans --timeout 280 --json",
            '"resource": "{name}-brief-1"',
        ),
    ),
    "logs": (
        Step("logs --tail 1 --since 1h --json app", '"service": "app"'),
        Step("logs -f --tail 1 app", "app-1", code=ExitCode.INTERRUPTED, interrupted_by=signal.SIGINT),
        Step("logs -f --tail 1 --json app", '"ok": true', code=ExitCode.TERMINATED, interrupted_by=signal.SIGTERM),
    ),
    "exec": (
        Step(
            "exec -T -u root -e A=b -w /tmp app -- sh -c 'cat; echo $A $PWD $(id -u); exit 17'",
            "from here\nb /tmp 0\n",
            code=17,
            stdin="from here\n",
        ),
        Step("shell -T -u root db", "0\n", code=18, stdin="id -u; exit 18\n"),
        Step("psql -XAtc 'SELECT 6 * 7'", "42\n"),
    ),
    "doctor": (
        Step("doctor --list", "engine.reachable"),
        Step(
            "doctor --fix config.env_private --only config.env_private --skip network --yes --json",
            '"fixed": ["config.env_private"]',
            during=readable_by_others,
        ),
        Step("doctor --report ../report.tar.gz --json", '"report": {'),
        Step("doctor --only engine.reachable", "there is no such socket", ExitCode.ENVIRONMENT, environment=NO_ENGINE),
    ),
    "migrate": (
        Step("migrate upgrade base:head --sql", "CREATE TABLE stocks"),
        Step("migrate current", "{head} (head)"),
        Step("migrate history --json", "{head}"),
        Step("migrate check -q"),
        Step("migrate new -m nothing --json", '"changes": false', command="migrate new", during=sources_restored),
        Step("migrate downgrade {head} --no-backup --yes", "Nothing to do"),
        Step("migrate", code=ExitCode.MIGRATION, error="at revision beef", during=at_unknown_revision),
    ),
    "data": (
        Step("data import ../bars.csv", "bars.csv: 1 bar of 1 day"),
        Step("data import - --json", '"bad_rows": 1', code=ExitCode.FAILED, stdin=HEADER + BAR.replace("10", "x", 1)),
        Step("data sync --from 2026-11-19 --to 2026-11-20", "Synced: 2 days"),
    ),
    "backup": (
        Step("backup create --verify --prune --wait 100 --json", '"verified": "'),
        Step("backup list", "verified"),
        Step("backup verify", "are what they were"),
        Step("backup verify --all --identity absent", code=ExitCode.BACKUP, error="absent cannot be read"),
        Step("backup copy --json", '"copied": ["', environment=COPY),
        Step("backup prune --keep-daily 0 --keep-weekly 0 --dry-run --json", '"dry_run": true'),
        Step("stop app --json", '"changed": true'),
        Step("restore --latest --no-backup --timeout 280 --yes --json", '"former": "'),
        Step("restore --undo --yes", "Restored: "),
        Step("restore absent.dump -i absent --yes --json", code=ExitCode.BACKUP, error="backup.missing"),
        Step("start app --timeout 280", "started"),
        Step("restart app --timeout 280 --json", '"gap_seconds": '),
        Step("stop --json", code=ExitCode.LOCKED, error="locked", during=locked),
    ),
    "schedule": (
        Step("backup schedule --show", "No backups are scheduled", environment={"PATH": "{bin}"}),
        Step("backup schedule --remove --yes --json", '"changed": false', environment={"PATH": "{bin}"}),
        Step(
            "backup schedule --at 04:05 --hourly",
            code=ExitCode.CONFIRMATION,
            error="will be written for",
            environment={"PATH": "{bin}"},
        ),
    ),
    "images": (
        Step("images list --json", f'"reference": "{TINY}"', environment=TINY_IMAGES),
        Step("images pull", "Nothing to do", environment=TINY_IMAGES),
        Step("-C compose images save ../../images.tar --json", TINY, environment=TINY_IMAGES),
        Step("images load ../images.tar", TINY),
        Step("-f ../small/compose.yaml build --no-cache --pull small", f"{SMALL} is built"),
    ),
    "db": (
        Step("db set-password --generate --stdin", code=ExitCode.USAGE, error="exclude each other"),
        Step("db set-password --stdin --timeout 280", "has the password; it is in .env", stdin="another one\n"),
        Step("db upgrade --from {name} --timeout 280 --json", '"changed": false'),
    ),
    "down": (
        Step("down --volumes", code=ExitCode.CONFIRMATION, error="will be removed"),
        Step("down --remove-orphans", "The data stays in the volume"),
        Step("down --volumes --no-backup --yes --json", '"kept_volumes": []'),
    ),
}
STEPS = [step for steps in STORIES.values() for step in steps]


def write_inputs(folder: Path) -> None:
    """Write what the steps name beside the folder of the project."""
    (folder / "away").mkdir()
    (folder / "bars.csv").write_text(HEADER + BAR)
    brief = "{image: '${PYTHON_IMAGE}', command: [sh, -c, exit 3], networks: [stock_helper_net]}"
    (folder / "brief.yaml").write_text(f"services: {{brief: {brief}}}\n")
    small = folder / "small"
    small.mkdir()
    (small / "compose.yaml").write_text(f"services: {{small: {{image: '{SMALL}', build: .}}}}\n")
    (small / "Dockerfile").write_text("FROM scratch\nCOPY compose.yaml /\n")
    script(folder / "bin" / "crontab", "exit 1")  # the table of a user who has none
    for family in ("python", "postgres"):
        recipe = folder / "recipes" / "docker" / "base" / family
        script(recipe / "recipe.sh", 'exec tar --create --directory "${0%/*}" Dockerfile')
        (recipe / "Dockerfile").write_text("ARG ROOTFS\nFROM ${ROOTFS}\nLABEL stockhelper.test=1\n")


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def add_bare_projects(project: Sandbox) -> None:
    """Add folders with what `init` and `setup` need, and nothing else."""
    for name in ("bare", "recipes", "advised"):
        folder = project.root.parent / name
        (folder / "compose").mkdir(parents=True)
        shutil.copy(project.root / "compose" / "compose.yaml", folder / "compose")
        shutil.copy(project.root / ".env.example", folder)
        if name == "bare":
            shutil.copytree(project.root / "docker" / "base", folder / "docker" / "base")


@pytest.fixture(scope="module")
def brought_up(swept: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A stack that the installed program has brought up from nothing."""
    folder = tmp_path_factory.mktemp("installed")
    write_inputs(folder)
    client().api.import_image_from_data(bytes(10240), *TINY.rsplit(":", 1))
    try:
        with sandbox(folder) as made:
            add_bare_projects(made)
            first = made.run("up", fresh=True)
            assert (first.code, "The stock assistant answers: " in first.out) == (0, True), first.err
            yield made
    finally:
        for name in (TINY, SMALL, *STAND_INS.values()):
            with suppress(docker.errors.ImageNotFound):
                client().images.remove(name, force=True)


@pytest.fixture
def project(brought_up: Sandbox) -> Sandbox:
    """The same; it runs again if the story before has removed it, or has failed."""
    if brought_up.run("status").code:
        brought_up.up("--remove-orphans")
    return brought_up


def given(step: Step, filled: Callable[[str], str], project: Sandbox) -> Result:
    """Run a step by the installed program, and return what it gave."""
    words = [filled(word) for word in step.words]
    environment = {key: filled(value) for key, value in step.environment.items()}
    with step.during(project):
        if step.interrupted_by is None:
            return project.run(*words, stdin=step.stdin, environment=environment, fresh=True)
        process = project.start(*words, environment=environment)
        assert process.stdout
        first = process.stdout.readline()
        ended = interrupt(process, step.interrupted_by)
        return Result(ended.code, first, ended.err)


def check_envelope(step: Step, answer: dict[str, Any]) -> None:
    """Check the one object that `--json` prints."""
    assert list(answer) == ["schema", "command", "ok", "result", "warnings", "error"]
    assert (answer["schema"], answer["warnings"]) == (SCHEMA, [])
    assert answer["command"] == (step.command or step.verb)
    assert answer["ok"] == (step.code == ExitCode.DONE or step.interrupted_by is not None)
    if step.error:
        assert (answer["result"], answer["error"]["code"]) == (None, step.error)
        assert ERROR_CODES[step.error] == step.code
    else:
        assert (isinstance(answer["result"], dict), answer["error"]) == (True, None)


@pytest.mark.long("what only a fresh process shows: every verb once, by the installed program")
@pytest.mark.parametrize("story", STORIES)
def test_installed_program_runs_every_step(project: Sandbox, story: str) -> None:
    path = f"{project.root.parent / 'bin'}:{os.environ['PATH']}"

    def filled(text: str) -> str:
        return text.replace("{name}", project.name).replace("{head}", HEAD).replace("{bin}", path)

    for step in STORIES[story]:
        result = given(step, filled, project)
        told = f"stockhelper {step.line}\n{result.out}{result.err}"
        assert (result.code, filled(step.said) in result.out) == (step.code, True), told
        assert "Traceback" not in result.err, told
        if "--json" in step.words:
            assert result.err == "", told
            check_envelope(step, result.json)
        elif step.error:
            explained(result, step.code, step.error)
        else:
            assert not re.search("^error: ", result.err, re.MULTILINE), told


def test_printed_next_command_can_be_typed_as_it_stands(brought_up: Sandbox) -> None:
    """The shell does not find `stockhelper` by its name here, so the printed command has the path of the program."""
    folder = brought_up.root.parent / "advised"
    environment = {"PATH": "/usr/bin:/bin"}
    result = brought_up.run("config", cwd=folder, environment=environment, fresh=True)
    explained(result, ExitCode.CONFIGURATION, ".env is not there")
    (command,) = re.findall("^  next: (.*)$", result.err, re.MULTILINE)
    assert brought_up.launch(["sh", "-c", command], environment, cwd=folder).code == 0
    assert (folder / ".env").exists()


# --- the table is complete
def test_every_verb_of_the_command_line_is_in_a_step() -> None:
    assert {step.verb for step in STEPS if step.verb} == set(COMMANDS)
    assert {verb.split()[0] for verb in COMMANDS} == set(VERBS)


def test_every_option_of_the_command_line_is_in_a_step() -> None:
    missing = []
    anywhere = {word for step in STEPS for word in (*step.before_the_verb, *step.after_the_verb)}
    before = {word for step in STEPS for word in step.before_the_verb}
    anywhere_too = ("json", "quiet", "yes")
    for name, forms in global_options().items():
        if forms.isdisjoint(anywhere if name in anywhere_too else before):
            missing.append(name)
    for verb, command in COMMANDS.items():
        typed = {word for step in STEPS if step.verb == verb for word in step.after_the_verb}
        own = {name: forms for name, forms in options(command).items() if name not in anywhere_too}
        missing += [f"{verb}: {name}" for name, forms in own.items() if forms.isdisjoint(typed)]
    assert missing == []


def test_every_step_of_migrate_is_in_a_step() -> None:
    typed = {word for step in STEPS if step.verb == "migrate" for word in step.after_the_verb}
    assert {step.value for step in MigrateStep} <= typed


def test_every_exit_code_is_in_a_step() -> None:
    assert {int(code) for code in ExitCode} <= {int(step.code) for step in STEPS}
