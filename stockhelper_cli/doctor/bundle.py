"""What a report of a bug needs, in one archive: what tells how the stack is, and no secret."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import platform
import re
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stockhelper_cli import __version__, labels
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.secrets import MASK, Secrets

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.doctor.report import Report
    from stockhelper_cli.engine.protocol import Container

#: How many lines of its log's end are taken of each container.
LOG_LINES: Final = 2000
#: Where Compose mounts the secrets of a service, which are files; and the address that Alertmanager posts to.
_SECRET_FILES: Final = ("/run/secrets/", "/etc/stockhelper/webhook")
#: A longer file is none of a password or a key.
_SECRET_BYTES: Final = 64 * 1024
#: Digests over passwords too: beside the rest of what they cover, they let one try out guesses.
_DIGESTS: Final = (labels.CONFIG_HASH, labels.BUILD_INPUTS)

_README: Final = """\
A report of a bug in a stack that stockhelper runs, written {time} UTC.

{members}
{missing}
Secrets are replaced by {mask}: passwords, tokens and keys of .env, of the shell, of the compose files, of secrets'
files and of the containers, wherever they stand, also within URLs, JSON and base64, and what looks like one. So are
digests that cover them. Names of hosts, folders and services, addresses, and all else that the services have logged
stand here as they are: look through it before you give it to anybody.
"""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A report that was written: its file, its size in bytes, what is in it, and what could not be read, and why."""

    path: Path
    size: int
    members: tuple[str, ...]
    missing: tuple[str, ...]

    def as_json(self) -> Mapping[str, Any]:
        """Return it as a plain mapping."""
        return {"file": str(self.path), "bytes": self.size, "members": [*self.members], "missing": [*self.missing]}


def refuse_existing(path: Path) -> None:
    """Raise `StockhelperError` (usage) if there is something at a path where a report is to be written."""
    if path.exists():
        why = "it is a folder" if path.is_dir() else "it is there already, and is not overwritten"
        free = f"stockhelper doctor --report {_beside(path)}"
        raise StockhelperError("usage", f"--report {path}: {why}", next=[free])


def _beside(path: Path) -> Path:
    name = f"report-{time.strftime('%Y%m%d-%H%M%S')}.tar.gz"
    return path / name if path.is_dir() else path.with_name(name)


def write_bundle(path: Path, context: Context, report: Report) -> Bundle:
    """Write all that can be read of the stack into a new .tar.gz at `path`, which only its owner may read.

    What cannot be read, because .env, the compose files or the engine are what is broken, is named and left out.
    Raises `StockhelperError` (failed) if the file cannot be written; nothing of it is left then.
    """
    missing: list[str] = []

    def read(what: str, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except StockhelperError as error:
            missing.append(f"{what}: {': '.join(filter(None, [error.message, error.cause]))}")
            return None

    def log(name: str, container: str) -> tuple[str, Any]:
        return name, read(name, lambda: "\n".join(context.engine.logs(container, tail=LOG_LINES, timestamps=True)))

    containers = read("containers", lambda: _containers(context)) or []
    configuration = read("config.json", lambda: dict(context.project.config()))
    secrets = Secrets(*_told(context, configuration, containers))
    trees: dict[str, Any] = {
        "versions.json": {"stockhelper": __version__, "python": platform.python_version(), "on": platform.platform()},
        "findings.json": report.as_json(),
        "config.json": configuration,
        "engine.json": read("engine.json", lambda: _plain(context.info)),
        "resources.json": read("resources.json", lambda: _resources(context)),
        **{f"containers/{container.name}.json": _plain(container) for container in containers},
    }
    texts: dict[str, str | None] = {
        "findings.txt": "\n".join(_findings(report)),
        "plan.txt": read("plan.txt", lambda: str(context.plan)),
    }
    with ThreadPoolExecutor(thread_name_prefix="logs") as pool:
        texts |= pool.map(lambda container: log(f"logs/{container.name}.txt", container.id), containers)
    shown = {name: secrets.tree(tree) for name, tree in trees.items() if tree}
    members = {name: json.dumps(tree, indent=1, ensure_ascii=False) for name, tree in shown.items()}
    members |= {name: secrets.text(text) for name, text in texts.items() if text}
    missing = [secrets.text(line) for line in missing]
    members["README.txt"] = _README.format(
        time=time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
        mask=MASK,
        members="\n".join(sorted(members)),
        missing="".join(f"missing: {line}\n" for line in missing),
    )
    content = _archive(re.sub(r"(\.tar\.gz|\.tgz)$", "", path.name), dict(sorted(members.items())))
    _write(path, content)
    return Bundle(path, len(content), tuple(sorted(members)), tuple(missing))


def _containers(context: Context) -> Sequence[Container]:
    """Return the project's containers; without a project that can be read, those that were made of its folder."""
    try:
        return context.state.containers
    except StockhelperError:
        return [
            container
            for folder in (context.root, context.root / "compose")
            for container in context.engine.containers([f"{labels.WORKING_DIR}={folder}"])
        ]


def _told(context: Context, configuration: Any, containers: Sequence[Container]) -> Iterator[Any]:
    """Yield all that is known to hold secrets, of now and, in containers, of before .env was changed."""
    yield context.environ
    yield configuration
    yield [_plain(container) for container in containers]
    files = {Path(mount.source) for each in containers for mount in each.mounts if _is_secret_file(mount.target)}
    try:
        yield context.variables.environment
        files |= {secret.file for secret in context.project.secrets.values()}
    except StockhelperError:  # as far as what is broken can be read
        yield _loose(context)
    for file in files:
        yield {"secret": _content(file)}


def _is_secret_file(destination: str) -> bool:
    return destination.startswith(_SECRET_FILES)


def _content(file: Path) -> str:
    """Return what a secret's file holds, "" if it cannot be read."""
    try:
        with file.open("rb") as opened:
            return opened.read(_SECRET_BYTES).decode(errors="replace")
    except OSError:
        return ""


def _loose(context: Context) -> list[str]:
    """Return the lines NAME=value of an .env that cannot be read by its rules, or of which a value is not allowed."""
    try:
        text = (context.root / ".env").read_bytes().decode(errors="replace")
    except (OSError, StockhelperError):
        return []
    assignments = re.findall(r"^\W*(?:export\s+)?([\w.-]+)\s*[=:]\s*(.*?)\s*$", text, re.MULTILINE)
    return [f"{name}={form}" for name, value in assignments for form in (value, value.strip("'\""))]


def _plain(value: Any) -> Any:
    """Return a dataclass as mappings, lists and scalars, without digests that cover secrets."""
    return json.loads(json.dumps(dataclasses.asdict(value), default=str), object_hook=_without_digests)


def _without_digests(mapping: dict[str, Any]) -> dict[str, Any]:
    return {key: MASK if key in _DIGESTS else value for key, value in mapping.items()}


def _resources(context: Context) -> Mapping[str, Any]:
    state = context.state
    kinds = {"networks": state.networks, "volumes": state.volumes, "images": state.images}
    return {kind: [_plain(each) for each in found.values()] for kind, found in kinds.items()}


def _findings(report: Report) -> Iterator[str]:
    """Yield the findings as they are read, problems first."""
    others = [finding for finding in report.findings if not finding.bad]
    for finding in [*report.problems, *others]:
        yield f"{finding.status.value:<8} {finding.id}: {finding.summary}"
        yield from (f"         {line}" for line in finding.evidence)


def _archive(folder: str, members: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in members.items():
            content = text.encode(errors="replace")
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size, member.mode, member.mtime = len(content), 0o600, int(time.time())
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        partial.unlink(missing_ok=True)  # of a run that was killed
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StockhelperError("failed", f"could not write {path}", cause=error.strerror or str(error)) from error
