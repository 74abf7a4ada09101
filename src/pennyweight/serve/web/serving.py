"""Code shared by the routes: from a request's texts to logits, off the event loop."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TypeVar

import numpy as np
from starlette.requests import Request

from ...data.batching import Encoded
from ...data.cut_tokens import CutTally
from ...data.table import shown
from ..batching.batcher import Batcher
from ..classifiers.registry import Registry
from ..classifiers.served_classifier import ServedClassifier
from ..server_settings import ServerSettings
from ..serving_errors import DeadlineExceeded, QueueFull
from .lifecycle import Lifecycle
from .prometheus import ServerMetrics
from .refusals import Refusal, refusal
from .request_log import RECORD, RequestRecord
from .schemas import Body, Text, read_body

Made = TypeVar("Made")

logger = logging.getLogger("pennyweight.serve")

# Up to so many characters are parsed or tokenized in less time than it takes to have a thread do it.
_SMALL = 4096
# Of a text that is logged.
_LOGGED_CHARACTERS = 1000


@dataclass(frozen=True)
class Prepared:
    """Texts ready to be computed.

    Attributes:
        classifiers: classifiers that read them, C of them.
        tokens: one `Encoded` of N sequences a group of classifiers that read texts alike.
        groups: (C,) which of `tokens` each classifier reads.
    """

    classifiers: tuple[ServedClassifier, ...]
    tokens: tuple[Encoded, ...]
    groups: tuple[int, ...]


class Serving:
    """The parts of a running server, handed to the routes."""

    def __init__(
        self,
        registry: Registry,
        batcher: Batcher,
        settings: ServerSettings,
        lifecycle: Lifecycle,
        metrics: ServerMetrics,
    ) -> None:
        self.registry = registry
        self.batcher = batcher
        self.settings = settings
        self.lifecycle = lifecycle
        self.metrics = metrics
        self._cut: dict[str, tuple[str, CutTally]] = {}  # by name, of the version that was last asked for
        # Tokenizers and JSON take little time; more threads would only take processors from the engine.
        self._text_threads = ThreadPoolExecutor(settings.text_threads, thread_name_prefix="texts")
        # Apart from those: texts for classifiers in memory do not wait for others that are read from disk.
        self._disk_threads = ThreadPoolExecutor(settings.disk_threads, thread_name_prefix="disk")

    def full(self) -> Refusal | None:
        """The error for a request with even one token, if the queue is full; checked before the request is read."""
        if not self.batcher.queued_texts:
            return None
        wait, most = self.batcher.wait_for(1), self.settings.max_queue_seconds
        if wait <= most:
            return None
        return _queue_full(most, math.ceil(wait - most))

    def backbone_facts(self) -> dict[str, object]:
        """The encoder that all classifiers share, for a listing."""
        backbone = self.registry.backbone
        return {
            "name": None if backbone is None else backbone.name,
            "precision": self.registry.runtime.precision,
            "device": str(self.registry.runtime.device),
        }

    async def with_texts(self, work: Callable[[], Made], record: RequestRecord, size: int) -> Made:
        """Parse, tokenize or write an answer; not at all once the deadline is over.

        In a thread, so that the event loop goes on; what is small is done at once, since handing it to a thread takes
        longer than it does.

        Args:
            size: characters, or numbers of an answer.

        Raises:
            DeadlineExceeded: its turn came too late.
        """

        def timely() -> Made:
            if time.monotonic() > self.deadline(record):
                raise DeadlineExceeded(self.settings.deadline_seconds)
            return work()

        if size <= _SMALL:
            return timely()
        return await asyncio.get_running_loop().run_in_executor(self._text_threads, timely)

    async def read(self, kind: type[Body], request: Request, record: RequestRecord) -> Body:
        """The body of a request; errors as for `read_body`."""
        raw = await request.body()
        return await self.with_texts(partial(read_body, kind, raw), record, len(raw))

    async def with_disk(self, work: Callable[[], Made]) -> Made:
        """Do what may read from disk in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._disk_threads, work)

    def deadline(self, record: RequestRecord) -> float:
        """When a request must be answered, by `time.monotonic`."""
        return record.arrived + self.settings.deadline_seconds

    async def classifiers(self, names: Sequence[str], record: RequestRecord) -> tuple[ServedClassifier, ...]:
        """Classifiers by name; those that are not in memory are read from disk.

        Raises:
            Refusal: status 413 for too many names, 422 for one twice.
            UnknownClassifier, UnusableClassifier: as `Registry.get`.
        """
        limit = self.settings.max_classifiers
        if len(names) > limit:
            raise Refusal(413, "too_large", "too many classifiers", expected=f"at most {limit}", received=len(names),
                          remedy="send several requests")  # fmt: skip
        if len(set(names)) < len(names):
            raise Refusal(422, "validation", "classifiers: a name is repeated", remedy="name each once")
        found = tuple([self.registry.loaded(name) or await self._from_disk(name) for name in names])
        record.classifiers = tuple(classifier.name for classifier in found)
        return found

    async def _from_disk(self, name: str) -> ServedClassifier:
        return await self.with_disk(partial(self.registry.get, name))

    def check_sizes(self, texts: Sequence[Text]) -> None:
        """Refuse too many texts, or too long ones.

        Raises:
            Refusal: status 413.
        """
        if len(texts) > self.settings.max_texts:
            raise Refusal(413, "too_large", "too many texts", expected=f"at most {self.settings.max_texts:,}",
                          received=len(texts), remedy="send several requests")  # fmt: skip
        for number, text in enumerate(texts, start=1):
            size = characters(text)
            if size > self.settings.max_characters:
                raise Refusal(413, "too_large", f"text {number}: too long", received=f"{size:,}",
                              expected=f"at most {self.settings.max_characters:,} characters",
                              remedy="shorten it, or send it in parts")  # fmt: skip

    async def prepare(
        self, classifiers: tuple[ServedClassifier, ...], texts: Sequence[Text], record: RequestRecord
    ) -> Prepared:
        """Texts as the classifiers read them, in tokens; once for those that read alike.

        Raises:
            InputError: pairs where single texts belong, or the other way round.
        """
        for classifier in classifiers:
            refuse_other_kind(classifier, texts)
        record.texts = len(texts)
        if self.settings.log_texts:
            record.shown_texts = _shortened(texts)
        first: list[ServedClassifier] = []  # of each group
        groups = []
        for classifier in classifiers:
            group = next((n for n, other in enumerate(first) if other.reads_as(classifier)), len(first))
            if group == len(first):
                first.append(classifier)
            groups.append(group)
        tokens = await self.with_texts(
            lambda: tuple(classifier.tokens(texts) for classifier in first),
            record,
            len(first) * sum(map(characters, texts)),
        )
        record.tokens = sum(len(tokens[group].ids) for group in groups)
        for classifier, own in zip(first, tokens, strict=True):
            self._count_cut(classifier, own)
        return Prepared(classifiers, tokens, tuple(groups))

    def _count_cut(self, classifier: ServedClassifier, tokens: Encoded) -> None:
        """Warn once where much of a classifier's texts is cut, as soon as there are enough of them to tell."""
        version, tally = self._cut.get(classifier.name, ("", CutTally()))
        if version != classifier.version:
            tally = CutTally()
            self._cut[classifier.name] = (classifier.version, tally)
        if tally.asked:
            return
        tally.add(tokens)
        if (warning := tally.warning_once()) is not None:
            logger.warning("%s: %s", shown(classifier.name), warning)

    async def logits(self, prepared: Prepared, record: RequestRecord) -> list[np.ndarray]:
        """(N, L) logits of each classifier, in the order of `prepared.classifiers`.

        Raises:
            QueueFull, TooMuchWork, DeadlineExceeded, ServerStopping, UnusableClassifier: as `Batcher.submit`.
        """
        deadline, began = self.deadline(record), time.monotonic()
        readers = [
            [number for number, own in enumerate(prepared.groups) if own == group]
            for group in range(len(prepared.tokens))
        ]
        answers = await asyncio.gather(
            *(
                self.batcher.submit([prepared.classifiers[number] for number in own], tokens, deadline)
                for own, tokens in zip(readers, prepared.tokens, strict=True)
            )
        )
        record.batcher_seconds = time.monotonic() - began
        found: dict[int, np.ndarray] = {}
        for own, logits in zip(readers, answers, strict=True):
            found |= dict(zip(own, logits, strict=True))
        return [found[number] for number in range(len(prepared.classifiers))]


@lru_cache(maxsize=64)
def _queue_full(most: float, seconds: int) -> Refusal:
    """The refusal of a full queue, cached: under overload, making it was most of what a refusal cost."""
    return refusal(QueueFull.too_long(most, seconds))


def characters(text: Text) -> int:
    """Those of a text; of a pair, of both."""
    return len(text) if isinstance(text, str) else len(text[0]) + len(text[1])


def refuse_other_kind(classifier: ServedClassifier, texts: Sequence[Text]) -> None:
    """Refuse pairs for a classifier of single texts, and the other way round.

    Raises:
        Refusal: status 422.
    """
    wrong = next((n for n, text in enumerate(texts, start=1) if isinstance(text, str) == classifier.pair), None)
    if wrong is not None:
        kinds = ("a single text", "a pair of texts")
        raise Refusal(
            422,
            "validation",
            f"text {wrong}: {classifier.name} reads {kinds[classifier.pair]} at a time",
            expected='["...", "..."]' if classifier.pair else '"..."',
            received=kinds[not classifier.pair],
        )


def _shortened(texts: Sequence[Text]) -> list[str | list[str]]:
    return [
        text[:_LOGGED_CHARACTERS] if isinstance(text, str) else [part[:_LOGGED_CHARACTERS] for part in text]
        for text in texts
    ]


def serving_of(request: Request) -> Serving:
    """The server that a request came to."""
    serving: Serving = request.app.state.serving
    return serving


def record_of(request: Request) -> RequestRecord:
    """The log record of a request."""
    record: RequestRecord = request.scope[RECORD]
    return record
