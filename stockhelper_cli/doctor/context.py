"""What checks ask about, each thing asked once, by whoever needs it first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, overload

from stockhelper_cli.engine.reference import MIRROR_KEY
from stockhelper_cli.errors import ConfigError

if TYPE_CHECKING:
    from stockhelper_cli.compose import Project
    from stockhelper_cli.compose.dotenv import Dotenv
    from stockhelper_cli.converge.plan import Plan
    from stockhelper_cli.converge.state import ObservedState
    from stockhelper_cli.database.vitals import Vitals
    from stockhelper_cli.doctor.database import Database
    from stockhelper_cli.doctor.needs import Needs
    from stockhelper_cli.doctor.services import Services, ServiceState
    from stockhelper_cli.engine.endpoints import Endpoint
    from stockhelper_cli.engine.protocol import BuildOptions, Engine, EngineInfo, Image
    from stockhelper_cli.errors import EngineError
    from stockhelper_cli.settings import Settings

#: Seconds that the engine has for one answer: more than a check has, so that the check's own limit is what is told; not
#: many more, because a thread that waits for the engine keeps the process from ending.
CALL_SECONDS: Final = 8

T = TypeVar("T")


class shared(Generic[T]):  # noqa: N801 - used as a decorator, like property
    """An attribute that is made once, by the first thread that asks for it; the others wait, and share its error."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, context: None, owner: type) -> shared[T]: ...
    @overload
    def __get__(self, context: Context, owner: type) -> T: ...
    def __get__(self, context: Context | None, owner: type) -> T | shared[T]:
        """Return the value, made now or before."""
        if context is None:
            return self
        future, first = context.slot(self._name)
        if first:
            try:
                future.set_result(self._make(context))
            except BaseException as error:  # noqa: BLE001 - handed to everybody who asks
                future.set_exception(error)
        value: T = future.result()
        return value


class LoadProject(Protocol):
    """Loads the project; `check` is given the variables and the env file before any compose file is read."""

    def __call__(self, *, check: Callable[[Mapping[str, str], Dotenv | None], object]) -> Project:
        """Return the project. Raises `ConfigError`."""


@dataclass(frozen=True, slots=True)
class Variables:
    """What .env and the shell set, as Compose resolves it, whether or not the compose files can be read."""

    environment: Mapping[str, str]
    dotenv: Dotenv | None


class Context:
    """The machine and the project, as checks see them; may be asked from several threads.

    Each attribute is asked for once, by the first who needs it, and raises for everybody what it raised for them.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        find_root: Callable[[], Path],
        load_project: LoadProject,
        *,
        engine: Engine | None = None,
        project: Project | None = None,
        call_seconds: int | None = CALL_SECONDS,
    ) -> None:
        """Hold how to ask. `environ` is the shell's; `engine` and `project` are given where there are some already.

        `call_seconds` is how long the engine may take for one answer, None for as long as its usual limit is.
        """
        self.environ = environ
        self._find_root = find_root
        self._load = load_project
        self._given_engine = engine
        self._given_project = project
        self._call_seconds = call_seconds
        self._connected: Engine | None = None
        self._slots: dict[str, Future[Any]] = {}
        self._lock = Lock()

    def slot(self, name: str) -> tuple[Future[Any], bool]:
        """Return where a value is or will be, and whether the caller is the one to make it."""
        with self._lock:
            if name in self._slots:
                return self._slots[name], False
            self._slots[name] = Future()
            return self._slots[name], True

    def close(self) -> None:
        """Let go of the engine, if this context has connected to it."""
        if self._connected is not None:
            self._connected.close()

    # --- the project
    @shared
    def root(self) -> Path:
        """The project's root. Raises `ConfigError` (config.project)."""
        return self._find_root()

    @shared
    def variables(self) -> Variables:
        """What .env and the shell set. Raises `ConfigError` (config.env_missing, config.env)."""
        variables, outcome = self._loaded
        if variables is None:
            assert isinstance(outcome, ConfigError)
            raise outcome
        return variables

    @shared
    def settings(self) -> Settings:
        """The settings that stockhelper looks at. Raises `ConfigError`, also for the first bad value."""
        from stockhelper_cli.settings import load_settings

        return load_settings(self.variables.environment, self.variables.dotenv)

    @shared
    def project(self) -> Project:
        """The project. Raises `ConfigError` (config.compose); values that are not valid may have made it fail."""
        if self._given_project is not None:
            return self._given_project
        outcome = self._loaded[1]
        if isinstance(outcome, ConfigError):
            raise outcome
        return outcome

    def load_project(self) -> Project:
        """Load the project anew, its values checked, as every other command does. Raises `ConfigError`."""
        from stockhelper_cli.settings import load_settings

        return self._load(check=load_settings)

    @shared
    def _loaded(self) -> tuple[Variables | None, Project | ConfigError]:
        found: list[Variables] = []

        def keep(environment: Mapping[str, str], dotenv: Dotenv | None) -> None:
            found.append(Variables(dict(environment), dotenv))

        try:
            project: Project | ConfigError = self._load(check=keep)
        except ConfigError as error:
            project = error
        return (found[-1] if found else None), project

    # --- the engine
    @shared
    def endpoint(self) -> Endpoint:
        """Where the engine answers. Raises `EngineError`."""
        from stockhelper_cli.engine.endpoints import find

        return find(self.environ)

    @shared
    def engine(self) -> Engine:
        """The engine. Raises `EngineError`."""
        if self._given_engine is not None:
            return self._given_engine
        endpoint = self.endpoint
        from stockhelper_cli.engine.docker_engine import connect

        self._connected = connect(endpoint) if self._call_seconds is None else connect(endpoint, self._call_seconds)
        return self._connected

    @shared
    def info(self) -> EngineInfo:
        """Who the engine is. Raises `EngineError`."""
        return self.engine.info()

    @shared
    def state(self) -> ObservedState:
        """What is there of the project, at one moment. Raises `ConfigError` and `EngineError`."""
        from stockhelper_cli.converge.state import observe

        return observe(self.project, self.engine)

    @shared
    def builds(self) -> Mapping[str, BuildOptions]:
        """The builds of the project's images, by reference, labelled with the digest of what goes into them now."""
        from stockhelper_cli.converge.images import build_options

        return build_options(self.project, self.engine, list(self.project.services.values()))

    @shared
    def needs(self) -> Needs:
        """What the next `up` would build and pull. Raises `ConfigError` and `EngineError`."""
        from stockhelper_cli.doctor.needs import needs_of

        return needs_of(self.project, self.engine, self.state, self.builds)

    @shared
    def bases(self) -> Mapping[str, Image]:
        """The images that are there and that nobody builds here of this project's sources, by reference."""
        built_on = {base for options in self.builds.values() for base in options.bases}
        asked = {reference: self.engine.image(reference) for reference in sorted(built_on)}
        asked |= {name: image for name, image in self.state.images.items() if name not in self.builds}
        return {name: image for name, image in asked.items() if image is not None}

    @shared
    def refused_pulls(self) -> Mapping[str, EngineError]:
        """Why the engine would not get the images that the next `up` pulls, by reference; none where it would."""
        pulls = self.needs.pulls
        if not pulls:
            return {}
        from stockhelper_cli.doctor.registry import refusal

        mirror = self.project.environment.get(MIRROR_KEY, "")
        with ThreadPoolExecutor(len(pulls)) as pool:
            answers = pool.map(lambda reference: refusal(self.engine, reference, mirror), pulls)
            return {reference: error for reference, error in zip(pulls, answers, strict=True) if error is not None}

    # --- the stack
    @shared
    def services(self) -> Services:
        """How the services are. Raises `ConfigError` and `EngineError`."""
        from stockhelper_cli.doctor.services import services_of

        return services_of(self.project, self.state, self.info.clock)

    @shared
    def app(self) -> ServiceState | None:
        """The service that is the app, if there is one. Raises `ConfigError` and `EngineError`."""
        from stockhelper_cli.converge.reconcile import ROLE_APP

        return next((state for state in self.services.states.values() if state.service.role == ROLE_APP), None)

    @shared
    def plan(self) -> Plan:
        """What the next `up` would do once its images are there. Raises `StockhelperError` where it would be refused.

        The database is not asked, so whether `migrate` would run is not told by it.
        """
        from stockhelper_cli.converge.reconcile import UpRules, reconcile

        return reconcile(self.project, self.state, UpRules())

    @shared
    def database(self) -> Database | None:
        """The service that is the database, if there is one. Raises `ConfigError` and `EngineError`."""
        from stockhelper_cli.doctor.database import database_of

        return database_of(self.project, self.engine, self.state)

    @shared
    def owner_answer(self) -> Exception | None:
        """What the running database answers its owner, over TCP and with the password; see `Database.answer`."""
        database = self.database
        assert database is not None
        return database.answer(database.credentials)

    @shared
    def vitals(self) -> Vitals:
        """How the running database is. Raises `ServerError`."""
        from stockhelper_cli.database.vitals import read_vitals

        database = self.database
        assert database is not None
        return read_vitals(database.server, database.credentials.database)
