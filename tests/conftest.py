"""What every test stands on: fixed thread counts, no network, an empty cache, and tiny backbones of every kind."""

from __future__ import annotations

import atexit
import io
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from .tiny_backbones import save_backbone

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


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function `(kind, **config) -> folder` with config.json, model.safetensors and a tokenizer.

    `kind` is one of `tiny_backbones.BACKBONES`; further arguments override config.json's keys (`num_hidden_layers=2`).
    Made once a session for each set of arguments: treat the folder as read-only, copy it to change it.
    """
    made: dict[str, Path] = {}

    def make(kind: str, **config: Any) -> Path:
        key = repr((kind, sorted(config.items())))
        if key not in made:
            made[key] = save_backbone(tmp_path_factory.mktemp(kind), kind, config)
        return made[key]

    return make


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


@pytest.fixture(scope="session", autouse=True)
def rendering() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """matplotlib renders a report's pictures for longer than a toy trains: only what looks at them has them.

    All of our own code runs; what takes its time is `savefig`, which is replaced for the whole session. The fixture is
    a context manager in which it renders, for fixtures; tests take `rendered`.
    """
    from matplotlib.figure import Figure

    def save(figure: Figure, target: io.StringIO | io.BytesIO, *, format: str, **options: Any) -> None:
        if isinstance(target, io.StringIO):
            target.write(
                '<?xml version="1.0"?>\n<svg width="1.0pt" height="1.0pt" xmlns="http://www.w3.org/2000/svg"></svg>'
            )
        else:
            target.write(b"\x89PNG\r\n\x1a\n")

    savefig = Figure.savefig

    @contextmanager
    def restored() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Figure, "savefig", savefig)
            yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        yield restored


@pytest.fixture
def rendered(rendering: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """For tests that look at the pictures they make."""
    with rendering():
        yield


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
def multi_label_pairs() -> Callable[..., list[tuple[str, list[str]]]]:
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


@pytest.fixture
def traced_once(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was exported to ONNX before, by any process of this session, has its graph copied instead of traced again.

    Whatever `write_graph` reads is compared: the module with its weights, its inputs, and the size that fits one file.
    """
    from pennyweight.export import onnx, openvino
    from pennyweight.export.graph import reads_segments

    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "graphs"
    trace = onnx.write_graph

    def write(plain: Any, artifact: Any, path: Path) -> None:
        config = plain.module.config.to_dict() | {"_name_or_path": None}  # each process has a folder of its own
        facts = (str(plain), config, plain._pooling, reads_segments(artifact, plain), onnx.LARGEST_MODEL, path.name)
        digest = sha256(repr(facts).encode())
        for name, tensor in plain.state_dict().items():
            digest.update(name.encode() + tensor.numpy().tobytes())
        kept = shared / digest.hexdigest()
        if not kept.exists():
            aside = tmp_path_factory.mktemp("graph")
            trace(plain, artifact, aside / path.name)
            shared.mkdir(exist_ok=True)
            with suppress(OSError):  # another process was first
                aside.rename(kept)
        shutil.copytree(kept, path.parent, dirs_exist_ok=True)

    for module in (onnx, openvino):
        monkeypatch.setattr(module, "write_graph", write)


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
