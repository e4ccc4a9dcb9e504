"""Carrying a plan out: each action as soon as what it needs is done, those that need nothing of each other at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Set
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Event as Flag
from typing import Final, TypeAlias

from stockhelper_cli.converge.plan import Action, Plan
from stockhelper_cli.converge.ready import Cancelled
from stockhelper_cli.errors import StockhelperError
from stockhelper_cli.events import Emit, Event, Phase

#: Carries out one action. Waiting ends early when the flag is set.
Perform: TypeAlias = Callable[[Action, Flag], None]

#: Actions under way at once; more than an engine does side by side.
_WORKERS: Final = 16


def execute(plan: Plan, perform: Perform, emit: Emit) -> None:
    """Carry a plan out.

    After a failure nothing further is begun; what is under way is finished, the failed action's rescue is carried
    out, and its error is raised. An interruption (an exception in the calling thread, as a signal handler raises it)
    ends the waiting and is raised on; if it is a `StockhelperError` its details then tell what was not done.
    """
    cancelled = Flag()
    todo = list(plan)
    done: set[str] = set()
    running: dict[Future[None], Action] = {}
    failure: tuple[Action, BaseException] | None = None
    with _telling_what_is_left(plan, done, running), ThreadPoolExecutor(_WORKERS, thread_name_prefix="execute") as pool:
        try:
            while running or (todo and failure is None):
                if failure is None:
                    for action in [a for a in todo if done.issuperset(a.needs)]:
                        todo.remove(action)
                        running[pool.submit(_one, action, perform, emit, cancelled)] = action
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    action = running.pop(future)
                    error = future.exception()
                    if error is None:
                        done.add(action.id)
                    elif failure is None:
                        failure = action, error
                        cancelled.set()
        except BaseException:
            cancelled.set()
            raise
    if failure is not None:
        action, error = failure
        for step in action.rescue:
            _one(step, perform, emit, Flag())
        raise error


@contextmanager
def _telling_what_is_left(plan: Plan, done: Set[str], running: Mapping[Future[None], Action]) -> Iterator[None]:
    """Add to an interruption the actions that were not carried out, or not to their end."""
    try:
        yield
    except StockhelperError as error:
        # What was under way has ended by now, well or not.
        ended = {action.id for future, action in running.items() if future.exception() is None}
        left = [action.id for action in plan if action.id not in done | ended]
        error.details = (*error.details, *(f"not done: {identity}" for identity in left))
        raise


def _one(action: Action, perform: Perform, emit: Emit, cancelled: Flag) -> None:
    if cancelled.is_set():  # it was still waiting for a thread
        raise Cancelled
    resource = f"{action.kind.noun} {action.resource}"
    emit(Event(action.kind.verb, resource, Phase.BEGIN, detail=action.cause))
    began = time.monotonic()
    try:
        perform(action, cancelled)
    except StockhelperError as error:
        emit(Event(action.kind.verb, resource, Phase.FAILED, time.monotonic() - began, error.message))
        raise
    emit(Event(action.kind.verb, resource, Phase.DONE, time.monotonic() - began, action.cause))
