"""The floor: the least that the same work costs on the Docker SDK, by a script that knows beforehand what to do.

`python floor.py up FILE` and `python floor.py status FILE`; the file names what `stages.floor_file` wrote into it. It
reads no compose file, compares nothing, handles no error, prints next to nothing, and imports nothing of ours.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import docker


def up(engine: docker.APIClient, wanted: Any) -> None:
    """Create what is wanted, and return when the service answers; the order is that of the dependencies."""
    engine.create_network(**wanted["network"], check_duplicate=True)
    engine.create_volume(**wanted["volume"])
    for name, body in wanted["containers"].items():
        engine.create_container_from_config(body, name)
        if name == wanted["database"]:
            engine.start(name)  # it boots while the others are created
    while exit_code(engine, wanted["database"], wanted["ask"]):
        pass  # it waits inside the container
    engine.start(wanted["migration"])
    assert engine.wait(wanted["migration"])["StatusCode"] == 0
    engine.start(wanted["app"])
    while not answers(wanted["health"]):
        time.sleep(0.025)


def exit_code(engine: docker.APIClient, container: str, ask: Any) -> int:
    """Run a command in a container and return its exit code."""
    run = engine.exec_create(container, ask["command"], environment=ask["environment"])
    engine.exec_start(run["Id"])
    return int(engine.exec_inspect(run["Id"])["ExitCode"])


def answers(url: str) -> bool:
    """Return whether a URL answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def status(engine: docker.APIClient, wanted: Any) -> None:
    """List and inspect the containers, and print a line on each."""
    for row in engine.containers(all=True, filters={"label": wanted["label"]}):
        state = engine.inspect_container(row["Id"])["State"]
        sys.stdout.write(f"{row['Names'][0]} {state['Status']} {state.get('Health', {}).get('Status', '')}\n")


if __name__ == "__main__":
    {"up": up, "status": status}[sys.argv[1]](docker.APIClient(), json.loads(Path(sys.argv[2]).read_text()))
