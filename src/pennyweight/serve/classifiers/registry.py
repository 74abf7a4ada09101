"""The classifiers that the server knows: scanned from folders, held in memory while they are used, read again later."""

from __future__ import annotations

import errno
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from ...artifact.layout import CARD, METRICS
from ...artifact.saved_files import read_files
from ...errors import InputError, PennyweightError
from ...model.backbone import Backbone
from ...model.device import Runtime
from ..serving_errors import UnknownClassifier, UnusableClassifier
from .classifier_loader import CHANGED, ClassifierLoader
from .logits_engine import LogitsEngine
from .served_classifier import ServedClassifier
from .served_folders import (
    ClassifierSummary,
    ServedFolder,
    find_classifier,
    read_summary,
)

# Classifiers read from disk at once: a burst of requests for many takes bounded memory and time of the processor.
LOADERS = 2
# What has nothing to do with the folder that could not be read: the next request may try again.
PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR)


@dataclass(eq=False)
class Entry:
    """A classifier that is served.

    Attributes:
        summary: what its manifest says; None if that cannot be read.
        problem: why it cannot be used, if so; it stays so until it is reloaded.
        lock: held while it is read from disk.
    """

    place: ServedFolder
    summary: ClassifierSummary | None
    problem: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


def scan(place: ServedFolder) -> Entry:
    """The entry of a classifier's folder, as it is now."""
    try:
        return Entry(place, read_summary(place.folder))
    except PennyweightError as error:
        return Entry(place, None, str(error))


class Registry:
    """All classifiers by name. Any number of threads may use it; `open_registry` makes it.

    `get`, `load`, `reload` and `details` may read from disk: call them in a thread, not in an event loop. `loaded`,
    `names` and `describe` never wait.

    A name from a request is compared with the names that were scanned. It is never made into a path.

    Attributes:
        backbone: that of all classifiers; None for an exported model, which holds its own.
        runtime: where and in which number format the engine computes.

    Args:
        engine: computes the logits of the classifiers' members.
        loader: None if the one classifier is there already and stays.
        memory: bytes that loaded classifiers may take. The least recently used go first, never one that anybody
            still holds: what is held may exceed the limit until the next request after it is released.
        sources: the folders, as the user gave them, for `load`.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        engine: LogitsEngine,
        loader: ClassifierLoader | None,
        memory: int,
        sources: Sequence[str],
        backbone: Backbone | None,
        runtime: Runtime,
    ) -> None:
        self.backbone = backbone
        self.runtime = runtime
        self.engine = engine
        self.memory = memory
        self._loader = loader
        self._sources = tuple(sources)
        self._entries = {entry.place.name: entry for entry in entries}
        self._loaded: OrderedDict[str, ServedClassifier] = OrderedDict()  # the least recently used first
        self._bytes = 0
        self._read = 0
        self._evicted = 0
        self._lock = threading.Lock()
        self._changing = threading.Lock()  # the administrator's changes come one after the other
        self._reading = threading.Semaphore(LOADERS)

    # --- looking

    def names(self) -> tuple[str, ...]:
        """The names of all classifiers, unusable ones too, in alphabetical order."""
        with self._lock:
            return tuple(sorted(self._entries))

    def describe(self, name: str) -> dict[str, Any]:
        """A classifier in short: name, version, state, problem, task, labels, pair, max_length and parameters.

        `state` is `loaded`, `on disk` or `unusable`; `problem` says why, otherwise it is None. Of a classifier whose
        manifest cannot be read, the last six are None. One that is loaded is described as it answers.

        Raises:
            UnknownClassifier: no such name.
        """
        with self._lock:
            entry = self._entry(name)
            held = self._loaded.get(name)
        state = "loaded" if held is not None else "on disk" if entry.problem is None else "unusable"
        known: dict[str, Any] = {"name": name, "version": None, "state": state, "problem": entry.problem}
        summary = entry.summary
        if summary is None:
            return known | dict.fromkeys(("task", "labels", "pair", "max_length", "parameters"))
        return known | {
            "version": summary.version,
            "task": "multi-label" if summary.multi else "single-label",
            "labels": list(summary.labels),
            "pair": summary.pair,
            "max_length": summary.max_length,
            "parameters": summary.parameters,
        }

    def details(self, name: str) -> dict[str, Any]:
        """`describe`, and `metrics` (a dict) and `card` (Markdown), read from disk now.

        Both are None of an exported model, and where the folder no longer holds the classifier that is served; the
        `problem` then says why.

        Raises:
            UnknownClassifier: no such name.
        """
        described = self.describe(name)
        with self._lock:
            entry = self._entry(name)
        found: dict[str, Any] = {"metrics": None, "card": None}
        if entry.summary is not None and entry.summary.backbone is None:
            return described | found  # an exported model has neither
        try:
            saved = read_files(entry.place.folder, only=(METRICS, CARD))
            if entry.summary is not None and sha256(saved.manifest).hexdigest() == entry.summary.digest:
                found = {"metrics": saved.json(METRICS), "card": saved.text(CARD) if CARD in saved else ""}
            else:
                described["problem"] = described["problem"] or CHANGED
        except PennyweightError as error:
            described["problem"] = described["problem"] or str(error)
        return described | found

    def loaded(self, name: str) -> ServedClassifier | None:
        """The classifier if it is in memory; never waits. It then is the most recently used."""
        with self._lock:
            held = self._loaded.get(name)
            if held is not None:
                self._loaded.move_to_end(name)
                self._make_room()  # where several were in use at once, and are no longer
            return held

    @property
    def loaded_bytes(self) -> int:
        """Bytes of the loaded classifiers' tensors."""
        return self._bytes

    @property
    def counts(self) -> dict[str, int]:
        """How many classifiers there are (`classifiers`), by state (`loaded`, `on_disk`, `unusable`), and how many
        were read from disk (`reads`) and dropped from memory for others (`evictions`) since the start."""
        with self._lock:
            unusable = sum(
                entry.problem is not None and name not in self._loaded for name, entry in self._entries.items()
            )
            return {
                "classifiers": len(self._entries),
                "loaded": len(self._loaded),
                "on_disk": len(self._entries) - len(self._loaded) - unusable,
                "unusable": unusable,
                "reads": self._read,
                "evictions": self._evicted,
            }

    # --- using

    def get(self, name: str) -> ServedClassifier:
        """The classifier, read from disk where it is not in memory; two threads that ask for one read it once.

        Raises:
            UnknownClassifier: no such name.
            UnusableClassifier: damaged, gone or changed since it was scanned; it stays so until `reload`.
            ResourceError: memory ran out; the next call tries again.
        """
        while True:
            held = self.loaded(name)
            if held is not None:
                return held
            with self._lock:
                entry = self._entry(name)
            with entry.lock:
                with self._lock:
                    if self._entries.get(name) is not entry or name in self._loaded:
                        continue  # somebody was quicker
                if entry.problem is not None:
                    raise UnusableClassifier(name, entry.problem)
                return self._bring_in(entry)

    def preload(self) -> int:
        """Load classifiers until they are all loaded or memory is full; returns how many are loaded.

        Damaged ones are passed over and described as unusable.

        Raises:
            InputError: the user named a damaged one itself, or none can be used.
        """
        with self._lock:
            entries = sorted(self._entries.values(), key=lambda entry: not entry.place.explicit)
        for entry in entries:
            # One at least; then no further one where one of their mean size would push another out.
            count = len(self._loaded)
            if not entry.place.explicit and count and self._bytes * (count + 1) > self.memory * count:
                break
            try:
                self.get(entry.place.name)
            except UnusableClassifier as error:
                if entry.place.explicit:
                    raise InputError(error.why) from error
        if not self._loaded:
            raise nothing_usable(entries)
        return len(self._loaded)

    def hold(self, served: ServedClassifier) -> None:
        """Keep a classifier that was loaded elsewhere; its entry is there."""
        with self._lock:
            self._keep(served)

    # --- changing, for the administrator

    def load(self, name: str) -> dict[str, Any]:
        """Bring a classifier into memory; an unknown one is searched in the folders, which are scanned again.

        Raises:
            UnknownClassifier: the folders hold no classifier of exactly this name.
            UnusableClassifier: it is damaged, or of another backbone. A new one is then not added.
        """
        with self._changing:
            with self._lock:
                entry = self._entries.get(name)
            if entry is not None and entry.problem is None:
                self.get(name)
            elif entry is not None:
                self._renew(entry.place, entry)
            else:
                place = find_classifier(self._sources, name)
                if place is None:
                    raise UnknownClassifier(name)
                self._renew(place, None)
            return self.describe(name)

    def unload(self, name: str) -> None:
        """Take a classifier out of service: its name becomes unknown until `load` finds it again.

        Requests that hold it are still answered.

        Raises:
            UnknownClassifier: no such name.
        """
        with self._changing, self._lock:
            self._entry(name)
            del self._entries[name]
            self._drop(name)

    def reload(self, name: str) -> dict[str, Any]:
        """Read a classifier's folder again and serve its current contents.

        Raises:
            UnknownClassifier: no such name.
            UnusableClassifier: what the folder holds now cannot be used. The classifier that was in memory, if it was,
                continues to answer.
        """
        with self._changing:
            with self._lock:
                entry = self._entry(name)
            self._renew(entry.place, entry)
            return self.describe(name)

    # --- inside

    def _entry(self, name: str) -> Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise UnknownClassifier(name)
        return entry

    def _bring_in(self, entry: Entry) -> ServedClassifier:
        """Read an entry's classifier and keep it; its lock is held."""
        served = self._from_disk(entry)
        with self._lock:
            if self._entries.get(entry.place.name) is entry:
                self._keep(served)
        return served

    def _from_disk(self, entry: Entry) -> ServedClassifier:
        name = entry.place.name
        if self._loader is None or entry.summary is None:
            raise UnusableClassifier(name, entry.problem or "it was not loaded at the start")
        try:
            with self._reading:
                served = self._loader.load(name, entry.place.folder, entry.summary.digest)
        except InputError as error:
            if not passing(error):
                entry.problem = str(error)
            raise UnusableClassifier(name, str(error)) from error
        with self._lock:
            self._read += 1
        return served

    def _renew(self, place: ServedFolder, former: Entry | None) -> None:
        """Put what a folder holds now in the place of a former entry, or of none; `_changing` is held."""
        fresh = scan(place)
        try:
            if fresh.problem is not None:
                raise UnusableClassifier(place.name, fresh.problem)
            served = self._from_disk(fresh)
        except UnusableClassifier as error:
            with self._lock:
                if former is not None and place.name not in self._loaded:
                    former.problem = error.why
            raise
        with self._lock:
            self._entries[place.name] = fresh
            self._drop(place.name)
            self._keep(served)

    def _keep(self, served: ServedClassifier) -> None:
        self._loaded[served.name] = served
        self._bytes += served.nbytes
        self._make_room()

    def _make_room(self) -> None:
        """Drop the least recently used until the others fit; the last stays, and what is in use."""
        if self._bytes <= self.memory:
            return
        *others, newest = self._loaded
        for name in others:
            if self._bytes <= self.memory:
                break
            # In use is what somebody else refers to: without our own reference it would be gone.
            held = self._loaded.pop(name)
            size, still = held.nbytes, weakref.ref(held)
            del held
            in_use = still()
            if in_use is not None:
                self._loaded[name] = in_use
            else:
                self._bytes -= size
                self._evicted += 1
        self._loaded.move_to_end(newest)

    def _drop(self, name: str) -> None:
        held = self._loaded.pop(name, None)
        self._bytes -= 0 if held is None else held.nbytes


def passing(error: InputError) -> bool:
    """Whether an error comes of the machine's state and not of what was read."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in PASSING


def nothing_usable(entries: Sequence[Entry]) -> InputError:
    """The error where every classifier is damaged."""
    problems = "; ".join(entry.problem for entry in entries[:3] if entry.problem is not None)
    return InputError(f"none of the {len(entries)} classifiers can be used: {problems}")
