"""Carrying a plan out: each action as soon as what it needs is done, those that need nothing of each other at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import Event as Flag
from typing import Final, TypeAlias

from stockhelper_cli.converge.plan import Action, Plan, Rescue
from stockhelper_cli.converge.ready import Cancelled
from stockhelper_cli.errors import Interruption, StockhelperError
from stockhelper_cli.events import Emit, Event, Phase

#: Carries out one action. Waiting ends early when the flag is set.
Perform: TypeAlias = Callable[[Action, Flag], None]

#: Actions under way at once; more than an engine does side by side.
_WORKERS: Final = 16


def execute(plan: Plan, perform: Perform, emit: Emit) -> None:
    """Carry a plan out.

    After a failure nothing further is begun; what is under way is finished, every rescue that is then called for is
    carried out, and the first error is raised. An interruption (an exception in the calling thread, as a signal
    handler raises it) ends the waiting, leaves what runs running, and is raised on; its details then tell what was
    not done.
    """
    cancelled = Flag()
    todo = list(plan)
    begun: set[str] = set()
    done: set[str] = set()
    running: dict[Future[None], Action] = {}
    error: BaseException | None = None
    interrupted = False
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="execute") as pool:
        try:
            while running or (todo and error is None):
                if error is None:
                    for action in [a for a in todo if done.issuperset(a.needs)]:
                        todo.remove(action)
                        begun.add(action.id)
                        running[pool.submit(_one, action, perform, emit, cancelled)] = action
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    action = running.pop(future)
                    if (failed := future.exception()) is None:
                        done.add(action.id)
                    elif error is None:
                        error = failed
                        cancelled.set()
        except BaseException as interruption:  # noqa: BLE001 - raised on below, when what is under way has ended
            error, interrupted = interruption, True
            cancelled.set()
    if error is None:
        return
    done.update(action.id for future, action in running.items() if future.exception() is None)
    if interrupted:
        _tell(error, [f"not done: {action.id}" for action in plan if action.id not in done])
    # The last that was stopped is the first to come back.
    for rescue in reversed(plan.rescues):
        if _is_called_for(rescue, begun, done, interrupted=interrupted):
            _tell(error, _carry_out(rescue, perform, emit))
    raise error


def _is_called_for(rescue: Rescue, begun: Collection[str], done: Collection[str], *, interrupted: bool) -> bool:
    if interrupted and (not rescue.start or rescue.start in done):
        return False
    return rescue.stop in begun and rescue.ready not in done


def _carry_out(rescue: Rescue, perform: Perform, emit: Emit) -> list[str]:
    """Do all steps of a rescue, whichever of them fails; return a line on each that did."""
    failed = []
    for step in rescue.steps:
        try:
            _one(step, perform, emit, Flag())
        except Exception as error:  # noqa: BLE001 - it is told beside the first error, which it must not hide
            failed.append(f"not done: {step.id}: {getattr(error, 'cause', '') or error}")
    return failed


def _tell(error: BaseException, lines: Collection[str]) -> None:
    """Add lines to what an error tells."""
    if isinstance(error, Interruption):
        error = error.error
    if isinstance(error, StockhelperError):
        error.details = (*error.details, *lines)
    else:
        for line in lines:
            error.add_note(line)


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
