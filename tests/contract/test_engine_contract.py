"""What the rest of the house may rely on of an engine, run on the fake one and on the real one alike."""

from __future__ import annotations

import hashlib
import io
import os
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stockhelper_cli.engine.docker_engine import connect
from stockhelper_cli.engine.endpoints import find
from stockhelper_cli.engine.protocol import BuildOptions, Engine, Image
from stockhelper_cli.errors import Conflict, EngineError, NotFound
from tests.contract.conftest import Lab
from tests.support.fake_engine import FakeEngine
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE


def ignore(line: str, current: int | None, total: int | None) -> None:
    """Progress that nobody looks at."""


def image_of(engine: Engine, reference: str) -> Image:
    """Return an image that must be there."""
    image = engine.image(reference)
    assert image is not None, reference
    return image


def publishing(port: int, host_ip: str = "127.0.0.1") -> Mapping[str, Any]:
    """Return what a container's body needs to publish its port 80."""
    bindings = {"80/tcp": [{"HostIp": host_ip, "HostPort": str(port)}]}
    return {"ExposedPorts": {"80/tcp": {}}, "host": {"PortBindings": bindings}}


# --- who answers
def test_an_engine_says_who_it_is_and_always_the_same(engine: Engine) -> None:
    before = datetime.now(UTC)
    info = engine.info()
    after = datetime.now(UTC)
    assert replace(info, clock=None) == replace(engine.info(), clock=None)
    assert info.id
    assert re.match(r"\d+\.\d+", info.version)
    assert info.api_version >= (1, 41)
    assert info.data_root.startswith("/")
    assert info.operating_system
    assert info.architecture
    assert info.clock is not None
    assert before - timedelta(seconds=30) < info.clock < after + timedelta(seconds=30)
    assert set(info.lacks) <= {"memory", "swap", "processes"}


def test_what_is_told_of_an_engine_is_known_without_asking(engine: Engine) -> None:
    info = engine.info()
    assert (engine.api_version, engine.local) == (info.api_version, info.local)


@pytest.mark.parametrize("lab", ["real"], indirect=True)
def test_what_the_sdk_asks_over_ssh_has_the_same_answers(lab: Lab) -> None:
    lab.run(says=["line"], Labels={"a": "b c"})
    lab.network()
    lab.volume()
    plain = connect(find(os.environ))
    with closing(connect(find(os.environ))) as through_the_sdk, closing(plain):
        assert through_the_sdk._client  # made with the socket; from here on it takes the way of ssh
        through_the_sdk._endpoint = replace(through_the_sdk._endpoint, url="ssh://far")
        questions: list[Callable[[Engine], Any]] = [
            lambda engine: replace(engine.info(), local=True, clock=None),
            lambda engine: engine.containers(lab.selector),
            lambda engine: engine.networks(lab.selector),
            lambda engine: engine.network(lab.name("net")),
            lambda engine: engine.volumes(lab.selector),
            lambda engine: engine.volume(lab.name("data")),
            lambda engine: engine.image(lab.image),
            lambda engine: engine.image("localhost/none:1"),
            lambda engine: engine.logs(lab.name("one"), tail=3),
        ]
        for ask in questions:
            assert ask(through_the_sdk) == ask(plain)
        assert refusal(through_the_sdk) == refusal(plain)


def refusal(engine: Engine) -> tuple[str, str]:
    """Return how an engine says that a volume is not there."""
    with pytest.raises(NotFound) as raised:
        engine.volume("none")
    return raised.value.message, raised.value.cause


# --- containers
def test_a_created_container_is_as_it_was_asked_for(lab: Lab) -> None:
    name = lab.create(Labels={"a": "b"}, Env=["A=1"], host={"Memory": 64 << 20})
    container = lab.engine.container(name)
    assert (container.name, container.status, container.running) == (name, "created", False)
    assert (container.image, container.image_id) == (lab.image, image_of(lab.engine, lab.image).id)
    assert (container.started_at, container.finished_at, container.health) == (None, None, None)
    assert (container.ports, container.restart_count, container.oom_killed, container.error) == ((), 0, False, "")
    assert "A=1" in container.settings["Env"]
    assert container.settings["HostConfig"]["Memory"] == 64 << 20


def test_a_container_carries_its_own_labels_and_its_images(lab: Lab) -> None:
    carried = lab.engine.container(lab.create(Labels={"a": "b"})).labels
    assert carried.items() >= {**image_of(lab.engine, lab.image).labels, **lab.labels, "a": "b"}.items()


def test_container_is_found_by_name_id_and_short_id(lab: Lab) -> None:
    name = lab.create()
    identity = lab.engine.container(name).id
    assert re.fullmatch("[0-9a-f]{64}", identity)
    assert lab.engine.container(identity).name == lab.engine.container(identity[:12]).name == name


def test_containers_are_found_by_labels_stopped_ones_too(lab: Lab) -> None:
    lab.create("one", Labels={"part": "x"})
    lab.run("two", Labels={"part": "y"})
    lab.finished("three")

    def found(*labels: str) -> set[str]:
        return {container.name for container in lab.engine.containers([*lab.selector, *labels])}

    assert found() == {lab.name("one"), lab.name("two"), lab.name("three")}
    assert found("part") == {lab.name("one"), lab.name("two")}
    assert found("part=x") == {lab.name("one")}
    assert found("part=x", "part=y") == found("absent") == set()

    labels = {lab.engine.container(lab.name(suffix)).id: its for suffix, its in [("one", "x"), ("two", "y")]}
    known = lab.engine.labelled([*lab.selector, "part"])
    assert {container: its["part"] for container, its in known.items()} == labels


def test_listed_containers_are_inspected_like_single_ones(lab: Lab) -> None:
    name = lab.run()
    assert lab.engine.containers(lab.selector) == [lab.engine.container(name)]


def test_a_taken_name_is_a_conflict(lab: Lab) -> None:
    lab.create()
    with pytest.raises(Conflict) as raised:
        lab.create()
    assert raised.value.code == "engine.conflict"
    assert raised.value.message == f"could not create the container {lab.name('one')}"


def test_a_container_of_an_absent_image_is_not_made(lab: Lab) -> None:
    with pytest.raises(NotFound, match="could not create"):
        lab.create(Image="localhost/shtest-absent:1")
    assert lab.engine.containers(lab.selector) == []


def test_a_started_container_runs_since_now(lab: Lab) -> None:
    before = datetime.now(UTC)
    container = lab.engine.container(lab.run())
    assert (container.status, container.running) == ("running", True)
    assert container.started_at is not None
    assert before - timedelta(minutes=1) < container.started_at < datetime.now(UTC) + timedelta(minutes=1)


def test_starting_what_runs_changes_nothing(lab: Lab) -> None:
    name = lab.run()
    before = lab.engine.container(name)
    lab.engine.start(name)
    assert lab.engine.container(name) == before


def test_finished_container_keeps_exit_code_and_starts_again(lab: Lab) -> None:
    """A container that ends by itself keeps its exit code and can be started again."""
    name = lab.finished(code=3)
    first = lab.engine.container(name)
    assert (first.status, first.exit_code, first.ports) == ("exited", 3, ())
    assert first.started_at is not None
    assert first.finished_at is not None
    # Their order is not promised: the engine may write down the start of a quick one after its end.
    lab.engine.start(name)
    again = lab.engine.container(name)
    assert again.id == first.id
    assert again.started_at is not None
    assert again.started_at > first.started_at


def test_a_stopped_container_has_exited_and_publishes_nothing(lab: Lab) -> None:
    name = lab.run(**publishing(free_port()))
    assert lab.engine.container(name).ports
    lab.engine.stop(name)
    container = lab.engine.container(name)
    assert (container.status, container.exit_code, container.ports) == ("exited", 0, ())


def test_stopping_what_does_not_run_changes_nothing(lab: Lab) -> None:
    for name in (lab.create("one"), lab.finished("two")):
        before = lab.engine.container(name)
        lab.engine.stop(name)
        assert lab.engine.container(name) == before


def test_paused_container_can_only_be_stopped(lab: Lab) -> None:
    """A paused container can be stopped, but neither started nor used for a command."""
    name = lab.run()
    lab.pause(name)
    assert lab.engine.container(name).status == "paused"
    assert not lab.engine.container(name).running
    with pytest.raises(Conflict):
        lab.engine.start(name)
    with pytest.raises(Conflict):
        lab.engine.exec(name, ["true"])
    lab.engine.stop(name, 1)
    assert lab.engine.container(name).status == "exited"


def test_unpaused_container_keeps_its_start_time(lab: Lab) -> None:
    """An unpaused container continues with its old start time, and unpausing it twice fails."""
    name = lab.run()
    before = lab.engine.container(name)
    lab.pause(name)
    assert lab.engine.container(name).alive
    lab.engine.unpause(name)
    assert lab.engine.container(name) == before
    with pytest.raises(EngineError, match="could not unpause"):
        lab.engine.unpause(name)


def test_a_published_port_is_told_while_the_container_runs(lab: Lab) -> None:
    port = free_port()
    name = lab.create(**publishing(port))
    assert lab.engine.container(name).ports == ()
    lab.engine.start(name)
    (published,) = lab.engine.container(name).ports
    assert (published.host_ip, published.host_port, published.container) == ("127.0.0.1", port, "80/tcp")


def test_busy_port_fails_the_start_and_keeps_the_container(lab: Lab) -> None:
    """A start fails if its port is taken, and the container stays as it was and can start later."""
    port = free_port()
    lab.run("first", **publishing(port))
    second = lab.create("second", **publishing(port))
    with pytest.raises(EngineError) as raised:
        lab.engine.start(second)
    assert raised.value.code == "port.busy"
    assert "port is already allocated" in raised.value.cause
    assert lab.engine.container(second).status == "created"
    lab.engine.stop(lab.name("first"))
    lab.engine.start(second)
    assert lab.engine.container(second).running


def test_health_is_starting_with_a_check_and_absent_without(lab: Lab) -> None:
    check = {"Test": ["CMD", "true"], "Interval": 3600 * 10**9}
    checked = lab.run("checked", Healthcheck=check)
    disabled = lab.run("disabled", Healthcheck={"Test": ["NONE"]})
    plain = lab.run("plain")
    health = lab.engine.container(checked).health
    assert health is not None
    assert health.status == "starting"
    assert lab.engine.container(disabled).health is lab.engine.container(plain).health is None


def test_what_has_stopped_is_not_called_healthy(lab: Lab) -> None:
    name = lab.run(Healthcheck={"Test": ["CMD", "true"], "Interval": 3600 * 10**9})
    lab.engine.stop(name)
    health = lab.engine.container(name).health
    assert health is not None
    assert health.status == "unhealthy"


def test_a_running_container_is_removed_only_by_force(lab: Lab) -> None:
    name = lab.run()
    with pytest.raises(Conflict):
        lab.engine.remove_container(name)
    lab.engine.remove_container(name, force=True)
    assert lab.engine.containers(lab.selector) == []


def test_a_renamed_container_has_only_its_new_name(lab: Lab) -> None:
    name = lab.run()
    lab.engine.rename(name, lab.name("other"))
    assert lab.container("other").running
    with pytest.raises(NotFound):
        lab.engine.container(name)
    lab.create("one")


def test_rename_to_a_taken_or_the_same_name_fails(lab: Lab) -> None:
    one, two = lab.create("one"), lab.create("two")
    with pytest.raises(Conflict):
        lab.engine.rename(one, two)
    with pytest.raises(EngineError):
        lab.engine.rename(one, one)
    assert {container.name for container in lab.engine.containers(lab.selector)} == {one, two}


ASKED_OF_A_CONTAINER: Mapping[str, Callable[[Engine, str], object]] = {
    "inspect": lambda engine, name: engine.container(name),
    "start": lambda engine, name: engine.start(name),
    "stop": lambda engine, name: engine.stop(name),
    "remove": lambda engine, name: engine.remove_container(name),
    "remove by force": lambda engine, name: engine.remove_container(name, force=True),
    "rename": lambda engine, name: engine.rename(name, name + "-new"),
    "logs": lambda engine, name: engine.logs(name),
    "follow": lambda engine, name: list(engine.follow(name)),
    "exec": lambda engine, name: engine.exec(name, ["true"]),
    "open": lambda engine, name: engine.open(name, ["true"], tty=False, stdin=False),
    "connect": lambda engine, name: engine.connect("bridge", name, {}),
}


@pytest.mark.parametrize("ask", ASKED_OF_A_CONTAINER.values(), ids=list(ASKED_OF_A_CONTAINER))
def test_an_absent_container_is_not_found(lab: Lab, ask: Callable[[Engine, str], object]) -> None:
    with pytest.raises(NotFound) as raised:
        ask(lab.engine, lab.name("absent"))
    assert raised.value.code == "engine.not_found"
    assert lab.name("absent") in raised.value.message


# --- mounts
def test_mounts_are_told_by_kind_name_and_target(lab: Lab, tmp_path: Path) -> None:
    volume = lab.volume()
    name = lab.create(host={"Binds": [f"{volume}:/data", f"{tmp_path}:/here:ro"]})
    mounts = {mount.target: (mount.type, mount.name) for mount in lab.engine.container(name).mounts}
    assert mounts == {"/data": ("volume", volume), "/here": ("bind", "")}


def test_declared_path_gets_an_anonymous_volume(lab: Lab) -> None:
    """A path that the container declares as a volume gets an anonymous one."""
    volume = lab.volume()
    name = lab.create(Volumes={"/own": {}, "/data": {}}, host={"Binds": [f"{volume}:/data"]})
    mounts = {mount.target: mount.name for mount in lab.engine.container(name).mounts}
    assert mounts["/data"] == volume
    assert re.fullmatch("[0-9a-f]{64}", mounts["/own"])
    assert lab.engine.volume(mounts["/own"])


@pytest.mark.parametrize("volumes", [False, True], ids=["kept", "removed"])
def test_removal_deletes_anonymous_volumes_only_on_request(lab: Lab, volumes: bool) -> None:
    """Named volumes are never removed with a container, and anonymous ones only with `volumes=True`."""
    named = lab.volume()
    name = lab.create(Volumes={"/own": {}}, host={"Binds": [f"{named}:/data"]})
    (anonymous,) = {mount.name for mount in lab.engine.container(name).mounts} - {named}
    lab.engine.remove_container(name, volumes=volumes)
    assert lab.engine.volume(named)
    if volumes:
        with pytest.raises(NotFound):
            lab.engine.volume(anonymous)
    else:
        lab.engine.remove_volume(anonymous)


def test_removal_keeps_a_volume_that_was_mounted_by_name(lab: Lab) -> None:
    """An anonymous volume that a successor took over by its name stays: it may be anybody's data."""
    first = lab.create(Volumes={"/own": {}})
    (anonymous,) = {mount.name for mount in lab.engine.container(first).mounts}
    taken = {"Type": "volume", "Source": anonymous, "Target": "/own"}
    second = lab.create("two", Volumes={"/own": {}}, host={"Mounts": [taken]})
    lab.engine.remove_container(first, volumes=True)
    assert lab.engine.volume(anonymous)
    lab.engine.remove_container(second, volumes=True)
    assert lab.engine.volume(anonymous)
    lab.engine.remove_volume(anonymous)


def test_binding_a_volume_that_is_not_there_makes_it(lab: Lab) -> None:
    name = lab.name("made")
    lab.create(host={"Binds": [f"{name}:/data"]})
    assert lab.engine.volume(name).name == name
    lab.engine.remove_container(lab.name("one"))
    lab.engine.remove_volume(name)


# --- logs
def test_logs_come_in_order_whole_or_their_end(lab: Lab) -> None:
    name = lab.finished(says=["one", "two", "three"])
    assert lab.engine.logs(name) == ["one", "two", "three"]
    assert lab.engine.logs(name, tail=2) == ["two", "three"]
    assert lab.engine.logs(name, tail=0) == []
    assert lab.engine.logs(name, tail=99) == ["one", "two", "three"]


def test_logs_since_a_moment_leave_out_what_was_before(lab: Lab) -> None:
    name = lab.finished(says=["one"])
    now = datetime.now(UTC).timestamp()
    assert lab.engine.logs(name, since=now - 3600) == ["one"]
    assert lab.engine.logs(name, since=now + 3600) == []
    assert lab.engine.logs(name, since=-1.0) == ["one"]


def test_logs_with_time_stamps_say_when(lab: Lab) -> None:
    before = datetime.now(UTC)
    (line,) = lab.engine.logs(lab.finished(says=["one"]), timestamps=True)
    stamp, text = line.split(" ", 1)
    assert text == "one"
    written = datetime.fromisoformat(stamp)
    assert before - timedelta(minutes=1) < written < datetime.now(UTC) + timedelta(minutes=1)


def test_a_line_is_one_however_long_it_is_and_whatever_it_holds(lab: Lab) -> None:
    long = "0123456789 " * 4000  # the engine keeps it in three pieces, and stamps each
    name = lab.finished(says=[long, "10 %\r20 %"])
    assert lab.engine.logs(name) == [long, "10 %\r20 %"]
    stamped = [line.split(" ", 1)[1] for line in lab.engine.logs(name, timestamps=True)]
    assert stamped == [long, "10 %\r20 %"]
    assert [line.decode().split(" ", 1)[1] for line in lab.engine.follow(name)] == [long, "10 %\r20 %"]


def test_the_log_of_a_terminal_is_read_like_any_other(lab: Lab) -> None:
    name = lab.finished(says=["one", "two"], Tty=True)
    assert lab.engine.logs(name) == ["one", "two"]
    assert [line.split(" ", 1)[1] for line in lab.engine.logs(name, timestamps=True)] == ["one", "two"]


def test_a_container_that_never_ran_has_no_logs(lab: Lab) -> None:
    assert lab.engine.logs(lab.create()) == []
    assert lab.engine.logs(lab.create("two", Tty=True)) == []


def test_a_followed_log_ends_with_its_container(lab: Lab) -> None:
    name = lab.run(says=["one", "two"])
    stream = iter(lab.engine.follow(name))
    stamp, _, text = next(stream).partition(b" ")
    assert text == b"one"
    assert datetime.fromisoformat(stamp.decode()).tzinfo is not None
    lab.engine.stop(name)
    assert [line.partition(b" ")[2] for line in stream] == [b"two"]


def test_a_followed_log_begins_where_it_is_told(lab: Lab) -> None:
    name = lab.finished(says=["one", "two", "three"])
    assert [line.partition(b" ")[2] for line in lab.engine.follow(name, tail=1)] == [b"three"]
    assert [line.partition(b" ")[2] for line in lab.engine.follow(name, tail=0)] == []


def test_followed_log_is_closed_by_another_thread(lab: Lab) -> None:
    """Closing a followed log from another thread ends it without an error."""
    stream = lab.engine.follow(lab.run(says=["one"]))
    seen = threading.Event()
    lines: list[bytes] = []

    def read() -> None:
        for line in stream:
            lines.append(line.partition(b" ")[2])
            seen.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert seen.wait(PATIENCE)
    stream.close()
    reader.join(PATIENCE)
    assert not reader.is_alive()
    assert lines == [b"one"]


# --- commands in a container
def test_attached_output_is_complete_and_split_by_stream(lab: Lab) -> None:
    """Attached output is split into stdout and stderr, from the first byte to the last."""
    name = lab.create(ends=0, says=["one", "two"], complains=["oh", "no"])
    output = lab.engine.attach(name)
    lab.engine.start(name)
    heard = list(output)
    assert b"".join(chunk for stream, chunk in heard if stream == 1) == b"one\ntwo\n"
    assert b"".join(chunk for stream, chunk in heard if stream == 2) == b"oh\nno\n"


def test_nobody_attaches_to_what_is_not_there(lab: Lab) -> None:
    with pytest.raises(NotFound):
        lab.engine.attach(lab.name("nobody"))


def test_a_command_gives_its_exit_code_and_both_streams(lab: Lab) -> None:
    result = lab.engine.exec(lab.run(), ["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"out\n", b"err\n")


def test_a_command_that_says_nothing_gives_nothing(lab: Lab) -> None:
    result = lab.engine.exec(lab.run(), ["true"])
    assert (result.exit_code, result.stdout, result.stderr) == (0, b"", b"")


@pytest.mark.parametrize("state", ["created", "exited"])
def test_no_command_runs_in_what_does_not_run(lab: Lab, state: str) -> None:
    name = lab.create() if state == "created" else lab.finished()
    with pytest.raises(Conflict) as raised:
        lab.engine.exec(name, ["true"])
    assert raised.value.message == f"could not run true in the container {name}"
    with pytest.raises(Conflict):
        lab.engine.open(name, ["true"], tty=False, stdin=False)


def test_an_open_command_tells_its_streams_apart(lab: Lab) -> None:
    session = lab.engine.open(lab.run(), ["sh", "-c", "echo out; echo err >&2; exit 3"], tty=False, stdin=False)
    parts = list(session.output())
    assert {number: b"".join(part for n, part in parts if n == number) for number in (1, 2)} == {
        1: b"out\n",
        2: b"err\n",
    }
    assert session.exit_code() == 3


def test_an_open_command_reads_its_input_to_the_end(lab: Lab) -> None:
    session = lab.engine.open(lab.run(), ["cat"], tty=False, stdin=True)
    session.write(b"one\n")
    session.write(b"two\n")
    session.end_input()
    assert b"".join(part for _, part in session.output()) == b"one\ntwo\n"
    assert session.exit_code() == 0


def test_on_a_terminal_all_output_is_one_stream(lab: Lab) -> None:
    # It says nothing before it has its size: a resize is for what runs.
    sized = "[ ! -t 2 ] || [ \"$(stty size <&2)\" = '24 80' ]"
    wait = f"for _ in $(seq {10 * int(PATIENCE)}); do {{ {sized}; }} && break; sleep 0.1; done"
    script = f"{wait}; {{ {sized}; }} && echo out && echo err >&2"
    session = lab.engine.open(lab.run(), ["sh", "-c", script], tty=True, stdin=False)
    session.resize(24, 80)
    parts = list(session.output())
    assert {number for number, _ in parts} == {1}
    assert b"".join(part for _, part in parts).replace(b"\r", b"") == b"out\nerr\n"
    assert session.exit_code() == 0


@pytest.mark.parametrize("lab", ["real"], indirect=True)
def test_an_open_command_gives_every_byte_of_much_output(lab: Lab) -> None:
    script = "head -c 20000000 /dev/urandom > /tmp/much; cat /tmp/much; md5sum < /tmp/much >&2"
    session = lab.engine.open(lab.run(), ["sh", "-c", script], tty=False, stdin=False)
    digest, said = hashlib.md5(usedforsecurity=False), b""
    for stream, data in session.output():
        if stream == 1:
            digest.update(data)
        else:
            said += data
    assert (said.split()[0].decode(), session.exit_code()) == (digest.hexdigest(), 0)


@pytest.mark.parametrize("lab", ["real"], indirect=True)
def test_closing_an_open_command_wakes_who_reads_from_it(lab: Lab) -> None:
    session = lab.engine.open(lab.run(), ["cat"], tty=False, stdin=True)
    session.write(b"here\n")
    output = session.output()
    assert next(output) == (1, b"here\n")
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(list, output)
        session.close()
        assert rest.result(timeout=PATIENCE) == []


@pytest.mark.parametrize("state", ["running", "created", "exited"])
def test_a_file_is_read_out_of_a_container_in_any_state(lab: Lab, state: str) -> None:
    name = {"running": lab.run, "created": lab.create, "exited": lab.finished}[state]()
    if isinstance(lab.engine, FakeEngine):
        lab.engine.files[name] = {"/etc/passwd": b"here"}
    assert lab.engine.read_file(name, "/etc/passwd")
    assert lab.engine.read_file(name, "/etc/absent") is None
    assert lab.engine.read_file(name, "/absent/absent") is None
    with pytest.raises(NotFound):
        lab.engine.read_file("absent", "/etc/passwd")


def test_container_without_writes_has_zero_written_bytes(lab: Lab) -> None:
    assert lab.engine.written_bytes(lab.run()) == 0


@pytest.mark.parametrize("lab", ["real"], indirect=True)
def test_what_a_container_writes_beside_its_mounts_is_measured(lab: Lab) -> None:
    name = lab.run(host={"Tmpfs": {"/quick": ""}})
    for path in ("/kept", "/quick/gone"):
        assert lab.engine.exec(name, ["truncate", "-s", "5M", path]).exit_code == 0
    assert 5 << 20 <= lab.engine.written_bytes(name) < 6 << 20


def test_who_uses_a_volume_is_known(lab: Lab) -> None:
    volume = lab.volume()
    assert lab.engine.volume_users(volume) == []
    mounts = [{"Type": "volume", "Source": volume, "Target": "/data"}]
    name = lab.create(host={"Mounts": mounts})
    assert [container.name for container in lab.engine.volume_users(volume)] == [name]


@pytest.mark.parametrize("lab", ["real"], indirect=True)
def test_an_image_tells_the_environment_that_it_brings(lab: Lab) -> None:
    assert "/usr/bin" in image_of(lab.engine, lab.image).environment["PATH"]


# --- networks
def test_a_network_is_found_by_its_name_and_labels(lab: Lab) -> None:
    name = lab.network()
    network = lab.engine.network(name)
    assert (network.name, network.labels) == (name, lab.labels)
    assert lab.engine.networks(lab.selector) == [network]
    assert lab.engine.networks([*lab.selector, "absent"]) == []


def test_a_network_is_not_found_by_its_id(lab: Lab) -> None:
    identity = lab.engine.network(lab.network()).id
    with pytest.raises(NotFound):
        lab.engine.network(identity)


def test_a_second_network_of_the_same_name_is_a_conflict(lab: Lab) -> None:
    lab.network()
    with pytest.raises(Conflict):
        lab.network()


def test_an_absent_network_is_not_found(lab: Lab) -> None:
    for ask in (lab.engine.network, lab.engine.remove_network):
        with pytest.raises(NotFound):
            ask(lab.name("absent"))
    with pytest.raises(NotFound):
        lab.engine.connect(lab.name("absent"), lab.run(), {})


def test_a_network_is_removed_when_nothing_in_it_runs(lab: Lab) -> None:
    network = lab.network()
    name = lab.run(host={"NetworkMode": network})
    with pytest.raises(Conflict):
        lab.engine.remove_network(network)
    lab.engine.stop(name)
    lab.engine.remove_network(network)
    assert lab.engine.networks(lab.selector) == []


def test_a_network_names_those_who_are_in_it_and_alive(lab: Lab) -> None:
    network = lab.network()
    running, paused, ended = (lab.run(name, host={"NetworkMode": network}) for name in ("a", "b", "c"))
    lab.create("d", host={"NetworkMode": network})
    lab.pause(paused)
    lab.engine.stop(ended)
    assert lab.engine.network(network).containers == (running, paused)


def test_aliases_are_kept_in_the_order_they_were_asked_for(lab: Lab) -> None:
    network = lab.network()
    endpoints = {network: {"Aliases": ["first", "second"]}}
    name = lab.create(host={"NetworkMode": network}, NetworkingConfig={"EndpointsConfig": endpoints})
    for _ in range(2):
        (attachment,) = lab.engine.container(name).networks
        assert attachment.network == network
        assert attachment.aliases[:2] == ("first", "second")
        lab.engine.start(name)
    assert attachment.network_id in ("", lab.engine.network(network).id)
    assert lab.engine.container(name).networks[0].network_id == lab.engine.network(network).id


def test_a_container_joins_and_leaves_further_networks(lab: Lab) -> None:
    first, second = lab.network("first"), lab.network("second")
    name = lab.create(host={"NetworkMode": first})
    lab.engine.connect(second, name, {"Aliases": ["alias"]})
    lab.engine.start(name)
    joined = {attachment.network: attachment.aliases for attachment in lab.engine.container(name).networks}
    assert set(joined) == {first, second}
    assert "alias" in joined[second]
    lab.engine.disconnect(second, name)
    assert [attachment.network for attachment in lab.engine.container(name).networks] == [first]


def test_joining_twice_or_leaving_another_network_fails(lab: Lab) -> None:
    """A container can neither join a network twice nor leave one that it is not in."""
    network, other = lab.network(), lab.network("other")
    name = lab.run(host={"NetworkMode": network})
    with pytest.raises(EngineError):
        lab.engine.connect(network, name, {})
    with pytest.raises(EngineError):
        lab.engine.disconnect(other, name)


def test_create_in_two_networks_needs_api_1_44(lab: Lab) -> None:
    """Before API 1.44, a container can be created in one network only."""
    networks = [lab.network("first"), lab.network("second")]
    config: Mapping[str, Any] = {"EndpointsConfig": {network: {} for network in networks}}
    if lab.engine.info().api_version >= (1, 44):
        name = lab.create(host={"NetworkMode": networks[0]}, NetworkingConfig=config)
        assert len(lab.engine.container(name).networks) == 2
        return
    with pytest.raises(EngineError):
        lab.create(host={"NetworkMode": networks[0]}, NetworkingConfig=config)


def test_stopped_container_does_not_start_in_a_new_network(lab: Lab) -> None:
    """A container keeps the id of its network and does not start in a new one with the same name."""
    network = lab.network()
    name = lab.run(host={"NetworkMode": network})
    lab.engine.stop(name)
    lab.engine.remove_network(network)
    lab.network()
    (attachment,) = lab.engine.container(name).networks
    assert attachment.network_id != lab.engine.network(network).id
    with pytest.raises(NotFound, match="could not start"):
        lab.engine.start(name)


def test_never_started_container_starts_in_a_new_network(lab: Lab) -> None:
    """A container that never ran starts in a recreated network of the same name."""
    network = lab.network()
    name = lab.create(host={"NetworkMode": network})
    lab.engine.remove_network(network)
    with pytest.raises(NotFound):
        lab.engine.start(name)
    lab.network()
    lab.engine.start(name)
    assert lab.engine.container(name).running


# --- volumes
def test_a_volume_is_found_by_its_name_and_labels(lab: Lab) -> None:
    name = lab.volume()
    volume = lab.engine.volume(name)
    assert (volume.name, volume.labels) == (name, lab.labels)
    assert lab.engine.volumes(lab.selector) == [volume]
    assert lab.engine.volumes([*lab.selector, "absent"]) == []


def test_creating_a_volume_that_is_there_leaves_it_as_it_is(lab: Lab) -> None:
    name = lab.volume()
    lab.engine.create_volume(name, {"Labels": {"other": "labels"}})
    assert lab.engine.volume(name).labels == lab.labels


def test_a_volume_in_use_even_by_what_has_stopped_is_a_conflict(lab: Lab) -> None:
    volume = lab.volume()
    name = lab.finished()
    lab.engine.remove_container(name)
    name = lab.create(host={"Binds": [f"{volume}:/data"]})
    with pytest.raises(Conflict):
        lab.engine.remove_volume(volume)
    lab.engine.remove_container(name)
    lab.engine.remove_volume(volume)
    assert lab.engine.volumes(lab.selector) == []


def test_an_absent_volume_is_not_found(lab: Lab) -> None:
    for ask in (lab.engine.volume, lab.engine.remove_volume):
        with pytest.raises(NotFound):
            ask(lab.name("absent"))


# --- images
def test_an_absent_image_is_none(lab: Lab) -> None:
    assert lab.engine.image(lab.tag("absent")) is None
    assert lab.engine.image("sha256:" + "0" * 64) is None


def test_imported_image_is_found_by_name_and_id(lab: Lab) -> None:
    """An imported image is found by its name and its id, and has its labels."""
    reference = lab.imported(changes=["LABEL a=b"])
    image = image_of(lab.engine, reference)
    assert re.fullmatch("sha256:[0-9a-f]{64}", image.id)
    assert (image.tags, image.labels) == ((reference,), {"a": "b"})
    assert lab.engine.image(image.id) == image


def test_a_name_without_a_tag_means_latest(lab: Lab) -> None:
    reference = lab.imported()
    bare = f"localhost/{lab.name('bare')}"
    lab.engine.tag(reference, bare)
    assert image_of(lab.engine, bare) == image_of(lab.engine, bare + ":latest") == image_of(lab.engine, reference)
    lab.engine.remove_image(bare)


def test_an_image_may_have_several_names_and_goes_with_the_last(lab: Lab) -> None:
    first = lab.imported()
    second = lab.tag("second")
    lab.engine.tag(first, second)
    image = image_of(lab.engine, first)
    assert set(image.tags) == {first, second}
    lab.engine.remove_image(first)
    assert image_of(lab.engine, second).tags == (second,)
    assert lab.engine.image(first) is None
    lab.engine.remove_image(second)
    assert lab.engine.image(image.id) is None


def test_a_name_that_is_given_anew_leaves_the_image_that_had_it(lab: Lab) -> None:
    first, second = lab.imported("first"), lab.imported("second")
    old = image_of(lab.engine, second)
    lab.engine.tag(first, second)
    assert image_of(lab.engine, second).id == image_of(lab.engine, first).id
    assert image_of(lab.engine, old.id).tags == ()
    lab.engine.remove_image(old.id)


def test_an_image_in_use_is_a_conflict(lab: Lab) -> None:
    reference = lab.imported()
    name = lab.create(Image=reference)
    with pytest.raises(Conflict):
        lab.engine.remove_image(reference)
    lab.engine.remove_container(name)
    lab.engine.remove_image(reference)


def test_an_absent_image_can_be_neither_named_nor_removed(lab: Lab) -> None:
    with pytest.raises(NotFound):
        lab.engine.tag(lab.tag("absent"), lab.tag("new"))
    with pytest.raises(NotFound):
        lab.engine.remove_image(lab.tag("absent"))


def test_a_registry_that_does_not_answer_is_told_apart(lab: Lab) -> None:
    with pytest.raises(EngineError) as raised:
        lab.engine.pull("localhost:1/shtest-absent:1", ignore)
    assert raised.value.code == "image.registry"
    assert raised.value.message == "could not pull the image localhost:1/shtest-absent:1"
    assert raised.value.cause


def test_unreachable_registry_query_has_its_error_code(lab: Lab) -> None:
    """Asking an unreachable registry for an image fails with the same error code as a pull."""
    with pytest.raises(EngineError) as raised:
        lab.engine.ask_registry("localhost:1/shtest-absent:1")
    assert raised.value.code == "image.registry"
    assert raised.value.message == "could not find the image localhost:1/shtest-absent:1 in its registry"
    assert raised.value.cause


def test_saved_images_can_be_loaded_again_with_names_and_labels(lab: Lab) -> None:
    references = [lab.imported("first", ["LABEL n=1"]), lab.imported("second", ["LABEL n=2"])]
    before = [image_of(lab.engine, reference) for reference in references]
    archive = io.BytesIO(b"".join(lab.engine.save(references)))
    for reference in references:
        lab.engine.remove_image(reference)
    lab.engine.load(archive)
    after = [image_of(lab.engine, reference) for reference in references]
    assert [(i.id, i.tags, i.labels) for i in after] == [(i.id, i.tags, i.labels) for i in before]


def test_an_absent_image_cannot_be_saved(lab: Lab) -> None:
    with pytest.raises(NotFound):
        list(lab.engine.save([lab.tag("absent")]))


def test_what_is_no_archive_cannot_be_loaded(lab: Lab) -> None:
    with pytest.raises(EngineError):
        lab.engine.load(io.BytesIO(b"this is no archive of images"))


# --- builds
def test_build_tags_and_labels_the_image_and_reports_steps(lab: Lab, tmp_path: Path) -> None:
    said: list[str] = []
    options = lab.context(tmp_path, "FROM scratch\nCOPY payload /\n", payload="x")
    identity = lab.engine.build(options, lambda line, current, total: said.append(line))
    image = image_of(lab.engine, options.tag)
    assert (image.id, image.tags) == (identity, (options.tag,))
    assert image.labels.items() >= lab.labels.items()
    assert any(line.startswith("Step 1/") for line in said)


def test_failed_build_shows_last_lines_and_leaves_no_image(lab: Lab, tmp_path: Path) -> None:
    from tests.support.fake_engine import FakeEngine

    options = lab.context(tmp_path, f"FROM {lab.image}\nRUN echo on the way >&2 && exit 7\n")
    if isinstance(lab.engine, FakeEngine):
        lab.engine.build_failure = ["on the way", "returned a non-zero code: 7"]
    with pytest.raises(EngineError) as raised:
        lab.engine.build(options, ignore)
    assert raised.value.code == "image.build"
    assert raised.value.message == f"could not build the image {options.tag}"
    assert "returned a non-zero code: 7" in raised.value.cause
    assert "on the way" in raised.value.details
    assert lab.engine.image(options.tag) is None


def test_build_context_has_the_files_not_ignored(engine: Engine, tmp_path: Path) -> None:
    """A build sends only the files that the ignore file lets through."""
    (tmp_path / ".dockerignore").write_text("# only these\n*\n!app\n**/__pycache__\n")
    for name in ("Dockerfile", ".env", "app/main.py", "app/__pycache__/main.pyc", "app/deep/er.py", "other/x.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    files = engine.context_files(BuildOptions(tmp_path, "Dockerfile", "x"))
    sent = {name for name in files if (tmp_path / name).is_file()}
    assert sent - {".dockerignore", "Dockerfile"} == {"app/main.py", "app/deep/er.py"}
    assert files == sorted(files)
