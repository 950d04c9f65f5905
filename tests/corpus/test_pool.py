"""The pool of a build's workers, with workers that are objects of the test."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
import pytest

from audiotok._platform.errors import InputError
from audiotok.corpus.build.pool import (
    DEATHS,
    MOST,
    Launcher,
    Pool,
    WorkerDiedError,
    WorkerHandle,
)
from audiotok.corpus.build.work import (
    Container,
    EncodedRecording,
    End,
    Event,
    Listed,
    Outcome,
    Sent,
    Task,
    Work,
)
from audiotok.data.locator import AudioLocator
from audiotok.data.recording import Recording
from audiotok.data.sources.base import Listing

KILLER = "killer"


def item(name: str) -> Recording:
    return Recording(name, AudioLocator(name))


def tasks(names: Sequence[str]) -> Iterator[Task | None]:
    yield from ((number, item(name)) for number, name in enumerate(names))


def container(names: Sequence[str]) -> Container:
    """A container whose file is the names of its recordings."""
    return Container(Listing(), "", " ".join(names), "")


class Fake(WorkerHandle):
    """A worker that does a step whenever the pool waits."""

    def __init__(self, crew: Crew, number: int) -> None:
        self.crew = crew
        self.name = f"worker {number}"
        self.node = f"node {number % crew.nodes}"
        self.messages: list[tuple[str, object]] = [("ready", None)]
        self.steps: list[tuple[str, Outcome | End]] = []
        self.given: list[int] = []  # sizes of what came at once
        self.death: WorkerDiedError | None = None
        self.stopped = False
        self.announced = False  # waits until what it announced is known

    def give(self, tasks: Sequence[Sent]) -> None:
        self.given.append(len(tasks))
        for number, what in tasks:
            if what is None:
                self.announced = False
            elif isinstance(what, Recording):
                self.steps.append((what.id, Outcome(number, EncodedRecording(busy=self.crew.busy))))
            else:
                self.list(number, what)

    def list(self, number: int, what: Container) -> None:
        names = what.file.split()
        for index, name in enumerate(names):
            if index >= what.first and index not in what.done:
                listed = Listed(item(name), b"")
                outcome = Outcome(number, EncodedRecording(busy=self.crew.busy), index, listed)
                if index < what.first + what.careful:
                    self.steps.append(("next", outcome))
                self.steps.append((name, outcome))
        self.steps.append(("end", End(number, len(names))))

    def step(self) -> None:
        """Do the next of the work, or die of it."""
        if not self.steps or self.death or self.announced:
            return
        name, what = self.steps.pop(self.crew.draw(len(self.steps)) if self.crew.shuffled else 0)
        if name.startswith(KILLER) or self.crew.dies():
            self.crew.killed[name] += 1
            self.messages = []  # what was not received is lost
            self.death = WorkerDiedError("by signal 9")
        elif isinstance(what, End):
            self.messages.append(("end", (what.number, what.count, "")))
        else:
            self.announced = name == "next"
            self.messages.append(("next" if self.announced else "done", what))

    def receive(self) -> list[tuple[str, object]]:
        if self.death:
            raise self.death
        messages, self.messages = self.messages, []
        return messages

    def stop(self) -> None:
        self.stopped = True


class Crew(Launcher):
    """Workers of a pool.

    Args:
        size: number of workers.
        nodes: number of machines.
        seed: of the chance that decides who does a step, and dies.
        mortality: probability that a worker dies in a step.
        shuffled: whether workers do their tasks out of order.
        busy: seconds that a recording takes.
    """

    def __init__(
        self,
        size: int = 3,
        *,
        nodes: int = 1,
        seed: int = 0,
        mortality: float = 0.0,
        shuffled: bool = False,
        busy: float = 1.0,
    ) -> None:
        self.size = size
        self.nodes = nodes
        self.random = random.Random(seed)
        self.mortality = mortality
        self.shuffled = shuffled
        self.busy = busy
        self.all: list[Fake] = []
        self.killed = Counter[str]()

    def draw(self, count: int) -> int:
        return self.random.randrange(count)

    def dies(self) -> bool:
        return self.random.random() < self.mortality

    def wanted(self) -> int:
        return self.size

    def start(self) -> WorkerHandle:
        self.all.append(Fake(self, len(self.all)))
        return self.all[-1]

    def wait(self, handles: Sequence[WorkerHandle], seconds: float) -> Sequence[WorkerHandle]:
        living = [handle for handle in handles if isinstance(handle, Fake)]
        while not (ready := [each for each in living if each.messages or each.death]):
            assert any(each.steps for each in living), "nobody has anything to do"
            self.random.choice(living).step()
        for each in living:
            each.step()
        return ready


def ran(crew: Crew, given: Iterator[Task | None], **options: Any) -> list[Event]:
    pool = Pool(crew, given, Work(codec="", **options))
    events = list(pool.events())
    pool.stop()
    assert all(handle.stopped for handle in crew.all)
    return events


def outcomes(events: Sequence[Event]) -> dict[tuple[int, int], str]:
    """Error of every recording by number and index; each may come once."""
    done = [event for event in events if isinstance(event, Outcome)]
    keys = [(each.number, each.index) for each in done]
    assert len(set(keys)) == len(keys)
    return {key: each.coded.error for key, each in zip(keys, done, strict=True)}


def test_every_task_has_one_outcome():
    assert outcomes(ran(Crew(), tasks(list("abcdefgh")))) == {(i, 0): "" for i in range(8)}
    assert ran(Crew(), tasks([])) == []


@pytest.mark.parametrize("shuffled", [False, True])
def test_one_that_kills_its_worker_is_given_up_with_no_other(shuffled: bool):
    names = [f"{KILLER}-{i}" if i in (0, 7, 8) else str(i) for i in range(20)]
    crew = Crew(shuffled=shuffled)
    done = outcomes(ran(crew, tasks(names), readers=4))
    assert {number for (number, _), error in done.items() if error} == {0, 7, 8}
    assert len(done) == 20
    assert done[7, 0] == "the process working on it ended by signal 9 (out of memory?)"
    for number in (0, 7, 8):  # once with others, perhaps, and then alone
        assert DEATHS <= crew.killed[names[number]] <= DEATHS + 1


def test_one_in_a_container_that_kills_its_worker_is_given_up_with_its_name():
    names = [f"{KILLER}-{i}" if i in (0, 7, 8, 19) else str(i) for i in range(20)]
    crew = Crew()
    events = ran(crew, iter([(0, container(names)), (1, container(["a", "b"]))]), readers=2)
    done = outcomes(events)
    assert {key for key, error in done.items() if error} == {(0, 0), (0, 7), (0, 8), (0, 19)}
    assert len(done) == 22
    named = {e.index: e.listed.item.id for e in events if isinstance(e, Outcome) and e.listed}
    assert named[19] == f"{KILLER}-19"
    ends = {event.number: event.count for event in events if isinstance(event, End)}
    assert ends == {0: 20, 1: 2}


@pytest.mark.parametrize("seed", range(30))
def test_workers_that_die_at_random_lose_nothing_and_give_nothing_twice(seed: int):
    """Their deaths are no recording's fault, so few are given up: those that are there twice."""
    crew = Crew(4, seed=seed, mortality=0.05)
    containers = [container([str(i) for i in range(n)]) for n in (0, 1, 30, 12)]
    given: list[Task | None] = [(number, each) for number, each in enumerate(containers)]
    given[2:2] = [(10 + i, item(str(i))) for i in range(30)]
    events = ran(crew, iter(given), readers=2)
    done = outcomes(events)
    expected = {(10 + i, 0) for i in range(30)}
    expected |= {(number, i) for number, n in enumerate((0, 1, 30, 12)) for i in range(n)}
    assert set(done) == expected
    assert sum(map(bool, done.values())) <= 3


def test_a_lost_node_says_nothing_against_what_its_workers_had_in_hand():
    crew = Crew(2, nodes=2)
    given = tasks([str(i) for i in range(40)])
    pool = Pool(crew, given, Work(codec="", readers=8))
    events = pool.events()
    done: list[Event] = []
    for _ in range(2):
        done += [next(events) for _ in range(4)]
        crew.all[-1].death = WorkerDiedError(lost=True)
    done += list(events)
    assert len(outcomes(done)) == 40
    assert not any(outcomes(done).values())
    assert not pool.suspects
    assert len(crew.all) == 4
    nodes = {event.node for event in done}
    assert nodes == {"node 0", "node 1"}


def test_a_recording_that_takes_nodes_with_it_is_suspected_in_the_end():
    crew = Crew(2)
    kill = Fake.step

    class Machine(Fake):
        def step(self) -> None:
            kill(self)
            if self.death:
                self.death = WorkerDiedError(lost=True)

    crew.start = lambda: crew.all.append(Machine(crew, 0)) or crew.all[-1]
    done = outcomes(ran(crew, tasks(["a", KILLER, "b"])))
    assert {key: bool(error) for key, error in done.items()} == {
        (0, 0): False,
        (1, 0): True,
        (2, 0): False,
    }


def test_more_workers_are_started_when_there_is_room_for_them():
    crew = Crew(1)
    pool = Pool(crew, tasks([str(i) for i in range(60)]), Work(codec=""))
    events = pool.events()
    next(events)
    crew.size = 4
    rest = list(events)
    assert len(rest) == 59
    assert len(crew.all) == 4
    assert all(worker.given for worker in crew.all)


def test_a_worker_has_little_in_hand_and_quick_ones_more():
    taken = 0

    def counted() -> Iterator[Task | None]:
        nonlocal taken
        for task in tasks([str(i) for i in range(2000)]):
            taken += 1
            yield task

    crew = Crew(2, busy=0.0)
    work = Work(codec="", readers=2)  # 4 in hand
    pool = Pool(crew, counted(), work)
    events = pool.events()
    next(events)
    assert taken <= 2 * work.prefetch
    seen = 1 + sum(1 for _, _ in zip(events, range(500), strict=False))
    assert taken - seen <= 2 * MOST + 1
    assert max(size for worker in crew.all for size in worker.given) > 50
    assert seen + sum(1 for _ in events) + 1 == 2000


def test_tasks_that_must_wait_are_waited_for():
    done = 0

    def waiting() -> Iterator[Task | None]:
        for number in range(30):
            while number - done >= 3:
                yield None
            yield number, item(str(number))

    pool = Pool(Crew(4), waiting(), Work(codec="", readers=8))
    for _ in pool.events():
        done += 1
    assert done == 30


def test_a_worker_that_cannot_start_stops_the_run():
    crew = Crew(1)
    crew.start = lambda: dead(crew)
    with pytest.raises(InputError, match=r"ended by signal 9 .*start fewer"):
        list(Pool(crew, tasks(["a"]), Work(codec="")).events())
    failing = Crew(1)
    failing.start = lambda: refused(failing)
    with pytest.raises(InputError, match="no such codec"):
        list(Pool(failing, tasks(["a"]), Work(codec="")).events())


def faltering(deaths: int) -> Crew:
    """Workers of which the first ones die while they start, and then one does not."""
    crew, started = Crew(1), count(1)
    crew.forgiven = 3
    start = crew.start
    crew.start = lambda: dead(crew) if next(started) <= deaths else start()
    return crew


def test_so_many_deaths_of_starting_workers_are_outlived():
    pool = Pool(faltering(3), tasks(["a"]), Work(codec=""))
    assert [outcome.number for outcome in pool.events()] == [0]
    with pytest.raises(InputError, match="start fewer"):
        list(Pool(faltering(4), tasks(["a"]), Work(codec="")).events())


def dead(crew: Crew) -> Fake:
    worker = Fake(crew, 0)
    worker.death = WorkerDiedError("by signal 9")
    return worker


def refused(crew: Crew) -> Fake:
    worker = Fake(crew, 0)
    worker.messages = [("failed", "no such codec")]
    return worker


def test_a_container_that_kills_who_lists_it_stops_the_run():
    class Listing(Fake):
        def give(self, tasks: Sequence[Sent]) -> None:
            self.death = WorkerDiedError("by signal 9")

    crew = Crew(1)
    crew.start = lambda: Listing(crew, 0)
    with pytest.raises(InputError, match="a b: the process that reads it ended by signal 9"):
        list(Pool(crew, iter([(0, container(["a", "b"]))]), Work(codec="")).events())


def test_warnings_are_said_once(caplog: pytest.LogCaptureFixture):
    crew = Crew(2)
    pool = Pool(crew, tasks(list("abcd")), Work(codec=""))
    events = pool.events()
    next(events)
    for worker in crew.all:
        worker.messages.append(("log", "the disk is nearly full"))
    list(events)
    assert caplog.text.count("nearly full") == 1


def test_codes_come_as_they_were_sent():
    codes = np.arange(8, dtype=np.uint16).reshape(2, 4)
    crew = Crew(1)
    step = Fake.step

    class Coding(Fake):
        def step(self) -> None:
            step(self)
            self.messages = [
                (kind, Outcome(each.number, EncodedRecording(codes=codes)))
                if isinstance(each, Outcome)
                else (kind, each)
                for kind, each in self.messages
            ]

    crew.start = lambda: crew.all.append(Coding(crew, 0)) or crew.all[-1]
    (event,) = ran(crew, tasks(["a"]))
    assert isinstance(event, Outcome)
    assert (event.coded.codes == codes).all()
