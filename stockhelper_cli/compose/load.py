"""Compose files to a `Project`, in the steps and the order of Compose.

Which files and variables count (docker compose 2.40's options), each file read, interpolated, checked and merged
(compose-go's loader), the result read and normalised, profiles and selected services applied, consistency checked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stockhelper_cli.compose import consistency
from stockhelper_cli.compose.document import Document, KeyPath, Map, Position, Seq, locate, read_documents
from stockhelper_cli.compose.dotenv import Dotenv, load_dotenv, place_of
from stockhelper_cli.compose.forms import Context, OtherKindError, Place, dotted
from stockhelper_cli.compose.interpolate import InterpolationError, interpolate, variables_in
from stockhelper_cli.compose.keys import FILE, NETWORK, SECRET, SERVICE, VOLUME
from stockhelper_cli.compose.model import Network, Project, Secret, Service, Volume
from stockhelper_cli.compose.mounts import refuse_socket
from stockhelper_cli.compose.schema import validate
from stockhelper_cli.errors import ConfigError

#: Where the files are looked for when nothing names them: our own layout, then Compose's names.
OWN_FILE = "compose/compose.yaml"
FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)


def load(
    directory: Path,
    *,
    files: Sequence[Path] = (),
    env_files: Sequence[Path] = (),
    project_name: str | None = None,
    profiles: Sequence[str] = (),
    enable: Sequence[str] = (),
    environ: Mapping[str, str],
    check: Callable[[Mapping[str, str], Dotenv | None], object] = lambda variables, dotenv: None,
) -> Project:
    """Return the project whose root is `directory`: the folder of `.env`, where `docker compose` would be run.

    `files`, `env_files`, `project_name` and `profiles` are Compose's options -f, --env-file, -p and --profile;
    relative paths start at `directory`. The profiles of the services that `enable` names are active too: who names a
    service wants it. `environ` is the shell's environment; it beats env files, and COMPOSE_FILE,
    COMPOSE_PATH_SEPARATOR, COMPOSE_PROJECT_NAME, COMPOSE_PROFILES and COMPOSE_ENV_FILES count as with Compose. `check`
    is called with the variables and the env file before any compose file is read, so that a bad value is told by its
    own name and not by
    that of the key it was put into.

    Raises `ConfigError` in one line that names file, line and key.
    """
    root = Path(os.path.abspath(directory))  # noqa: PTH100 - a symbolic link stays, as in Compose's labels
    loading = _Loading(root, environ)
    loading.read_env_files(env_files)
    paths = loading.find_files(files)
    if not loading.env_files:
        loading.read_default_env_file(paths[0].parent)
    check(loading.environment, loading.dotenv)
    return loading.load(paths, project_name, profiles, enable)


class _Loading:
    """One run of `load`."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self.root = root
        self.environ = environ
        self.environment = dict(environ)
        self.dotenv: Dotenv | None = None
        self.env_files: tuple[Path, ...] = ()
        self.warnings: list[str] = []
        #: The names of the variables that stand in a line of a compose file.
        self.taken: dict[Position, list[str]] = {}

    # --- which files and variables count

    def read_env_files(self, env_files: Sequence[Path]) -> None:
        chosen = [str(path) for path in env_files] or self.environ.get("COMPOSE_ENV_FILES", "").split(",")
        chosen = [path for path in chosen if path]
        if not chosen:
            self.read_default_env_file(self.root)
            return
        found: dict[str, str] = {}
        self.env_files = tuple(_join(self.root, Path(path)) for path in chosen)
        for file in self.env_files:
            self.dotenv = load_dotenv(file, self.environ, earlier=found, shown=self.shown(file))
            self._warn_unset(self.dotenv)
            found.update(self.dotenv)
        self.environment = {**found, **self.environ}

    def read_default_env_file(self, folder: Path) -> None:
        """Read a folder's `.env`, if there is one; what is set already stays."""
        path = folder / ".env"
        disabled = self.environ.get("COMPOSE_DISABLE_ENV_FILE", "").lower() in ("1", "t", "true")
        if disabled or not path.exists() or path.is_dir() or (self.dotenv and self.dotenv.path == path):
            return
        dotenv = load_dotenv(path, self.environment, shown=self.shown(path))
        self._warn_unset(dotenv)
        self.environment = {**dotenv, **self.environment}
        self.dotenv = self.dotenv or dotenv

    def find_files(self, files: Sequence[Path]) -> tuple[Path, ...]:
        cause = ""
        if not files and (named := self.environment.get("COMPOSE_FILE")):
            files = [Path(name) for name in named.split(self.environment.get("COMPOSE_PATH_SEPARATOR") or os.pathsep)]
            cause = "COMPOSE_FILE names it"
        paths = [_join(self.root, file) for file in files] or self._default_files()
        if not paths:
            raise ConfigError(
                "config.project",
                f"{self.root} holds no compose file",
                cause=f"looked for {OWN_FILE}, {', '.join(FILES)}",
            )
        for path in paths:
            if not path.exists():
                raise ConfigError("config.compose", f"{path}: there is no such file", cause=cause)
        return tuple(paths)

    def _default_files(self) -> list[Path]:
        if (self.root / OWN_FILE).exists():
            return [self.root / OWN_FILE]
        found = [self.root / name for name in FILES if (self.root / name).exists()]
        overrides = [self.root / name for name in OVERRIDES if (self.root / name).exists()]
        return [*found[:1], *overrides[:1]] if found else []

    # --- from the files to one tree

    def load(
        self, paths: tuple[Path, ...], project_name: str | None, profiles: Sequence[str], enable: Sequence[str]
    ) -> Project:
        directory = paths[0].parent
        documents = [(path, document) for path in paths for document in read_documents(path, self.shown(path))]
        if not any(document.tree for _, document in documents):
            raise ConfigError("config.compose", f"{self.shown(paths[0])}:1: the file is empty")
        name = self.project_name(project_name, documents, directory)
        self.environment["COMPOSE_PROJECT_NAME"] = name
        tree = Map()
        for path, document in documents:
            tree = self.merge(tree, document, directory, path)
        if not isinstance(tree.get("services"), Map) or not tree["services"]:
            raise ConfigError("config.compose", f"{self.shown(paths[0])}:1: services: no service is defined")
        context = self.context(directory, tree, self.shown(paths[0]))
        chosen = [*profiles] or [part.strip() for part in self.environment.get("COMPOSE_PROFILES", "").split(",")]
        return self.assemble(context, name, paths, chosen, enable)

    def merge(self, tree: Map, document: Document, directory: Path, path: Path) -> Map:
        """Return what one more document makes of the tree."""
        file = self.shown(path)
        raw = self.interpolated(document.tree, ())
        validate(raw, file, tree)
        if "version" in raw:
            self.warn(f"{locate(raw, ['version'])}: version: is obsolete and ignored; remove it")
            del raw["version"]
        long = FILE.canonical(raw, Place(self.context(directory, raw, file)))
        for replaced in document.replaced:
            _remove(tree, replaced)
        try:
            merged = FILE.merge(tree, long)
        except OtherKindError as error:
            place = Place(self.context(directory, long, file), error.path)
            raise place.refuse(str(error)) from error
        assert isinstance(merged, Map)
        return merged

    def interpolated(self, value: Any, path: KeyPath, position: Position | None = None) -> Any:
        if isinstance(value, Map):
            mapping = Map()
            for key, entry in value.items():
                at = value.at.get(key)
                mapping.put(key, self.interpolated(entry, (*path, key), at or position), at)
            return mapping
        if isinstance(value, Seq):
            pairs = enumerate(zip(value, value.at, strict=True))
            return Seq(
                [self.interpolated(entry, (*path, index), at or position) for index, (entry, at) in pairs], value.at
            )
        if not isinstance(value, str):
            return value
        if position is not None and (names := variables_in(value)):
            self.taken.setdefault(position, []).extend(names)
        try:
            return interpolate(value, self.environment, lambda name: self.warn_blank(name, position))
        except InterpolationError as error:
            raise ConfigError("config.compose", f"{position}: {dotted(path)}: {error}") from error

    def project_name(self, given: str | None, documents: list[tuple[Path, Document]], directory: Path) -> str:
        """Return the project's name: -p, COMPOSE_PROJECT_NAME, the last file's `name`, the folder's name."""
        for name, source in (
            (given, "the project name"),
            (self.environment.get("COMPOSE_PROJECT_NAME"), "COMPOSE_PROJECT_NAME"),
        ):
            if name:
                if normalised_name(name) != name:
                    rule = "small letters, digits, - and _, beginning with a letter or a digit"
                    raise ConfigError(
                        "config.value", f"{source} {name!r} is not valid", cause=f"a project name is {rule}"
                    )
                return name
        name = directory.name
        position = Position(self.shown(documents[0][0]), 1)
        for _, document in documents:
            if isinstance(written := document.tree.get("name"), str) and written:
                position = document.tree.at["name"]
                name = self.interpolated(written, ("name",), position)
        normalised = normalised_name(name)
        if not normalised:
            raise ConfigError(
                "config.compose", f"{position}: name: {name!r} holds no letter or digit that a project name may have"
            )
        return normalised

    # --- from the tree to the project

    def assemble(
        self, context: Context, name: str, paths: tuple[Path, ...], profiles: Sequence[str], enable: Sequence[str]
    ) -> Project:
        tree, top = context.tree, Place(context)
        extensions = {key: _plain(value) for key, value in tree.items() if key.startswith("x-")}
        resources: dict[str, dict[str, dict[str, Any]]] = {}
        for kind, struct in (("networks", NETWORK), ("volumes", VOLUME), ("secrets", SECRET)):
            entries = tree.get(kind) or Map()
            resources[kind] = {
                key: self.resource(name, key, struct.read(entries[key] or Map(), top.child(kind).child(key)))
                for key in sorted(entries)
            }
        for key, volume in resources["volumes"].items():
            _resolve_device(volume, top.child("volumes").child(key))
        for key, secret in resources["secrets"].items():
            at = top.child("secrets").child(key)
            if "file" not in secret:
                raise at.refuse("has no file; other secrets are not supported by stockhelper")
            secret["file"] = at.absolute(secret["file"])
        everything = {
            key: self.service(name, key, top.child("services").child(key)) for key in sorted(tree["services"])
        }
        if any("default" in service.spec.get("networks", {}) for service in everything.values()):
            resources["networks"].setdefault("default", {"name": f"{name}_default", "ipam": {}})
        for wanted in enable:
            if wanted in everything:
                profiles = [*profiles, *everything[wanted].profiles]
        enabled = {key: service for key, service in everything.items() if _is_enabled(service, profiles)}
        consistency.check(enabled, everything, resources, top)
        enabled = {
            key: self.with_env_files(service, top.child("services").child(key)) for key, service in enabled.items()
        }
        used = _used(enabled)
        return Project(
            name=name,
            root=self.root,
            directory=context.directory,
            files=paths,
            environment=self.environment,
            dotenv=self.dotenv,
            services=enabled,
            disabled=tuple(key for key in everything if key not in enabled),
            networks={
                key: Network(key, spec) for key, spec in resources["networks"].items() if key in used["networks"]
            },
            volumes={key: Volume(key, spec) for key, spec in resources["volumes"].items() if key in used["volumes"]},
            secrets={key: Secret(key, spec) for key, spec in resources["secrets"].items() if key in used["secrets"]},
            extensions=extensions,
            warnings=tuple(dict.fromkeys(self.warnings)),
            env_files=self.env_files,
            tree=tree,
        )

    def service(self, project: str, name: str, place: Place) -> Service:
        raw = place.context.tree["services"][name]
        spec = SERVICE.read(raw, place)
        if "networks" not in spec and "network_mode" not in spec:
            spec = SERVICE.in_order({**spec, "networks": {"default": None}})
        return Service(name, project, spec, {key: _plain(raw[key]) for key in raw if key.startswith("x-")})

    def resource(self, project: str, key: str, spec: dict[str, Any]) -> dict[str, Any]:
        """Return a network, volume or secret with its name in the engine, which comes first in Go's order."""
        return {"name": key if spec.get("external") else f"{project}_{key}", **spec}

    def with_env_files(self, service: Service, place: Place) -> Service:
        """Return the service with its `env_file` merged into its environment, and left out."""
        if "env_file" not in service.spec:
            return service
        own = service.environment
        known = {key: value for key, value in own.items() if value is not None}
        found: dict[str, str | None] = {}
        for index, entry in enumerate(service.spec["env_file"]):
            path = Path(entry["path"])
            if not path.exists():
                if entry["required"]:
                    raise place.child("env_file").child(index).refuse(f"there is no file {path}")
                continue
            texts = {key: value for key, value in found.items() if value is not None}
            dotenv = load_dotenv(path, {**known, **self.environment}, earlier=texts, shown=self.shown(path))
            self._warn_unset(dotenv)
            found.update(dotenv)
        environment = {**found, **own}
        spec = {key: value for key, value in service.spec.items() if key != "env_file"}
        if environment:
            spec["environment"] = dict(sorted(environment.items()))
        return replace(service, spec=SERVICE.in_order(spec))

    # --- telling

    def context(self, directory: Path, tree: Map, file: str) -> Context:
        return Context(directory, self.environment, tree, file, self.warnings, self.origin)

    def origin(self, position: Position) -> str:
        """Say in words which variables a line takes, and where each is set: what is wrong there may be theirs."""
        names = [name for name in dict.fromkeys(self.taken.get(position, ())) if name in self.environment]
        said = [f"{name} from {place_of(name, self.environment, self.dotenv)}" for name in names]
        return f"it takes {', '.join(said)}" if said else ""

    def shown(self, path: Path) -> str:
        """Return a file's name for messages: relative to the root where it lies in it."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def warn_blank(self, name: str, position: Position | None) -> None:
        self.warn(f"{position}: the variable {name} is not set; a blank is taken")

    def _warn_unset(self, dotenv: Dotenv) -> None:
        for name in dotenv.unset:
            self.warn(f"{self.shown(dotenv.path)}: the variable {name} is not set; a blank is taken")


def normalised_name(name: str) -> str:
    """Return what Compose makes a project's name of: small letters, digits, - and _, the first no - or _."""
    return "".join(re.findall("[a-z0-9_-]", name.lower())).lstrip("_-")


def _join(root: Path, path: Path) -> Path:
    return Path(os.path.normpath(root / path))


def _remove(tree: Any, path: KeyPath) -> None:
    """Take a path that a later file marks `!reset` or `!override` out of the tree."""
    for key in path[:-1]:
        if not isinstance(tree, Map) or key not in tree:
            return
        tree = tree[str(key)]
    if isinstance(tree, Map):
        tree.pop(str(path[-1]), None)


def _plain(value: Any) -> Any:
    if isinstance(value, Map):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, Seq) else value


def _is_enabled(service: Service, profiles: Sequence[str]) -> bool:
    return not service.profiles or "*" in profiles or any(profile in profiles for profile in service.profiles)


def _used(services: Mapping[str, Service]) -> dict[str, set[str]]:
    """Return the keys of the networks, volumes and secrets that services use; Compose drops the others."""
    return {
        "networks": {key for service in services.values() for key in service.networks},
        "volumes": {key for service in services.values() for key in service.volumes},
        "secrets": {key for service in services.values() for key in service.secrets},
    }


def _resolve_device(volume: dict[str, Any], place: Place) -> None:
    """Make the folder absolute that a local volume binds, as Compose does, and refuse the engine's socket."""
    options = volume.get("driver_opts", {})
    if volume.get("driver") == "local" and options.get("o") == "bind" and "device" in options:
        options["device"] = place.absolute(options["device"])
    if "bind" in options.get("o", "").split(",") and "device" in options:
        refuse_socket(options["device"], place.child("driver_opts").child("device"))
