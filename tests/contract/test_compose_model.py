"""The compose model against the real `docker compose` v2: the same files, the same answers.

Compose is asked in two ways: what it shows (`config`), and what it sends to the engine when it creates (a tap
between the two writes every request down).
"""

from __future__ import annotations

import io
import json
import os
import secrets
import socket
import subprocess
import tarfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest

from stockhelper_cli import labels
from stockhelper_cli.compose import Project, load
from stockhelper_cli.compose.create import container_spec, network_spec, volume_spec
from stockhelper_cli.engine.endpoints import find
from stockhelper_cli.engine.protocol import Container, Mount
from stockhelper_cli.errors import ConfigError
from tests.support import ROOT
from tests.support.compose_cli import TIME_LIMIT, compose_command, docker_compose
from tests.support.ports import free_subnet
from tests.support.sandbox import RUN_PREFIX, engine_socket

UNIT = Path(__file__).parents[1] / "unit" / "compose"

#: One file each, or a folder whose files are given in order of their names.
CASES = sorted(path for path in (UNIT / "files").iterdir() if path.suffix == ".yaml" or list(path.glob("*.yaml")))
OWN = [ROOT / "compose" / "compose.yaml", ROOT / "compose" / "compose.dev.yaml"]

SHELL = {
    "PATH": os.environ["PATH"],
    "HOME": os.environ["HOME"],
    "FROM_SHELL": "a $shell value",
    "EMPTY_IN_SHELL": "",
    "COMPOSE_PROFILES": "wanted, p",
}
OWN_SHELL = {**SHELL, "POSTGRES_PASSWORD": "o$ner", "APP_DB_PASSWORD": "a"}

pytestmark = pytest.mark.compose


def files_of(case: Path) -> list[Path]:
    return [case] if case.is_file() else sorted(case.glob("*.yaml"))


def answer(files: list[Path], *arguments: str, environ: Mapping[str, str] = SHELL) -> str:
    done = docker_compose(files, *arguments, environ=environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Answers:
    """What Compose says to a case: its canonical form, and its config hashes."""

    config: Future[str]
    hashes: Future[str]


@pytest.fixture(scope="module")
def oracle() -> Iterator[dict[Path, Answers]]:
    """Asked for every case side by side: most of a call is waiting for a process."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        yield {
            case: Answers(
                pool.submit(answer, files_of(case), "config", "--format", "json"),
                pool.submit(answer, files_of(case), "config", "--hash", "*"),
            )
            for case in CASES
        }


def loaded(case: Path) -> Project:
    files = files_of(case)
    return load(files[0].parent, files=files, environ=SHELL)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_canonical_form_is_what_docker_compose_config_shows(case: Path, oracle: dict[Path, Answers]) -> None:
    assert loaded(case).config() == json.loads(oracle[case].config.result())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_config_hashes_are_composes(case: Path, oracle: dict[Path, Answers]) -> None:
    project = loaded(case)
    expected = dict(line.split() for line in oracle[case].hashes.result().splitlines())
    # 2.40 hashes `env_file` here and not where it creates: those are compared on what it creates, below.
    with_env_file = {name for name in project.services if "env_file" in project.tree["services"][name]}
    found = {name: service.hash for name, service in project.services.items() if name not in with_env_file}
    assert found == {name: value for name, value in expected.items() if name not in with_env_file}


@pytest.mark.parametrize("count", [1, 2], ids=["compose.yaml", "with compose.dev.yaml"])
def test_our_own_files_are_read_as_compose_reads_them(count: int, tmp_path: Path) -> None:
    files = []
    for source in OWN[:count]:
        (tmp_path / "compose").mkdir(exist_ok=True)
        files.append(tmp_path / "compose" / source.name)
        files[-1].write_text(source.read_text())
    (tmp_path / ".env").write_text("POSTGRES_DB=mine\nAPP_PORT=8123\nEXTRA='$x'\n")
    found = load(tmp_path, files=files, environ=OWN_SHELL).config()
    shown = answer(files, "--env-file", str(tmp_path / ".env"), "config", "--format", "json", environ=OWN_SHELL)
    assert found == json.loads(shown)


def test_env_names_the_files_the_project_and_the_profiles(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.yaml").write_text(
        "services: {a: {image: '${V}', volumes: ['./x:/x']}, p: {image: x, profiles: [p]}}"
    )
    (tmp_path / "b.yaml").write_text("services: {b: {image: '${W}'}}")
    (tmp_path / ".env").write_text(
        "COMPOSE_FILE=deep/a.yaml;b.yaml\nCOMPOSE_PATH_SEPARATOR=;\nCOMPOSE_PROJECT_NAME=named\nCOMPOSE_PROFILES=p\nV=1\n"
    )
    (tmp_path / "deep" / ".env").write_text("V=2\nW=3\n")
    environ = {"PATH": SHELL["PATH"], "HOME": SHELL["HOME"]}
    shown = subprocess.run(
        [*compose_command(), "config", "--format", "json"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=True,
    )
    assert load(tmp_path, environ=environ).config() == json.loads(shown.stdout)


BROKEN = {
    "unknown key": "services: {a: {image: x, imgae: y}}",
    "two keys": "services: {a: {image: x, image: y}}",
    "tab": "services:\n\ta: {image: x}",
    "no image": "services: {a: {command: x}}",
    "unknown dependency": "services: {a: {image: x, depends_on: [b]}}",
    "circle": "services: {a: {image: x, depends_on: [b]}, b: {image: x, depends_on: [a]}}",
    "unknown network": "services: {a: {image: x, networks: [b]}}",
    "unknown volume": "services: {a: {image: x, volumes: ['vol:/b']}}",
    "unknown secret": "services: {a: {image: x, secrets: [b]}}",
    "port": "services: {a: {image: x, ports: ['x:80']}}",
    "port range": "services: {a: {image: x, ports: ['1-3:80-81']}}",
    "address": "services: {a: {image: x, ports: ['1.2.3:80:80']}}",
    "size": "services: {a: {image: x, mem_limit: 1z}}",
    "duration": "services: {a: {image: x, stop_grace_period: 1y}}",
    "duration without a unit": "services: {a: {image: x, stop_grace_period: '10'}}",
    "boolean": "services: {a: {image: x, init: maybe}}",
    "environment": "services: {a: {image: x, environment: 5}}",
    "interpolation": "services: {a: {image: '${'}}",
    "interpolation operator": "services: {a: {image: '${A!x}'}}",
    "required": "services: {a: {image: '${NOT_SET_ANYWHERE:?say it}'}}",
    "healthcheck": "services: {a: {image: x, healthcheck: {test: [curl]}}}",
    "limits that differ": "services: {a: {image: x, mem_limit: 1g, deploy: {resources: {limits: {memory: 2g}}}}}",
    "mounted twice": "services: {a: {image: x, tmpfs: /a, volumes: [/a]}}",
    "external and more": "services: {a: {image: x, volumes: ['v:/v']}}\nvolumes: {v: {external: true, driver: local}}",
    "network mode and networks": "services: {a: {image: x, network_mode: none, networks: [default]}}",
    "list": "[1, 2]",
    "empty": "",
    "key that is no text": "services: {a: {image: x, environment: {1: x}}}",
    "missing env_file": "services: {a: {image: x, env_file: missing}}",
    "dependency that is off": "services: {a: {image: x, depends_on: [b]}, b: {image: x, profiles: [off]}}",
    "condition": "services: {a: {image: x, depends_on: {b: {restart: true}}}, b: {image: x}}",
    "text for a list": "services: {a: {image: x, cap_add: ALL}}",
    "service name": "services: {'a b': {image: x}}",
    "date": "services: {a: {image: x, labels: {d: 2001-01-01}}}",
    "null": "services: {a: {image: x, mem_limit: }}",
    "trailing space": "services: {a: {image: x, environment: ['A =b']}}",
    "host": "services: {a: {image: x, extra_hosts: [nothing]}}",
    "blank env_file": "services: {a: {image: x, env_file: '${BLANK:-}'}}",
    "number for text": "services: {a: {image: x, user: 1000}}",
    "CPUs with a blank": "services: {a: {image: x, cpus: ' 1'}}",
    "CPUs in other digits": "services: {a: {image: x, cpus: '１'}}",
    "size in other digits": "services: {a: {image: x, mem_limit: '１g'}}",
    "port in other digits": "services: {a: {image: x, ports: ['８0']}}",
    "duration in other digits": "services: {a: {image: x, stop_grace_period: '１s'}}",
    "endless duration": "services: {a: {image: x, stop_grace_period: 9223372037s}}",
    "number of 65 bits": "services: {a: {image: x, cpu_shares: '99999999999999999999'}}",
    "fewer than no retries": "services: {a: {image: x, healthcheck: {retries: -1}}}",
    "port 0": "services: {a: {image: x, ports: ['80:0']}}",
    "port 0 in a range": "services: {a: {image: x, ports: ['0-1']}}",
    "negative port": "services: {a: {image: x, ports: [{target: -1}]}}",
    "port with an exponent": "services: {a: {image: x, ports: [1e3]}}",
    "published port with a point": "services: {a: {image: x, ports: [{target: 80, published: 80.0}]}}",
    "exposed port with a point": "services: {a: {image: x, expose: [80.0]}}",
    "group with a point": "services: {a: {image: x, group_add: [1.5]}}",
    "limit with a point": "services: {a: {image: x, ulimits: {nofile: 1.0}}}",
    "blank address": "services: {a: {image: x, ports: [{target: 80, host_ip: ''}]}}",
    "address of an interface": "services: {a: {image: x, ports: ['[fe80::1%eth0]:80:80']}}",
    "dependency twice": "services: {a: {image: x, depends_on: [b, b]}, b: {image: x}}",
    "network twice": "services: {a: {image: x, networks: [default, default]}}",
    "host twice": "services: {a: {image: x, extra_hosts: ['h:1.1.1.1', 'h:1.1.1.1']}}",
    "external and empty labels": "services: {a: {image: x, volumes: ['v:/v']}}\n"
    "volumes: {v: {external: true, labels: {}}}",
    "text for a mapping of an extension": "services: {a: {image: x}}\nx-a: {b: {c: d}}\n---\nx-a: {b: text}",
    "mapping for a list of an extension": "services: {a: {image: x}}\nx-a: [1]\n---\nx-a: {b: 1}",
}

#: What completes `services: {a: {image: x}, b: {image: y}}`.
BROKEN_LATER = {
    "null for a new service": "services: {c: }",
    "null for a new key": "services: {a: {ports: }}",
    "condition": "services: {a: {depends_on: {b: {restart: true}}}}",
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_compose_refuses_is_refused_with_its_line(broken: str, tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text(BROKEN[broken])
    refused([file])


@pytest.mark.parametrize("broken", BROKEN_LATER)
def test_error_in_a_later_file_is_rejected_with_its_line(broken: str, tmp_path: Path) -> None:
    """What Compose rejects in a second file is rejected with its line."""
    files = [tmp_path / "first.yaml", tmp_path / "compose.yaml"]
    files[0].write_text("services: {a: {image: x}, b: {image: y}}")
    files[1].write_text(BROKEN_LATER[broken])
    refused(files)


def refused(files: list[Path]) -> None:
    """See that these files are refused, by us in one line that names the last of them."""
    with pytest.raises(ConfigError, match=r"^compose\.yaml:\d") as error:
        load(files[0].parent, files=files, environ=SHELL)
    assert "\n" not in error.value.message
    assert docker_compose(files, "config", environ=SHELL).returncode != 0


# --- what Compose sends to the engine


@dataclass
class Tap:
    """A socket in front of the engine's that writes down what passes towards it.

    `claim` makes the engine say that it speaks another API version; the requests are put back on the way.
    """

    path: Path
    engine: str
    claim: str = ""
    streams: list[bytearray] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Tap:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(64)
        self.accepting = threading.Thread(target=self._accept, daemon=True)
        self.accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Compose has ended, so both ends of every connection come to theirs.
        self.listener.shutdown(socket.SHUT_RDWR)  # which ends the wait for the next one
        self.accepting.join(TIME_LIMIT)
        self.listener.close()
        for thread in self.threads:
            thread.join(TIME_LIMIT)
        for connection in self.sockets:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(self.engine)
            self.sockets += [client, engine]
            written = bytearray()
            self.streams.append(written)
            there = (f"/v{self.claim}/".encode(), b"/v1.41/") if self.claim else (b"", b"")
            back = (b"1.41", self.claim.encode()) if self.claim else (b"", b"")
            for arguments in ((client, engine, written, *there), (engine, client, None, *back)):
                thread = threading.Thread(target=_pump, args=arguments, daemon=True)
                self.threads.append(thread)
                thread.start()

    def requests(self) -> list[tuple[str, Any]]:
        """What was sent: the method and path of each request, and its body."""
        return [request for stream in self.streams for request in _requests(bytes(stream))]

    def bodies(self, path: str) -> dict[str, Any]:
        """The bodies of what was created under a path such as `containers/create`, by name."""
        found = {}
        for line, body in self.requests():
            if line.startswith("POST") and f"/{path}" in line:
                found[line.partition("name=")[2].split()[0].split("&")[0] if "name=" in line else body.pop("Name")] = (
                    body
                )
        return found


def _pump(source: socket.socket, target: socket.socket, written: bytearray | None, find: bytes, replace: bytes) -> None:
    # The replacement is of the same length, so no header of the message needs to change.
    while data := _received(source):
        if written is not None:
            written += data
        with suppress(OSError):
            target.sendall(data.replace(find, replace) if find else data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _received(source: socket.socket) -> bytes:
    try:
        return source.recv(65536)
    except OSError:
        return b""


def _requests(stream: bytes) -> Iterator[tuple[str, Any]]:
    while stream:
        head, _, stream = stream.partition(b"\r\n\r\n")
        line, *rest = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (entry.partition(": ") for entry in rest)}
        length = int(headers.get("content-length", 0))
        body, stream = stream[:length], stream[length:]
        yield line, json.loads(body) if body else None


def essence(value: Any) -> Any:
    """A body without what says nothing: null, false, 0 and empty, and without the order of what has none."""
    if isinstance(value, dict):
        reduced = {key: essence(entry) for key, entry in value.items() if key != "ConsoleSize"}
        kept = {key: entry for key, entry in reduced.items() if entry or (key in ("Cmd", "Entrypoint") and entry == [])}
        if labels.DEPENDS_ON in kept:
            kept[labels.DEPENDS_ON] = ",".join(sorted(kept[labels.DEPENDS_ON].split(",")))
        for key in ("Binds", "Env", "ExtraHosts"):
            if key in kept:
                kept[key] = sorted(kept[key])
        if "Mounts" in kept:
            kept["Mounts"] = sorted(kept["Mounts"], key=lambda mount: str(mount["Target"]))
        if "Ulimits" in kept:
            kept["Ulimits"] = sorted(kept["Ulimits"], key=lambda limit: str(limit["Name"]))
        return kept
    return [essence(entry) for entry in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Bench:
    """An engine with a tiny image, a folder for sockets, and a name and addresses that nothing else uses."""

    api: docker.APIClient
    socket: str
    folder: Path
    image: str
    image_id: str
    name: str
    environ: dict[str, str]

    @property
    def api_version(self) -> tuple[int, int]:
        major, minor = self.api.version()["ApiVersion"].split(".")
        return int(major), int(minor)

    def record(self, files: list[Path], *arguments: str, claim: str = "") -> Tap:
        """Run Compose with a tap before the engine."""
        tap = Tap(self.folder / f"{secrets.token_hex(4)}.sock", self.socket, claim)
        with tap:
            environ = {**self.environ, "DOCKER_HOST": f"unix://{tap.path}"}
            done = docker_compose(files, *arguments, environ=environ)
        assert claim or done.returncode == 0, done.stderr
        return tap

    def project(self, files: list[Path]) -> Project:
        return load(files[0].parent, files=files, environ=self.environ)

    def create(self, project: Project) -> None:
        """Create all of a project with our bodies."""
        for network in project.networks.values():
            name, body = network_spec(project, network)
            self._post("/networks/create", {"Name": name, **body})
        for volume in project.volumes.values():
            name, body = volume_spec(project, volume)
            self._post("/volumes/create", {"Name": name, **body})
        for service in project.services.values():
            spec = container_spec(project, service, image_id=self.image_id, api_version=self.api_version)
            self.api.create_container_from_config(dict(spec.body), spec.name)
            for name, endpoint in spec.extra_networks.items():
                self._post(f"/networks/{name}/connect", {"Container": spec.name, "EndpointConfig": endpoint})

    def _post(self, path: str, body: Any) -> None:
        api: Any = self.api  # the SDK's own ways in are narrower than the body
        api._raise_for_status(api._post_json(api._url(path), data=body))

    def inspected(self, project: Project) -> dict[str, Any]:
        """What the engine says of a project's containers, networks and volumes, by name, without ids and times."""
        found: dict[str, Any] = {}
        for service in project.services.values():
            found[service.container_name] = self.api.inspect_container(service.container_name)
        for network in project.networks.values():
            found[network.name] = self.api.inspect_network(network.name)
            if not network.spec["ipam"]:
                del found[network.name]["IPAM"]["Config"]  # the engine chooses another one every time
        for volume in project.volumes.values():
            found[volume.name] = self.api.inspect_volume(volume.name)
        return {name: timeless(value) for name, value in found.items()}


_OF_ITS_OWN = {
    *("Id", "Created", "CreatedAt", "ResolvConfPath", "HostnamePath", "HostsPath", "LogPath", "GraphDriver", "State"),
    *("NetworkID", "EndpointID", "SandboxID", "Containers"),
}


def timeless(value: Any) -> Any:
    """What was inspected, without what differs between any two containers."""
    if isinstance(value, dict):
        kept = {key: timeless(entry) for key, entry in value.items() if key not in _OF_ITS_OWN}
        if kept.get("Type") == "volume" and "Destination" in kept and len(kept["Name"]) == 64:
            kept = {**kept, "Name": "anonymous", "Source": "anonymous"}
        if len(kept.get("Hostname", "")) == 12:
            kept["Hostname"] = "its id"
        if isinstance(kept.get("Aliases"), list):
            kept["Aliases"] = [alias for alias in kept["Aliases"] if len(alias) != 12]
        if isinstance(kept.get("Mounts"), list):
            kept["Mounts"] = sorted(
                kept["Mounts"], key=lambda mount: str(mount.get("Destination", mount.get("Target")))
            )
        for key in ("Binds", "Env", "ExtraHosts"):
            if isinstance(kept.get(key), list):
                kept[key] = sorted(kept[key])
        if isinstance(kept.get("Ulimits"), list):
            kept["Ulimits"] = sorted(kept["Ulimits"], key=lambda limit: str(limit["Name"]))
        if labels.DEPENDS_ON in kept:
            kept[labels.DEPENDS_ON] = ",".join(sorted(kept[labels.DEPENDS_ON].split(",")))
        return kept
    return [timeless(entry) for entry in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def image(swept: None) -> Iterator[tuple[docker.APIClient, str, str]]:
    """An image of nothing that declares two volumes; its containers are created and never started."""
    api = docker.APIClient(base_url=find(os.environ).url, version="auto")
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w").close()
    tag = f"{RUN_PREFIX}{secrets.token_hex(4)}"
    changes = ["VOLUME /anon /anon2", 'CMD ["/nothing"]', "LABEL stockhelper.test=1"]
    api.import_image_from_data(empty.getvalue(), "localhost/stockhelper-test-model", tag, changes=changes)
    name = f"localhost/stockhelper-test-model:{tag}"
    try:
        yield api, name, api.inspect_image(name)["Id"]
    finally:
        api.remove_image(name, force=True)
        api.close()


@pytest.fixture
def bench(image: tuple[docker.APIClient, str, str], socket_folder: Path) -> Iterator[Bench]:
    api, tag, image_id = image
    name = f"{RUN_PREFIX}model-{secrets.token_hex(4)}"
    environ = {
        **OWN_SHELL,
        # Where the command finds no engine by itself, as the tests do.
        "DOCKER_HOST": find(os.environ).url,
        "COMPOSE_PROJECT_NAME": name,
        "IMAGE": tag,
        "APP_IMAGE": tag,
        "POSTGRES_IMAGE": tag,
        "SUBNET": free_subnet(),
    }
    try:
        yield Bench(api, engine_socket(), socket_folder, tag, image_id, name, environ)
    finally:
        remove_project(api, name)


def remove_project(api: docker.APIClient, name: str) -> None:
    chosen = {"label": f"{labels.PROJECT}={name}"}
    containers = api.containers(all=True, filters=chosen)
    for container in containers:
        api.remove_container(container["Id"], force=True, v=True)
    # A container that was made in place of another mounts its anonymous volumes by their names: they are kept.
    unnamed = {mount["Name"] for row in containers for mount in row["Mounts"] if mount["Type"] == "volume"}
    for name in unnamed & {row["Name"] for row in api.volumes()["Volumes"] or () if len(row["Name"]) == 64}:
        api.remove_volume(name)
    for network in api.networks(filters=chosen):
        api.remove_network(network["Id"])
    for volume in api.volumes(filters=chosen)["Volumes"] or ():
        api.remove_volume(volume["Name"])


@pytest.fixture(params=["everything", "plain", "own"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> list[Path]:
    """A project: each key once, next to nothing, and the stack itself."""
    if request.param != "own":
        return [UNIT / "projects" / f"{request.param}.yaml"]
    folder = tmp_path / "own" / "compose"
    folder.mkdir(parents=True)
    (folder.parent / ".env").write_text("A=1\n")
    (folder / "compose.yaml").write_text(OWN[0].read_text())
    return [folder / "compose.yaml"]


@pytest.mark.engine
def test_our_bodies_are_those_that_compose_sends(bench: Bench, files: list[Path]) -> None:
    tap = bench.record(files, "create", "--no-build")
    project = bench.project(files)
    ours = {}
    connects: dict[str, Any] = {}
    for service in project.services.values():
        spec = container_spec(project, service, image_id=bench.image_id, api_version=bench.api_version)
        ours[spec.name] = essence(dict(spec.body))
        connects |= {name: essence(endpoint) for name, endpoint in spec.extra_networks.items()}
    assert ours == {name: essence(body) for name, body in tap.bodies("containers/create").items()}
    networks = dict(network_spec(project, network) for network in project.networks.values())
    assert essence(networks) == {name: essence(body) for name, body in tap.bodies("networks/create").items()}
    volumes = dict(volume_spec(project, volume) for volume in project.volumes.values())
    assert essence(volumes) == {name: essence(body) for name, body in tap.bodies("volumes/create").items()}
    connected = {line.split("/")[3]: body for line, body in tap.requests() if "/connect " in line}
    assert connects == {name: essence(body["EndpointConfig"]) for name, body in connected.items()}


@pytest.mark.engine
def test_a_newer_engine_gets_every_network_at_once(bench: Bench) -> None:
    files = [UNIT / "projects" / "everything.yaml"]
    # The engine here is older and refuses it; what counts is what Compose sends.
    tap = bench.record(files, "create", claim="1.47")
    project = bench.project(files)
    spec = container_spec(project, project.services["db"], image_id=bench.image_id, api_version=(1, 47))
    assert not spec.extra_networks
    assert len(spec.body["NetworkingConfig"]["EndpointsConfig"]) == 2
    assert essence(dict(spec.body)) == essence(tap.bodies("containers/create")[spec.name])


@pytest.mark.engine
def test_what_we_create_is_what_compose_creates(bench: Bench, files: list[Path]) -> None:
    answer(files, "create", "--no-build", environ=bench.environ)
    project = bench.project(files)
    expected = bench.inspected(project)
    remove_project(bench.api, bench.name)
    bench.create(project)
    assert bench.inspected(project) == expected
    # Compose takes all of it for its own, and up to date.
    again = bench.record(files, "create", "--no-build")
    assert not [line for line, _ in again.requests() if line.startswith(("POST", "DELETE"))]


@pytest.mark.engine
def test_volumes_without_a_name_are_kept_as_compose_keeps_them(bench: Bench) -> None:
    files = [UNIT / "projects" / "everything.yaml"]
    answer(files, "create", environ=bench.environ)
    project = bench.project(files)
    db = project.services["db"]
    seen = bench.api.inspect_container(db.container_name)
    mounts = tuple(Mount(m["Type"], m["Source"], m["Destination"], m.get("Name", "")) for m in seen["Mounts"])
    previous = Container(seen["Id"], db.container_name, bench.image, bench.image_id, "created", mounts=mounts)
    tap = bench.record(files, "create", "--force-recreate", "db")
    (sent,) = tap.bodies("containers/create").values()
    for image_volumes in (None, ("/anon", "/anon2")):
        spec = container_spec(
            project,
            db,
            image_id=bench.image_id,
            image_volumes=image_volumes,
            api_version=bench.api_version,
            previous=previous,
        )
        assert essence(dict(spec.body)) == essence(sent)
        kept = {mount["Target"] for mount in spec.body["HostConfig"]["Mounts"] if len(mount.get("Source", "")) == 64}
        assert kept == {"/anon", "/anon2", "/anon3"}


@pytest.mark.engine
def test_env_files_that_were_asked_for_are_told_in_a_label(bench: Bench, tmp_path: Path) -> None:
    files = [UNIT / "projects" / "plain.yaml"]
    env_file = tmp_path / "asked for.env"
    env_file.write_text("A=1\n")
    tap = bench.record(files, "--env-file", str(env_file), "create")
    project = load(files[0].parent, files=files, env_files=[env_file], environ=bench.environ)
    spec = container_spec(project, project.services["one"], image_id=bench.image_id, api_version=bench.api_version)
    assert essence(dict(spec.body)) == essence(tap.bodies("containers/create")[spec.name])
