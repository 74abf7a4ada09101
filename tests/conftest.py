"""What every test stands on: fixed thread counts, no network, an empty cache, and tiny backbones of every kind."""

from __future__ import annotations

import atexit
import io
import os
import random
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Read when torch, tokenizers and the hub client are first imported, so set before anything imports them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="pennyweight-tests-hub-")
os.environ["XDG_CACHE_HOME"] = os.environ["HF_HOME"]  # the remembered speed and kept prefixes of this machine's user
os.environ["MPLBACKEND"] = "Agg"
# A gate has to answer the same twice; at a desk, every run looks at new examples.
settings.register_profile("gate", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("gate")
atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)

SENTENCES = [
    "The central bank held its rate as inflation slowed for a third month in a row.",
    "Shares of the airline fell after it cut its forecast for the quarter.",
    "The striker scored twice in the final ten minutes to win the cup.",
    "Rain stopped play on the second day of the test match in Galle.",
    "Ministers met in Geneva to talk about a ceasefire and the release of prisoners.",
    "Voters in the province go to the polls on Sunday after a quiet campaign.",
    "The probe sent back its first pictures of the small moon's icy surface.",
    "A new chip runs the model at half the power, its makers said on Tuesday.",
    "Officials said 1,200 people left the valley; the river rose 4.5 metres overnight.",
    "Why would anyone buy a phone without a screen? Because it's cheap, quick and fun!",
]

BACKBONES = ("bert", "minilm", "roberta", "xlm-roberta", "distilbert", "electra", "deberta-v2", "modernbert")

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 160,
}


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function `(kind, **config) -> folder` with config.json, model.safetensors and a tokenizer.

    `kind` is one of `BACKBONES`; further arguments override config.json's keys (`num_hidden_layers=2`). Weights are
    random but the same in every run. Made once a session for each set of arguments: treat the folder as read-only,
    copy it to change it.
    """
    made: dict[str, Path] = {}

    def make(kind: str, **config: Any) -> Path:
        key = repr((kind, sorted(config.items())))
        if key not in made:
            made[key] = _save_backbone(tmp_path_factory.mktemp(kind), kind, config)
        return made[key]

    return make


def _save_backbone(folder: Path, kind: str, overrides: dict[str, Any]) -> Path:
    import torch
    from transformers import AutoConfig, AutoModel

    tokenizer = _tokenizer(kind)
    model_type, own = _config(kind)
    own |= {
        "pad_token_id": tokenizer.pad_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
    }
    config = AutoConfig.for_model(model_type, **{**own, "vocab_size": len(tokenizer), **overrides})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModel.from_config(config)
        # Fresh models have zero biases and unit norms: a forward pass that forgot one would go unseen.
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _config(kind: str) -> tuple[str, dict[str, Any]]:
    """transformers' model type, and the config of a small model of that kind."""
    if kind == "minilm":
        return "bert", {**_SIZES, "num_hidden_layers": 6}
    if kind in ("roberta", "xlm-roberta"):
        # Positions start after the padding id, and there is a single token type, as in the published checkpoints.
        return kind, {**_SIZES, "max_position_embeddings": 162, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
    if kind == "distilbert":
        return kind, {
            "dim": 32, "n_layers": 4, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 160,
        }  # fmt: skip
    if kind == "electra":
        return kind, {**_SIZES, "embedding_size": 16}
    if kind == "deberta-v2":  # with the switches of deberta-v3
        return kind, {
            **_SIZES, "relative_attention": True, "position_buckets": 16, "norm_rel_ebd": "layer_norm",
            "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False,
            "max_relative_positions": -1, "type_vocab_size": 0, "pooler_hidden_size": 32,
        }  # fmt: skip
    if kind == "modernbert":
        return kind, {**_SIZES, "local_attention": 16, "global_attn_every_n_layers": 3}
    if kind == "bert":
        return kind, dict(_SIZES)
    raise ValueError(f"no tiny backbone of kind {kind!r}: one of {', '.join(BACKBONES)}")


def _tokenizer(kind: str) -> Any:
    """The kind's own tokenizer class around a small vocabulary made from `SENTENCES`."""
    from transformers import (
        BertTokenizer,
        DebertaV2Tokenizer,
        PreTrainedTokenizerFast,
        RobertaTokenizer,
        XLMRobertaTokenizer,
    )

    if kind == "roberta":
        vocab, merges = _byte_pairs(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
        return RobertaTokenizer(vocab=vocab, merges=merges, model_max_length=160)
    if kind == "modernbert":
        return PreTrainedTokenizerFast(
            tokenizer_object=_modernbert_tokenizer(), model_max_length=160, pad_token="[PAD]", unk_token="[UNK]",
            cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        )  # fmt: skip
    if kind == "xlm-roberta":
        return XLMRobertaTokenizer(vocab=_unigram(["<s>", "<pad>", "</s>", "<unk>"]), model_max_length=160)
    if kind == "deberta-v2":
        return DebertaV2Tokenizer(vocab=_unigram(["[PAD]", "[CLS]", "[SEP]", "[UNK]"]), unk_id=3, model_max_length=160)
    return BertTokenizer(vocab=_word_pieces(), do_lower_case=True, model_max_length=160)


# The vocabularies are read off SENTENCES by plain rules. The trainers of `tokenizers` break ties by chance, and a
# backbone that differs from run to run makes tests that fail now and then.


def _words() -> list[str]:
    return sorted({word for sentence in SENTENCES for word in re.findall(r"\w+", sentence)})


def _characters() -> list[str]:
    return sorted({character for sentence in SENTENCES for character in sentence if not character.isspace()})


def _numbered(pieces: list[str]) -> dict[str, int]:
    return {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}


def _word_pieces() -> dict[str, int]:
    """Characters, short words whole, and long words in runs of three."""
    words = [word.lower() for word in _words()]
    characters = [character.lower() for character in _characters()]
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *characters,
        *(f"##{character}" for character in characters),
    ]
    pieces += [word for word in words if len(word) <= 5]
    pieces += [word[:3] for word in words]
    pieces += [f"##{word[start : start + 3]}" for word in words for start in range(3, len(word), 3)]
    return _numbered(pieces)


def _byte_pairs(special: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """All bytes, and the merges that build short words from the left."""
    from tokenizers.pre_tokenizers import ByteLevel

    words = [f"Ġ{word}" for word in _words() if len(word) <= 5]
    merges = dict.fromkeys((word[:end], word[end]) for word in words for end in range(1, len(word)))
    pieces = [*special, *sorted(ByteLevel.alphabet()), *(left + right for left, right in merges)]
    return _numbered(pieces), list(merges)


def _unigram(special: list[str]) -> list[tuple[str, float]]:
    """Characters, dear, and short words, cheap."""
    pieces = dict.fromkeys(special, 0.0)
    pieces |= dict.fromkeys(["▁", *_characters()], -8.0)
    pieces |= dict.fromkeys([f"▁{word}" for word in _words() if len(word) <= 5], -4.0)
    return list(pieces.items())


def _modernbert_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    vocab, merges = _byte_pairs(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    return tokenizer


TOPICS = {
    "Business": ["bank", "shares", "rate", "inflation", "quarter", "forecast"],
    "Sports": ["cup", "striker", "match", "play", "final", "test"],
    "World": ["ceasefire", "polls", "province", "campaign", "release", "valley"],
}


@pytest.fixture(scope="session")
def news(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.csv and test.csv: 60 and 15 texts of three topics that a tiny backbone can tell apart."""
    folder = tmp_path_factory.mktemp("news")
    for name, rows in (("train", range(60)), ("test", range(60, 75))):
        lines = ["id,text,label"]
        for row in rows:
            topic = list(TOPICS)[row % 3]
            words = TOPICS[topic]
            lines.append(
                f"{row},The {words[row % 6]} and the {words[row // 3 % 6]} in the {words[row // 2 % 6]},{topic}"
            )
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


@pytest.fixture
def rendered() -> None:
    """For tests that look at the pictures they make."""


@pytest.fixture(autouse=True)
def _figures_are_built_and_not_rendered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """matplotlib renders a report's pictures for longer than a toy trains: only tests that look at them have them.

    All of our own code runs; what takes its time is `savefig`. Fixtures of a module or the session come before this one
    and render.
    """
    if "rendered" in request.fixturenames:
        return
    from matplotlib.figure import Figure

    def save(figure: Figure, target: io.StringIO | io.BytesIO, *, format: str, **options: Any) -> None:
        if isinstance(target, io.StringIO):
            target.write(
                '<?xml version="1.0"?>\n<svg width="1.0pt" height="1.0pt" xmlns="http://www.w3.org/2000/svg"></svg>'
            )
        else:
            target.write(b"\x89PNG\r\n\x1a\n")

    monkeypatch.setattr(Figure, "savefig", save)


@pytest.fixture
def default_signals() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP as in a fresh terminal, for this process and for those that the test starts.

    A shell's background job inherits SIGINT as ignored, and one under nohup SIGHUP; whoever started pytest may block
    them, too. Programs that a test starts would inherit the same.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = (signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL)
    before = [signal.signal(number, handler) for number, handler in zip(numbers, handlers, strict=True)]
    blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@dataclass(frozen=True)
class Outcome:
    """What a command did: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line behind `error: ` that a refused command ends with."""
        lines = self.err.splitlines()
        assert lines, "nothing on standard error"
        assert [line.startswith("error: ") for line in lines].count(True) == 1, self.err
        assert lines[-1].startswith("error: "), self.err
        return lines[-1].removeprefix("error: ")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run `pennyweight ARGUMENTS...` in this process, optionally with `stdin=` text or bytes."""
    from pennyweight.cli import app as cli

    def run(*arguments: object, stdin: str | bytes = b"") -> Outcome:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "argv", ["pennyweight", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), encoding="utf-8"))
        capfd.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def several() -> Callable[..., list[tuple[str, list[str]]]]:
    """A function `(rows, seed, sentences=None, bare=0.0) -> pairs`: texts of one to three topics, labelled with them.

    `sentences` are lists by topic; without them short ones are made of words that the tiny backbones know. `bare` is
    the share of texts that are of no topic and carry no label.
    """
    words = {
        "money": ["bank", "rate", "cut", "chip", "buy", "half"],
        "sport": ["cup", "match", "play", "test", "win", "day"],
        "world": ["polls", "met", "river", "left", "talk", "rose"],
    }

    def make(
        rows: int, seed: int = 0, sentences: dict[str, list[str]] | None = None, bare: float = 0.0
    ) -> list[tuple[str, list[str]]]:
        draw = random.Random(seed)
        by_topic = sentences or {
            topic: ["The {} and the {} of the {}.".format(*draw.choices(known, k=3)) for _ in range(40)]
            for topic, known in words.items()
        }
        found: list[tuple[str, list[str]]] = []
        for _ in range(rows):
            topics = [] if draw.random() < bare else draw.sample(sorted(by_topic), draw.randint(1, 3))
            text = " ".join(draw.choice(by_topic[topic]) for topic in topics)
            found.append((text or "A phone without a screen.", sorted(topics)))
        return found

    return make


@pytest.fixture(scope="session")
def tiny_run(tiny_backbone: Callable[..., Path], news: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on the tiny BERT: read-only, copy it to change it."""
    import pennyweight as pw

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    pw.train(
        news / "train.csv", test=news / "test.csv", out=folder, backbone=str(tiny_backbone("bert")), budget="5k",
        epochs=2, learning_rate=5e-3, batch_size=8, precision="fp32", report="short",
    )  # fmt: skip
    return folder


# --- finished runs, made once: what reports, comparisons and explanations are tested on


@pytest.fixture(scope="session")
def train_run(tiny_backbone: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function `(name, test=None, **settings) -> run folder`: one epoch on 120 news texts."""
    import pennyweight as pw
    from pennyweight.data import sample

    def train(name: str, test: Any = None, **settings: Any) -> Path:
        folder = tmp_path_factory.mktemp("runs") / name
        table = sample.load("train").select(range(120))
        rows = sample.load("test").select(range(60)) if test is None else test
        defaults = {"epochs": 1, "budget": "none", "r": 2, "target_modules": "query,value", "precision": "fp32"}
        pw.train(table, test=rows, out=folder, backbone=str(tiny_backbone("minilm")), **(defaults | settings))
        return folder

    return train


@pytest.fixture(scope="session")
def run(train_run: Callable[..., Path]) -> Path:
    """A finished run."""
    return train_run("first")


@pytest.fixture(scope="session")
def second_run(train_run: Callable[..., Path]) -> Path:
    """Another on the same test rows, given in another order."""
    from pennyweight.data import sample

    table = sample.load("test").select(range(60))
    return train_run(
        "second",
        test=table.select(range(59, -1, -1)),
        strategy="head-only",
        report="short",
        r=None,
        target_modules=None,
    )
