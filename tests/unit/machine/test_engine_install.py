"""An engine is found, started or installed: with scripts in the place of apt, the init script and dockerd."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from stockhelper_cli.doctor.checks.engine_reachable import EngineReachable
from stockhelper_cli.doctor.context import Context
from stockhelper_cli.engine import endpoints
from stockhelper_cli.errors import EngineError, StockhelperError
from stockhelper_cli.events import Event, Phase, Warned
from stockhelper_cli.findings import Status
from stockhelper_cli.machine import apt, engine_install
from stockhelper_cli.machine.engine_install import How, ensure_engine, start_plan
from tests.support.waiting import PATIENCE

#: An engine: answers at the socket that it is given, and writes its own number beside it.
ENGINE = """
import os, socket, sys
path = sys.argv[1]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
with open(path + ".pid", "w") as file:
    file.write(str(os.getpid()))
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    connection.recv(65536)
    connection.sendall(b"HTTP/1.0 200 OK\\r\\nApi-Version: 1.41\\r\\nServer: Docker/20.10.24 (linux)\\r\\n\\r\\nOK")
    connection.close()
"""


class Machine:
    """A machine whose commands are scripts in `bin`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.socket = folder / "docker.sock"
        self.init_script = folder / "init.d-docker"
        self.log = folder / "dockerd.log"
        self.events: list[Event | Warned] = []
        (folder / "engine.py").write_text(ENGINE)

    @property
    def start_engine(self) -> str:
        return f"{sys.executable} {self.folder}/engine.py {self.socket}"

    def script(self, path: Path, text: str) -> None:
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def command(self, name: str, text: str) -> None:
        self.script(self.bin / name, text)

    def ensure(self, **environ: str) -> engine_install.EngineStep:
        base = {"HOME": str(self.folder), "XDG_RUNTIME_DIR": str(self.folder)}
        return ensure_engine({**base, **environ}, self.events.append)

    def engine_process(self) -> int:
        return int((self.folder / "docker.sock.pid").read_text())


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="sh-") as name:
        machine = Machine(Path(name))
        monkeypatch.setattr(endpoints, "DEFAULT_SOCKET", str(machine.socket))
        monkeypatch.setattr(engine_install, "DEFAULT_SOCKET", str(machine.socket))
        monkeypatch.setattr(engine_install, "LOG", machine.log)
        monkeypatch.setattr(engine_install, "_INIT_SCRIPT", machine.init_script)
        monkeypatch.setattr(engine_install, "_INIT_LOG", machine.folder / "init.log")
        monkeypatch.setattr(engine_install, "_SYSTEMD", machine.folder / "systemd")
        monkeypatch.setattr(engine_install, "_SBIN", str(machine.folder / "sbin"))
        monkeypatch.setattr(engine_install, "START_SECONDS", PATIENCE)
        monkeypatch.setattr(apt, "_SYSTEMD", machine.folder / "systemd")
        monkeypatch.setattr(apt, "_POLICY", machine.folder / "policy-rc.d")
        # The shell's own commands stay; apt, dockerd and systemctl of this machine do not.
        for command in ("sh", "cat", "rm", "cp", "chmod", "ls", "stat"):
            (machine.bin / command).symlink_to(f"/bin/{command}")
        monkeypatch.setenv("PATH", str(machine.bin))
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        yield machine
        if (machine.folder / "docker.sock.pid").exists():
            os.kill(machine.engine_process(), signal.SIGKILL)


def test_an_engine_that_answers_is_found(machine: Machine) -> None:
    machine.command("dockerd", f"exec {machine.start_engine}")
    machine.ensure()
    step = machine.ensure()
    assert (step.how, step.started_by) == (How.FOUND, "")


def test_an_installed_engine_is_started_and_outlives_us(machine: Machine) -> None:
    machine.command("dockerd", f"exec {machine.start_engine}")
    step = machine.ensure()
    assert (step.how, step.started_by, step.endpoint.source) == (How.STARTED, "dockerd", "default socket")
    assert os.getsid(machine.engine_process()) == machine.engine_process()
    assert machine.log.read_text() == "listening\n"


def test_what_would_be_done_is_told_before_it_is(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = {"HOME": str(machine.folder), "XDG_RUNTIME_DIR": str(machine.folder)}
    assert start_plan(nowhere) == "", "nothing to install with"
    machine.command("apt-get", "exit 1")
    assert start_plan(nowhere) == "install docker.io, iptables, ca-certificates with apt and start the Docker engine"
    machine.command("dockerd", "exit 1")
    assert start_plan(nowhere) == "start the Docker engine"
    assert start_plan({**nowhere, "DOCKER_HOST": "tcp://127.0.0.1:1"}) == "", "the user's choice is never replaced"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert start_plan(nowhere) == ""


def test_the_doctors_fix_starts_it_as_setup_does(machine: Machine) -> None:
    machine.command("dockerd", f"exec {machine.start_engine}")
    environ = {"HOME": str(machine.folder), "XDG_RUNTIME_DIR": str(machine.folder)}

    def nothing(**_: object) -> NoReturn:
        raise AssertionError("the project has no part in it")

    def context() -> Context:
        return Context(environ, nothing, nothing)

    check = EngineReachable()
    finding = check.examine(context())
    assert (finding.status, finding.fix) == (Status.FAILED, "start the Docker engine")
    check.mend(context(), machine.events.append)
    assert context().endpoint.source == "default socket"


def test_the_init_script_goes_first(machine: Machine) -> None:
    machine.command("dockerd", "exit 1")
    machine.script(machine.init_script, f'[ "$1" != start ] || {machine.start_engine} >/dev/null 2>&1 &')
    assert machine.ensure().started_by == "the init script"


def test_an_init_script_that_fails_is_no_reason_to_give_up(machine: Machine) -> None:
    machine.command("dockerd", f"exec {machine.start_engine}")
    machine.script(machine.init_script, "echo 'ulimit: not permitted' >&2; exit 1")
    assert machine.ensure().started_by == "dockerd"


def test_init_script_whose_engine_dies_leads_to_dockerd(machine: Machine) -> None:
    """If the init script succeeds but its engine does not run, `dockerd` is started instead."""
    machine.command("dockerd", f"exec {machine.start_engine}")
    machine.script(machine.init_script, '[ "$1" = start ] || exit 3')
    assert machine.ensure().started_by == "dockerd"


def test_systemd_is_asked_where_it_runs_and_nothing_else(machine: Machine) -> None:
    (machine.folder / "systemd").mkdir()
    machine.command("dockerd", f"exec {machine.start_engine}")
    machine.command("systemctl", "echo 'Job for docker.service failed' >&2; exit 1")
    machine.command("journalctl", "echo 'no space left'")
    with pytest.raises(EngineError) as raised:
        machine.ensure()
    assert raised.value.details == ("by systemd:", "  Job for docker.service failed", "  no space left")
    machine.command("systemctl", f"{machine.start_engine} >/dev/null 2>&1 &")
    assert machine.ensure().started_by == "systemd"


def test_an_engine_that_does_not_start_shows_why(machine: Machine) -> None:
    machine.command("dockerd", "echo starting; echo 'failed: no cgroups' >&2; exit 1")
    with pytest.raises(EngineError) as raised:
        machine.ensure()
    assert (raised.value.code, raised.value.cause) == ("engine.install", "failed: no cgroups")
    assert raised.value.details[-3:] == ("by dockerd:", "  starting", "  failed: no cgroups")


def test_missing_engine_is_installed_without_autostart(machine: Machine) -> None:
    """A missing engine is installed, and its package does not start it during the installation."""
    machine.script(machine.folder / "dockerd", f"exec {machine.start_engine}")
    machine.command(
        "apt-get",
        f'echo "$DEBIAN_FRONTEND $@ $(cat {machine.folder}/policy-rc.d)" >>{machine.folder}/apt.log\n'
        f"cp {machine.folder}/dockerd {machine.bin}/dockerd",
    )
    step = machine.ensure()
    assert step.how is How.INSTALLED
    log = (machine.folder / "apt.log").read_text()
    assert log.startswith("noninteractive ")
    assert "install -y --no-install-recommends docker.io iptables ca-certificates" in log
    assert "exit 101" in log
    assert not (machine.folder / "policy-rc.d").exists()


def test_a_fresh_machines_package_lists_are_fetched(machine: Machine) -> None:
    machine.script(machine.folder / "dockerd", f"exec {machine.start_engine}")
    updated = machine.folder / "updated"
    machine.command(
        "apt-get",
        f'case "$*" in\n*update*) echo >{updated} ;;\n'
        f'*) [ -e {updated} ] || {{ echo "E: Unable to locate package"; exit 100; }}\n'
        f"cp {machine.folder}/dockerd {machine.bin}/dockerd ;;\nesac",
    )
    assert machine.ensure().how is How.INSTALLED


def test_packages_that_cannot_be_had_are_told_with_apts_words(machine: Machine) -> None:
    machine.command("apt-get", 'echo "E: Failed to fetch docker.io"; exit 100')
    with pytest.raises(StockhelperError) as raised:
        machine.ensure()
    assert (raised.value.code, raised.value.cause) == ("engine.install", "E: Failed to fetch docker.io")
    assert isinstance(machine.events[-1], Event)
    assert machine.events[-1].phase is Phase.FAILED


def test_somebodys_own_service_policy_stays(machine: Machine) -> None:
    (machine.folder / "policy-rc.d").write_text("theirs")
    machine.command("apt-get", "")
    apt.install(["x"], machine.events.append, code="engine.install")
    assert (machine.folder / "policy-rc.d").read_text() == "theirs"


def test_nothing_is_installed_without_consent(machine: Machine) -> None:
    machine.command("apt-get", f"echo >{machine.folder}/called")

    def refuse(question: str) -> None:
        raise StockhelperError("confirmation", question)

    environ = {"HOME": str(machine.folder), "XDG_RUNTIME_DIR": str(machine.folder)}
    with pytest.raises(StockhelperError, match=r"docker\.io"):
        ensure_engine(environ, machine.events.append, confirm=refuse)
    assert not (machine.folder / "called").exists()


def test_who_is_not_root_is_told_what_to_type(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    machine.command("apt-get", "exit 1")
    with pytest.raises(EngineError) as raised:
        machine.ensure()
    assert (raised.value.code, raised.value.exit_code) == ("engine.install", 4)
    assert raised.value.next[0] == "sudo apt-get install -y docker.io iptables ca-certificates"
    machine.command("dockerd", "exit 1")
    with pytest.raises(EngineError) as raised:
        machine.ensure()
    assert (raised.value.code, raised.value.next[0]) == ("engine.unreachable", "sudo service docker start")


@pytest.mark.parametrize(
    ("tool", "advice"), [("dnf", "dnf install"), ("pacman", "pacman -S"), ("none", "Docker Engine")]
)
def test_other_distributions_get_their_own_command(machine: Machine, tool: str, advice: str) -> None:
    machine.command(tool, "")
    with pytest.raises(EngineError) as raised:
        machine.ensure()
    assert advice in raised.value.next[0]


def test_an_engine_that_the_user_chose_is_never_replaced(machine: Machine) -> None:
    machine.command("dockerd", f"exec {machine.start_engine}")
    with pytest.raises(EngineError, match="DOCKER_HOST"):
        machine.ensure(DOCKER_HOST=f"unix://{machine.folder}/other.sock")
    assert not machine.socket.exists()


def test_an_engine_that_hangs_is_not_joined_by_a_second(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.command("dockerd", f"exec {machine.start_engine}")
    monkeypatch.setattr(endpoints.find, "__defaults__", (0.1,))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(machine.socket))
        listener.listen()
        with pytest.raises(EngineError) as raised:
            machine.ensure()
    assert raised.value.code == "engine.timeout"
    assert not machine.log.exists()
