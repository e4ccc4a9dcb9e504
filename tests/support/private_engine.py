"""An engine of a test's own, which may be stopped and killed: in its own folder, and in its own network namespace.

In a namespace of its own, neither its bridges nor its rules of the packet filter meet those of the machine's engine;
what it publishes on loopback is to be asked for in there. It needs root, as the machine's own engine does.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.support.waiting import PATIENCE, eventually


class PrivateEngine:
    """A dockerd: its socket's address is in `environment`, its network's in the words of `inside`."""

    def __init__(self, folder: Path, holder: int, options: Sequence[str]) -> None:
        self._folder = folder
        self._holder = holder
        self._options = options
        self._daemon: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{folder}/docker.sock"

    @property
    def environment(self) -> Mapping[str, str]:
        """What leads a command to it."""
        return {"DOCKER_HOST": self.url}

    def inside(self, *command: str) -> list[str]:
        """Return a command as one that runs where its containers' ports are published."""
        return ["nsenter", f"--net=/proc/{self._holder}/ns/net", "--", *command]

    def start(self) -> None:
        """Start it as its machine does when it boots, and wait until it answers."""
        run = self._folder / "run"  # a file system in memory, on a machine that boots
        run.mkdir()
        command = [
            *("dockerd", "--data-root", str(self._folder / "data"), "--exec-root", str(run)),
            *("--pidfile", str(run / "docker.pid"), "-H", self.url),
            # Where containerd is a service of the machine's, both engines share it.
            *("--containerd-namespace", self._folder.name, "--containerd-plugins-namespace", f"{self._folder.name}-p"),
            *self._options,
        ]
        with (self._folder / "log").open("ab") as log:
            self._daemon = subprocess.Popen(self.inside(*command), stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            alive = self._daemon.poll() is None and time.monotonic() < deadline
            assert alive, (self._folder / "log").read_text()
            time.sleep(0.05)

    def _answers(self) -> bool:
        asked = subprocess.run(["docker", "-H", self.url, "version"], capture_output=True, check=False)
        return asked.returncode == 0

    def load(self, images: Sequence[str]) -> None:
        """Give it images of the machine's engine."""
        with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as saving:
            subprocess.run(
                ["docker", "-H", self.url, "load", "--quiet"],
                stdin=saving.stdout,
                stdout=subprocess.DEVNULL,
                check=True,
            )

    def shut_down(self) -> None:
        """End it as a machine does that is shut down: it stops its containers first."""
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGTERM)
        self._daemon.wait(PATIENCE)
        self._forget()

    def cut_power(self) -> None:
        """Kill it, and all that it runs, at once."""
        assert self._daemon is not None
        # First those that would see the others go, and note it down.
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        for process in [*self._others(), psutil.Process(self._daemon.pid)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._daemon.wait(PATIENCE)
        self._forget()

    def processes(self) -> list[psutil.Process]:
        """Return the daemon, its containerd, the shims, and what runs in the containers."""
        assert self._daemon is not None
        return [psutil.Process(self._daemon.pid), *self._others()]

    def _others(self) -> list[psutil.Process]:
        """Return its containerd, the shims, and what runs in the containers."""
        run = str(self._folder / "run")
        own = [process for process in psutil.process_iter() if any(run in word for word in _words(process))]
        children = {child for process in own for child in _children(process)}
        return [process for process in {*own, *children} if self._daemon is None or process.pid != self._daemon.pid]

    def _forget(self) -> None:
        """Take away what no machine has any more when it boots: mounts, groups of processes, and /run."""
        self._daemon = None
        eventually(lambda: not self._others())  # the last of them end a moment after it
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
        for _, place, *_ in reversed(mounts):
            if place.startswith(str(self._folder)):
                subprocess.run(["umount", "--lazy", place], check=True)
        # An engine's groups have the same path below each hierarchy's own mount (one, or one for each controller of
        # version 1), wherever the engine itself runs. Nothing else is looked at: other engines' groups come and go.
        hierarchies = [Path(place) for _, place, kind, *_ in mounts if kind in ("cgroup", "cgroup2")]
        containers = self._folder / "data" / "containers"
        for container in containers.iterdir() if containers.exists() else ():
            for hierarchy in hierarchies:
                _remove_group(hierarchy / "docker" / container.name)
        shutil.rmtree(self._folder / "run")

    def close(self) -> None:
        """Remove all of it."""
        if self._daemon is not None:
            self.cut_power()


def _words(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        words: list[str] = process.cmdline()
        return words
    return []


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def _remove_group(group: Path) -> None:
    """Remove a control group when its last process has ended."""
    deadline = time.monotonic() + PATIENCE
    while group.exists():
        try:
            group.rmdir()
        except OSError:
            assert time.monotonic() < deadline, f"{group} is still in use"
            time.sleep(0.05)


@contextmanager
def private_engine(*options: str) -> Iterator[PrivateEngine]:
    """Run an engine with these options for the length of a block; nothing is left of it."""
    # A short path: that of a socket has 107 characters at most. And of letters: containerd calls a namespace by it.
    folder = Path(tempfile.gettempdir()) / f"shtest-engine-{uuid.uuid4().hex[:8]}"
    folder.mkdir(mode=0o700)
    # It ends with the tests, if they are killed.
    alone = ["unshare", "--net", "--", "setpriv", "--pdeathsig", "KILL", "--"]
    up = ["sh", "-c", "ip link set lo up && echo up && exec sleep infinity"]
    holder = subprocess.Popen([*alone, *up], stdout=subprocess.PIPE, text=True)
    engine = PrivateEngine(folder, holder.pid, options)
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "up\n"
        engine.start()
        yield engine
    finally:
        engine.close()
        holder.kill()
        holder.communicate()
        shutil.rmtree(folder)
