"""The real `docker compose`, the oracle of the interop tests: found on this machine, or unpacked for the tests only."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from tests.support import ROOT

#: The version that the facts were measured on; others write other hashes.
VERSION = "2.40."
FOLDER = ROOT / ".cache" / "compose"
#: Seconds that any call of the oracle may take; some of its dry runs hang (a one-shot whose container is absent).
TIME_LIMIT = 60


@cache
def compose_command() -> tuple[str, ...]:
    """Return the words that run Compose 2.40: the plugin of this machine, or our unpacked one.

    Raises AssertionError where there is neither: `python -m tests.support.prepare` unpacks it.
    """
    for command in (("docker", "compose"), (str(FOLDER / "docker-compose"),)):
        if shutil.which(command[0]) and _version(command).startswith(VERSION):
            return command
    raise AssertionError(f"docker compose {VERSION}x is not here: run `make test`, which unpacks it")


def compose(*arguments: str, cwd: Path, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real `docker compose` in a folder and return what it gave."""
    return subprocess.run(
        [*compose_command(), *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=check,
    )


def docker_compose(
    files: Sequence[Path], *arguments: str, environ: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run the real `docker compose` on these files, in the first one's folder and with this environment alone."""
    options = [option for file in files for option in ("-f", str(file))]
    return subprocess.run(
        [*compose_command(), *options, *arguments],
        cwd=files[0].parent,
        env=dict(environ),
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=False,
    )


def _version(command: tuple[str, ...]) -> str:
    result = subprocess.run(
        [*command, "version", "--short"], capture_output=True, text=True, timeout=TIME_LIMIT, check=False
    )
    return result.stdout.strip() if result.returncode == 0 else ""


def install() -> None:
    """Unpack Compose from the distribution's newest release, found by this machine's own apt sources.

    Nothing of the machine is changed: apt works in a folder of its own, and the package is unpacked, not installed.
    """
    try:
        compose_command()
    except AssertionError:
        pass
    else:
        return
    assert shutil.which("apt-get"), "docker compose 2.40 is needed, and this machine has no apt to take it from"
    scratch = FOLDER / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True, exist_ok=True)
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (scratch / "sources.list").write_text(f"deb [signed-by={keyring}] {_mirror()} sid main\n")
    options = [
        "-o", f"Dir::Etc::sourcelist={scratch}/sources.list",
        "-o", "Dir::Etc::sourceparts=/dev/null",
        "-o", f"Dir::State::lists={scratch}/lists",
        "-o", f"Dir::Cache={scratch}/cache",
        "-o", "APT::Sandbox::User=root",
    ]  # fmt: skip
    for arguments in (["update", "-qq"], ["download", "-qq", "docker-compose"]):
        subprocess.run(["apt-get", *options, *arguments], cwd=scratch, check=True, timeout=300)
    package = next(scratch.glob("docker-compose_*.deb"))
    subprocess.run(["dpkg-deb", "-x", str(package), str(scratch / "root")], check=True)
    unpacked = (scratch / "root").rglob("docker-compose")
    binary = next(path for path in unpacked if path.is_file() and os.access(path, os.X_OK))
    shutil.copy(binary, FOLDER / "docker-compose")
    shutil.rmtree(scratch)
    compose_command.cache_clear()
    compose_command()


def _mirror() -> str:
    """Return the address of the distribution's archive that this machine uses."""
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("debian*"))]
    for file in files:
        if file.is_file() and (
            found := re.search(r"^(?:URIs:\s*|deb\s+(?:\[[^]]*\]\s+)?)(\S+/debian)/?(?:\s|$)", file.read_text(), re.M)
        ):
            return found[1]
    raise AssertionError("no Debian archive in this machine's apt sources")
