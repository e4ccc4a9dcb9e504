"""Which files and variables count, what is refused and how it is told.

That the result is Compose's is shown in tests/contract/test_compose_model.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from stockhelper_cli.compose import Build, Dependency, Healthcheck, Project, PublishedPort, load
from stockhelper_cli.errors import ConfigError
from tests.support import ROOT

OWN = {"POSTGRES_PASSWORD": "p$w", "APP_DB_PASSWORD": "q"}


def project(folder: Path, text: str, environ: Mapping[str, str] | None = None, **more: str) -> Project:
    """Load a folder's compose.yaml with this text, and other files beside it."""
    for name, content in {"compose.yaml": text, **more}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return load(folder, environ=environ or {})


def refusal(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        project(folder, text, environ)
    assert "\n" not in error.value.message
    return error.value.message


def test_invalid_value_names_its_variable_and_source(tmp_path: Path) -> None:
    """An invalid value is reported with the variable it comes from and where that is set."""
    (tmp_path / ".env").write_text("# limits\nMEMORY=1q\n")
    with pytest.raises(ConfigError) as error:
        project(tmp_path, "services: {a: {image: '${TAG:-${NAME}}', mem_limit: '${MEMORY:-1g}'}}", {"NAME": "x"})
    assert error.value.message.startswith("compose.yaml:1: services.a.mem_limit: '1q' is not a size")
    assert error.value.cause == "it takes NAME from environment, MEMORY from .env:2"


# --- the stack itself


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("own")
    (folder / "compose").mkdir()
    (folder / "compose" / "compose.yaml").write_text((ROOT / "compose" / "compose.yaml").read_text())
    (folder / ".env").write_text("APP_PORT=8123\n")
    return load(folder, environ=OWN)


def test_our_own_layout_is_found_without_being_named(own: Project) -> None:
    assert own.files == (own.root / "compose" / "compose.yaml",)
    assert (own.name, own.directory) == ("stockhelper", own.root / "compose")
    assert [(service.name, service.role) for service in own.services.values()] == [
        ("app", "app"),
        ("db", "database"),
        ("migrate", "migrate"),
    ]
    assert own.warnings == ()


def test_a_service_names_what_others_ask_for(own: Project) -> None:
    app, db = own.services["app"], own.services["db"]
    assert app.depends_on == (
        Dependency("db", "service_healthy"),
        Dependency("migrate", "service_completed_successfully"),
    )
    assert app.ports == (PublishedPort("127.0.0.1", "8123", 8000, "tcp"),)
    assert app.build == Build(
        context=own.root,
        dockerfile="docker/app/Dockerfile",
        args={"APT_MIRROR": "", "PIP_INDEX_URL": "", "PYTHON_IMAGE": "python:3.13-slim"},
    )
    assert app.environment["POSTGRES_USER"] == "stockhelper_app"
    assert app.stop_grace_period == 35
    assert app.container_name == "stockhelper-app-1"
    assert db.environment["POSTGRES_PASSWORD"] == "p$w"
    assert db.healthcheck is not None
    assert db.healthcheck.test[0] == "CMD-SHELL"
    assert (db.healthcheck.interval, db.healthcheck.start_period, db.healthcheck.retries) == (10, 30, 5)
    assert own.services["migrate"].healthcheck == Healthcheck(disabled=True)
    assert own.networks["stock_helper_net"].name == "stockhelper_stock_helper_net"
    assert own.volumes["postgres_data"].name == "stockhelper_postgres_data"


def test_a_place_is_told_by_file_and_line(own: Project) -> None:
    lines = (own.root / "compose" / "compose.yaml").read_text().splitlines()

    def line(path: tuple[str | int, ...]) -> str:
        file, _, number = own.where(*path).partition(":")
        assert file == "compose/compose.yaml"
        return lines[int(number) - 1].strip()

    assert line(("services", "app", "volumes", 0)).startswith("- ${CSV_DIR")
    assert line(("services", "db", "environment", "POSTGRES_PASSWORD")).startswith("POSTGRES_PASSWORD:")
    # An entry that came by an anchor stands where the anchor does.
    assert line(("services", "app", "cap_drop")).startswith("cap_drop:")
    assert line(("services", "app", "no such key")).startswith("app:")


# --- files and variables


def test_an_override_lies_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "compose.override.yml").write_text("services: {a: {user: '2'}}")
    found = project(tmp_path, "services: {a: {image: x, user: '1'}}")
    assert found.services["a"].spec["user"] == "2"
    assert [file.name for file in found.files] == ["compose.yaml", "compose.override.yml"]
    assert found.where("services", "a", "user") == "compose.override.yml:1"


def test_the_shell_beats_env_files_and_later_ones_earlier_ones(tmp_path: Path) -> None:
    (tmp_path / "one.env").write_text("A=1\nB=1\nC=1\n")
    (tmp_path / "two.env").write_text("B=2\nC=2\nD=$A$B$C\n")
    (tmp_path / ".env").write_text("A=env\nE=env\n")
    (tmp_path / "compose.yaml").write_text("services: {a: {image: '$A-$B-$C-$D-${E:-none}'}}")
    found = load(tmp_path, env_files=[Path("one.env"), Path("two.env")], environ={"C": "shell"})
    assert found.services["a"].image == "1-2-shell-12shell-none"
    assert load(tmp_path, environ={"C": "shell"}).services["a"].image == "env--shell--env"
    named = load(tmp_path, environ={"COMPOSE_ENV_FILES": "two.env"})
    assert named.services["a"].image == "-2-2-22-none"


def test_dotenv_is_found_at_the_root_and_known_by_its_lines(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# c\nTAG=1\n")
    found = project(tmp_path, "services: {a: {image: 'x:$TAG'}}")
    assert found.dotenv is not None
    assert (found.dotenv.path, found.dotenv.line("TAG")) == (tmp_path / ".env", 2)
    assert project(tmp_path, "services: {a: {image: x}}", {"COMPOSE_DISABLE_ENV_FILE": "1"}).dotenv is None


def test_a_variable_without_a_value_is_blank_with_a_warning(tmp_path: Path) -> None:
    found = project(tmp_path, "services:\n  a:\n    image: x$TAG\n    user: $TAG")
    assert found.warnings == (
        "compose.yaml:3: the variable TAG is not set; a blank is taken",
        "compose.yaml:4: the variable TAG is not set; a blank is taken",
    )


def test_compose_file_names_the_files(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("services: {b: {image: x}}")
    found = project(tmp_path, "services: {a: {image: x}}", {"COMPOSE_FILE": "compose.yaml:b.yaml"})
    assert sorted(found.services) == ["a", "b"]
    with pytest.raises(ConfigError, match="no such file") as error:
        load(tmp_path, environ={"COMPOSE_FILE": "none.yaml"})
    assert error.value.cause == "COMPOSE_FILE names it"


def test_a_folder_without_a_compose_file_is_no_project(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no compose file") as error:
        load(tmp_path, environ={})
    assert error.value.code == "config.project"


# --- names


@pytest.mark.parametrize("name", ["../x", "A B", "UPPER", "-x", "_x", "a.b", "ä"])
def test_a_name_that_compose_refuses_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {a: {image: x}}")
    with pytest.raises(ConfigError, match="is not valid"):
        load(tmp_path, project_name=name, environ={})
    with pytest.raises(ConfigError, match="COMPOSE_PROJECT_NAME"):
        load(tmp_path, environ={"COMPOSE_PROJECT_NAME": name})


def test_the_name_is_given_or_set_or_written_or_the_folders(tmp_path: Path) -> None:
    folder = tmp_path / "My Folder"
    (folder / "compose.yaml").parent.mkdir()
    (folder / "compose.yaml").write_text("services: {a: {image: x}}")
    assert load(folder, environ={}).name == "myfolder"
    (folder / "compose.yaml").write_text("name: written-${N:-1}\nservices: {a: {image: '$COMPOSE_PROJECT_NAME'}}")
    assert load(folder, environ={}).name == "written-1"
    set_ = load(folder, environ={"COMPOSE_PROJECT_NAME": "set"})
    assert (set_.name, set_.services["a"].image) == ("set", "set")
    assert load(folder, project_name="given", environ={"COMPOSE_PROJECT_NAME": "set"}).name == "given"


def test_a_name_of_nothing_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, "services: {a: {image: x}}\nname: '!!'") == (
        "compose.yaml:2: name: '!!' holds no letter or digit that a project name may have"
    )


# --- profiles and selected services

PARTS = """
services:
  a: {image: x, depends_on: [b]}
  b: {image: x, networks: [n], volumes: ["data:/d"]}
  c: {image: x}
  tool: {image: x, profiles: [tools], depends_on: [c]}
  maybe: {image: x, depends_on: {tool: {condition: service_started, required: false}}}
networks: {n: , unused: }
volumes: {data: }
"""


def test_profiles_enable_services(tmp_path: Path) -> None:
    found = project(tmp_path, PARTS)
    assert (sorted(found.services), found.disabled) == (["a", "b", "c", "maybe"], ("tool",))
    assert sorted(found.networks) == ["default", "n"]
    assert "tool" in load(tmp_path, profiles=["tools"], environ={}).services
    assert "tool" in load(tmp_path, profiles=["*"], environ={}).services
    assert "tool" in load(tmp_path, environ={"COMPOSE_PROFILES": "x, tools"}).services


def test_a_service_that_is_named_has_its_profiles_active(tmp_path: Path) -> None:
    project(tmp_path, PARTS)
    assert sorted(load(tmp_path, enable=["tool"], environ={}).services) == ["a", "b", "c", "maybe", "tool"]
    assert "tool" not in load(tmp_path, enable=["a", "unknown"], environ={}).services


def test_extensions_are_kept_beside_the_canonical_form(tmp_path: Path) -> None:
    found = project(tmp_path, "x-top: [1]\nservices: {a: {image: x, x-stockhelper: {role: app}, x-other: 1}}")
    assert found.services["a"].extensions == {"x-stockhelper": {"role": "app"}, "x-other": 1}
    assert found.services["a"].role == "app"
    assert found.extensions == {"x-top": [1]}


def test_version_is_ignored_with_a_warning(tmp_path: Path) -> None:
    found = project(tmp_path, "version: '3'\nservices: {a: {image: x}}")
    assert found.warnings == ("compose.yaml:1: version: is obsolete and ignored; remove it",)


def test_env_file_says_which_of_its_lines_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.env").write_text("A=1\nA=2\n")
    assert refusal(tmp_path, "services: {a: {image: x, env_file: a.env}}") == (
        "a.env:2: A is set a second time; the first is in line 1"
    )


# --- what is refused

SERVICE = "services:\n  a:\n    image: x\n"
REFUSED = {
    SERVICE
    + "    privileged: true": "4: services.a.privileged: is refused: it hands the whole machine to the container",
    SERVICE + "    network_mode: host": (
        "4: services.a.network_mode: is refused: it gives the container the network of the machine,"
        " or of another container"
    ),
    SERVICE + "    volumes:\n      - /var/run/docker.sock:/s": (
        "5: services.a.volumes[0]: is refused: /var/run/docker.sock holds the engine's socket,"
        " which hands over the whole machine"
    ),
    SERVICE + "    volumes:\n      - {type: bind, source: /var/run/, target: /s}": (
        "5: services.a.volumes[0]: is refused: /var/run/ holds the engine's socket, which hands over the whole machine"
    ),
    "services: {a: {image: x, volumes: ['vol:/v']}}\nvolumes:\n  vol:\n    driver_opts: {o: bind, device: /run}": (
        "4: volumes.vol.driver_opts.device: is refused: /run holds the engine's socket,"
        " which hands over the whole machine"
    ),
    SERVICE + "    devices: [/dev/x]": "4: services.a.devices: is not supported by stockhelper",
    SERVICE + "    gpus: all": "4: services.a.gpus: is not supported by stockhelper",
    SERVICE + "    extends: b": "4: services.a.extends: is not supported by stockhelper",
    SERVICE + "    deploy:\n      replicas: 2": "5: services.a.deploy.replicas: is not supported by stockhelper",
    SERVICE + "    build:\n      ssh: [default]": "5: services.a.build.ssh: is not supported by stockhelper",
    "include: [b.yaml]\n" + SERVICE: "1: include: is not supported by stockhelper",
    SERVICE + "configs: {a: {file: x}}": "4: configs: is not supported by stockhelper",
    SERVICE + "secrets:\n  s: {environment: S}": "5: secrets.s.environment: is not supported by stockhelper",
    SERVICE + "    imgae: y": "4: services.a.imgae: is not a key of the Compose specification; did you mean image?",
    SERVICE + "    healthcheck:\n      tests: x": (
        "5: services.a.healthcheck.tests: is not a key of the Compose specification; did you mean test?"
    ),
    "service: {}": "1: service: is not a key of the Compose specification; did you mean services?",
    "services: {'a b': {image: x}}": "1: services.a b: is not a name: letters, digits, . _ and - only",
    SERVICE + "    environment: 5": "4: services.a.environment: must be a mapping or a list",
    SERVICE + "    cap_add: ALL": "4: services.a.cap_add: must be a list",
    SERVICE + "    read_only: 5": "4: services.a.read_only: must be true or false or text",
    SERVICE + "    environment:\n      A: 1\n      B: ${": (
        "6: services.a.environment.B: ${ does not begin a variable of a known form; write $$ for a dollar sign"
    ),
    SERVICE + "    user: ${WHO:?say who}": "4: services.a.user: required variable WHO is missing a value: say who",
    SERVICE + "    ports:\n      - '80'\n      - 1:2:3:4:5": (
        "6: services.a.ports[1]: '1:2:3' is not an IP address; write one of IPv6 in brackets"
    ),
    SERVICE + "    ports: [1-3:80-81]": (
        "4: services.a.ports[0]: '1-3:80-81' publishes 1-3 for 80-81: the ranges are not of the same length"
    ),
    SERVICE
    + "    ports: [99999]": "4: services.a.ports[0]: '99999' is not a port between 0 and 65535, or a range of them",
    SERVICE + "    ports: ['80/xyz']": "4: services.a.ports[0]: '80/xyz' has no protocol of tcp, udp, sctp",
    SERVICE + "    ports: [{published: '1'}]": "4: services.a.ports[0]: has no target",
    SERVICE + "    volumes: ['vol:/b:c']": "4: services.a.volumes[0]: 'vol:/b:c' has the unknown option 'c'",
    SERVICE + "    volumes: ['data:/b']": "4: services.a.volumes[0]: there is no volume data",
    SERVICE + "    volumes: [{type: npipe, source: a, target: b}]": (
        "4: services.a.volumes[0].type: a mount of type npipe is not supported by stockhelper"
    ),
    SERVICE + "    mem_limit: 1z": "4: services.a.mem_limit: '1z' is not a size; write it as in 512m or 1g",
    SERVICE + "    stop_grace_period: '10'": (
        "4: services.a.stop_grace_period: '10' is not a duration; write it with a unit, as in 30s or 1m30s"
    ),
    SERVICE + "    init: maybe": "4: services.a.init: 'maybe' is neither true nor false",
    SERVICE + "    restart: sometimes": (
        "4: services.a.restart: 'sometimes' is none of no, always, unless-stopped, on-failure and on-failure:3"
    ),
    SERVICE + "    security_opt: [seccomp=my.json]": (
        "4: services.a.security_opt[0]: 'seccomp=my.json' is not supported by stockhelper"
    ),
    SERVICE + "    command: a && b": (
        "4: services.a.command: '&' outside of quotes needs a shell: write [sh, -c, …], or a list of words"
    ),
    SERVICE
    + "    healthcheck: {test: [curl]}": "4: services.a.healthcheck.test: must begin with CMD, CMD-SHELL or NONE",
    SERVICE + "    depends_on: [b]": "4: services.a.depends_on.b: the service b does not exist",
    SERVICE + "    depends_on: [a]": "4: services.a.depends_on: goes in a circle: a -> a",
    SERVICE + "    networks: [b]": "4: services.a.networks.b: there is no network b",
    SERVICE + "    networks: {default: {ipv4_address: no}}": (
        "4: services.a.networks.default.ipv4_address: 'no' is not an IPv4 address"
    ),
    SERVICE + "    tmpfs: [/a]\n    volumes: [/a]": "5: services.a.volumes[0]: /a is mounted already, by tmpfs[0]",
    SERVICE + "    mem_limit: 1g\n    deploy: {resources: {limits: {memory: 2g}}}": (
        "4: services.a.mem_limit: is not the same as deploy.resources.limits.memory"
    ),
    SERVICE + "    env_file: none.env": "4: services.a.env_file[0]: there is no file {folder}/none.env",
    SERVICE + "    container_name: own\n  c: {image: x, container_name: own}": (
        "5: services.c.container_name: own is the name of a's container already"
    ),
    "services: {a: {command: x}}": "1: services.a: has neither an image nor a build",
    SERVICE + "volumes:\n  v: {external: true, driver: local}": (
        "5: volumes.v.driver: an external one is made elsewhere; only its name can be given"
    ),
    SERVICE + "volumes:\n  v:\n    external: {name: w}": "6: volumes.v.external: write `external: true` and `name: w`",
    SERVICE + "    build: https://example.org/x.git": (
        "4: services.a.build.context: a remote context is not supported by stockhelper"
    ),
    "services:": "1: services: must be a mapping",
    "{}": "1: the file is empty",
}


@pytest.mark.parametrize("text", REFUSED, ids=[said.partition(" ")[2][:60] for said in REFUSED.values()])
def test_what_cannot_be_used_is_refused_with_file_line_and_key(text: str, tmp_path: Path) -> None:
    assert refusal(tmp_path, text) == f"compose.yaml:{REFUSED[text].replace('{folder}', str(tmp_path))}"
