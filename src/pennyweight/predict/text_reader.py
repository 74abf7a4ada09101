"""From the texts that a caller passes to token ids, for saved and exported classifiers alike."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from ..data.batching import Encoded
from ..data.cut_tokens import CutTally
from ..data.input_spec import InputSpec
from ..data.input_texts import to_texts

logger = logging.getLogger(__name__)


class TextReader(ABC):
    """Encodes texts, and counts the tokens that are cut."""

    def __init__(self) -> None:
        self._cut = CutTally()

    @property
    @abstractmethod
    def input_spec(self) -> InputSpec:
        """How texts are read."""

    @abstractmethod
    def tokens(self, texts: Iterable[str]) -> Encoded:
        """N texts, already cleaned, as token ids."""

    def encoded(self, texts: Any) -> Encoded:
        """N texts as `predict` takes them, as token ids; errors as for `Classifier.logits`."""
        return self.tokens(map(self.input_spec.cleaned, to_texts(texts, self.input_spec)))

    def _read(self, texts: Any) -> Encoded:
        """As `encoded`, with a warning in the log, once, where much of what was given so far is cut."""
        tokens = self.encoded(texts)
        warning = self._cut.first_warning(tokens)
        if warning is not None:
            logger.warning(warning)
        return tokens
