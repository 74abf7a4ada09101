"""Texts of more tokens than a model reads at once: cut at the end, cut in the middle, or read in windows."""

from __future__ import annotations

from typing import Any, Literal

LongTexts = Literal["truncate", "head-tail", "windows"]

#: Windows a text: the rest is cut, so that no text costs more than a batch of others.
MOST_WINDOWS = 32


def sequences_of(encoding: Any, long_texts: LongTexts) -> tuple[list[list[int]], int]:
    """The token ids that stand for a text, and how many of its tokens are cut.

    `truncate` keeps the beginning. `head-tail` keeps a quarter of the room for the beginning and the rest for the end
    (Sun et al., "How to Fine-Tune BERT for Text Classification?", 2019, section 5.3.1: 128 and 382 of 510 tokens).
    `windows` gives full sequences that are evenly spaced from the beginning to the end and overlap by at least an
    eighth, at most `MOST_WINDOWS`; a text's logits are the mean over them.

    Args:
        encoding: of `tokenizers`, of a single text, with what was cut from it in `overflowing`, without overlap.

    Returns:
        At least one sequence, more only for `windows`, each between the tokenizer's special tokens.
    """
    overflowing = encoding.overflowing
    if not overflowing:
        return [encoding.ids], 0
    ids, special = encoding.ids, encoding.special_tokens_mask
    before = next((place for place, mark in enumerate(special) if not mark), 0)
    after = next((place for place, mark in enumerate(reversed(special)) if not mark), 0)
    first, last, room = ids[:before], ids[len(ids) - after :], len(ids) - before - after
    content = ids[before : before + room]
    for each in overflowing:
        content += each.ids[before : len(each) - after]
    if long_texts == "windows":
        pieces, read = _windows(content, room)
    elif long_texts == "head-tail":
        head = room // 4
        pieces, read = [content[:head] + content[len(content) - (room - head) :]], room
    else:
        pieces, read = [content[:room]], room
    return [first + piece + last for piece in pieces], len(content) - read


def _windows(content: list[int], room: int) -> tuple[list[list[int]], int]:
    """Evenly spaced pieces of `room` tokens, and how many tokens they reach over together."""
    step = room - room // 8
    count = min(MOST_WINDOWS, -(-(len(content) - room) // step) + 1)
    read = min(len(content), room + (count - 1) * step)
    starts = [round(number * (read - room) / max(1, count - 1)) for number in range(count)]
    return [content[start : start + room] for start in starts], read
