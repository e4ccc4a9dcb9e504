"""`doctor` on the real engine: each fault is made for real, exactly it is named, and what can be mended is.

The faults of this machine: its engine, the network, the images, the configuration.
"""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import docker
import pytest

from stockhelper_cli.lock import exclusive
from tests.e2e.altering import altering, in_json
from tests.e2e.diagnosis import Diagnosis, diagnose, diagnosed, names_only, patient_command, run_patiently
from tests.e2e.listening import listening, own_address
from tests.support.ports import free_port
from tests.support.private_engine import private_engine
from tests.support.refusals import explained, without_override
from tests.support.sandbox import RUN_PREFIX, TIME_LIMIT, Sandbox, base_images, client, sandbox
from tests.support.waiting import PATIENCE

INFO = r"^GET /v[0-9.]+/info$"


@pytest.fixture(scope="module")
def untouched(swept: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A project that is made ready and has never been up; a build of it is due, from a mirror that is there."""
    folder = tmp_path_factory.mktemp("untouched")
    with (
        listening(own_address(), lambda connection: None) as port,
        sandbox(
            folder,
            APP_IMAGE=f"localhost/{RUN_PREFIX}absent:latest",
            APT_MIRROR=f"http://{own_address()}:{port}/debian",
        ) as made,
    ):
        yield made


@pytest.fixture
def project(untouched: Sandbox) -> Iterator[Sandbox]:
    """The same, its settings and compose files as they were when a test is over."""
    kept = {name: (untouched.root / name).read_bytes() for name in (".env", "compose/compose.yaml")}
    yield untouched
    for name, content in kept.items():
        (untouched.root / name).write_bytes(content)
        (untouched.root / name).chmod(0o600)


def bound_by_permissions(project: Sandbox, environment: Mapping[str, str] | None = None) -> Diagnosis:
    """Ask `doctor` as somebody whom file permissions bind."""
    return diagnosed(project.launch(without_override(patient_command("doctor", "--json")), environment))


# --- healthy
def test_a_project_that_was_never_up_has_none_either(project: Sandbox) -> None:
    assert names_only(project).code == 0


# --- the engine
def test_no_engine_is_one_failure_and_exit_4(project: Sandbox) -> None:
    diagnosis = names_only(project, "engine.reachable", environment={"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    assert diagnosis.code == 4
    assert "there is no such socket" in diagnosis.told("engine.reachable")
    assert diagnosis.findings["engine.answers"]["summary"] == "needs engine.reachable, which failed"
    assert diagnosis.statuses("config.compose") == ["ok"]


def test_missing_or_unreachable_context_is_reported(project: Sandbox, tmp_path: Path) -> None:
    """A Docker context that does not exist or points nowhere is reported."""
    gone = names_only(project, "engine.reachable", environment={"DOCKER_HOST": "", "DOCKER_CONTEXT": "gone"})
    assert (gone.code, '"gone" (DOCKER_CONTEXT) does not exist' in gone.told("engine.reachable")) == (4, True)
    environment = {"DOCKER_HOST": "", "DOCKER_CONTEXT": "", "DOCKER_CONFIG": str(tmp_path)}
    project.launch(
        ["docker", "context", "create", "dead", "--docker", f"host=tcp://127.0.0.1:{free_port()}"], environment
    )
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "dead"}))
    dead = names_only(project, "engine.reachable", environment=environment)
    assert "(context dead)" in dead.told("engine.reachable")
    assert "docker context use default" in dead.told("engine.reachable")


def test_a_socket_without_permission_is_named_with_the_way_in(project: Sandbox, socket_folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_folder / "docker.sock"))
        listener.listen()
        (socket_folder / "docker.sock").chmod(0)
        diagnosis = bound_by_permissions(project, {"DOCKER_HOST": f"unix://{socket_folder / 'docker.sock'}"})
    assert (diagnosis.named, diagnosis.code) == ({"engine.reachable"}, 4)
    assert "no permission to use the engine" in diagnosis.told("engine.reachable")


def test_an_engine_that_says_nothing_is_named_in_time(project: Sandbox, socket_folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_folder / "docker.sock"))
        listener.listen()
        began = time.monotonic()
        diagnosis = names_only(
            project, "engine.reachable", environment={"DOCKER_HOST": f"unix://{socket_folder / 'docker.sock'}"}
        )
    assert diagnosis.code == 4
    assert "it said nothing for 5 s" in diagnosis.told("engine.reachable")
    assert time.monotonic() - began < PATIENCE


@pytest.mark.slow
def test_stuck_engine_is_reported_as_not_answering(project: Sandbox, socket_folder: Path) -> None:
    """An engine that hangs is reported in time, and not as an unreachable one."""
    over = threading.Event()

    def stuck(head: bytes, body: bytes) -> tuple[bytes, bytes]:
        over.wait(TIME_LIMIT)
        return head, body

    began = time.monotonic()
    with altering(socket_folder / "docker.sock", r"^GET /v[0-9.]+/containers/json", stuck) as environment:
        # A process of its own: it must not wait for its late threads when all is said.
        diagnosis = diagnosed(project.run("doctor", "--json", environment=environment, fresh=True))
        over.set()
    assert (diagnosis.named, diagnosis.code) == ({"engine.answers"}, 4)
    assert time.monotonic() - began < 2 * PATIENCE


def test_an_engine_that_is_too_old_is_named_with_its_version(project: Sandbox, socket_folder: Path) -> None:
    def age(head: bytes, body: bytes) -> tuple[bytes, bytes]:
        return re.sub(rb"Api-Version: [0-9.]+", b"Api-Version: 1.38", head), body

    with altering(socket_folder / "docker.sock", "^GET /_ping", age) as environment:
        diagnosis = names_only(project, "engine.reachable", environment=environment)
    assert diagnosis.code == 4
    assert "speaks API 1.38; 1.41 is needed" in diagnosis.told("engine.reachable")


@pytest.mark.parametrize(
    ("id", "key", "value", "said"),
    [
        ("engine.clock", "SystemTime", "2020-01-01T00:00:00.123456789Z", "s behind this machine's"),
        ("engine.limits", "MemoryLimit", False, "cannot limit memory"),
        ("engine.memory", "MemTotal", 1_500_000_000, "may use 1.6 GB together, and the engine's machine has 1.5 GB"),
    ],
)
def test_what_an_engine_says_of_itself_is_judged(
    project: Sandbox, socket_folder: Path, id: str, key: str, value: object, said: str
) -> None:
    with altering(socket_folder / "docker.sock", INFO, in_json(lambda info: info.update({key: value}))) as environment:
        diagnosis = names_only(project, id, environment=environment)
    assert (diagnosis.code, diagnosis.statuses(id)) == (0, ["warning"])
    assert said in diagnosis.told(id)


@pytest.mark.parametrize(("megabytes", "status"), [(64, "failed"), (900, "warning")])
def test_a_full_disk_under_the_engine_is_measured(
    project: Sandbox, tmp_path: Path, socket_folder: Path, megabytes: int, status: str
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o size={megabytes}m none "$0" && exec "$@"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, str(disk)]
    with altering(
        socket_folder / "docker.sock", INFO, in_json(lambda info: info.update(DockerRootDir=str(disk)))
    ) as environment:
        diagnosis = diagnosed(project.launch([*command, *patient_command("doctor", "--json")], environment))
    assert (diagnosis.named, diagnosis.statuses("engine.disk")) == ({"engine.disk"}, [status])
    assert "docker system prune" in diagnosis.told("engine.disk")


def test_memory_that_is_used_up_is_measured(project: Sandbox, tmp_path: Path) -> None:
    told = re.sub(r"(?m)^MemAvailable:.*$", "MemAvailable: 150000 kB", Path("/proc/meminfo").read_text())
    (tmp_path / "meminfo").write_text(told)
    script = 'mount --bind "$0" /proc/meminfo && exec "$@"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, str(tmp_path / "meminfo")]
    diagnosis = diagnosed(project.launch([*command, *patient_command("doctor", "--json")]))
    assert (diagnosis.named, diagnosis.statuses("engine.memory")) == ({"engine.memory"}, ["warning"])
    assert "0.2 GB of memory are free" in diagnosis.told("engine.memory")


def test_engine_without_live_restore_is_reported(project: Sandbox, socket_folder: Path) -> None:
    """The report says when a restart of the engine also restarts the containers."""

    def told(live: bool) -> bool:
        alter = in_json(lambda info: info.update(LiveRestoreEnabled=live))
        with altering(socket_folder / f"{live}.sock", INFO, alter) as environment:
            diagnosis = diagnose(project, "--only", "engine.reachable", environment=environment)
        return "without live-restore" in diagnosis.told("engine.reachable")

    assert (told(live=False), told(live=True)) == (True, False)


# --- the network
def test_registry_is_asked_only_for_missing_images(project: Sandbox) -> None:
    assert "none is needed" in diagnose(project).told("network.registry")
    image = f"127.0.0.1:{free_port()}/absent:15"
    project.set("POSTGRES_IMAGE", image)
    diagnosis = names_only(project, "network.registry")
    assert f"the registry of {image} cannot be reached" in diagnosis.told("network.registry")
    assert "connection refused" in diagnosis.told("network.registry")
    assert diagnosis.code == 1


def refusing(status: int, headers: str, body: str) -> Callable[[socket.socket], object]:
    """Return a registry that answers so for every image."""

    def answer(connection: socket.socket) -> None:
        ping = b"/v2/ HTTP" in connection.recv(65536).partition(b"\r\n")[0]
        line, more, text = ("200 OK", "", "{}") if ping else (f"{status} No", headers, body)
        head = f"HTTP/1.1 {line}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n{more}"
        connection.sendall(f"{head}Connection: close\r\n\r\n{text}".encode())

    return answer


@pytest.mark.parametrize(
    ("registry", "said", "remedy"),
    [
        (
            refusing(429, "", '{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]}'),
            "lets nobody pull any more for now",
            "wait some hours, or log in: who is known may pull more",
        ),
        (
            refusing(401, 'WWW-Authenticate: Basic realm="x"\r\n', '{"errors":[{"code":"UNAUTHORIZED"}]}'),
            "wants a login",
            "docker login 127.0.0.1:",
        ),
        (refusing(403, "", '{"errors":[{"code":"DENIED"}]}'), "wants a login", "docker login 127.0.0.1:"),
        (refusing(404, "", '{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'), "has no such image", "mend the image's name"),
    ],
    ids=["limited", "login", "denied", "unknown"],
)
def test_registry_error_is_not_reported_as_unreachable(
    project: Sandbox, registry: Callable[[socket.socket], object], said: str, remedy: str
) -> None:
    """What a registry answers is reported as such, and not as an unreachable registry."""
    with listening("127.0.0.1", registry) as port:
        image = f"127.0.0.1:{port}/absent:15"
        project.set("POSTGRES_IMAGE", image)
        # A proxy that the engine has not: it got there without.
        told = names_only(project, "network.registry", environment={"HTTPS_PROXY": "http://proxy.invalid:3128"})
        assert f"the registry of {image} {said}" in told.told("network.registry")
        assert remedy in told.told("network.registry")


def test_proxy_missing_in_the_engine_is_reported_if_needed(project: Sandbox, socket_folder: Path) -> None:
    """A proxy that the engine does not have is reported only when the engine needs one."""
    environment = {"https_proxy": "http://me:canary-secret@proxy.invalid:3128"}
    assert "needs none now" in names_only(project, environment=environment).told("network.proxy")
    project.set("POSTGRES_IMAGE", f"127.0.0.1:{free_port()}/absent:15")
    diagnosis = names_only(project, "network.proxy", environment=environment)
    assert "https_proxy is proxy.invalid:3128 here; the engine has no proxy" in diagnosis.told("network.proxy")
    assert diagnosis.statuses("network.registry") == ["skipped"]
    assert "canary-secret" not in json.dumps(diagnosis.findings)
    alter = in_json(lambda info: info.update(HttpsProxy="http://proxy.invalid:3128"))
    with altering(socket_folder / "docker.sock", INFO, alter) as proxied:
        names_only(project, "network.registry", environment={**environment, **proxied})


@pytest.mark.slow
def test_address_ranges_that_are_used_up_are_named_by_up_too(project: Sandbox) -> None:
    (project.root / "compose" / "compose.yaml").write_text("services: {one: {image: 'localhost/shtest-one:1'}}\n")
    with (
        private_engine("--bridge=none", "--default-address-pool=base=10.213.7.0/28,size=29") as own,
        closing(docker.DockerClient(base_url=own.url)) as engine,
    ):
        engine.api.import_image_from_data(b"\0" * 10240, "localhost/shtest-one", "1")
        environment = own.environment
        assert "2 are left" in names_only(project, environment=environment).told("network.pools")
        for name in ("shtest-left", "shtest-right"):
            engine.networks.create(name)
        diagnosis = names_only(project, "network.pools", environment=environment)
        network = f"{project.name}_default"
        for part in (f"left for {network}", "given out to shtest-left, shtest-right"):
            assert part in diagnosis.told("network.pools")
        error = run_patiently(project, "up", "--json", environment=environment).json["error"]
        assert error["message"] == f"could not create the network {network}"
        assert [finding["id"] for finding in error["findings"]] == ["network.pools"]


def test_mirror_unreachable_for_a_due_build_is_a_warning(project: Sandbox) -> None:
    """A package mirror that a build cannot reach is a warning when a build is due."""
    project.set("APT_MIRROR", f"http://{own_address()}:{free_port()}/debian")
    diagnosis = names_only(project, "network.mirror")
    assert (diagnosis.statuses("network.mirror"), diagnosis.code) == (["warning"], 0)
    assert "Connection refused" in diagnosis.told("network.mirror")
    project.set("APT_MIRROR", "mirror.invalid")
    assert "APT_MIRROR is not a URL with a host" in names_only(project, "network.mirror").told("network.mirror")


@pytest.mark.parametrize("address", ["loopback", "nobody"])
def test_index_unreachable_for_a_due_build_is_reported(project: Sandbox, address: str) -> None:
    """A package index that a build cannot reach is reported when a build is due."""
    host = "127.0.0.1" if address == "loopback" else own_address()
    project.set("PIP_INDEX_URL", f"http://{host}:{free_port()}/simple")
    diagnosis = names_only(project, "network.index")
    said = "loopback, which within a build is the build's own" if address == "loopback" else "Connection refused"
    assert said in diagnosis.told("network.index")


def test_index_that_is_no_url_is_reported_without_password(project: Sandbox) -> None:
    """A package index that is not a URL is reported without its password."""
    project.set("PIP_INDEX_URL", "https://me:canary-secret@index.invalid:port/simple")
    diagnosis = names_only(project, "network.index")
    assert "PIP_INDEX_URL is not a URL" in diagnosis.told("network.index")
    assert "canary-secret" not in json.dumps(diagnosis.findings)


#: An authority, and a certificate of its for the address $0.
CERTIFICATES = """
new="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
openssl req -x509 $new -days 1 -subj "/O=Prying Ltd/CN=Prying Root" -keyout ca.key -out ca.pem
openssl req $new -subj /CN=index -keyout leaf.key -out leaf.csr
echo "subjectAltName=IP:$0" > leaf.ext
openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile leaf.ext -out leaf.pem
"""


@contextmanager
def intercepted(folder: Path, host: str) -> Iterator[tuple[int, Path]]:
    """Serve TLS with a certificate of an authority of its own; yield the port and the authority's certificate."""
    subprocess.run(["sh", "-ec", CERTIFICATES, host], cwd=folder, capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "leaf.pem", folder / "leaf.key")

    with listening(host, lambda plain: context.wrap_socket(plain, server_side=True).close()) as port:
        yield port, folder / "ca.pem"


def test_intercepted_tls_is_reported_until_the_build_trusts_it(project: Sandbox, tmp_path: Path) -> None:
    """Intercepted TLS is reported with its issuer until the build trusts it."""
    with intercepted(tmp_path, own_address()) as (port, root):
        project.set("PIP_INDEX_URL", f"https://{own_address()}:{port}/simple")
        stranger = names_only(project, "network.tls")
        assert "by Prying Ltd, Prying Root, which neither this machine nor a build trusts" in stranger.told(
            "network.tls"
        )

        project.set("BUILD_CA_FILE", str(root))
        known = names_only(project, "network.tls")
        assert "TLS is intercepted" in known.told("network.tls")
        assert "which a build does not trust" in known.told("network.tls")

        mended = diagnose(project, "--fix", "network.tls", "--yes")
        assert (mended.named, mended.fixed) == (set(), ("network.tls",))
        assert "by Prying Ltd, Prying Root; the build trusts it" in mended.told("network.tls")
    for file in (project.root / "docker" / "app" / "ca").glob("host-file-*"):
        file.unlink()


def test_roots_that_a_build_lacks_are_warned_of_and_put_there(project: Sandbox, tmp_path: Path) -> None:
    with intercepted(tmp_path, "127.0.0.1") as (_, root):
        project.set("BUILD_CA_FILE", str(root))
        diagnosis = names_only(project, "network.tls")
        assert (diagnosis.statuses("network.tls"), diagnosis.code) == (["warning"], 0)
        assert "host-file-ca.crt" in diagnosis.told("network.tls")
        assert not diagnose(project, "--fix", "--yes").named
    for file in (project.root / "docker" / "app" / "ca").glob("host-file-*"):
        file.unlink()


# --- images
def test_an_image_that_nobody_can_get_is_named(project: Sandbox) -> None:
    project.set("POSTGRES_IMAGE", f"localhost/{RUN_PREFIX}absent:15")
    diagnosis = names_only(project, "image.present")
    assert "stockhelper setup" in diagnosis.told("image.present")


def test_a_base_that_is_missing_matters_only_when_a_build_is_due(project: Sandbox) -> None:
    project.set("PYTHON_IMAGE", f"localhost/{RUN_PREFIX}absent:3.13")
    assert "is built on it" in names_only(project, "image.present").told("image.present")


def asking_for(image: str) -> str:
    """Return a pattern of the request that inspects an image."""
    return rf"^GET /v[0-9.]+/images/{re.escape(quote(image))}/json"


def test_a_base_image_that_is_too_old_is_warned_of_with_its_date(project: Sandbox, socket_folder: Path) -> None:
    def alter(head: bytes, body: bytes) -> tuple[bytes, bytes]:
        return head, re.sub(rb'"Created":"[^"]*"', b'"Created":"2020-02-20T12:00:00Z"', body)

    image = base_images()["PYTHON_IMAGE"]
    project.set("IMAGE_MAX_AGE_DAYS", "90")
    with altering(socket_folder / "docker.sock", asking_for(image), alter) as environment:
        diagnosis = names_only(project, "image.age", environment=environment)
    assert (diagnosis.statuses("image.age"), diagnosis.code) == (["warning"], 0)
    for part in (f"{image} was built on 2020-02-20", "IMAGE_MAX_AGE_DAYS allows 90", "stockhelper up"):
        assert part in diagnosis.told("image.age")


def test_image_of_another_architecture_is_reported(project: Sandbox, socket_folder: Path) -> None:
    """An image of another architecture is reported unless the Compose file asks for it."""
    alter = in_json(lambda image: image.update(Architecture="riscv64"))
    image = base_images()["POSTGRES_IMAGE"]
    with altering(socket_folder / "docker.sock", asking_for(image), alter) as environment:
        told = names_only(project, "image.architecture", environment=environment).told("image.architecture")
        assert f"{image} is for riscv64" in told
        (project.root / "over.yaml").write_text("services: {db: {platform: linux/riscv64}}\n")
        project.set("COMPOSE_FILE", "compose/compose.yaml:over.yaml")
        names_only(project, environment=environment)


# --- the configuration
def test_a_missing_env_is_named_and_written(project: Sandbox) -> None:
    env = project.root / ".env"
    kept = env.read_text()
    env.unlink()
    diagnosis = names_only(project, "config.env")
    assert "stockhelper init" in diagnosis.told("config.env")
    fixed = project.run("doctor", "--fix", "--yes", "--only", "config.env")
    assert (fixed.code, env.stat().st_mode & 0o777) == (0, 0o600)
    assert f"fix config.env: write {env} with random secrets" in fixed.err
    env.write_text(kept)


def test_an_env_that_cannot_be_read_is_named(project: Sandbox) -> None:
    env = project.root / ".env"
    env.chmod(0)
    diagnosis = bound_by_permissions(project)
    assert (diagnosis.named, diagnosis.code) == ({"config.env"}, 1)
    assert "Permission denied" in diagnosis.told("config.env")
    env.chmod(0o600)
    env.write_text(env.read_text() + "this is no setting\n")
    assert ".env:" in names_only(project, "config.env").told("config.env")


def test_an_env_in_utf16_is_named_and_written_as_utf8_and_kept(project: Sandbox) -> None:
    env, kept = project.root / ".env", project.root / ".env.utf-16"
    before = env.read_bytes()
    env.write_bytes(before.decode().encode("utf-16"))
    assert ".env:1: is UTF-16" in names_only(project, "config.env").told("config.env")
    mended = diagnose(project, "--fix", "--yes", "--only", "config.env")
    assert (mended.named, mended.fixed, env.read_bytes()) == (set(), ("config.env",), before)
    assert (kept.read_bytes().decode("utf-16"), kept.stat().st_mode & 0o777) == (before.decode(), 0o600)


def test_env_with_bom_and_crlf_is_ok_with_a_note(project: Sandbox) -> None:
    """A byte order mark and CRLF line endings in .env are mentioned, but the check passes."""
    env = project.root / ".env"
    env.write_bytes(b"\xef\xbb\xbf" + env.read_bytes().replace(b"\n", b"\r\n"))
    told = names_only(project).told("config.env")
    assert "byte order mark" in told
    assert "CRLF" in told


def test_an_env_that_others_can_read_is_named_and_closed(project: Sandbox) -> None:
    env = project.root / ".env"
    env.chmod(0o644)
    diagnosis = names_only(project, "config.env_private")
    assert "others may read .env" in diagnosis.told("config.env_private")
    mended = diagnose(project, "--fix", "--yes")
    assert (mended.named, mended.fixed) == (set(), ("config.env_private",))
    assert env.stat().st_mode & 0o777 == 0o600


def test_key_with_a_typo_is_reported_but_an_extra_key_is_not(project: Sandbox) -> None:
    """A key with a typo is reported with the probable name, and an extra key is not a problem."""
    project.set("MY_OWN_SERVICES_SETTING", "1")
    assert "MY_OWN_SERVICES_SETTING" in names_only(project).told("config.keys")
    project.set("LOG_LEVL", "DEBUG")
    assert "did you mean LOG_LEVEL?" in names_only(project, "config.keys").told("config.keys")


def test_every_value_that_is_not_valid_is_named_at_once(project: Sandbox) -> None:
    project.set("POSTGRES_PASSWORD", "")
    assert "POSTGRES_PASSWORD is empty" in names_only(project, "config.values").told("config.values")
    project.set("APP_PORT", "eight thousand")
    told = names_only(project, "config.values").told("config.values")
    assert "2 settings are not valid" in told
    assert "POSTGRES_PASSWORD is empty" in told
    assert "APP_PORT is not a whole number" in told


def test_required_key_with_a_typo_is_one_failure(project: Sandbox) -> None:
    """A required key with a typo is reported as one failure that names the right key."""
    env = project.root / ".env"
    env.write_text(env.read_text().replace("POSTGRES_PASSWORD=", "POSTGRES_PASWORD="))
    told = names_only(project, "config.values").told("config.values")
    assert "sets POSTGRES_PASWORD: did you mean POSTGRES_PASSWORD?" in told


def test_a_weak_password_is_named_and_never_shown(project: Sandbox) -> None:
    project.set("APP_DB_PASSWORD", "hunter22")
    diagnosis = names_only(project, "config.passwords")
    assert "APP_DB_PASSWORD has 8 characters" in diagnosis.told("config.passwords")
    assert "hunter22" not in json.dumps(diagnosis.findings)


def test_a_busy_port_is_named_with_who_holds_it(project: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", project.port)):
        diagnosis = names_only(project, "config.ports")
        told = diagnosis.told("config.ports")
        assert f"port {project.port} on 127.0.0.1 is taken" in told
        assert f"(pid {os.getpid()})" in told


def test_a_port_that_the_network_can_reach_is_named(project: Sandbox) -> None:
    project.set("APP_BIND", "0.0.0.0")
    diagnosis = names_only(project, "config.exposure")
    assert f"app is published on 0.0.0.0, port {project.port}" in diagnosis.told("config.exposure")
    assert diagnose(project, "--skip", "config.exposure").named == set()


def test_a_compose_file_that_is_not_valid_is_named_with_its_line(project: Sandbox) -> None:
    path = project.root / "compose" / "compose.yaml"
    path.write_text(path.read_text().replace("    networks: [stock_helper_net]\n", "    netwroks: [x]\n", 1))
    told = names_only(project, "config.compose").told("config.compose")
    assert re.search(r"compose/compose\.yaml:\d+: .*netwroks", told)


def test_a_mount_that_the_service_may_not_write_to_is_named(project: Sandbox) -> None:
    folder = project.root / "reports"
    folder.mkdir(mode=0o755)
    lines = ["services:", "  app:", '    volumes: ["../reports:/reports"]', ""]
    (project.root / "mount.yaml").write_text("\n".join(lines))
    project.set("COMPOSE_FILE", "compose/compose.yaml:mount.yaml")
    told = names_only(project, "config.mounts").told("config.mounts")
    assert f"app cannot write to {folder}" in told
    assert f"sudo chown -R 10001:10001 {folder}" in told
    folder.chmod(0o777)
    names_only(project)


# --- several
def test_two_problems_are_reported_most_severe_first(project: Sandbox) -> None:
    """Two problems are both reported, the most severe one first."""
    (project.root / ".env").chmod(0o640)
    with socket.create_server(("127.0.0.1", project.port)):
        assert names_only(project, "config.env_private", "config.ports").code == 1
        lines = project.launch(patient_command("doctor")).out.splitlines()
        plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        ascii_only = project.launch(patient_command("doctor"), plain).out
    assert re.search(r"^  x config\.ports .*\n(.*\n)* +-> ", ascii_only, re.MULTILINE)
    assert re.search(r"^  \+ engine\.reachable ", ascii_only, re.MULTILINE)
    told = [line.split()[1] for line in lines if line.startswith(("  ✗", "  !", "  ✓", "  -"))]
    assert told[:2] == ["config.ports", "config.env_private"]
    assert any(line.startswith("1 failed (config.ports), 1 warning (config.env_private), ") for line in lines)
    dead = names_only(
        project, "config.env_private", "engine.reachable", environment={"DOCKER_HOST": "unix:///nowhere.sock"}
    )
    assert dead.code == 4


# --- the command
def test_without_a_terminal_nothing_is_mended_unless_told_so(project: Sandbox) -> None:
    (project.root / ".env").chmod(0o644)
    explained(project.run("doctor", "--fix", fresh=True), 9, "fix config.env_private: chmod 600")
    assert (project.root / ".env").stat().st_mode & 0o777 == 0o644


def test_fix_during_another_run_fails_but_checks_work(project: Sandbox) -> None:
    """During another run, `doctor` needs no lock to check, but `--fix` fails at once."""
    (project.root / ".env").chmod(0o644)
    with exclusive(client().info()["ID"], project.name):
        names_only(project, "config.env_private")
        explained(project.run("doctor", "--fix", "--yes", fresh=True), 8, "another run is at work")


def test_an_id_alone_and_one_that_there_is_not_are_refused(project: Sandbox) -> None:
    explained(project.run("doctor", "config.env"), 2, "config.env without --fix")
    explained(project.run("doctor", "--only", "config.envy"), 2, "did you mean config.env?")


def test_only_option_reports_the_check_and_what_blocks_it(project: Sandbox) -> None:
    """`--only` reports the requested check and any failed check that it depends on."""
    assert set(diagnose(project, "--only", "config.ports").findings) == {"config.ports"}
    dead = diagnose(project, "--only", "config.ports", environment={"DOCKER_HOST": "unix:///nowhere.sock"})
    assert set(dead.findings) == {"config.ports", "engine.reachable"}
    assert dead.code == 4


# --- up explains itself
def test_up_ends_with_what_doctor_finds_about_its_failure(project: Sandbox) -> None:
    project.set("POSTGRES_IMAGE", f"127.0.0.1:{free_port()}/absent:15")
    result = run_patiently(project, "up", "--json")
    assert result.code == 4
    error = result.json["error"]
    assert error["code"] == "image.registry"
    assert [finding["id"] for finding in error["findings"]] == ["network.registry"]
    explained(run_patiently(project, "up"), 4, "what doctor finds:", "network.registry")


def test_finding_equal_to_the_error_is_not_repeated(project: Sandbox) -> None:
    """A finding that says the same as the error is not shown again."""
    with socket.create_server(("127.0.0.1", project.port)):
        result = run_patiently(project, "up", "--json")
        assert [finding["id"] for finding in result.json["error"]["findings"]] == ["config.ports"]
        assert "what doctor finds" not in run_patiently(project, "up").err
