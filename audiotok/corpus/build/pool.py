"""Pool of workers: hands out tasks as outcomes come, and survives the death of any worker.

A worker stays for the whole run. One that dies is replaced, and what it had in hand is done again:

    recordings    each alone in a worker, so that one that ends its worker is known; after `DEATHS`
                  it is given up, with its name
    a container   from its first recording without an outcome on, the first ones one at a time and
                  announced before, to the same end
    whole nodes   that are lost say nothing against what their workers had in hand: it is handed out
                  again as before

Each outcome is returned once: those that a dead worker had not sent are encoded anew, to the same
codes.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from audiotok._platform.errors import Error, InputError
from audiotok.corpus.build.work import (
    Container,
    EncodedRecording,
    End,
    Event,
    Outcome,
    Sent,
    Task,
    Work,
)

log = logging.getLogger("audiotok")

DEATHS = 2  # of workers that had only this recording
LOSSES = 3  # of nodes, after which a recording in hand is suspected all the same
MOST = 256  # recordings that a worker has in hand
LEAST = 1e-4  # seconds that a recording takes, for reckoning
TICK = 2.0  # seconds between looks at the number of workers that there may be


class WorkerDiedError(Error):
    """The end of a worker that was not asked to end.

    Args:
        how: how it ended, as "by signal 9"; "" if that is not known.
        lost: whether its whole machine is gone.
    """

    def __init__(self, how: str = "", *, lost: bool = False) -> None:
        super().__init__(how)
        self.how = f" {how}" if how else ""
        self.lost = lost


class WorkerHandle:
    """A worker, as the pool sees it.

    Attributes:
        node: name of its machine, known when it is ready; "" where there is only one.
    """

    node: str = ""

    def give(self, tasks: Sequence[Sent]) -> None:
        """Send tasks; that it has died shows when its messages are received."""
        raise NotImplementedError

    def receive(self) -> list[tuple[str, object]]:
        """Return its messages since the last call; see `service.Message`.

        Raises:
            WorkerDiedError: it has ended.
        """
        raise NotImplementedError

    def stop(self) -> None:
        """Release what belongs to the worker, and end it if it still runs."""
        raise NotImplementedError


class Launcher:
    """Starter of workers, which also waits for their messages.

    Attributes:
        in_hand: seconds of work that a worker has in hand, so that it never waits.
        forgiven: deaths of starting workers in a row that do not stop the run.
    """

    in_hand: float = 0.1
    forgiven: int = 0

    def wanted(self) -> int:
        """Return the number of workers that there should be now."""
        raise NotImplementedError

    def start(self) -> WorkerHandle:
        """Start a worker, without waiting until it is ready."""
        raise NotImplementedError

    def wait(self, handles: Sequence[WorkerHandle], seconds: float) -> Sequence[WorkerHandle]:
        """Return those of the workers that have messages, or have died; none after so long."""
        raise NotImplementedError

    def stop(self, handles: Sequence[WorkerHandle]) -> None:
        """End all workers."""
        for handle in handles:
            handle.stop()


@dataclass(eq=False)
class _Member:
    """A worker with what it has in hand."""

    handle: WorkerHandle
    started: bool = False
    alone: bool = False  # only has a recording that may have ended another worker
    hand: dict[int, Task] = field(default_factory=dict)
    unlisted: set[int] = field(default_factory=set)  # containers in hand of which more comes
    outgoing: list[Task] = field(default_factory=list)


@dataclass
class _Progress:
    """Progress of a container; it outlives the workers that have it in hand."""

    first: int = 0  # all before have an outcome
    beyond: set[int] = field(default_factory=set)  # those after that have one
    count: int | None = None  # recordings in it
    next: Outcome | None = None  # announced, without an outcome yet
    deaths: int = 0  # of workers since the last outcome, with nothing announced

    def add(self, index: int) -> bool:
        """Count an outcome; return whether it is the first of this recording."""
        if index < self.first or index in self.beyond:
            return False
        self.deaths = 0
        if self.next and self.next.index == index:
            self.next = None
        self.beyond.add(index)
        while self.first in self.beyond:
            self.beyond.remove(self.first)
            self.first += 1
        return True

    @property
    def complete(self) -> bool:
        return self.first == self.count


class Pool:
    """Workers of a run.

    Args:
        launcher: what starts them.
        tasks: tasks, read lazily; None means that outcomes must come before more tasks.
        work: options of encoding.
    """

    def __init__(self, launcher: Launcher, tasks: Iterator[Task | None], work: Work) -> None:
        self.launcher = launcher
        self.tasks = tasks
        self.work = work
        self.more = True
        self.members: list[_Member] = []
        self.suspects: deque[Task] = deque()
        self.returned: deque[Task] = deque()  # by workers that died, not suspected
        self.containers: dict[int, _Progress] = {}
        self.deaths = Counter[tuple[int, int]]()  # of workers alone with a recording
        self.losses = Counter[int]()  # of nodes, by task in hand
        self.unready = 0  # deaths of starting workers since the last one became ready
        self.seconds = math.inf  # that a recording takes, smoothed
        self.warned = set[str]()

    def events(self) -> Iterator[Event]:
        """Yield the outcome of every recording, in any order, and the end of every container.

        Raises:
            ValueError: no worker can start, or one ends again and again while it lists a container.
        """
        self._recruit()
        self._fill()
        while self.suspects or self.returned or self.more or any(m.hand for m in self.members):
            by_handle = {m.handle: m for m in self.members}
            for handle in self.launcher.wait(list(by_handle), TICK):
                yield from self._received(by_handle[handle])
            self._recruit()
            self._fill()

    @property
    def started(self) -> int:
        """Number of workers that have started."""
        return sum(member.started for member in self.members)

    def stop(self) -> None:
        """End all workers."""
        self.launcher.stop([member.handle for member in self.members])

    # -- messages ---------------------------------------------------------------------------------

    def _received(self, member: _Member) -> Iterator[Event]:
        try:
            messages = member.handle.receive()
        except WorkerDiedError as death:
            yield from self._died(member, death)
            return
        for kind, content in messages:
            if kind == "done" and isinstance(content, Outcome):
                yield from self._done(member, content)
            elif kind == "next" and isinstance(content, Outcome):
                self.containers[content.number].next = content
                member.handle.give([(content.number, None)])
            elif kind == "end" and isinstance(content, tuple):
                yield from self._ended(member, End(*content))
            elif kind == "ready":
                member.started = True
                self.unready = 0
            elif kind == "failed":
                raise InputError(str(content))
            elif str(content) not in self.warned:
                self.warned.add(str(content))
                log.warning("%s", content)

    def _done(self, member: _Member, outcome: Outcome) -> Iterator[Event]:
        busy = max(outcome.coded.busy, LEAST)
        self.seconds = busy if self.seconds == math.inf else 0.95 * self.seconds + 0.05 * busy
        progress = self.containers.get(outcome.number)
        if progress is None:
            del member.hand[outcome.number]
            member.alone = member.alone and bool(member.hand)
        elif not progress.add(outcome.index):
            return
        yield replace(outcome, node=member.handle.node)
        self._close(member, outcome.number)

    def _ended(self, member: _Member, end: End) -> Iterator[Event]:
        member.unlisted.discard(end.number)
        self.containers[end.number].count = end.count
        yield replace(end, node=member.handle.node)
        self._close(member, end.number)

    def _close(self, member: _Member, number: int) -> None:
        """Forget a container that is listed and encoded to its end."""
        if number in self.containers and self.containers[number].complete:
            del self.containers[number]
            del member.hand[number]

    # -- deaths -----------------------------------------------------------------------------------

    def _died(self, member: _Member, death: WorkerDiedError) -> Iterator[Event]:
        member.handle.stop()
        self.members.remove(member)
        if not member.started:
            self.unready += 1
            forgiven = self.launcher.forgiven + (len(self.members) if death.lost else 0)
            if self.unready > forgiven:
                why = f"a starting process ended{death.how} (out of memory?); start fewer"
                raise InputError(why)
            return
        what = f"node {member.handle.node} is lost" if death.lost else f"a process ended{death.how}"
        log.warning("%s; another takes its place", what)
        node = member.handle.node
        for number, task in member.hand.items():
            self.losses[number] += death.lost
            lost = death.lost and self.losses[number] < LOSSES
            if isinstance(task[1], Container):
                events = self._resume(number, task[1], death, lost=lost)
            elif lost:
                events = iter(())
                self.returned.append(task)
            else:
                events = self._suspect(task, death, alone=member.alone)
            for outcome in events:
                yield replace(outcome, node=node)

    def _suspect(self, task: Task, death: WorkerDiedError, *, alone: bool) -> Iterator[Outcome]:
        """Try a recording once more by itself, or give it up."""
        number = task[0]
        self.deaths[number, 0] += alone
        if self.deaths[number, 0] < DEATHS:
            self.suspects.append(task)
        else:
            yield Outcome(number, _given_up(death))

    def _resume(
        self, number: int, container: Container, death: WorkerDiedError, *, lost: bool
    ) -> Iterator[Outcome]:
        """Hand out a container once more, from its first recording without an outcome on."""
        progress = self.containers[number]
        if progress.next and not lost:
            key = (number, progress.next.index)
            self.deaths[key] += 1
            if self.deaths[key] >= DEATHS:
                given_up = replace(progress.next, coded=_given_up(death))
                progress.add(given_up.index)
                yield given_up
        elif not lost:
            progress.deaths += 1
            if progress.deaths > DEATHS:
                raise InputError(
                    f"{container.file}: the process that reads it ended{death.how} again and again "
                    f"after {progress.first} recordings (out of memory?); mend it or leave it out"
                )
        progress.next = None
        if progress.complete:
            del self.containers[number]
            return
        again = replace(
            container,
            first=progress.first,
            done=frozenset(progress.beyond),
            careful=0 if lost else self.work.prefetch,
        )
        self.returned.appendleft((number, again))

    # -- tasks ------------------------------------------------------------------------------------

    def _recruit(self) -> None:
        """Start workers until there are as many as there should be."""
        for _ in range(self.launcher.wanted() - len(self.members)):
            self.members.append(_Member(self.launcher.start()))

    def _fill(self) -> None:
        """Give tasks to every worker that can take some, the one with the fewest first."""
        ready = [m for m in self.members if m.started and not m.alone]
        if self.suspects:
            ready = self._try_alone(ready)
        most = self._most()
        open_ones = [m for m in ready if not m.unlisted and len(m.hand) <= most // 2]
        while open_ones:
            emptiest = min(open_ones, key=lambda m: len(m.hand))
            task = self._next_task()
            if task is None:
                break
            self._put(emptiest, task)
            if emptiest.unlisted or len(emptiest.hand) >= most:
                open_ones.remove(emptiest)
        for member in ready:
            if member.outgoing:
                member.handle.give(member.outgoing)
                member.outgoing = []

    def _try_alone(self, ready: list[_Member]) -> list[_Member]:
        """Give suspects to idle workers; return those that take other tasks."""
        ready = sorted(ready, key=lambda m: len(m.hand))
        while self.suspects and ready and not ready[0].hand:
            idle = ready.pop(0)
            task = self.suspects.popleft()
            idle.hand[task[0]] = task
            idle.alone = True
            idle.handle.give([task])
        return ready[len(self.suspects) :]  # the others become idle

    def _most(self) -> int:
        """Return the number of recordings that a worker has in hand at most."""
        if self.seconds == math.inf:
            return self.work.prefetch
        return max(self.work.prefetch, min(MOST, round(self.launcher.in_hand / self.seconds)))

    def _next_task(self) -> Task | None:
        """Return the next task; None if there is none for now."""
        if self.returned:
            return self.returned.popleft()
        with suppress(StopIteration):
            if self.more:
                return next(self.tasks)
        self.more = False
        return None

    def _put(self, member: _Member, task: Task) -> None:
        number, what = task
        member.hand[number] = task
        member.outgoing.append(task)
        if isinstance(what, Container):
            member.unlisted.add(number)
            self.containers.setdefault(number, _Progress(what.first))


def _given_up(death: WorkerDiedError) -> EncodedRecording:
    return EncodedRecording(f"the process working on it ended{death.how} (out of memory?)")
