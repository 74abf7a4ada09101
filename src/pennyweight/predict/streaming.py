"""Answering texts as they arrive."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

from .predictor import Classifier, answer


def converse(
    classifier: Classifier, texts: Iterator[tuple[dict[str, Any], str]], most: int = 64
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Answer texts as they arrive: a slow writer gets an answer a line, a fast one gets batches.

    Args:
        texts: (fields to pass on, text) pairs; read in a thread of its own, so that no answer waits for a full batch.
            The thread may still wait for input when the program ends: it must hold no lock then, so the source is to
            be an unbuffered file.
        most: the largest batch.

    Yields:
        (fields, answer) pairs, in order.
    """
    thresholds = classifier.thresholds if classifier.multi else None
    waiting: queue.Queue[Any] = queue.Queue(maxsize=4 * most)

    def read() -> None:
        try:
            for item in texts:
                waiting.put(item)
            waiting.put(None)
        except Exception as error:  # handed over: raised again where the answers are read
            waiting.put(error)

    threading.Thread(target=read, daemon=True).start()
    ended: Any = False
    while ended is False:
        batch = []
        item = waiting.get()
        while True:
            if item is None or isinstance(item, Exception):
                ended = item
                break
            batch.append(item)
            if len(batch) == most:
                break
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                break
        if batch:
            for (fields, _), probabilities in zip(
                batch, classifier.predict_proba([text for _, text in batch]), strict=True
            ):
                yield fields, answer(classifier.labels, probabilities, thresholds)
    if isinstance(ended, Exception):
        raise ended
