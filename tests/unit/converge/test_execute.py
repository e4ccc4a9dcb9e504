"""What a plan's early end leaves behind: no service stopped for it stays stopped where that can be helped."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Event as Flag

import pytest

from stockhelper_cli.converge.execute import execute
from stockhelper_cli.converge.plan import Action, Condition, Draft, Kind, Plan, Rescue
from stockhelper_cli.converge.ready import Cancelled
from stockhelper_cli.errors import StockhelperError
from tests.support.waiting import PATIENCE


def replacing(draft: Draft, service: str, *needs: str) -> None:
    """Add the steps in which a service's container `old-…` is replaced by `new-…`."""
    old, new = f"old-{service}", f"new-{service}"
    stop = draft.add(Action(Kind.STOP, old, needs=needs))
    start = draft.add(Action(Kind.START, new, needs=(stop,)))
    ready = draft.add(Action(Kind.WAIT, service, needs=(start,), condition=Condition.HEALTHY))
    draft.add(Action(Kind.REMOVE, old, needs=(ready,)))
    undo = (Action(Kind.STOP, new), Action(Kind.REMOVE, new), Action(Kind.START, old))
    draft.rescues.append(Rescue(stop, start, ready, undo))


def undone(service: str) -> list[str]:
    """Return what brings a service back, in this order."""
    return [f"stop container new-{service}", f"remove container new-{service}", f"start container old-{service}"]


def replacing_all(*services: str, last: Action | None = None) -> Plan:
    draft = Draft()
    for service in services:
        replacing(draft, service)
    if last is not None:
        draft.add(last)
    return draft.finish()


#: What an action waits for that is to end after a failure is known.
FAILURE = "a failure"


class Scripted:
    """Carries out actions as a test says: by the action's id it raises, or waits for another one or a failure."""

    def __init__(
        self, errors: Mapping[str, BaseException] | None = None, after: Mapping[str, str] | None = None
    ) -> None:
        self.errors = errors or {}
        self.after = after or {}
        self.seen: list[str] = []
        self.done: dict[str, Flag] = {}

    def flag(self, identity: str) -> Flag:
        return self.done.setdefault(identity, Flag())

    def __call__(self, action: Action, cancelled: Flag) -> None:
        self.seen.append(action.id)
        if before := self.after.get(action.id):
            awaited = cancelled if before == FAILURE else self.flag(before)
            assert awaited.wait(PATIENCE), f"{before} never came"
        try:
            if error := self.errors.get(action.id):
                raise error
            if action.kind is Kind.WAIT and action.id not in self.after:
                assert cancelled.wait(PATIENCE), "nobody gave the wait up"
                raise Cancelled
        finally:
            self.flag(action.id).set()

    def rescued(self, service: str) -> list[str]:
        """Return what was done to bring a service back."""
        return [identity for identity in self.seen if identity in undone(service)]


def failure(message: str) -> StockhelperError:
    return StockhelperError("failed", message)


def failing(plan: Plan, perform: Scripted) -> StockhelperError:
    with pytest.raises(StockhelperError) as raised:
        execute(plan, perform, lambda event: None)
    return raised.value


def test_wait_cancelled_by_another_failure_is_rolled_back() -> None:
    """If a failure elsewhere cancels a wait, the old container of the waiting service runs again."""
    perform = Scripted({"build image x": failure("no")}, {"build image x": "start container new-app"})
    error = failing(replacing_all("app", last=Action(Kind.BUILD, "x")), perform)
    assert (error.message, error.details) == ("no", ())
    assert perform.rescued("app") == undone("app")


def test_stopped_container_without_successor_is_restarted() -> None:
    """A stopped container is started again even if its successor was never started."""
    perform = Scripted({"build image x": failure("no")}, {"stop container old-app": FAILURE})
    failing(replacing_all("app", last=Action(Kind.BUILD, "x")), perform)
    assert "start container new-app" not in perform.seen
    assert perform.rescued("app") == undone("app")


def test_what_was_not_stopped_needs_no_rescue() -> None:
    draft = Draft()
    first = draft.add(Action(Kind.BUILD, "x"))
    replacing(draft, "app", first)
    perform = Scripted({first: failure("no")})
    failing(draft.finish(), perform)
    assert perform.seen == [first]


def test_what_is_ready_stays() -> None:
    ready = "wait for service app healthy"
    perform = Scripted(
        {"build image x": failure("no")},
        {"build image x": "remove container old-app", ready: "start container new-app"},
    )
    failing(replacing_all("app", last=Action(Kind.BUILD, "x")), perform)
    assert perform.rescued("app") == []


def test_rollback_continues_after_errors_and_reports_the_first() -> None:
    """A failed rollback step does not block the other services, and the first error is reported."""
    errors = {
        "start container new-db": failure("the port is taken"),
        "stop container new-app": failure("no answer"),
        "start container old-app": StockhelperError("failed", "could not start old-app", cause="it is gone"),
    }
    perform = Scripted(errors, {"start container new-db": "start container new-app"})
    error = failing(replacing_all("db", "app"), perform)
    assert perform.rescued("app") == undone("app")
    assert perform.rescued("db") == undone("db")
    assert perform.seen.index("start container old-app") < perform.seen.index("start container old-db")
    assert error.message == "the port is taken"
    assert error.details == (
        "not done: stop container new-app: no answer",
        "not done: start container old-app: it is gone",
    )


def test_bug_keeps_its_type_and_lists_failed_rollback_steps() -> None:
    """An unexpected exception keeps its type and lists the rollback steps that failed."""
    perform = Scripted({"start container new-app": KeyError("oops"), "start container old-app": failure("gone")})
    with pytest.raises(KeyError, match="oops") as raised:
        execute(replacing_all("app"), perform, lambda event: None)
    assert raised.value.__notes__ == ["not done: start container old-app: gone"]


@pytest.mark.parametrize(
    ("last_done", "expected"),
    [("stop container old-app", undone("app")), ("start container new-app", [])],
    ids=["before the successor runs", "while it is waited for"],
)
def test_an_interruption_leaves_what_runs_and_nobody_stopped(
    monkeypatch: pytest.MonkeyPatch, last_done: str, expected: list[str]
) -> None:
    perform = Scripted()
    wait = execute.__globals__["wait"]

    def interrupted(*args: object, **options: object) -> object:
        ended = wait(*args, **options)
        if perform.flag(last_done).is_set():
            raise StockhelperError("interrupted", "interrupted")
        return ended

    monkeypatch.setattr("stockhelper_cli.converge.execute.wait", interrupted)
    error = failing(replacing_all("app"), perform)
    assert perform.rescued("app") == expected
    assert error.code == "interrupted"
    assert "not done: wait for service app healthy" in error.details
    assert f"not done: {last_done}" not in error.details
