"""`setup` for real: on this machine's engine, and on a fresh Debian without one."""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from pathlib import Path

import pytest

from stockhelper_cli.compose.dotenv import load_dotenv
from stockhelper_cli.events import Event, Warned
from stockhelper_cli.machine.engine_install import How as EngineHow
from stockhelper_cli.machine.images import How as ImageHow
from stockhelper_cli.machine.setup import SetupResult, setup
from stockhelper_cli.proxies import proxies
from tests.support import ROOT
from tests.support.sandbox import base_images, client

LABEL = {"stockhelper.test": "1"}
SOURCES = "/src/stockhelper_cli"

#: Runs inside of a fresh Debian, on nothing but the standard library.
FRESH = """
import json, os, shutil, sys
sys.path.insert(0, "/src")
from stockhelper_cli.events import Event, Phase
from stockhelper_cli.machine.base_images import prepare
from stockhelper_cli.machine.engine_install import ensure_engine

done = []
def emit(event):
    if isinstance(event, Event) and event.phase is Phase.DONE:
        done.append(f"{event.verb} {event.resource}")

first, second = ensure_engine(os.environ, emit), ensure_engine(os.environ, emit)
prepare(emit)
print(json.dumps({
    "how": [first.how, second.how], "started_by": first.started_by, "done": done,
    "mmdebstrap": shutil.which("mmdebstrap"), "policy": os.path.exists("/usr/sbin/policy-rc.d"),
    "session": os.getsid(int(open("/var/run/docker.pid").read())) != os.getsid(0),
}))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project, with the stand-ins of its recipes on the engine as the last `make test` left them."""
    shutil.copy(ROOT / ".env.example", tmp_path)
    shutil.copytree(ROOT / "docker" / "base", tmp_path / "docker" / "base")
    return tmp_path


def run(root: Path) -> tuple[SetupResult, list[Event | Warned]]:
    events: list[Event | Warned] = []
    return setup(root, environ={**os.environ, "COMPOSE_FILE": ""}, emit=events.append), events


def test_setup_prepares_a_machine_and_a_rerun_does_nothing(root: Path) -> None:
    """`setup` prepares a machine, and a second run is fast and changes nothing."""
    first, _ = run(root)
    settings = load_dotenv(root / ".env")
    wanted = base_images()
    assert first.changed
    assert first.engine.how is EngineHow.FOUND
    assert first.env.generated == ("POSTGRES_PASSWORD", "APP_DB_PASSWORD", "API_TOKEN")
    assert {image.key: image.reference for image in first.images} == wanted
    for key, reference in wanted.items():
        assert settings.get(key, reference) == reference
    assert stat.S_IMODE((root / ".env").stat().st_mode) == 0o600
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}

    # Of this process alone; that nothing else was waited for, the events tell.
    started = time.process_time()
    second, events = run(root)
    seconds = time.process_time() - started

    assert not second.changed
    assert [image.how for image in second.images] == [ImageHow.FOUND] * 2
    assert events == []
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert seconds < 5


@pytest.mark.slow
def test_setup_on_fresh_debian_installs_engine_and_tools() -> None:
    """Not `--privileged`: a machine that has not every capability itself could not give them."""
    script = f"cat > /fresh.py <<'END'\n{FRESH}\nEND\npython3 -B /fresh.py && kill -0 $(cat /var/run/docker.pid)"
    api = client().api
    body = {
        "Image": base_images()["PYTHON_IMAGE"],
        "Cmd": ["sh", "-euc", script],
        "Env": [f"{name}={value}" for name, value in proxies(os.environ).items()],
        "Labels": LABEL,
        "HostConfig": {
            "CapAdd": ["SYS_ADMIN", "NET_ADMIN"],
            "SecurityOpt": ["seccomp=unconfined", "apparmor=unconfined"],
            "MaskedPaths": [],
            "ReadonlyPaths": [],
            "Mounts": [
                # The inner engine's layers cannot lie on the outer one's.
                {"Type": "volume", "Target": "/var/lib/docker"},
                {"Type": "bind", "Source": str(ROOT / "stockhelper_cli"), "Target": SOURCES, "ReadOnly": True},
            ],
        },
    }
    container = client().containers.get(api.create_container_from_config(body)["Id"])
    try:
        container.start()
        code = container.wait(timeout=300)["StatusCode"]
        log = container.logs().decode()
        # The engine mixes the two streams in no certain order.
        said = container.logs(stderr=False).decode()
    finally:
        container.remove(force=True, v=True)
    assert code == 0, log
    assert json.loads(said.splitlines()[-1]) == {
        "how": ["installed and started", "found"],
        "started_by": "dockerd",
        "done": [
            "install packages docker.io iptables ca-certificates",
            "start engine",
            "install packages mmdebstrap debian-archive-keyring",
        ],
        "mmdebstrap": "/usr/bin/mmdebstrap",
        "policy": False,
        "session": True,
    }
