"""Who may import whom, what a call for help costs, and what may never appear in the repository.

The rules are read off the sources, not off what happens to run.
"""

from __future__ import annotations

import ast
import os
import re
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from stockhelper_cli.errors import ERROR_CODES
from tests.support import ROOT
from tests.support.project import copy_project
from tests.support.sockets import unix_engine

CLI = ROOT / "stockhelper_cli"
APP = ROOT / "docker" / "app" / "stockhelper_app"
MIGRATIONS = ROOT / "migrations"

#: What each part of the CLI may import of the others. The longest name that fits a module is its part; a part may
#: import itself. Nothing here imports upwards, and a new edge is to be added here on purpose.
GROUND = {"errors", "events", "labels", "findings"}
LAYERS: dict[str, set[str]] = {
    "findings": set(),
    "errors": {"findings"},
    "events": set(),
    "labels": set(),
    "console": GROUND,
    "lock": GROUND,
    "engine.protocol": GROUND,
    "secrets": set(),
    "proxies": set(),
    "schedule": GROUND,
    "age": GROUND,
    "engine.reference": set(),
    "engine.pull": {*GROUND, "engine.protocol", "engine.reference"},
    "engine": {*GROUND, "engine.protocol", "engine.reference"},
    "compose": {*GROUND, "engine.protocol"},
    "settings": {*GROUND, "engine.reference", "compose", "age"},
    "engine.exchange": {*GROUND, "engine.protocol"},
    "database": {*GROUND, "age", "engine.protocol", "engine.exchange", "compose"},
    "converge": {*GROUND, "proxies", "engine.protocol", "engine.pull", "engine.reference", "compose", "database"},
    "machine": {*GROUND, "proxies", "engine", "engine.protocol", "engine.pull", "engine.reference", "compose"},
    "archive": {*GROUND, "engine.protocol"},
    "terminal": {*GROUND, "engine.protocol"},
    "logs": {*GROUND, "engine.protocol", "compose", "converge"},
    "status": {*GROUND, "engine.protocol", "compose", "database", "converge"},
    "backup": {*GROUND, "age", "machine", "engine.protocol", "compose", "database", "converge", "status"},
    "migration": {*GROUND, "engine.protocol", "compose", "database", "converge", "status", "backup"},
    "stack": {*GROUND, "engine.protocol", "compose", "database", "converge", "status", "backup", "migration"},
    "credentials": {*GROUND, "engine.protocol", "compose", "database", "converge", "machine"}
    | {"status", "stack", "backup"},
    "data": {*GROUND, "engine.protocol", "engine.exchange", "compose", "converge", "status"},
    "restore": {*GROUND, "engine.protocol", "compose", "database", "converge", "stack", "backup", "migration"},
    "upgrade": {*GROUND, "engine.protocol", "engine.pull", "compose", "database", "converge"}
    | {"machine", "stack", "backup"},
    "doctor": {*GROUND, "settings", "engine", "engine.protocol", "engine.pull", "engine.reference"}
    | {"compose", "database", "converge", "machine"}
    | {"secrets", "stack", "status", "migration", "backup", "credentials"},
    "commands": {
        *GROUND,
        "age",
        "schedule",
        "console",
        "lock",
        "settings",
        "engine",
        "engine.protocol",
        "compose",
        "database",
    }
    | {"machine", "stack", "status", "logs", "migration", "archive", "terminal", "secrets"}
    | {"backup", "restore", "upgrade", "credentials", "data", "doctor"},
    "streams": set(),
    "main": {*GROUND, "console", "commands", "streams"},
    "__main__": {"main"},
}

#: Modules that only one place may import; the path is a file or a folder of the CLI.
RESERVED = {
    "docker": {"engine/docker_engine.py"},
    "rich": {"console.py"},
    "typer": {"main.py", "commands"},
}

#: What no call for help may import: each costs more than all of the help.
HEAVY = (
    "docker", "requests", "rich", "httpx", "pydantic", "pydantic_settings", "sqlalchemy", "alembic", "yaml",
    "jsonschema", "psutil", "pyrage",
)  # fmt: skip

#: Hosts of public registries and archives, in pieces, so that this file does not hold what it looks for. A machine
#: brings its own; a name written down here would send everybody past their mirror.
HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("crates", "io"),
        ("rubygems", "org"), ("proxy", "golang", "org"), ("anaconda", "org"), ("registry-1", "docker", "io"),
        ("index", "docker", "io"), ("auth", "docker", "io"), ("download", "docker", "com"), ("ghcr", "io"),
        ("quay", "io"), ("gcr", "io"), ("mcr", "microsoft", "com"), ("public", "ecr", "aws"), ("registry", "k8s", "io"),
        ("deb", "debian", "org"), ("security", "debian", "org"), ("archive", "ubuntu", "com"),
        ("security", "ubuntu", "com"), ("ports", "ubuntu", "com"),
    )
]  # fmt: skip


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_bytes(), str(file))


def python_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


@cache
def imports(file: Path) -> Sequence[tuple[int, str]]:
    """Return line and dotted name of everything that a file imports; `from a import b` gives both a and a.b."""
    return list(_imports(file))


def _imports(file: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree_of(file)):
        match node:
            case ast.Import(names=names):
                for name in names:
                    yield node.lineno, name.name
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield node.lineno, module
                for name in names:
                    yield node.lineno, f"{module}.{name.name}"
            case ast.ImportFrom(level=level) if level:
                yield node.lineno, "a relative import"
            case _:
                pass


def part_of(module: str) -> str | None:
    """Return the part of the CLI that a dotted name belongs to, None for the bare package."""
    path = module.removeprefix("stockhelper_cli").lstrip(".")
    found = [part for part in LAYERS if path == part or path.startswith(part + ".")]
    return max(found, key=len, default=None)


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_every_module_of_the_cli_belongs_to_a_layer() -> None:
    homeless = [module_of(f) for f in python_files(CLI) if f != CLI / "__init__.py" and part_of(module_of(f)) is None]
    assert homeless == []


def test_nothing_imports_upwards() -> None:
    broken = []
    for file in python_files(CLI):
        part = part_of(module_of(file))
        for line, name in imports(file):
            target = part_of(name) if name.startswith("stockhelper_cli") else None
            if part and target and target != part and target not in LAYERS[part]:
                broken.append(f"{file.relative_to(ROOT)}:{line}: {part} imports {target}")
    assert sorted(set(broken)) == []


def test_the_cli_imports_what_its_own_requirements_bring() -> None:
    """The tests' environment has more: what only that has would be missing where `make up` installs the command."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = {re.split(r"[>=<\[]", line)[0].replace("-", "_") for line in project["dependencies"]}
    brought = {*required, "yaml", "pydantic", "pydantic_core", "requests", "urllib3", "_typeshed"}
    own = {*sys.stdlib_module_names, "stockhelper_cli"}
    strange = {
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in python_files(CLI)
        for line, name in imports(file)
        if name.partition(".")[0] not in brought | own
    }
    assert strange == set()


def test_the_layers_have_no_circle() -> None:
    def above(part: str, seen: tuple[str, ...] = ()) -> None:
        assert part not in seen, " -> ".join((*seen, part))
        for target in LAYERS[part]:
            above(target, (*seen, part))

    for part in LAYERS:
        above(part)


@pytest.mark.parametrize(("package", "places"), RESERVED.items(), ids=list(RESERVED))
def test_only_one_place_imports_the_vendor(package: str, places: set[str]) -> None:
    importing = {
        file.relative_to(CLI).as_posix() for file in python_files(CLI) if package in {top(n) for _, n in imports(file)}
    }
    elsewhere = {name for name in importing if name not in places and name.split("/")[0] not in places}
    assert elsewhere == set()
    assert importing, f"nothing imports {package}: the rule has lost its object"


def top(name: str) -> str:
    return name.split(".")[0]


def test_real_engine_is_not_imported_at_module_level() -> None:
    """Modules import the SDK and the real engine only when an engine is used."""
    importing = {
        (file.relative_to(CLI).as_posix(), node.lineno)
        for file in python_files(CLI)
        for node in tree_of(file).body
        if isinstance(node, ast.ImportFrom | ast.Import) and "engine.docker_engine" in ast.unparse(node)
    }
    assert importing == set(), "at module level it costs every command 0.2 s"


def test_the_service_and_the_cli_know_nothing_of_each_other() -> None:
    across = [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for folder, other in ((CLI, "stockhelper_app"), (APP, "stockhelper_cli"), (MIGRATIONS, "stockhelper_cli"))
        for file in python_files(folder)
        for line, name in imports(file)
        if top(name) == other
    ]
    assert across == []


def test_migrations_import_only_service_alembic_and_database() -> None:
    # psycopg is the driver below both: env.py names the type of its connection.
    allowed = {"stockhelper_app", "alembic", "sqlalchemy", "psycopg", *sys.stdlib_module_names}
    foreign = {
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in python_files(MIGRATIONS)
        for line, name in imports(file)
        if top(name) not in allowed
    }
    assert foreign == set()


def test_imports_are_absolute() -> None:
    relative = [
        f"{file.relative_to(ROOT)}:{line}"
        for folder in (CLI, APP, MIGRATIONS)
        for file in python_files(folder)
        for line, name in imports(file)
        if name == "a relative import"
    ]
    assert relative == []


def test_the_folder_docker_never_shadows_the_sdk() -> None:
    assert not (ROOT / "docker" / "__init__.py").exists()
    assert not (ROOT / "docker" / "app" / "__init__.py").exists()


def imported_by(arguments: Sequence[str], cwd: Path = ROOT, **environment: str) -> tuple[int, set[str]]:
    """Run a command line in a process of its own; return its exit code, and the heavy packages that it imported."""
    script = (
        "import sys; from stockhelper_cli.main import run; code = run(sys.argv[1:]);"
        "print('\\nIMPORTED', *sorted({name.split('.')[0] for name in sys.modules})); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    imported = set(done.stdout.rpartition("IMPORTED ")[2].split())
    assert "typer" in imported, f"the probe sees no imports: {done.stderr}"
    return done.returncode, imported.intersection(HEAVY)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["up", "--help"], ["status", "--help"]], ids=" ".join)
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    assert imported_by(arguments) == (0, set())


@pytest.mark.parametrize("arguments", [["status"], ["logs", "--tail", "3", "app"]], ids=" ".join)
def test_status_and_logs_import_only_yaml(arguments: list[str], tmp_path: Path) -> None:
    """Besides the standard library, `status` and `logs` import only what reads Compose files."""

    def serve(connection: socket.socket) -> None:
        what = connection.recv(65536).split()[1]
        head = b"HTTP/1.0 200 OK" if what == b"/_ping" or b"/containers/json" in what else b"HTTP/1.0 404 Not Found"
        connection.sendall(head + b"\r\nApi-Version: 1.41\r\n\r\n[]")

    copy_project(tmp_path / "project")
    with tempfile.TemporaryDirectory(prefix="sh-") as folder, unix_engine(Path(folder) / "engine", serve) as endpoint:
        code, imported = imported_by(arguments, tmp_path / "project", DOCKER_HOST=endpoint.url)
    assert (code, imported) == (1 if arguments == ["status"] else 0, {"yaml"})


# --- error codes
ERROR_CLASSES = {"StockhelperError", "ConfigError", "EngineError", "NotFound", "Conflict"}
CODE = re.compile(r"[a-z]+(\.[a-z_]+)?")


def codes_used() -> dict[str, set[str]]:
    """Return code -> places where the source names it: raised with it, or passed on to what raises it."""
    used: dict[str, set[str]] = {}
    for file in python_files(CLI):
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.Call) and node.args and callee(node) in ERROR_CLASSES:
                for code in literals(node.args[0]):
                    used.setdefault(code, set()).add(f"{file.relative_to(ROOT)}:{node.lineno}")
    return used


def callee(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def literals(node: ast.expr) -> Iterator[str]:
    """Yield the texts that an expression may have: itself, or either side of a conditional."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from literals(body)
            yield from literals(orelse)
        case _:
            pass


def test_every_error_that_is_raised_has_its_exit_code() -> None:
    unknown = {code: sorted(places) for code, places in codes_used().items() if code not in ERROR_CODES}
    assert unknown == {}


def test_every_row_of_the_table_is_raised_somewhere() -> None:
    """A code may also travel as a value (`code="config.env"`); its literal then stands outside of `errors.py`."""
    strings = {
        node.value
        for file in python_files(CLI)
        if file != CLI / "errors.py"
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert set(ERROR_CODES) - set(codes_used()) - strings == set()


def test_codes_are_written_alike() -> None:
    assert [code for code in ERROR_CODES if not CODE.fullmatch(code)] == []


# --- what is tracked
def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_public_registry_is_named_in_a_tracked_file() -> None:
    pattern = re.compile("|".join(rf"(?<![\w-]){re.escape(host)}(?![\w-])" for host in HOSTS))
    naming = []
    for file in tracked():
        text = file.read_text("utf-8", errors="replace")
        if not any(host in text for host in HOSTS):  # a hundred times as quick as the pattern
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if found := pattern.search(line):
                naming.append(f"{file.relative_to(ROOT)}:{number}: {found[0]}")
    assert naming == []


def test_no_secret_lies_in_the_repository() -> None:
    names = {file.relative_to(ROOT).as_posix() for file in tracked()}
    assert ".env" not in names
    assert ".env.example" in names


def test_tests_import_no_test_and_no_foreign_conftest() -> None:
    """What tests of several folders share lies in `tests/support`."""
    wrong = []
    for file in python_files(ROOT / "tests"):
        folder = ".".join(file.parent.relative_to(ROOT).parts)
        for _, name in imports(file):
            parent, _, module = name.rpartition(".")
            if name.startswith("tests.") and (
                module.startswith("test_") or (module == "conftest" and parent != folder)
            ):
                wrong.append(f"{file.relative_to(ROOT)}: {name}")
    assert wrong == []


def test_names_of_tests_have_at_most_60_characters() -> None:
    """A name says what is tested, and the docstring tells the story."""
    functions = [node for file in python_files(ROOT / "tests") for node in ast.walk(tree_of(file))]
    names = [node.name for node in functions if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [name for name in names if name.startswith("test_") and len(name) > 60] == []
