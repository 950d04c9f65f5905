"""Order of a build: tasks in that of the listing, and outcomes, which come in any, put back to it.

Listings of files are read here, and the outcomes that wait for an earlier one stay in memory, which
bounds how far tasks run ahead. Listings of containers are only read by workers, a container each;
the outcomes of one that is not the next wait in a temporary file, as they may be many.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

from audiotok.corpus.base import CorpusError
from audiotok.corpus.build.changes import ChangeCheck, chained, linked, other_listing
from audiotok.corpus.build.state import State
from audiotok.corpus.build.work import Container, End, Event, Outcome, Task
from audiotok.corpus.inputs import FileStamp
from audiotok.data.locator import ListingError
from audiotok.data.recording import Recording
from audiotok.data.sources.base import Listing

WAITING_BYTES = 1 << 26  # bytes of codes that wait for an earlier recording
READ_BYTES = 1 << 26  # bytes of audio that are read here and not encoded yet
SPOOLED = 1 << 18  # bytes of outcomes of a container that wait in memory
STAMPS = 1 << 12  # stamps of files that are compared at a time

Committed = tuple[Recording, Outcome, str]  # and the reason why it is quarantined, or ""


class Order:
    """Tasks on their way to the executor, and outcomes on theirs into the state.

    Args:
        state: state of the build.
        compared: comparison with the files that were encoded in earlier runs.

    Attributes:
        before: number of recordings committed in earlier runs.
        stopped: whether a recording could not be read for now, so that no task is started.
    """

    def __init__(self, state: State, compared: ChangeCheck) -> None:
        self.state = state
        self.compared = compared
        self.before = state.next
        self.stopped = False

    def tasks(self) -> Iterator[Task | None]:
        """Yield the tasks that remain; None while too many outcomes wait."""
        raise NotImplementedError

    def put(self, event: Event) -> Iterator[Committed]:
        """Add an outcome, and commit all that are next."""
        raise NotImplementedError

    def close(self) -> None:
        """Release what waits."""

    def _stamps(self) -> Iterator[FileStamp]:
        """Yield the stamps of the recordings committed in earlier runs."""
        for first in range(0, self.before, STAMPS):
            yield from self.state.looks(first, min(first + STAMPS, self.before))

    def _look(self, outcome: Outcome) -> None:
        """Stop starting tasks if the outcome will stop the build."""
        coded = outcome.coded
        self.stopped = self.stopped or coded.passing or _lacks(outcome)

    def _commit(self, item: Recording, outcome: Outcome, chain: str) -> Committed:
        coded = outcome.coded
        if _lacks(outcome):
            raise CorpusError(
                f"{item.locator.name}: node {outcome.node} does not have {coded.missing}; give "
                "every node the same files at the same paths, and run the same again"
            )
        if coded.passing:
            raise CorpusError(
                f"{item.locator.name}: {coded.error}; this may pass, so it is not left out: "
                "run the same again when it can be read, and the build goes on from here"
            )
        return item, outcome, self.state.commit(item, coded, chain)


def _lacks(outcome: Outcome) -> bool:
    """Return whether a node lacks a file that is elsewhere, or the whole folder of it."""
    missing = outcome.coded.missing
    if not missing or not outcome.node:
        return False
    return outcome.coded.apart or Path(missing).exists()


class Recordings(Order):
    """Order of a listing that is read here.

    Args:
        state: state of the build.
        compared: comparison with the files that were encoded in earlier runs.
        items: the listing.
        window: number of recordings between the next to be committed and the next to be started.
    """

    def __init__(
        self, state: State, compared: ChangeCheck, items: Iterator[Recording], window: int
    ) -> None:
        super().__init__(state, compared)
        self.items = items
        self.window = window
        self.started: dict[int, tuple[Recording, str]] = {}  # started, not committed
        self.outcomes: dict[int, Outcome] = {}
        self.waiting_bytes = 0
        self.read: dict[int, int] = {}  # bytes of audio by number, started and not encoded
        self.read_bytes = 0

    def tasks(self) -> Iterator[Task | None]:
        """See `Order.tasks`."""
        chain, number, stamps = "", -1, self._stamps()
        for number, item in enumerate(self.items):
            chain = chained(chain, item)
            if number < self.before:
                self.compared.item(item, next(stamps))
                if number == self.before - 1:
                    if chain != self.state.chain:
                        break
                    self.compared.say()
                continue
            while not self.stopped and self._is_full():
                yield None
            if self.stopped:
                return
            self._start(number, item, chain)
            yield number, item
        if number < self.before - 1 or (number == self.before - 1 and chain != self.state.chain):
            raise other_listing(self.compared.listing, self.before)

    def _is_full(self) -> bool:
        waiting = self.waiting_bytes >= WAITING_BYTES or self.read_bytes >= READ_BYTES
        return waiting or len(self.started) >= self.window

    def _start(self, number: int, item: Recording, chain: str) -> None:
        if item.locator.data is not None:
            self.read[number] = len(item.locator.data)
            self.read_bytes += len(item.locator.data)
            item = replace(item, locator=replace(item.locator, data=None))
        self.started[number] = (item, chain)

    def put(self, event: Event) -> Iterator[Committed]:
        """See `Order.put`."""
        assert isinstance(event, Outcome)
        self._look(event)
        self.outcomes[event.number] = event
        self.waiting_bytes += event.coded.codes.nbytes
        self.read_bytes -= self.read.pop(event.number, 0)
        while (outcome := self.outcomes.pop(self.state.next, None)) is not None:
            item, chain = self.started.pop(outcome.number)
            self.waiting_bytes -= outcome.coded.codes.nbytes
            yield self._commit(item, outcome, chain)


class Containers(Order):
    """Order of a listing of containers, which workers read.

    The count of a container's recordings is known when it has been listed. So a build that is run
    again has workers list the first containers until all committed recordings have come by, and
    then goes on from there; tasks of that first pass have the numbers 0 to n - 1 of the containers,
    those of encoding n to 2 n - 1.

    Args:
        state: state of the build.
        compared: comparison with the files that were encoded in earlier runs.
        source: reader of the listing.
        listing: path of the listing.
        files: the containers.
        most: function that returns how many containers may be in hand beside the next.
    """

    def __init__(
        self,
        state: State,
        compared: ChangeCheck,
        source: Listing,
        listing: str,
        files: list[str],
        most: Callable[[], int],
    ) -> None:
        super().__init__(state, compared)
        self.source = source
        self.listing = listing
        self.files = files
        self.most = most
        self.folder = str(Path.cwd())
        self.chain = ""
        self.passed = 0  # committed recordings that have been listed again
        self.stamps = self._stamps()
        self.front = 0 if self.before else len(files)  # number of the next task to be committed
        self.index = 0  # in it, of the next recording
        self.end: End | None = None  # of it, once that is known
        self.later: dict[int, Outcome] = {}  # outcomes of it, after the next
        self.waiting: dict[int, _Waiting] = {}  # outcomes of later tasks

    def tasks(self) -> Iterator[Task | None]:
        """See `Order.tasks`."""
        if self.before:
            yield from self._listed_again()
        first = self.index
        for number in range(self.front, 2 * len(self.files)):
            while not self.stopped and number - self.front > self.most():
                yield None
            if self.stopped:
                return
            yield number, self._container(number, first)
            first = 0

    def _listed_again(self) -> Iterator[Task | None]:
        for number in range(len(self.files)):
            while self.passed < self.before and number - self.front > self.most():
                yield None
            if self.passed == self.before:
                return
            yield number, replace(self._container(number), coded=False)
        while self.passed < self.before:
            if self.front == len(self.files):
                raise other_listing(self.compared.listing, self.before)
            yield None

    def _container(self, number: int, first: int = 0) -> Container:
        file = self.files[number % len(self.files)]
        return Container(self.source, self.listing, file, self.folder, first=first)

    def put(self, event: Event) -> Iterator[Committed]:
        """See `Order.put`."""
        if event.number > self.front:
            if isinstance(event, Outcome):
                self._look(event)
            if event.number not in self.waiting:
                self.waiting[event.number] = _Waiting()
            self.waiting[event.number].add(event)
        elif event.number == self.front:
            yield from self._take(event)
            while self.end and self.end.count == self.index:
                self._next_container(self.end)
                for each in self.waiting.pop(self.front, ()):
                    yield from self._take(each)

    def _take(self, event: Event) -> Iterator[Committed]:
        """Take an outcome of the container that is next."""
        if event.number != self.front:  # the rest of a container that is listed far enough
            return
        if isinstance(event, End):
            self.end = event
            return
        self._look(event)
        self.later[event.index] = event
        while (outcome := self.later.pop(self.index, None)) is not None:
            assert outcome.listed is not None
            self.index += 1
            self.chain = linked(self.chain, outcome.listed.digest)
            if self.passed < self.before:
                self._compare(outcome.listed.item)
            else:
                yield self._commit(outcome.listed.item, outcome, self.chain)

    def _compare(self, item: Recording) -> None:
        """Compare a recording that is committed with the listing."""
        self.compared.item(item, next(self.stamps))
        self.passed += 1
        if self.passed == self.before:
            if self.chain != self.state.chain:
                raise other_listing(self.compared.listing, self.before)
            self.compared.say()
            self.front += len(self.files)
            self.end = None
            self.later = {}
            self.close()

    def close(self) -> None:
        """See `Order.close`."""
        for waiting in self.waiting.values():
            waiting.file.close()
        self.waiting = {}

    def _next_container(self, end: End) -> None:
        if end.error:
            raise ListingError(f"node {end.node}: {end.error}" if end.node else end.error)
        self.front += 1
        self.index = 0
        self.end = None


class _Waiting:
    """Outcomes of a container before which others are to be committed."""

    def __init__(self) -> None:
        self.file: Any = SpooledTemporaryFile(SPOOLED)  # noqa: SIM115 - closed when it is read

    def add(self, event: Event) -> None:
        pickle.dump(event, self.file, pickle.HIGHEST_PROTOCOL)

    def __iter__(self) -> Iterator[Event]:
        """Yield the outcomes, once."""
        with self.file:
            self.file.seek(0)
            while True:
                try:
                    yield pickle.load(self.file)  # data of our own
                except EOFError:
                    return
