"""What people write into env files and compose files, for property tests: near to what works, and now and then wrong.

A compose file is drawn as a tree first, with what YAML has beyond values (`Tagged`, `Anchored`, `Alias`, `Raw`), and
then written out, each collection in one of YAML's two styles and each text in one of its quotings.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

#: The shell that the files are read in. Nobody sets MISSING.
SHELL: Final = {"SET": "a $value", "EMPTY": "", "_under1": "u", "lower": "l", "PORT": "8080", "FLAG": "true"}

Texts = SearchStrategy[str]


def joined(*pieces: Texts, most: int = 4) -> Texts:
    """Return texts of a few pieces, each of one of these kinds."""
    return st.lists(st.one_of(*pieces), max_size=most).map("".join)


# --- variables in text

_NAMES = st.sampled_from(["SET", "EMPTY", "MISSING", "_under1", "lower"])
_OPERATORS = st.sampled_from([":-", "-", ":+", "+", ":?", "?"])
_LITERALS = st.sampled_from(
    [
        "a",
        "b c",
        "-",
        ":",
        "/",
        "http://x:80/",
        "{",
        "}",
        '{"a":{"b":1}}',
        "é",
        "#",
        " # ",
        "=",
        "?",
        "+",
        "1",
        ".",
        ",",
    ]
)
_DOLLARS = st.sampled_from(["$$", "$$$$", "$", "$1", "$-", "$ ", "$.", "$}"])
_BROKEN_VARIABLES = st.sampled_from(["${", "${}", "${1}", "${SET", "${SET!x}", "${ SET}", "${SET:x}", "${SET:-${}"])


@st.composite
def variables(draw: DrawFn, depth: int = 2) -> str:
    """Draw a variable in one of its forms; defaults and messages may hold further ones."""
    name = draw(_NAMES)
    match draw(st.sampled_from(["bare", "braced", "operator", "operator"])):
        case "bare":
            return f"${name}"
        case "braced":
            return f"${{{name}}}"
        case _:
            word = draw(interpolated(depth - 1)) if depth else draw(_LITERALS)
            return f"${{{name}{draw(_OPERATORS)}{word}}}"


def interpolated(depth: int = 2) -> Texts:
    """Texts with variables in them."""
    return joined(_LITERALS, _DOLLARS, st.deferred(lambda: variables(depth)))


def badly_interpolated() -> Texts:
    """Texts with something that is none of the forms of a variable."""
    return st.tuples(interpolated(), _BROKEN_VARIABLES, interpolated()).map("".join)


#: Variables that have a value wherever they stand, so that a text with one is not refused for it.
HARMLESS = st.sampled_from(["$SET", "${SET}", "${MISSING:-x}", "${EMPTY-x}", "${SET:+y}", "$$", "$", "${lower:?no}"])

# --- env files

#: A name that begins with a digit is none to Compose in `.env`, and one in an `env_file`.
KEYS = st.sampled_from(
    ["A", "B", "C", "D1", "_E", "lower", "SET", "EMPTY", "dotted.key", "da-sh", "x[0]", "export1", "Ä"]
)
#: Those of which the shell knows nothing.
OWN_KEYS = KEYS.filter(lambda key: key not in SHELL)
#: What somebody may want a setting to be: a password of any signs, a list, a certificate.
VALUES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
    st.text("ab \\'\"$`#\n\r\t{}=:é", max_size=12),
)
_WORDS = st.sampled_from(
    ["a", "b", " ", "  ", "\t", "=", ":", "é", "😀", "/", "1", "it's", "%", ";", "&", "!", "\\", "\\n"]
)
_HASHES = st.sampled_from(["#", " #", " # c", "#c"])
_ESCAPES = st.sampled_from(
    ["\\n", "\\t", "\\r", "\\a", '\\"', "\\'", "\\$", "\\\\", "\\0101", "\\012", "\\07", "\\x41", "\\q", "\\ "]
)
_AFTER_QUOTE = st.sampled_from(["", "", "", " ", " # comment", "#comment", "\t", " # it's"])

BARE = joined(_WORDS, _HASHES, HARMLESS, _LITERALS, st.sampled_from(['"', "'"])).filter(
    lambda text: text[:1] not in "'\""
)
#: In double quotes a lone backslash before the closing quote would escape it; that is drawn by UNCLOSED.
DOUBLE = joined(
    _WORDS.filter(lambda word: word != "\\"), _HASHES, _ESCAPES, HARMLESS, st.sampled_from(["'", "\n"]), most=6
)
SINGLE = joined(
    _WORDS.filter(lambda word: "'" not in word and word != "\\"),
    _HASHES,
    HARMLESS,
    st.sampled_from(["\\'", '"', "\n", "\\n", "\\$"]),
    most=6,
)


@st.composite
def assignments(draw: DrawFn, key: str) -> str:
    """Draw one statement of an env file."""
    head = draw(st.sampled_from(["", "", "", "export ", "export\t", "  "])) + key
    match draw(st.sampled_from(["bare", "double", "single", "nothing", "inherited"])):
        case "bare":
            value = draw(BARE)
        case "double":
            value = f'"{draw(DOUBLE)}"{draw(_AFTER_QUOTE)}'
        case "single":
            value = f"'{draw(SINGLE)}'{draw(_AFTER_QUOTE)}"
        case "nothing":
            value = draw(st.sampled_from(["", " ", " # nothing", '""', "''"]))
        case _:
            return head
    return head + draw(st.sampled_from(["=", "=", "=", " = ", "= ", ": ", ":"])) + value


@st.composite
def env_files(draw: DrawFn) -> str:
    """Draw an env file."""
    lines: list[str] = []
    for key in draw(st.lists(KEYS, min_size=1, max_size=6, unique=True)):
        lines += draw(st.lists(st.sampled_from(["", "# comment", "  # it's", "#A=1", "\t"]), max_size=1))
        lines.append(draw(assignments(key)))
    newline = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    text = "\n".join(lines).replace("\n", newline)
    # Without a line end Compose takes a last line that is only a name for a nameless variable's value; not we.
    ends = not re.search(r"[=:]", lines[-1]) or draw(st.booleans())
    return draw(st.sampled_from(["", "", "\ufeff"])) + text + (newline if ends else "")


# --- YAML


@dataclass(frozen=True)
class Raw:
    """A scalar as it stands in the file."""

    text: str


@dataclass(frozen=True)
class Tagged:
    """A value with a tag before it."""

    tag: str
    value: Any


@dataclass(frozen=True)
class Anchored:
    """A value that an alias can name."""

    name: str
    value: Any


@dataclass(frozen=True)
class Alias:
    """What an anchor stands before."""

    name: str


#: Texts that need no quotes and are not taken for anything but text.
_PLAIN = re.compile(r"(?!(?:true|false|null|y|n|yes|no|on|off)\Z)[A-Za-z/$][A-Za-z0-9_./$@%=-]*", re.IGNORECASE)
#: Texts that can be written as they are, line by line.
_BLOCK = re.compile(r"(?:[A-Za-z$][^\r\n\t\x85\u2028\u2029]*\n)+", re.ASCII)
_SINGLE_QUOTED = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]*")


class Layout:
    """How a tree is written down: every choice follows from one number, and 0 chooses the plainest way everywhere.

    One number instead of one draw for each choice, which would take ten times as long as everything else.
    """

    def __init__(self, number: int) -> None:
        self._random = random.Random(number) if number else None

    def one_of(self, *ways: str) -> str:
        """Return one of these, the first of which is the plainest."""
        return self._random.choice(ways) if self._random else ways[0]

    def seldom(self, chance: float = 0.1) -> bool:
        """Return whether to do something that is rarely done."""
        return self._random is not None and self._random.random() < chance

    def written(self, value: Any, indent: int | None = 0) -> str:
        """Return a value as YAML, where its own lines stand at `indent`; None is within a flow collection.

        What is returned comes after a blank, or begins with a line end.
        """
        match value:
            case Raw(text=text):
                return text
            case Tagged(tag=tag, value=inner):
                return f"{tag} {self.written(inner, indent)}".rstrip(" ")
            case Anchored(name=name, value=inner):
                return f"&{name} {self.written(inner, indent)}".rstrip(" ")
            case Alias(name=name):
                return f"*{name} " if indent is None else f"*{name}"
            case None:
                return self.one_of("null", "~") if indent is None else self.one_of("", "null", "~")
            case bool():
                return "true" if value else "false"
            case float() if math.isinf(value):
                return ".inf" if value > 0 else "-.inf"
            case int() | float():
                return str(value)
            case str():
                return self._text(value, indent)
            case Mapping():
                return self._mapping(value, indent)
            case Sequence():
                return self._sequence(value, indent)
        raise TypeError(f"{value!r} cannot be written")

    def _text(self, text: str, indent: int | None) -> str:
        ways = []
        if _PLAIN.fullmatch(text):
            ways += ["plain"] * 3
        if indent is not None and _BLOCK.fullmatch(text):
            ways += ["block"] * 3
        if _SINGLE_QUOTED.fullmatch(text):
            ways += ["single"] * 2
        match self.one_of(*ways, "double"):
            case "plain":
                return text
            case "single":
                return "'" + text.replace("'", "''") + "'"
            case "block":
                return "|" + "".join(f"\n{' ' * (indent or 0)}{line}" for line in text.splitlines())
            case _:
                return json.dumps(text, ensure_ascii=False)

    def _mapping(self, value: Mapping[str, Any], indent: int | None) -> str:
        if indent is None or not value or self.seldom(0.25):
            return (
                "{" + ", ".join(f"{self._key(key)}: {self.written(entry, None)}" for key, entry in value.items()) + "}"
            )
        lines = ""
        for key, entry in value.items():
            if self.seldom():
                lines += "\n" + " " * indent + self.one_of("# comment", "# it's: {", "#")
            shown = self.written(entry, indent + (4 if self.seldom(0.25) else 2))
            comment = " # why" if shown and not re.search(r"[\n\"']", shown) and self.seldom() else ""
            lines += f"\n{' ' * indent}{self._key(key)}:{self._after(shown)}{comment}"
        return lines

    def _sequence(self, value: Sequence[Any], indent: int | None) -> str:
        if indent is None or not value or self.seldom(0.5):
            return "[" + ", ".join(self.written(entry, None) for entry in value) + "]"
        return "".join(f"\n{' ' * indent}-{self._after(self.written(entry, indent + 2))}" for entry in value)

    def _after(self, shown: str) -> str:
        return shown if shown[:1] in ("", "\n") else f" {shown}"

    def _key(self, key: str) -> str:
        quoted = json.dumps(key, ensure_ascii=False)
        if key == "<<":
            return key
        return quoted if not _PLAIN.fullmatch(key) or self.seldom() else key

    def document(self, tree: Any) -> str:
        """Return a tree as a file, which may begin and end its lines as other systems do."""
        text = self.written(tree).removeprefix("\n") + "\n"
        if self.seldom():
            text = self.one_of("---\n", "# comment\n\n", "%YAML 1.1\n---\n") + text
        if self.seldom(0.2):
            text = text.replace("\n", "\r\n")
        return ("\ufeff" if self.seldom() else "") + text


LAYOUTS = st.integers(0, 2**32 - 1).map(Layout)


def documents(trees: SearchStrategy[Any]) -> Texts:
    """Compose files of these trees."""
    return st.tuples(LAYOUTS, trees).map(lambda drawn: drawn[0].document(drawn[1]))


# --- compose files

_PLAIN_TEXT = st.sampled_from(
    ["a", "b c", "x/y:1", "http://x:80/?a=b#c", "it's", '"q"', "é", "", " ", "a: b", "# no", "- x"]
)
TEXT = st.one_of(_PLAIN_TEXT, joined(_LITERALS, HARMLESS), st.sampled_from(["one\ntwo\n", "a $SET\n", "tab\tx", "\\"]))
#: Scalars that YAML and Go each have their own idea of.
RAW = st.sampled_from(
    [
        "0755",
        "0o17",
        "0x1F",
        "0b11",
        "1e3",
        "1.50",
        "1_000",
        "08",
        ".5",
        "yes",
        "no",
        "on",
        "~",
        "1:30",
        "-0",
        "+5",
        "!!str 5",
    ]
).map(Raw)
SCALARS = st.one_of(TEXT, st.integers(-5, 70000), st.booleans(), st.just(None), RAW)
_VARIABLE_NAMES = st.sampled_from(["A", "B", "C", "SET", "EMPTY", "MISSING", "PATH_X", "a.b/c"])
_PAIR_TEXTS = st.one_of(
    st.tuples(_VARIABLE_NAMES, joined(_LITERALS, HARMLESS)).map("=".join),
    _VARIABLE_NAMES,
    _VARIABLE_NAMES.map("{}=".format),
)
PAIRS = st.one_of(
    st.dictionaries(_VARIABLE_NAMES, SCALARS, max_size=4), st.lists(_PAIR_TEXTS, min_size=1, max_size=4, unique=True)
)
FLAGS = st.sampled_from([True, False, "true", "false", "${FLAG}", "${MISSING:-yes}", "on"])
DURATIONS = st.sampled_from(["10s", "1m30s", "1.5h", "100ms", "2d", "90s", "0s", "${MISSING:-5s}", "1w", "1us", "0"])
SIZES = st.sampled_from(["64m", "1g", "1.5gb", "512b", "100k", "2GiB", 1024, "1024", "0", "${MISSING:-32m}"])
COUNTS = st.sampled_from([0, 1, 5, 1000, "7", "${MISSING:-9}", -1])
_PORTS = st.integers(1, 9).map(lambda digit: 8000 + digit)
_PORT_TEXTS = st.one_of(
    _PORTS.map(str),
    st.tuples(_PORTS, _PORTS).map(lambda two: f"{two[0]}:{two[1]}"),
    st.tuples(_PORTS, st.sampled_from(["/tcp", "/udp", "/TCP"])).map(lambda two: f"{two[0]}:80{two[1]}"),
    st.sampled_from(
        [
            "127.0.0.1:8001:80", "127.0.0.1::80", "[::1]:8001:80", "0.0.0.0:8001:80", "9000-9002:80-82", "3000-3002",
            "8000-8009:80", "${PORT}:80", "${MISSING:-81}:80", "127.0.0.1:${PORT}:80/udp", "1-3:80-81", "x:80", "::80",
        ]
    ),
)  # fmt: skip
_LONG_PORTS = st.fixed_dictionaries(
    {"target": _PORTS},
    optional={
        "published": st.one_of(_PORTS, _PORTS.map(str), st.just("8000-8009")),
        "host_ip": st.sampled_from(["127.0.0.1", "0.0.0.0"]),
        "protocol": st.sampled_from(["tcp", "udp"]),
        "mode": st.sampled_from(["host", "ingress"]),
        "name": st.just("web"),
    },
)
_TARGETS = st.sampled_from(["/a", "/b", "/data/", "/x/../y", "/with space", "/z:ro", "/z:rw"])
_SOURCES = st.sampled_from(
    ["data", "cache", ".", "./x", "../above/", "~/home", "/absolute/path", "${MISSING:-./y}", "x"]
)
_MOUNT_TEXTS = st.one_of(
    st.tuples(_SOURCES, _TARGETS).map(":".join),
    st.sampled_from(["/anonymous", "/b/", "data:/c:nocopy", "./x:/c:ro,Z", "/p:/c:rslave,rw", "data:/c:z"]),
)
_LONG_MOUNTS = st.one_of(
    st.fixed_dictionaries(
        {
            "type": st.just("bind"),
            "source": st.sampled_from(["./x", "/abs", "~"]),
            "target": st.sampled_from(["/a", "/b/"]),
        },
        optional={
            "read_only": FLAGS,
            "bind": st.fixed_dictionaries({}, optional={"create_host_path": FLAGS, "propagation": st.just("rslave")}),
        },
    ),
    st.fixed_dictionaries(
        {"type": st.just("volume"), "target": st.sampled_from(["/a", "/b/"])},
        optional={
            "source": st.sampled_from(["data", "cache"]),
            "read_only": FLAGS,
            "volume": st.fixed_dictionaries({}, optional={"nocopy": FLAGS}),
        },
    ),
    st.fixed_dictionaries(
        {"type": st.just("tmpfs"), "target": st.sampled_from(["/a", "/t"])},
        optional={
            "tmpfs": st.fixed_dictionaries({}, optional={"size": SIZES, "mode": st.sampled_from([Raw("0755"), 511])})
        },
    ),
)
_COMMAND_TEXTS = joined(
    st.sampled_from(
        ["run ", "--flag=1 ", "'a b' ", '"c d" ', "e\\ f ", "g\\\\", '"h\\"i" ', "$SET ", "$$x ", "  ", "\t", "''"]
    ),
    most=5,
)
COMMANDS = st.one_of(_COMMAND_TEXTS, st.lists(TEXT, max_size=3))
_ADDRESSES = st.sampled_from(["1.1.1.1", "8.8.8.8", "::1"])
_CAPABILITIES = st.sampled_from(["ALL", "CHOWN", "NET_ADMIN", "SYS_TIME"])


def _lists(entries: SearchStrategy[Any], most: int = 3) -> SearchStrategy[list[Any]]:
    # Compose refuses 5 beside "5" even where a later file resets both.
    return st.lists(entries, min_size=1, max_size=most, unique_by=str)


def _alone_or_listed(entries: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.one_of(entries, _lists(entries))


def _limits(*names: str) -> SearchStrategy[dict[str, Any]]:
    known: dict[str, SearchStrategy[Any]] = {
        "cpus": st.sampled_from(["0.5", "1.5", 2, 0.25, "${MISSING:-1}"]),
        "memory": SIZES,
        "pids": st.sampled_from([5, 100]),
    }
    return st.fixed_dictionaries({}, optional={name: known[name] for name in names})


#: The services of a project; each may depend on those after it.
SERVICES: Final = ("a", "b", "c")
#: What each key of a service may hold, but for those that name other services.
SERVICE_KEYS: Final[Mapping[str, SearchStrategy[Any]]] = {
    "build": st.one_of(
        st.sampled_from([".", "./sub", "/abs"]),
        st.fixed_dictionaries(
            {},
            optional={
                "context": st.sampled_from([".", "..", "~/x"]),
                "dockerfile": st.sampled_from(["Dockerfile", "other/Dockerfile"]),
                "args": PAIRS,
                "labels": PAIRS,
                "target": st.just("stage"),
                "no_cache": FLAGS,
                "cache_from": _lists(st.sampled_from(["x:1", "y"])),
                "x-build": st.just(1),
            },
        ),
    ),
    "cap_add": _lists(_CAPABILITIES),
    "cap_drop": _lists(_CAPABILITIES),
    "command": COMMANDS,
    "cpu_shares": COUNTS,
    "cpus": st.sampled_from([0.5, "1.5", 2, "0", 0.1, "${MISSING:-0.25}"]),
    "cpuset": st.sampled_from(["0", "0-1", "0,1"]),
    "deploy": st.fixed_dictionaries(
        {
            "resources": st.fixed_dictionaries(
                {}, optional={"limits": _limits("cpus", "memory", "pids"), "reservations": _limits("memory")}
            )
        }
    ),
    "dns": _alone_or_listed(_ADDRESSES),
    "dns_opt": _lists(st.sampled_from(["use-vc", "ndots:2"])),
    "dns_search": _alone_or_listed(st.sampled_from(["example.org", "x.y"])),
    "domainname": st.just("example.org"),
    "entrypoint": COMMANDS,
    "environment": PAIRS,
    "env_file": st.one_of(
        st.sampled_from(["one.env", "./two.env"]),
        _lists(
            st.one_of(
                st.sampled_from(["one.env", "two.env"]),
                st.fixed_dictionaries({"path": st.sampled_from(["one.env", "none.env"]), "required": st.just(False)}),
            )
        ),
    ),
    "expose": _lists(st.one_of(st.integers(80, 83), st.sampled_from(["80", "81/udp", "90-92"]))),
    "extra_hosts": st.one_of(
        _lists(st.sampled_from(["h:1.1.1.1", "i=2.2.2.2", "h=2.2.2.2", "j:::1", "k=[::1]", "l:host-gateway"])),
        st.dictionaries(st.sampled_from(["h", "i"]), st.one_of(_ADDRESSES, _lists(_ADDRESSES)), max_size=2),
    ),
    "group_add": _lists(st.sampled_from([5, "7", "users"])),
    "healthcheck": st.fixed_dictionaries(
        {},
        optional={
            "test": st.one_of(
                TEXT, _lists(TEXT).map(lambda words: ["CMD", *words]), st.just(["NONE"]), st.just(["CMD-SHELL", "x"])
            ),
            "interval": DURATIONS,
            "timeout": DURATIONS,
            "retries": st.sampled_from([0, 5, "7", "${MISSING:-9}"]),
            "start_period": DURATIONS,
            "start_interval": DURATIONS,
            "disable": FLAGS,
        },
    ),
    "hostname": st.just("host"),
    "init": FLAGS,
    "labels": PAIRS,
    "logging": st.fixed_dictionaries(
        {},
        optional={
            "driver": st.sampled_from(["json-file", "local"]),
            "options": st.dictionaries(
                st.sampled_from(["max-size", "max-file", "tag"]), st.sampled_from(["1m", 2, None]), max_size=2
            ),
        },
    ),
    "mem_limit": SIZES,
    "mem_reservation": SIZES,
    "memswap_limit": st.one_of(SIZES, st.just(-1)),
    "networks": st.one_of(
        _lists(st.sampled_from(["default", "front", "back"])),
        st.dictionaries(
            st.sampled_from(["default", "front", "back"]),
            st.one_of(
                st.none(),
                st.fixed_dictionaries(
                    {},
                    optional={
                        "aliases": _lists(st.sampled_from(["z", "y"])),
                        "priority": st.sampled_from([0, 5]),
                        "ipv4_address": st.just("10.9.0.7"),
                        "x-net": st.just(1),
                    },
                ),
            ),
            min_size=1,
            max_size=2,
        ),
    ),
    "oom_score_adj": COUNTS,
    "pids_limit": COUNTS,
    "platform": st.just("linux/amd64"),
    "ports": _lists(st.one_of(_PORT_TEXTS, _PORTS, _LONG_PORTS), most=4),
    "privileged": st.just(False),
    "profiles": _lists(st.sampled_from(["p", "q"])),
    "pull_policy": st.sampled_from(["always", "missing", "if_not_present", "never"]),
    "read_only": FLAGS,
    "restart": st.sampled_from(["no", "always", "unless-stopped", "on-failure", "on-failure:3", "${MISSING:-no}"]),
    "secrets": _lists(st.one_of(st.sampled_from(["one", "two"]), st.just({"source": "one", "target": "elsewhere"}))),
    "security_opt": _lists(st.sampled_from(["no-new-privileges:true", "label=disable"])),
    "shm_size": SIZES,
    "stop_grace_period": DURATIONS,
    "stop_signal": st.sampled_from(["SIGTERM", "9"]),
    "stdin_open": FLAGS,
    "sysctls": st.one_of(
        st.dictionaries(st.sampled_from(["net.a", "net.b"]), st.sampled_from([1, "2", None, 1.5]), max_size=2),
        _lists(st.sampled_from(["net.a=1", "net.b=3", "net.a=2"])),
    ),
    "tmpfs": _alone_or_listed(st.sampled_from(["/run", "/tmp:size=1m,mode=755", "/run:ro"])),
    "tty": FLAGS,
    "ulimits": st.dictionaries(
        st.sampled_from(["nofile", "nproc", "core"]),
        st.one_of(
            st.sampled_from([0, 5, "7"]), st.fixed_dictionaries({"soft": st.just(1), "hard": st.sampled_from([0, 2])})
        ),
        max_size=2,
    ),
    "user": st.sampled_from(["1000", "me", "1:1", "${MISSING:-me}"]),
    "volumes": _lists(st.one_of(_MOUNT_TEXTS, _LONG_MOUNTS), most=4),
    "working_dir": st.sampled_from(["/app", "/app/"]),
    "x-own": st.fixed_dictionaries({}, optional={"role": TEXT, "deep": st.lists(SCALARS, min_size=1, max_size=2)}),
}

_CONDITIONS = st.sampled_from(["service_started", "service_healthy", "service_completed_successfully"])


def _dependencies(names: Sequence[str]) -> SearchStrategy[Any]:
    entry = st.fixed_dictionaries({"condition": _CONDITIONS}, optional={"restart": FLAGS, "required": st.booleans()})
    return st.one_of(_lists(st.sampled_from(names)), st.dictionaries(st.sampled_from(names), entry, min_size=1))


@st.composite
def services(draw: DrawFn, others: Sequence[str], *, complete: bool, most: int = 5) -> dict[str, Any]:
    """Draw a service of a few keys, which may depend on others.

    One that is not complete only overrides what another file says of it.
    """
    keys = draw(st.lists(st.sampled_from(sorted(SERVICE_KEYS)), max_size=most, unique=True))
    service = {key: draw(SERVICE_KEYS[key]) for key in keys}
    if complete or draw(st.integers(0, 3)) == 0:
        service["image"] = draw(st.sampled_from(["x", "registry.example/x:1", "${MISSING:-x}:1"]))
    if others and draw(st.integers(0, 3)) == 0:
        service["depends_on"] = draw(_dependencies(others))
    return service


_NETWORKS = st.fixed_dictionaries(
    {},
    optional={
        "driver": st.just("bridge"),
        "internal": FLAGS,
        "attachable": FLAGS,
        "labels": PAIRS,
        "name": st.sampled_from(["named", "${MISSING:-n}"]),
        "driver_opts": st.dictionaries(st.sampled_from(["o", "p"]), st.sampled_from(["1", 2]), max_size=2),
        "ipam": st.just({"config": [{"subnet": "10.9.0.0/16"}]}),
        "x-n": st.just(2),
    },
)
_VOLUMES = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {},
        optional={
            "driver": st.just("local"),
            # Compose refuses a label of a volume that stands twice, in one list or in two files.
            "labels": st.dictionaries(_VARIABLE_NAMES, SCALARS, max_size=4),
            "name": st.sampled_from(["named", "${MISSING:-v}"]),
            "driver_opts": st.just({"type": "none", "o": "bind", "device": "./device"}),
        },
    ),
    st.just({"external": True}),
    st.just({"external": True, "name": "theirs"}),
)
#: What services refer to: all of it is there, whether or not it is used.
_RESOURCES = st.fixed_dictionaries(
    {
        "networks": st.fixed_dictionaries({"front": _NETWORKS, "back": _NETWORKS}, optional={"default": _NETWORKS}),
        "volumes": st.fixed_dictionaries({"data": _VOLUMES, "cache": _VOLUMES}),
        "secrets": st.just({"one": {"file": "./one.txt"}, "two": {"file": "/abs/two"}}),
    }
)
#: Compose shows an empty list of an extension as null; none is drawn.
_EXTENSIONS = st.dictionaries(
    st.sampled_from(["x-top", "x-text"]),
    st.one_of(TEXT, st.lists(SCALARS, min_size=1, max_size=3), st.dictionaries(st.just("k"), SCALARS)),
    max_size=2,
)
#: What services may take from an anchor with `<<`.
_COMMON: Final = ("environment", "labels", "logging", "restart", "healthcheck", "cap_drop", "user", "init")


#: Keys of which a later file may reset single entries.
_RESET_WITHIN: Final = ("healthcheck", "logging", "networks", "depends_on", "x-own")


@st.composite
def projects(draw: DrawFn) -> dict[str, Any]:
    """Draw the tree of a compose file that stands alone."""
    tree: dict[str, Any] = {}
    names = SERVICES[: draw(st.integers(1, len(SERVICES)))]
    if draw(st.integers(0, 4)) == 0:
        tree["name"] = draw(st.sampled_from(["named", "${MISSING:-from-default}", "Na_me-1"]))
    tree |= draw(_EXTENSIONS)
    bases: list[Alias] = []
    for base in draw(st.sampled_from([(), (), ("common",), ("common", "more")])):
        keys = draw(st.lists(st.sampled_from(_COMMON), min_size=1, max_size=3, unique=True))
        tree[f"x-{base}"] = Anchored(base, {key: draw(SERVICE_KEYS[key]) for key in keys})
        bases.append(Alias(base))
    tree["services"] = {}
    for number, name in enumerate(names, 1):
        service = draw(services(names[number:], complete=True))
        if draw(st.booleans()) and bases:
            service = {"<<": draw(st.sampled_from([bases[0], bases])), **service}
        tree["services"][name] = service
    return tree | draw(_RESOURCES)


@st.composite
def overrides(draw: DrawFn, names: Sequence[str]) -> dict[str, Any]:
    """Draw the tree of a file that completes a project of these services, and may have one more."""
    tree: dict[str, Any] = draw(_EXTENSIONS)
    tree["services"] = {"new": {"image": "x"}} if draw(st.integers(0, 7)) == 0 else {}
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)):
        service = draw(services(names[names.index(name) + 1 :], complete=False, most=4))
        for key in sorted(set(service) - {"image"}):
            match draw(st.integers(0, 9)):
                case 0:
                    service[key] = Tagged("!reset", draw(st.sampled_from([None, service[key]])))
                case 1:
                    service[key] = Tagged("!override", service[key])
                # Compose cannot reset one entry of what a file before wrote as a list, nor we of what is one to us.
                case 2 if isinstance(service[key], dict) and service[key] and key in _RESET_WITHIN:
                    inner = draw(st.sampled_from(sorted(service[key])))
                    service[key] = {**service[key], inner: Tagged("!reset", None)}
        tree["services"][name] = service
    resources: dict[str, Any] = draw(_RESOURCES)
    for volume in resources["volumes"].values():
        if volume is not None:
            volume.pop("labels", None)
    return tree | {
        kind: resources[kind] for kind in draw(st.lists(st.sampled_from(["networks", "volumes"]), max_size=1))
    }


@st.composite
def stacks(draw: DrawFn) -> list[str]:
    """Draw a project's file and those that complete it. They share keys more often than not."""
    first = draw(projects())
    trees = [draw(overrides(list(first["services"]))) for _ in range(draw(st.integers(1, 2)))]
    # A later file is about what an earlier one has: some of its keys, written in another way.
    for later in trees:
        for name, service in later["services"].items():
            earlier = first["services"].get(name, {})
            for key in sorted(set(earlier) & set(SERVICE_KEYS) - set(service)):
                if draw(st.booleans()):
                    service[key] = draw(SERVICE_KEYS[key])
    return [draw(LAYOUTS).document(tree) for tree in (first, *trees)]


# --- single values, sign by sign


def _near(pieces: str, most: int = 6) -> Texts:
    """Texts of a few of these pieces, which stand apart by blanks; _ stands for a blank itself."""
    return joined(st.sampled_from([piece.replace("_", " ") for piece in pieces.split()]), most=most)


#: A key of a service, and values that are near to what it takes.
VALUES_OF: Final[Mapping[str, SearchStrategy[Any]]] = {
    "command": _near("a b _ __ ' \" \\ \\' $$ $SET é # = ~ * \t", most=8),
    "cpus": st.one_of(_near("0 1 5 . e + -"), _near("0 1 5 . e + -").map(Raw)),
    # libyaml, unlike Compose's parser, takes no colon before the bracket that ends a flow collection.
    "environment": _near("0 1 7 9 . e E + - x o b : ~ true no null inf", most=4)
    .filter(lambda text: not text.endswith(":"))
    .map(lambda text: {"A": Raw(text)}),
    "extra_hosts": _near("h i 1.1.1.1 : = [::1] , ::1").map(lambda text: [text]),
    "init": st.sampled_from(["true", "True", "YES", "oFF", "n", "N", "y", "1", "t", "", "truE", " true", "$FLAG"]),
    "mem_limit": st.one_of(_near("0 1 5 . k K m MB g GiB b i t _", most=4), st.integers(-1, 9)),
    "ports": _near("0 8 80 8000 08 : - / tcp UDP 127.0.0.1 [::1]").map(lambda text: [text]),
    "stop_grace_period": _near("0 1 5 . ns us µs ms s m h d w - + _"),
    "volumes": _near("a bc / /d . .. ~ : ro rw z nocopy , _ cached").map(lambda text: [text]),
}


@st.composite
def single_values(draw: DrawFn) -> dict[str, Any]:
    """Draw the tree of a file with one service of one key."""
    key = draw(st.sampled_from(sorted(VALUES_OF)))
    return {"services": {"a": {"image": "x", key: draw(VALUES_OF[key])}}, "volumes": {"bc": None, "abc": None}}
