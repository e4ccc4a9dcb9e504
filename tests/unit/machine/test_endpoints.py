"""Finding an engine: real sockets, each with another fault, and the client's own rules about who is asked."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from stockhelper_cli.engine import endpoints, http
from stockhelper_cli.engine.endpoints import Endpoint, State, find, probe
from stockhelper_cli.errors import EngineError
from tests.support.sockets import Serve, say_nothing, serving, unix_engine
from tests.support.waiting import PATIENCE


def answer(api: str = "1.41", server: str = "Docker/20.10.24+dfsg1 (linux)", status: str = "200 OK") -> Serve:
    def serve(connection: socket.socket) -> None:
        request = connection.recv(65536)
        assert request.startswith(b"GET /_ping HTTP/1.0\r\n")
        connection.sendall(f"HTTP/1.0 {status}\r\nApi-Version: {api}\r\nServer: {server}\r\n\r\nOK".encode())

    return serve


def drip(connection: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection.sendall(b"H")
            time.sleep(0.02)


def nobody_asks(connection: socket.socket) -> None:
    raise AssertionError("it was asked")


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home without engines, its path short enough for sockets, and no default socket but the one a test makes."""
    with tempfile.TemporaryDirectory(prefix="sh-", ignore_cleanup_errors=True) as name:
        monkeypatch.setattr(endpoints, "DEFAULT_SOCKET", f"{name}/docker.sock")
        yield Path(name)


def env(home: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run"), **more}


def write_context(config: Path, name: str, host: str, *, tls: bool = False) -> None:
    key = hashlib.sha256(name.encode()).hexdigest()
    meta = config / "contexts" / "meta" / key
    meta.mkdir(parents=True)
    content = {"Name": name, "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": False}}}
    (meta / "meta.json").write_text(json.dumps(content))
    if tls:
        folder = config / "contexts" / "tls" / key / "docker"
        folder.mkdir(parents=True)
        for file in ("ca.pem", "cert.pem", "key.pem"):
            (folder / file).write_text("")


# --- what a probe tells apart


def test_an_engine_that_answers_is_known_by_its_versions(home: Path) -> None:
    with unix_engine(home / "e.sock", answer("1.47", "Docker/27.3.1 (linux)")) as endpoint:
        result = probe(endpoint)
    assert (result.state, result.version, result.api_version) == (State.ANSWERS, "27.3.1", (1, 47))


def test_tcp_is_asked_too() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with serving(listener, answer()):
        result = probe(Endpoint(f"tcp://127.0.0.1:{listener.getsockname()[1]}", "DOCKER_HOST"))
    assert result.state is State.ANSWERS


@pytest.mark.parametrize("serve", [say_nothing, drip])
def test_engine_with_an_endless_answer_times_out(home: Path, serve: Serve) -> None:
    """An engine that never finishes its answer times out."""
    with unix_engine(home / "e.sock", serve) as endpoint:
        started = time.monotonic()
        result = probe(endpoint, timeout=0.3)
        assert time.monotonic() - started < PATIENCE  # it would last for ever
    assert (result.state, result.detail) == (State.SILENT, "it said nothing for 0.3 s")


@contextmanager
def full(path: Path) -> Iterator[None]:
    """A socket whose queue is full."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as clients:
        listener.bind(str(path))
        listener.listen(0)
        for _ in range(2):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(str(path))
        yield


def test_a_full_backlog_counts_as_silent(home: Path) -> None:
    with full(home / "e.sock"):
        assert probe(Endpoint(f"unix://{home}/e.sock", "test")).state is State.SILENT


def test_suspended_time_is_not_counted_as_engine_silence(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time in which this process was suspended is not counted as silence of the engine."""
    clock = itertools.count(step=3600.0)
    with unix_engine(home / "e.sock", answer()) as endpoint:
        monkeypatch.setattr(http, "time", SimpleNamespace(monotonic=lambda: next(clock)))
        assert probe(endpoint).state is State.ANSWERS


def test_no_socket(home: Path) -> None:
    result = probe(Endpoint(f"unix://{home}/none.sock", "test"))
    assert (result.state, result.detail) == (State.ABSENT, "there is no such socket")


def test_a_socket_that_nobody_listens_at(home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "e.sock"))
    result = probe(Endpoint(f"unix://{home}/e.sock", "test"))
    assert (result.state, result.detail) == (State.ABSENT, "nobody listens there")


def test_an_old_engine(home: Path) -> None:
    with unix_engine(home / "e.sock", answer("1.40", "Docker/19.03.15 (linux)")) as endpoint:
        result = probe(endpoint)
    assert (result.state, result.version) == (State.TOO_OLD, "19.03.15")


@pytest.mark.parametrize("serve", [lambda connection: None, answer(api=""), answer(status="500 Oops")])
def test_something_else_behind_the_socket(home: Path, serve: Serve) -> None:
    with unix_engine(home / "e.sock", serve) as endpoint:
        result = probe(endpoint)
    assert result.state is State.ABSENT
    assert result.detail


@pytest.mark.parametrize("url", ["npipe:////./pipe/docker", "tcp://", "fd://3"])
def test_a_url_that_is_none_of_an_engine(url: str) -> None:
    assert "is no URL of an engine" in probe(Endpoint(url, "DOCKER_HOST")).detail


def test_socket_without_permission_suggests_setup(home: Path) -> None:
    """A socket that belongs to another user is reported with the command that helps."""
    home.chmod(0o755)
    with unix_engine(home / "docker.sock", answer()):
        (home / "docker.sock").chmod(0o000)
        with another_user(), pytest.raises(EngineError) as raised:
            find(env(home))
    assert raised.value.code == "engine.permission"
    assert raised.value.cause == f"{home}/docker.sock is for its owner only"
    assert raised.value.next == ("sudo stockhelper setup",)


@contextmanager
def another_user() -> Iterator[None]:
    """Do as nobody what root would be let in to do."""
    own = os.geteuid()
    if own == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(own)


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives a socket to another group")
@pytest.mark.parametrize("member", [False, True])
def test_the_advice_names_the_group(home: Path, monkeypatch: pytest.MonkeyPatch, member: bool) -> None:
    import grp
    import pwd

    user = pwd.getpwuid(os.getuid()).pw_name
    with unix_engine(home / "e.sock", answer()) as endpoint:
        (home / "e.sock").chmod(0o660)
        group = grp.struct_group(("docker", "x", 999, [user] if member else []))
        monkeypatch.setattr(grp, "getgrgid", lambda gid: group)
        error = endpoints.failure(endpoints.Probe(endpoint, State.DENIED))
    first = "newgrp docker" if member else f"sudo usermod -aG docker {user}"
    assert error.next[0] == first
    assert ("not in it" in error.cause) is not member


# --- who is asked


def test_default_socket_is_tried_first_and_fast(home: Path) -> None:
    """The default socket is tried before any other and takes less than 5 ms."""
    with (
        unix_engine(home / "docker.sock", answer()),
        unix_engine(home / ".colima/default/docker.sock", nobody_asks),
    ):
        find(env(home))
        fastest = min(_seconds(lambda: find(env(home))) for _ in range(5))
        assert find(env(home)).source == "default socket"
    assert fastest < 0.005


def _seconds(action: Callable[[], object]) -> float:
    """Return the time that it takes of the processor, whoever else wants that."""
    started = time.thread_time()
    action()
    return time.thread_time() - started


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("run/docker.sock", "rootless Docker"),
        (".docker/run/docker.sock", "Docker Desktop"),
        (".colima/default/docker.sock", "Colima"),
        (".rd/docker.sock", "Rancher Desktop"),
        ("run/podman/podman.sock", "Podman"),
    ],
)
def test_the_usual_sockets_are_found(home: Path, path: str, source: str) -> None:
    with unix_engine(home / path, answer()):
        assert find(env(home)) == Endpoint(f"unix://{home / path}", source)


def test_a_stale_default_socket_does_not_hide_a_running_engine(home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "docker.sock"))
    with unix_engine(home / ".rd/docker.sock", answer()):
        assert find(env(home)).source == "Rancher Desktop"


@pytest.mark.parametrize("url", ["unix://{}", "{}"])
def test_docker_host_is_asked_and_nobody_else(home: Path, url: str) -> None:
    with unix_engine(home / "docker.sock", answer()):
        with pytest.raises(EngineError) as raised:
            find(env(home, DOCKER_HOST=url.format(home / "none.sock")))
        with unix_engine(home / "mine.sock", answer()):
            found = find(env(home, DOCKER_HOST=url.format(home / "mine.sock")))
    assert raised.value.code == "engine.unreachable"
    assert "DOCKER_HOST" in raised.value.message
    assert raised.value.next == ("unset DOCKER_HOST",)
    assert found == Endpoint(f"unix://{home}/mine.sock", "DOCKER_HOST", explicit=True)


def test_ssh_is_left_to_those_who_speak_it(home: Path) -> None:
    assert find(env(home, DOCKER_HOST="ssh://me@far")).url == "ssh://me@far"


def test_docker_hosts_certificates(home: Path) -> None:
    (home / "certs").mkdir()
    (home / "certs" / "ca.pem").write_text("")
    more = {"DOCKER_HOST": "tcp://far:2376", "DOCKER_CERT_PATH": str(home / "certs"), "DOCKER_TLS_VERIFY": "1"}
    (endpoint,) = endpoints.candidates(env(home, **more))
    assert endpoint.tls == endpoints.Tls(home / "certs" / "ca.pem", None, None, verify=True)


def test_the_current_context_is_followed(home: Path) -> None:
    write_context(home / ".docker", "colima", f"unix://{home}/c.sock")
    (home / ".docker" / "config.json").write_text('{"currentContext": "colima"}')
    with unix_engine(home / "docker.sock", answer()), unix_engine(home / "c.sock", answer()):
        assert find(env(home)) == Endpoint(f"unix://{home}/c.sock", "context colima", explicit=True)
        assert find(env(home, DOCKER_CONTEXT="default")).source == "default socket"
        assert find(env(home, DOCKER_HOST=f"unix://{home}/docker.sock")).source == "DOCKER_HOST"


def test_docker_context_overrides_config_and_has_tls(home: Path) -> None:
    """DOCKER_CONTEXT overrides the configuration file and provides its certificates."""
    config = home / "elsewhere"
    write_context(config, "far", "tcp://far:2376", tls=True)
    (endpoint,) = endpoints.candidates(env(home, DOCKER_CONFIG=str(config), DOCKER_CONTEXT="far"))
    assert endpoint.url == "tcp://far:2376"
    assert endpoint.tls is not None
    assert endpoint.tls.verify
    assert endpoint.tls.key is not None
    assert endpoint.tls.key.name == "key.pem"


def test_a_context_that_does_not_exist(home: Path) -> None:
    with unix_engine(home / "docker.sock", answer()), pytest.raises(EngineError, match="does not exist") as raised:
        find(env(home, DOCKER_CONTEXT="gone"))
    assert raised.value.next == ("docker context ls", "unset DOCKER_CONTEXT")


def test_a_context_that_points_nowhere(home: Path) -> None:
    write_context(home / ".docker", "broken", "")
    meta = next((home / ".docker").rglob("meta.json"))
    meta.write_text('{"Endpoints": {}}')
    with pytest.raises(EngineError, match="points nowhere"):
        find(env(home, DOCKER_CONTEXT="broken"))


def test_an_unreadable_configuration_is_named(home: Path) -> None:
    (home / ".docker").mkdir()
    (home / ".docker" / "config.json").write_text("{")
    with pytest.raises(EngineError, match=r"config\.json cannot be read"):
        find(env(home))


# --- which error is told


def test_no_engine_at_all(home: Path) -> None:
    with pytest.raises(EngineError) as raised:
        find(env(home))
    assert (raised.value.code, raised.value.exit_code) == ("engine.unreachable", 4)
    assert raised.value.next == ("stockhelper setup",)


def test_old_engine_is_reported_instead_of_missing_sockets(home: Path) -> None:
    """An engine that is too old is reported rather than the sockets that are missing or silent."""
    with (
        unix_engine(home / ".rd/docker.sock", answer("1.40")),
        full(home / "run/podman/podman.sock"),
        pytest.raises(EngineError) as raised,
    ):
        find(env(home))
    assert raised.value.code == "engine.too_old"


def test_a_silent_engine(home: Path) -> None:
    with unix_engine(home / "docker.sock", say_nothing), pytest.raises(EngineError) as raised:
        find(env(home), timeout=0.1)
    assert (raised.value.code, raised.value.cause) == ("engine.timeout", "it said nothing for 0.1 s")
    assert raised.value.next == ("sudo systemctl restart docker",)
