"""A port of loopback that leads to the engine's socket, as a tunnel to a remote engine does, and can break."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from tests.support.sandbox import engine_socket
from tests.support.waiting import PATIENCE

#: A request that changes something. Running a command (exec) does not, nor does asking.
CHANGE = re.compile(rb"^(?:POST|DELETE) /v[0-9.]+/(?!exec|containers/[^/]+/exec)", re.MULTILINE)
#: A request that runs a command in a container.
COMMAND = re.compile(rb"^POST /v[0-9.]+/exec/[^/]+/start", re.MULTILINE)
#: A command that fills a database. By what it runs, not by how much ran before: that is more, the later a server is up.
RESTORE = re.compile(rb'"pg_restore", *"--exit-on-error"')
#: The words of a command, as they stand in the request for it.
WORDS = re.compile(rb'"Cmd": *(\[(?:[^"\]]|"(?:[^"\\]|\\.)*")*\])')
#: Those of commands that change nothing: questions, and the programs that only look whether a service answers.
_QUESTION = re.compile(rb'"(?:SELECT|SHOW) |"-f", *"-"|df -Pk|pg_isready|"curl"')


class Tunnel:
    """Passes on what is said to the engine, counting the requests of one kind.

    It holds everything back until it is told what to do, as that is mostly about a process that asks through it.
    """

    def __init__(self, kind: re.Pattern[bytes]) -> None:
        self._kind = kind
        #: What matched in each request of the kind, in the order in which they were made.
        self.heard: list[bytes] = []
        self._engine = engine_socket()
        self._count_of_kind = 0
        self._at: tuple[int, Callable[[], object]] | None = None
        self._told = threading.Event()
        self._broken = False
        self._open: list[socket.socket] = []
        self._under_way = 0
        self._changed = threading.Condition()
        tunnel = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                tunnel.carry(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)

    @property
    def environment(self) -> Mapping[str, str]:
        """What leads a command through the tunnel."""
        return {"DOCKER_HOST": f"tcp://127.0.0.1:{self.server.server_address[1]}"}

    def on_request(self, number: int, act: Callable[[], object]) -> None:
        """Do something when so many of them have been made, before the engine hears of the last."""
        self._at = number, act
        self._told.set()

    def let_through(self) -> None:
        """Do nothing but pass on."""
        self._told.set()

    def break_down(self) -> None:
        """Be a dead engine from now on."""
        self._told.set()
        with self._changed:
            self._broken = True
            ends = [*self._open]
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def hear_out(self) -> None:
        """Wait until the engine has done what it was asked for, also by who was killed meanwhile.

        What is looked at next, or begun anew, must not depend on how quick it is.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way, PATIENCE)

    def carry(self, client: socket.socket) -> None:
        """Carry one connection, both ways, to its end."""
        self._told.wait()
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(self._engine)
            with self._changed:
                if self._broken:
                    return
                self._open += [client, engine]
                self._under_way += 1
            back = threading.Thread(target=self._pump, args=(engine, client), daemon=True)
            back.start()
            self._pump(client, engine, count=True)
            back.join()
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()

    def _pump(self, source: socket.socket, target: socket.socket, *, count: bool = False) -> None:
        with suppress(OSError):  # one side has ended: so does the other
            while data := source.recv(65536):
                if count:
                    self._count(data)
                with suppress(OSError):  # nobody is there any more; the end of what is said still tells something
                    target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _count(self, data: bytes) -> None:
        with self._changed:
            before = len(self.heard)
            self.heard += self._kind.findall(data)
            reached = self._at is not None and before < self._at[0] <= len(self.heard)
        if reached and self._at is not None:
            self._at[1]()


def moments(heard: Iterable[bytes]) -> Iterator[tuple[re.Pattern[bytes], int]]:
    """Yield the commands that change something, of those whose `WORDS` were heard: a pattern, and which of its matches.

    Before a mere question all is as it is before the next change, so these are all the moments at which a kill can
    leave something different behind. Numbers differ from one run to the next.
    """
    count: Counter[bytes] = Counter()
    for words in heard:
        if not _QUESTION.search(words):
            pattern = re.sub(rb"[0-9][0-9A-F]*", rb"[0-9A-F]+", re.escape(words))
            count[pattern] += 1
            yield re.compile(pattern), count[pattern]


@contextmanager
def tunnel(kind: re.Pattern[bytes] = CHANGE) -> Iterator[Tunnel]:
    """Open a tunnel for the length of a block; it counts requests of this kind."""
    made = Tunnel(kind)
    threading.Thread(target=made.server.serve_forever, daemon=True).start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.hear_out()
        made.break_down()
        made.server.server_close()
