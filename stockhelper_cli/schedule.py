"""Backups at set times, by what the machine has for that: a timer of systemd, else an entry of cron.

What is written says all that it needs, by absolute paths: it runs without a terminal, and without a user's profile.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import time
from pathlib import Path
from typing import Final

from stockhelper_cli.errors import StockhelperError

#: Seconds that the job waits for another run on the project, such as an `up` that builds.
WAIT_SECONDS: Final = 1800
#: What the engine's endpoint and the project depend on; a job has none of the shell's variables by itself.
_KEPT_VARIABLES: Final = (
    *("COMPOSE_FILE", "COMPOSE_PROFILES", "COMPOSE_PROJECT_NAME"),
    *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "PATH"),
)


@dataclass(frozen=True, slots=True)
class Job:
    """A backup of a project at set times: at a minute of every hour, or at a time of every day (the machine's)."""

    project: str
    root: Path
    at: time
    hourly: bool = False
    options: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"stockhelper-backup-{self.project}"

    @property
    def command(self) -> list[str]:
        """The command line."""
        script = Path(sys.executable).with_name("stockhelper")
        start = [str(script)] if script.exists() else [sys.executable, "-m", "stockhelper_cli"]
        last = ["backup", "create", "--verify", "--prune", "--wait", str(WAIT_SECONDS)]
        return [*start, "--directory", str(self.root), *self.options, *last]

    @property
    def when(self) -> str:
        """When it runs, in words."""
        return f"every hour at :{self.at:%M}" if self.hourly else f"every day at {self.at:%H:%M}"


def variables_of(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return what a job needs of a shell's variables to find the engine and the copy command's program."""
    return tuple((key, environ[key]) for key in _KEPT_VARIABLES if environ.get(key))


class Place(ABC):
    """Where a job is written to."""

    title: str

    @abstractmethod
    def texts(self, job: Job) -> dict[Path, str]:
        """Return the files that a job is written into, and what is in each."""

    def installed(self, job: Job) -> dict[Path, str]:
        """Return those of them that are there."""
        return {path: path.read_text() for path in self.texts(job) if path.exists()}

    def install(self, job: Job) -> None:
        """Write them. Raises `StockhelperError` (backup.schedule)."""
        try:
            for path, text in self.texts(job).items():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
                path.chmod(0o644)
        except OSError as error:
            raise _failed(f"{error.filename} cannot be written", error.strerror or str(error)) from error

    def remove(self, job: Job) -> None:
        """Remove them. Raises `StockhelperError` (backup.schedule)."""
        try:
            for path in self.texts(job):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise _failed(f"{error.filename} cannot be removed", error.strerror or str(error)) from error


class Systemd(Place):
    """A service and its timer, of the machine or of a user; what the job says is in the journal."""

    def __init__(self, folder: Path, *, user: bool) -> None:
        self.title = "systemd, for this user while logged in (always: loginctl enable-linger)" if user else "systemd"
        self._folder = folder
        self._systemctl = ["systemctl", *(["--user"] if user else [])]

    def texts(self, job: Job) -> dict[Path, str]:
        """Return the units."""
        calendar = f"*-*-* {'*' if job.hourly else f'{job.at:%H}'}:{job.at:%M}:00"
        environment = [f"Environment={_word(f'{key}={value}', dollar='$')}" for key, value in job.variables]
        service = [
            "[Unit]",
            f"Description=Backup of the database of {job.project}",
            "After=docker.service",
            "",
            "[Service]",
            "Type=oneshot",
            *environment,
            f"ExecStart={' '.join(_word(word, dollar='$$') for word in job.command)}",
        ]
        timer = [
            "[Unit]",
            f"Description=Backups of the database of {job.project}, {job.when}",
            "",
            "[Timer]",
            f"OnCalendar={calendar}",
            "# One that was missed while the machine was off is made up for.",
            "Persistent=true",
            "",
            "[Install]",
            "WantedBy=timers.target",
        ]
        return {
            self._folder / f"{job.name}.service": "\n".join(service) + "\n",
            self._folder / f"{job.name}.timer": "\n".join(timer) + "\n",
        }

    def install(self, job: Job) -> None:
        """Write the units and start the timer."""
        super().install(job)
        _run([*self._systemctl, "daemon-reload"])
        _run([*self._systemctl, "enable", f"{job.name}.timer"])
        _run([*self._systemctl, "restart", f"{job.name}.timer"])

    def remove(self, job: Job) -> None:
        """Stop the timer and remove the units."""
        _run([*self._systemctl, "disable", "--now", f"{job.name}.timer"])
        super().remove(job)
        _run([*self._systemctl, "daemon-reload"])


class CronFolder(Place):
    """A file in cron's folder of the machine; what the job says is in the project's backup.log."""

    def __init__(self, folder: Path) -> None:
        self.title = "cron"
        self._folder = folder

    def texts(self, job: Job) -> dict[Path, str]:
        """Return the file."""
        return {self._folder / job.name: f"# {_about(job)}\n{_cron_line(job, user='root')}\n"}


class Crontab(Place):
    """An entry in the user's own table; what the job says is in the project's backup.log."""

    def __init__(self) -> None:
        self.title = "cron, in this user's table"

    def texts(self, job: Job) -> dict[Path, str]:
        """Return the entry; it is in no file that one may write."""
        return {Path("crontab"): f"# {job.name}: {_about(job)}\n{_cron_line(job)}\n"}

    def installed(self, job: Job) -> dict[Path, str]:
        """Return the entry that is there."""
        entry, _ = self._split(job)
        return {Path("crontab"): entry} if entry else {}

    def install(self, job: Job) -> None:
        """Put the entry behind all others, in its former one's place."""
        _, others = self._split(job)
        _run(["crontab", "-"], others + self.texts(job)[Path("crontab")])

    def remove(self, job: Job) -> None:
        """Take the entry out, and leave the others as they are."""
        _, others = self._split(job)
        _run(["crontab", "-"], others)

    @staticmethod
    def _split(job: Job) -> tuple[str, str]:
        """Return the job's own two lines, and all others."""
        # A user without a table is no failure, and looks like one.
        listed = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=False).stdout
        lines = listed.splitlines(keepends=True)
        for number, line in enumerate(lines):
            if line.startswith(f"# {job.name}: "):
                return "".join(lines[number : number + 2]), "".join(lines[:number] + lines[number + 2 :])
        return "", listed


def place_here() -> Place:
    """Return where this machine, and this user, has jobs. Raises `StockhelperError` (backup.schedule) if nowhere."""
    root = os.geteuid() == 0
    if Path("/run/systemd/system").exists():
        user = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"
        return Systemd(Path("/etc/systemd/system") if root else user, user=not root)
    folder = Path("/etc/cron.d")
    if root and folder.is_dir() and any(map(shutil.which, ("cron", "crond"))):
        return CronFolder(folder)
    if shutil.which("crontab"):
        return Crontab()
    raise StockhelperError(
        "backup.schedule",
        "there is nothing on this machine that could run a backup at set times",
        cause="neither systemd nor cron is there",
        next=["sudo apt-get install -y cron"],
    )


def _about(job: Job) -> str:
    return f"backups of the database of {job.project}, {job.when}"


def _cron_line(job: Job, user: str = "") -> str:
    minute, hour = f"{job.at.minute}", "*" if job.hourly else f"{job.at.hour}"
    variables = ["env", *(f"{key}={value}" for key, value in job.variables)] if job.variables else []
    words = [shlex.quote(word) for word in (*variables, *job.command)]
    log = shlex.quote(str(job.root / "backup.log"))
    # To cron a bare % is the end of the command.
    command = f"{' '.join(words)} >>{log} 2>&1".replace("%", r"\%")
    return f"{minute} {hour} * * *  {f'{user}  ' if user else ''}{command}"


def _word(text: str, *, dollar: str) -> str:
    """Return a word of a unit file, quoted; a dollar has a meaning in some of its lines only."""
    text = text.replace("%", "%%").replace("$", dollar)
    if text and not set(text) & set(" \t\"'\\;"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _run(command: Sequence[str], stdin: str = "") -> None:
    done = subprocess.run(list(command), input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise _failed(f"{shlex.join(command)} failed", said[-1] if said else f"exit code {done.returncode}")


def _failed(message: str, cause: str) -> StockhelperError:
    return StockhelperError("backup.schedule", message, cause=cause, next=["stockhelper backup schedule --show"])
