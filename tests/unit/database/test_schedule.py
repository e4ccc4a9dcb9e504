"""What is written for systemd and for cron, where it goes, and that it goes away again without a trace."""

from __future__ import annotations

import os
import shlex
import sys
from datetime import time
from pathlib import Path

import pytest

from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.schedule import CronFolder, Crontab, Job, Place, Systemd, place_here, variables_of

STOCKHELPER = Path(sys.executable).with_name("stockhelper")
JOB = Job("demo", Path("/srv/demo"), time(3, 17))
ODD = Job("demo", Path("/srv/a b%c"), time(23, 5), hourly=True, variables=(("PATH", "/opt/$x:/bin"),))
THEIRS = "MAILTO=somebody\n5 4 * * * their own job\n"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that is all there is on the PATH but the shell's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def table(programs: Path, tmp_path: Path) -> Path:
    """The table of a `crontab` that keeps it in a file, and says so on stderr while there is none."""
    path = tmp_path / "table"
    program(programs, "crontab", f"case $1 in -l) cat {path} || exit 1;; -) cat > {path};; esac")
    return path


@pytest.fixture
def calls(programs: Path, tmp_path: Path) -> Path:
    """What `systemctl` was told."""
    path = tmp_path / "calls"
    program(programs, "systemctl", f'echo "$@" >> {path}')
    return path


def test_the_units_of_systemd() -> None:
    service, timer = Systemd(Path("/etc/systemd/system"), user=False).texts(JOB).items()
    assert service[0] == Path("/etc/systemd/system/stockhelper-backup-demo.service")
    assert service[1].splitlines()[-1] == (
        f"ExecStart={STOCKHELPER} --directory /srv/demo backup create --verify --prune --wait 1800"
    )
    assert timer[0] == Path("/etc/systemd/system/stockhelper-backup-demo.timer")
    assert "OnCalendar=*-*-* 03:17:00\n" in timer[1]
    assert "WantedBy=timers.target" in timer[1]


def test_special_characters_are_escaped_for_systemd() -> None:
    """Characters with a meaning for systemd are escaped where systemd would interpret them."""
    service, timer = Systemd(Path("/etc/systemd/system"), user=False).texts(ODD).values()
    assert "Environment=PATH=/opt/$x:/bin\n" in service
    assert ' --directory "/srv/a b%%c" ' in service
    assert "OnCalendar=*-*-* *:05:00\n" in timer


def test_the_line_of_cron() -> None:
    ((path, text),) = CronFolder(Path("/etc/cron.d")).texts(JOB).items()
    about, line = text.splitlines()
    assert (path.name, about[:2]) == ("stockhelper-backup-demo", "# ")
    assert line == (
        f"17 3 * * *  root  {STOCKHELPER} --directory /srv/demo backup create --verify --prune --wait 1800"
        " >>/srv/demo/backup.log 2>&1"
    )


def test_special_characters_are_escaped_for_cron() -> None:
    """Characters with a meaning for cron or the shell are escaped."""
    line = Crontab().texts(ODD)[Path("crontab")].splitlines()[1]
    assert line.startswith("5 * * * *  env ")
    assert line.count("%") == line.count(r"\%") == 2
    words = shlex.split(line.replace(r"\%", "%"))
    assert ("PATH=/opt/$x:/bin" in words, "/srv/a b%c" in words) == (True, True)


def test_a_users_table_keeps_what_else_is_in_it(table: Path) -> None:
    place = Crontab()
    assert place.installed(JOB) == {}
    place.install(JOB)
    assert table.read_text() == place.texts(JOB)[Path("crontab")]
    table.write_text(THEIRS)
    other = Job("other", Path("/srv/other"), time(4))
    for job in (JOB, other, JOB, Job("demo", Path("/srv/demo"), time(5))):
        place.install(job)
        assert place.installed(job) == place.texts(job)
    assert table.read_text().count("stockhelper-backup-demo") == 1
    place.remove(JOB)
    place.remove(other)
    assert table.read_text() == THEIRS


def test_a_timer_is_started_and_ended(calls: Path, tmp_path: Path) -> None:
    place = Systemd(tmp_path / "units", user=True)
    place.install(JOB)
    assert place.installed(JOB) == place.texts(JOB)
    place.remove(JOB)
    assert list((tmp_path / "units").iterdir()) == []
    timer = "stockhelper-backup-demo.timer"
    assert calls.read_text().splitlines() == [
        "--user daemon-reload",
        f"--user enable {timer}",
        f"--user restart {timer}",
        f"--user disable --now {timer}",
        "--user daemon-reload",
    ]


def test_what_the_machine_refuses_is_told(programs: Path, tmp_path: Path) -> None:
    program(programs, "systemctl", "echo Failed to connect to bus >&2; exit 1")
    with pytest.raises(StockhelperError, match="systemctl --user daemon-reload failed") as raised:
        Systemd(tmp_path / "units", user=True).install(JOB)
    assert (raised.value.code, raised.value.cause) == ("backup.schedule", "Failed to connect to bus")
    (tmp_path / "a file").touch()
    for change in (Place.install, Place.remove):
        with pytest.raises(StockhelperError, match=r"a file.* cannot be "):
            change(CronFolder(tmp_path / "a file"), JOB)


def test_where_nothing_runs_jobs_that_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(Path, "exists", lambda path: False)
    with pytest.raises(StockhelperError, match="nothing on this machine") as raised:
        place_here()
    assert raised.value.exit_code == 4
    program(tmp_path, "crontab", "")
    assert isinstance(place_here(), Crontab)


def test_systemd_comes_before_cron(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/run/systemd/system")
    for user, folder in ((0, Path("/etc/systemd/system")), (1000, Path("/home/me/.config/systemd/user"))):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        monkeypatch.setenv("XDG_CONFIG_HOME", "/home/me/.config")
        assert next(iter(place_here().texts(JOB))).parent == folder


def test_only_what_finds_engine_and_programs_comes_along() -> None:
    environ = {
        "PATH": "/bin",
        "DOCKER_HOST": "unix:///run/docker.sock",
        "POSTGRES_PASSWORD": "secret",
        "DOCKER_CONTEXT": "",
    }
    assert variables_of(environ) == (("DOCKER_HOST", "unix:///run/docker.sock"), ("PATH", "/bin"))
