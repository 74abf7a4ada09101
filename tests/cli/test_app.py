"""The commands as a user types them: what they print, where it goes, and how they end."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from pennyweight.cli.app import app
from pennyweight.recipe import loading as recipe
from pennyweight.recipe.schema import SECTIONS

from ..forked_python import COMMAND, ForkedPython

ROOT = Path(__file__).parents[2]
MEMORY = "error: out of memory; halve --batch-size and double --gradient-accumulation-steps, or lower --max-length"
Command = Callable[..., Any]
QUICK = ("--budget", "5k", "--epochs", "1", "--precision", "fp32", "--report", "short")


@pytest.fixture
def backbone(tiny_backbone: Callable[..., Path]) -> Path:
    return tiny_backbone("bert")


def test_every_field_of_the_recipe_has_a_flag(command: Command) -> None:
    shown = command("train", "--help-all").out
    flags = set(re.findall(r"--[a-z0-9-]+", shown))
    fields = {f"--{key.replace('_', '-')}" for model in SECTIONS.values() for key in model.model_fields}
    assert fields - flags == set()
    assert re.findall(r"^\S.*:$", shown, re.MULTILINE) == [
        "Arguments:",
        "Options:",
        "Recipe: data:",
        "Recipe: model:",
        "Recipe: plan:",
        "Recipe: train:",
        "Examples:",
    ]


def test_flags_name_their_choices(command: Command) -> None:
    shown = command("train", "--help-all").out
    for flag in (
        "--pooling cls|mean", "--bias none|lora_only|all", "--track tensorboard|wandb|mlflow|trackio,...",
        "--precision auto|fp32|bf16|fp16", "--scheduler linear|cosine|cosine_restarts|constant",
        "--use-dora / --no-use-dora", "--target-modules A,B,...", "--epochs auto|N", "--learning-rate X",
    ):  # fmt: skip
        assert flag in shown


def test_help_fits_80_columns(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    listed = command("--help").out.partition("Commands:")[2]
    assert "..." not in listed  # no description is cut
    names = re.findall(r"^  ([\w-]+)  ", listed, re.MULTILINE)
    assert {"train", "plan", "predict", "evaluate", "export", "demo", "recipes"} <= set(names)
    for call in ([], *([name] for name in names)):
        for flag in ("--help", "-h", *(["--help-all"] if call else [])):
            done = command(*call, flag)
            if flag == "--help-all" and done.code == 2:
                continue  # its --help shows all
            assert done.code == 0
            assert [line for line in done.out.splitlines() if len(line) > 80] == []
            assert re.findall(r"<[\w|\[\] ]+>", done.out) == []  # one spelling of what may follow a flag


def test_the_short_help_has_the_common_flags_and_examples(command: Command) -> None:
    program = get_command(app)
    for name in program.list_commands(program.make_context("pennyweight", [], resilient_parsing=True)):
        one = program.get_command(None, name)
        short, whole = command(name, "--help").out, command(name, "--help-all")
        assert "\nExamples:\n" in short
        if not one.callback.common_flags:
            assert whole.code == 2
            continue
        assert whole.code == 0
        for flag in one.callback.common_flags:
            assert re.search(rf"[ /]{flag}\b", short), (name, flag)
        assert len(re.findall(r"^  -", short, re.MULTILINE)) <= 20
        assert "--help-all" in short
        assert set(re.findall(r"--[a-z0-9-]+", short)) <= set(re.findall(r"--[a-z0-9-]+", whole.out))


def test_a_text_of_the_command_line_is_labelled(tiny_run: Path, tmp_path: Path, command: Command) -> None:
    done = command("predict", tiny_run, "--text", "bank rate cut", "--text", "line\nbreak")
    assert done.code == 0
    label, share, *_ = done.out.split()
    assert label in {"a", "b", "c", "d", "money", "sport", "world"} or label
    assert re.fullmatch(r">?\d+%", share)
    rows = [
        json.loads(line)
        for line in command("predict", tiny_run, "--text", "bank", "--format", "jsonl").out.splitlines()
    ]
    piped = json.loads(command("predict", tiny_run, "-", stdin="bank\n").out)
    assert rows == [piped]
    assert "text" not in json.loads(command("predict", tiny_run, "--text", "x", "--format", "jsonl", "--no-text").out)
    command("predict", tiny_run, "--text", "bank", "--out", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().startswith("text,label,")
    for flags in (["--resume", "--out", tmp_path / "o.csv"], ["--submission"], ["--ray", "local"]):
        assert command("predict", tiny_run, "--text", "x", *flags).code == 2


def test_without_a_command_it_says_what_there_is(command: Command) -> None:
    done = command()
    assert (done.code, done.err) == (0, "")
    assert "Usage: pennyweight" in done.out
    assert command("--version").out.strip() == __import__("pennyweight").__version__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bogus"], "No such command 'bogus'; see --help"),
        (["trian"], "No such command 'trian'. Did you mean 'train', 'train-many'?; see --help"),
        (["predict"], ("Missing argument 'model'; see --help", "Missing argument 'MODEL'; see --help")),
        (
            ["predict", "RUN"],
            'no texts to label; expected a file, - for standard input, or --text; try --text "a sentence"',
        ),
        (
            ["predict", "RUN", "x.csv", "--text", "a"],
            "texts given twice; received x.csv and --text; leave out one of the two",
        ),
        (["train", "--lr", "3"], "No such option: --lr. Did you mean --learning-rate?; see --help"),
        (
            ["train", "--learning_rate", "3"],
            "No such option: --learning_rate. Did you mean --learning-rate?; see --help",
        ),
        (["train", "--ephocs=3"], "No such option: --ephocs. Did you mean --epochs?; see --help"),
        (["train", "--epochs"], "Option '--epochs' requires an argument; see --help"),
        (["train", "--zzz", "3"], "No such option: --zzz; see --help"),
        (["train", "--use-dora=3"], "Option '--use-dora' does not take a value; see --help"),
        (
            ["plan", "--labels", "x"],
            (
                "Invalid value for '--labels': a valid integer, unable to parse string as an integer; see --help",
                "Invalid value for '--labels': 'x' is not a valid integer range; see --help",
            ),
        ),
        (
            ["plan", "--labels", "1"],
            (
                "Invalid value for '--labels': greater than or equal to 2; see --help",
                "Invalid value for '--labels': 1 is not in the range x>=2; see --help",
            ),
        ),
        (
            ["predict", "RUN", "x.csv", "--device", "gpu"],
            "Invalid value for '--device': 'gpu' is not one of 'auto', 'cpu', 'cuda', 'mps'; see --help",
        ),
        (
            ["predict", "RUN", "x.csv", "--format", "xml"],
            "Invalid value for '--format': 'xml' is not one of 'csv', 'jsonl', 'parquet'; see --help",
        ),
        (
            ["export", "RUN", "OUT", "--format", "gguf"],
            "Invalid value for '--format': 'gguf' is not one of "
            "'peft', 'merged', 'onnx', 'onnx-int8', 'openvino'; see --help",
        ),
        (["train", "a.csv", "--train", "b.csv"], "training data given twice; received a.csv and --train b.csv"),
        (["train"], "no training data; expected a file, a folder, a hub name, or the recipe's data -> train"),
        (["plan", "--epochs", "3"], "No such option: --epochs; see --help"),
        (
            ["recipes", "nope"],
            "no such recipe: nope; expected one of default, fast, notebook, paper, robust, small, "
            "or a YAML file that exists",
        ),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], message: str | tuple[str, ...], command: Command, tmp_path: Path
) -> None:
    """Some words are Typer's own and differ between its releases."""
    os.chdir(tmp_path)
    done = command(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.error in ((message,) if isinstance(message, str) else message)
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_train_leaves_a_run_and_says_what_it_reached(
    backbone: Path, news: Path, tmp_path: Path, command: Command
) -> None:
    data = (news / "train.csv", "--test", news / "test.csv")
    done = command("train", *data, "--backbone", backbone, *QUICK, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))
    assert metrics["trainable"] <= 5_000 == metrics["budget"]
    assert metrics["total"] > metrics["trainable"]
    assert 0 <= metrics["test"]["accuracy"] <= 1
    assert metrics["train"]["seconds"] > 0
    assert metrics["train"]["texts_per_second"] > 0
    assert f"{metrics['trainable']:,} trainable parameters (budget 5,000)" in done.out
    assert "measured on test:" in done.out
    assert re.search(r"^Sports +\d", done.out, re.MULTILINE)
    assert f"run:    {tmp_path / 'run'}" in done.out
    assert max(len(line) for line in done.out.splitlines() if str(tmp_path) not in line) <= 80
    # What goes on is told on the side, so that standard output can be kept.
    assert done.err.startswith("data: 54 training, 6 validation, 15 test texts, 3 labels: Business, Sports, World\n")
    saved = recipe.load(tmp_path / "run" / "recipe.yaml")
    assert (saved.data.train, saved.train.epochs, saved.plan.budget) == ("train.csv", 1, "5k")

    again = command("train", news / "train.csv", "--backbone", backbone, "--out", tmp_path / "run")
    assert again.code == 2
    assert again.error.startswith(f"{tmp_path / 'run'}: the run folder is not empty; received README.md, ")
    assert again.error.endswith("continue it with --resume, replace it with --overwrite, or choose another --out")


def test_the_saved_recipe_repeats_the_run_bit_for_bit(
    tiny_run: Path, news: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(news)  # the recipe names the files, which are looked for here
    done = command("train", "--recipe", tiny_run / "recipe.yaml", "--out", tmp_path / "again", "--json")
    assert done.code == 0, done.err
    for name in ("head.safetensors", "adapter/adapter_model.safetensors", "recipe.yaml", "plan.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tiny_run / name).read_bytes(), name
    first = json.loads((tiny_run / "metrics.json").read_text("utf-8"))
    second = json.loads(done.out)
    assert second["test"] == first["test"]
    assert [row["train_loss"] for row in second["train"]["history"]] == [
        row["train_loss"] for row in first["train"]["history"]
    ]


def test_a_saved_recipe_without_its_data_says_which_files_to_give(
    tiny_run: Path, news: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved = tiny_run / "recipe.yaml"
    assert command("train", "--recipe", saved, "--out", "x").error == (
        f"{saved}: the recipe names train.csv and test.csv, which are not available here; "
        f"give their location: `pennyweight train FOLDER/train.csv --test FOLDER/test.csv --recipe {saved}`"
    )
    assert command("train", news / "train.csv", "--recipe", saved, "--out", "x").error == (
        f"{saved}: the recipe names test.csv, which is not available here; "
        f"give their location: `pennyweight train --test FOLDER/test.csv --recipe {saved}`"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_flag_wins_over_the_saved_recipe(tiny_run: Path, news: Path, tmp_path: Path, command: Command) -> None:
    done = command(
        "train", news / "train.csv", "--test", news / "test.csv", "--recipe", tiny_run / "recipe.yaml",
        "--epochs", "1", "--out", tmp_path / "one",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert recipe.load(tmp_path / "one" / "recipe.yaml").train.epochs == 1


def test_plan_in_each_of_its_forms(command: Command) -> None:
    asked = ("plan", "--backbone", "roberta-base", "--labels", "4", "--recipe", "notebook")
    found = json.loads(command(*asked, "--budget", "none", "--json").out)
    assert (found["trainable"], found["total"]) == (3_330_820, 127_896_584)
    over = command(*asked, "--budget", "1M")
    assert over.code == 2
    assert over.error.startswith(
        "the setting trains 3,330,820 parameters, 2,330,820 over the budget; expected at most 1,000,000; received "
    )
    paper = json.loads(command("plan", "--labels", "4", "--recipe", "paper", "--budget", "1M", "--json").out)
    assert paper["trainable"] < 1_000_000
    table = command(*asked, "--budget", "none").out
    assert "3,330,820" in table


def test_a_printed_plan_is_a_recipe_that_plans_the_same(tmp_path: Path, command: Command) -> None:
    asked = ("--labels", "4", "--backbone", "roberta-base")
    printed = command("plan", *asked, "--budget", "300k", "--yaml").out
    (tmp_path / "mine.yaml").write_text(printed, "utf-8")
    assert yaml.safe_load(printed)["plan"]["strategy"] == "manual"
    first = json.loads(command("plan", *asked, "--budget", "300k", "--json").out)
    again = json.loads(command("plan", "--labels", "4", "--recipe", tmp_path / "mine.yaml", "--json").out)
    assert again["trainable"] == first["trainable"]


def test_recipes_lists_and_prints(command: Command) -> None:
    lines = command("recipes").out.splitlines()
    assert [line.split()[0] for line in lines] == ["default", "fast", "notebook", "paper", "robust", "small"]
    assert all(20 < len(line) <= 80 for line in lines)
    assert yaml.safe_load(command("recipes", "paper").out)["plan"]["r"] == 16


def test_evaluate_measures_again_what_training_measured(tiny_run: Path, news: Path, command: Command) -> None:
    known = json.loads((tiny_run / "metrics.json").read_text("utf-8"))["test"]
    found = json.loads(command("evaluate", tiny_run, news / "test.csv", "--json").out)
    assert found["accuracy"] == known["accuracy"]
    assert found["confusion"] == known["confusion"]
    shown = command("evaluate", tiny_run, news / "test.csv")
    assert shown.out.startswith(f"accuracy {100 * known['accuracy']:.1f}% (95% interval ")
    assert "macro average" in shown.out


def test_files_without_a_header_and_in_another_encoding(
    tiny_run: Path, news: Path, tmp_path: Path, command: Command
) -> None:
    with (news / "test.csv").open(encoding="utf-8", newline="") as handle:
        rows = [(row["label"], f"{row['text']} caf\u00e9") for row in csv.DictReader(handle)]
    plain, named = tmp_path / "plain.csv", tmp_path / "named.csv"
    for path, first in ((plain, []), (named, [("label", "text")])):
        with path.open("w", encoding="cp1252" if path is plain else "utf-8", newline="") as handle:
            csv.writer(handle, delimiter=";").writerows([*first, *rows])
    flags = ("--no-header", "--encoding", "cp1252")

    def answers(*arguments: object) -> str:
        return command("predict", tiny_run, *arguments, "--no-input-columns", "--no-text").out

    assert answers(named).count("\n") == len(rows)
    assert answers(plain, *flags) == answers(named, "--header") == answers(named)
    told = command("evaluate", tiny_run, plain, *flags, "--text-columns", "2", "--label-column", "1", "--json")
    assert (
        json.loads(told.out)["confusion"] == json.loads(command("evaluate", tiny_run, named, "--json").out)["confusion"]
    )
    found = json.loads(command("audit", plain, *flags, "--label-column", "1", "--json").out)
    assert found["parts"]["data"]["rows"] == len(rows)
    for call in (("predict", tiny_run, plain), ("evaluate", tiny_run, plain), ("audit", plain)):
        refused = command(*call)
        assert refused.code == 2
        assert refused.err.count("\n") == 1
        assert "is not UTF-8; expected UTF-8; name it, such as --encoding cp1252" in refused.err
    assert command("predict", tiny_run, "-", "--no-header").err == (
        "error: standard input has to be one text or JSON object per line, in UTF-8; write the texts to a file first\n"
    )


def test_export_writes_what_stock_peft_loads(tiny_run: Path, tmp_path: Path, command: Command) -> None:
    done = command("export", tiny_run, tmp_path / "peft", "--format", "peft")
    assert done.code == 0, done.err
    gap = float(re.search(r"at most (\S+) in fp32", done.out).group(1))  # type: ignore[union-attr]
    assert gap < 1e-4
    assert (tmp_path / "peft" / "adapter_model.safetensors").is_file()
    assert command("export", tiny_run, tmp_path / "merged", "--format", "merged").code == 0
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def test_demo_trains_and_ends_with_table_sentences_and_report(
    backbone: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a tiny backbone for two steps; the real one is an acceptance test."""
    from pennyweight import pipeline

    real = pipeline.train
    small = {"backbone": str(backbone), "max_steps": 2, "report": "short", "precision": "fp32"}
    monkeypatch.setattr(pipeline, "train", lambda *args, **settings: real(*args, **settings | small))
    done = command("demo", "--out", tmp_path / "demo")
    assert done.code == 0, done.err
    assert "(budget 200,000)" in done.out
    assert "macro average" in done.out
    sentences = [line for line in done.out.splitlines() if re.match(r"\S+ +>?\d+%  \S", line)]
    assert len(sentences) == 3
    assert max(map(len, sentences)) <= 80
    assert "\n                slid on the warning about bad loans.\n" in done.out  # below the sentence's first word
    assert f"\nreport: {tmp_path / 'demo' / 'report.html'}\n" in done.out
    assert re.search(r"^this classifier +\d+\.\d%", done.out, re.MULTILINE)  # beside the baselines
    assert done.out.splitlines()[-2].startswith(f"next:   pennyweight predict {tmp_path / 'demo'} --text ")
    assert (tmp_path / "demo" / "report.html").is_file()


def test_a_full_disk_behind_a_pipe_is_one_line(tiny_run: Path, news: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:
        done = run("predict", str(tiny_run), str(news / "test.csv"), stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == "error: No space left on device\n"


def test_a_reader_that_has_enough_ends_it_quietly(tiny_run: Path, news: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = run("predict", str(tiny_run), str(news / "test.csv"), stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_fault(closed: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m pennyweight recipes {closed}', sys.executable],
        capture_output=True, text=True, env=environment(), timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == (recipe.shipped() if closed == "2>&-" else [])


def test_what_is_written_is_no_librarys_place_to_print(tiny_run: Path, news: Path, tmp_path: Path) -> None:
    """With outputs that came closed, the next file to be opened would get their numbers."""
    answers = tmp_path / "answers.csv"
    words = f'predict "{tiny_run}" "{news / "test.csv"}" --out "{answers}"'
    command = f'"$0" -m pennyweight {words} <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", command, sys.executable], env=environment(), timeout=120, check=False)
    assert done.returncode == 0
    assert len(answers.read_text("utf-8").splitlines()) == 16


def test_a_fault_of_ours_keeps_its_traceback(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from pennyweight.recipe import planning

    def fault(*args: object, **settings: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(planning, "plan_for", fault)
    with pytest.raises(ZeroDivisionError):
        command("plan")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "stopped"),
        (MemoryError(), 1, MEMORY),
        (RuntimeError("CUDA out of memory. Tried to allocate"), 1, MEMORY),
        (PermissionError(13, "Permission denied", "/root/x"), 1, "error: /root/x: Permission denied"),
    ],
)  # fmt: skip
def test_what_may_happen_to_anyone_is_one_line(
    error: BaseException, code: int, line: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pennyweight.recipe import planning

    def happen(*args: object, **settings: object) -> None:
        raise error

    monkeypatch.setattr(planning, "plan_for", happen)
    done = command("plan")
    assert (done.code, done.err) == (code, line + "\n")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src")}


def run(*arguments: str, **streams: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pennyweight", *arguments], text=True, env=environment(), timeout=120, **streams
    )


def test_answers_in_csv_are_one_row_a_text(tiny_run: Path, news: Path, command: Command) -> None:
    done = command("predict", tiny_run, news / "test.csv", "--format", "csv")
    rows = list(csv.DictReader(done.out.splitlines()))
    assert [row["id"] for row in rows] == [str(number) for number in range(60, 75)]


ESCAPES = "\x1b]0;owned\x07\x1b[2Jspam"


def test_what_data_hold_does_not_act_on_the_terminal(backbone: Path, tmp_path: Path, command: Command) -> None:
    """Labels, texts and file names with escape sequences; CSV and JSON lines stay what they are."""
    source = tmp_path / "f.jsonl"
    rows = [{"text": f"The bank and the cup {number}.", "label": (ESCAPES, "ham")[number % 2]} for number in range(40)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    run = tmp_path / "run\x9b"
    done = command("train", source, "--test", source, "--backbone", backbone, *QUICK, "--out", run)
    assert done.code == 0, done.err
    assert "\\u001b]0;owned\\u0007" in done.err
    shown = [done, command("explain", run, "The bank \x1b[31m and \u202eits\u2069 rate.", "--label", ESCAPES)]
    assert "its" in shown[1].out
    shown += [command("evaluate", run, source), command("evaluate", run, source, "--json")]
    shown += [command("explain", run, "The \x7f bank.", "--json"), command("predict", run, tmp_path / "\x1b.csv")]
    for one in shown:
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", one.out + one.err)
    assert json.loads(shown[3].out)["per_class"][0]["name"] == ESCAPES
    assert json.loads(shown[4].out)["text"] == "The \x7f bank."
    answers = command("predict", run, source)
    assert json.loads(answers.out.splitlines()[0])["label"] == ESCAPES


def test_half_of_a_surrogate_pair_in_a_label_is_one_line(backbone: Path, tmp_path: Path, command: Command) -> None:
    source = tmp_path / "f.jsonl"
    rows = [{"text": f"The bank {number}.", "label": ("\ud800", "ham")[number % 2]} for number in range(40)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    done = command("train", source, "--backbone", backbone, *QUICK, "--out", tmp_path / "run")
    assert (done.code, done.error) == (
        2, "the class name \\ud800 contains half of a surrogate pair; export the data again as UTF-8"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "settings", "order"),
    [
        (["b", "a"], (), "sorted"), (["1", "0"], (), "numbers"), (["b", "a"], ("--label-names", "b,a"), "given"),
        ([True, False], (), "numbers"),
    ],
)  # fmt: skip
def test_where_the_order_of_the_classes_comes_from_is_kept(
    labels: list[Any], settings: tuple[str, ...], order: str, backbone: Path, tmp_path: Path, command: Command
) -> None:
    source = tmp_path / "f.jsonl"
    rows = [{"text": f"The bank {number}.", "label": labels[number % 2]} for number in range(40)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    asked = ("--backbone", backbone, *QUICK, "--max-steps", "1", *settings, "--out", tmp_path / "run", "--json")
    done = command("train", source, *asked)
    assert json.loads(done.out)["data"]["label_order"] == order


def test_a_cache_without_room_is_one_line_and_the_training_goes_on(
    news: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = ForkedPython(
        COMMAND, "train", news / "train.csv", "--out", "run", "--backbone", backbone, *QUICK, "--strategy", "top",
        "--cache-dir", "cache", "--cache-gb", "1e-6",
    ).wait()  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "--cache-gb" in line]
    assert said
    for line in said:
        assert line.startswith("warning: cache: the frozen prefix takes 0.000 GB; expected at most 0.000 GB; ")
        assert line.endswith("; the frozen prefix is kept in memory instead")
    assert "feeds.py" not in done.stderr
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["train"]["prefix"]["reused"] is False


def test_the_label_column_is_no_column_to_slice_by(tiny_run: Path, news: Path, command: Command) -> None:
    done = command("evaluate", tiny_run, news / "test.csv", "--slice", "label")
    assert (done.code, done.error) == (
        2,
        f"{news / 'test.csv'}: column label has the labels, and cannot be used for slices; leave it out of --slice: "
        "the table already shows each class",
    )
