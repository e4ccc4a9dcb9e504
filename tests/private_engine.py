"""An engine of a test's own, for settings that the machine's cannot be given: it shares nothing with that one."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import docker

from tests.e2e.steps import eventually

#: Seconds that it may take to stop.
_GRACE = 30


@contextmanager
def private_engine(*options: str) -> Iterator[str]:
    """Start an engine with these options; yield its URL, and stop it at the end. Needs root.

    It has network interfaces of its own, which go with it: among this machine's it would take the other one's bridge
    away.
    """
    # Not in pytest's folder: a socket's path has to be short.
    folder = Path(tempfile.mkdtemp(prefix="shtest-engine-"))
    url = f"unix://{folder}/docker.sock"
    places = [f"--data-root={folder}/data", f"--exec-root={folder}/run", f"--pidfile={folder}/pid", f"--host={url}"]
    spaces = [f"--containerd-namespace={folder.name}", f"--containerd-plugins-namespace={folder.name}-plugins"]
    alone = [*places, *spaces, "--storage-driver=vfs", "--bridge=none", "--iptables=false"]
    # It ends with the tests, if they are killed.
    command = ["unshare", "--net", "--", "setpriv", "--pdeathsig", "TERM", "--", "dockerd", *alone, *options]
    with (folder / "log").open("wb") as log:
        engine = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        eventually(lambda: _answers(engine, folder, url))
        yield url
    finally:
        engine.terminate()
        engine.wait(_GRACE)
        shutil.rmtree(folder)


def _answers(engine: subprocess.Popen[bytes], folder: Path, url: str) -> bool:
    assert engine.poll() is None, (folder / "log").read_text()
    if not (folder / "docker.sock").exists():
        return False
    with closing(own_client(url)) as client:
        return bool(client.ping())


def own_client(url: str) -> docker.DockerClient:
    """Return the SDK's client of an engine."""
    return docker.DockerClient(base_url=url)
