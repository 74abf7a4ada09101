"""What a fresh interpreter and a built wheel see of the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "pennyweight"
HEAVY = [
    "accelerate", "datasets", "fastapi", "matplotlib", "pandas", "peft", "prometheus_client", "pyarrow", "scipy",
    "sklearn", "starlette", "torch", "transformers", "uvicorn",
]  # fmt: skip


def run(code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "100"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["plan", "--backbone", "roberta-base", "--labels", "4", "--recipe", "notebook", "--budget", "none", "--json"],
    ],
    ids=lambda arguments: " ".join(arguments[:1]) or "import",
)
def test_nothing_heavy_is_imported_before_it_is_needed(arguments: list[str]) -> None:
    call = (
        "from pennyweight.cli.app import main; sys.argv = ['pennyweight', *arguments]; main()" if arguments else "pass"
    )
    done = run(
        f"import json, sys, pennyweight\narguments = {arguments!r}\n"
        f"try:\n    {call}\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('\\n' + json.dumps(sorted(set(sys.modules) & set({HEAVY!r}))))"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_a_prediction_imports_nothing_that_only_training_needs(tiny_run: Path) -> None:
    heavy = [*(name for name in HEAVY if name != "torch"), "huggingface_hub", "jinja2"]
    done = run(
        "import io, json, sys\n"
        "sys.stdin = io.TextIOWrapper(io.BytesIO(b'The bank and the rate.\\n'))\n"
        f"sys.argv = ['pennyweight', 'predict', {str(tiny_run)!r}, '-']\n"
        "from pennyweight.cli.app import main\nmain()\n"
        f"print(json.dumps(sorted(set(sys.modules) & set({heavy!r}))))"
    )
    assert done.returncode == 0, done.stderr
    answer, imported = map(json.loads, done.stdout.splitlines())
    assert answer["label"] in ("Business", "Sports", "World")
    assert imported == []


@pytest.mark.parametrize("module", ["pennyweight.cli.app", "typer", "torch", "torch.nn"])
def test_ctrl_c_while_modules_are_imported_is_one_line(module: str, default_signals: None) -> None:
    done = run(
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *more):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.argv = ['pennyweight', 'predict', 'absent', '--text', 'The bank.']\n"
        "from pennyweight.cli import main\nmain()\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


def test_ctrl_c_in_a_later_import_reaches_who_says_how_to_go_on(default_signals: None) -> None:
    """Such as a search, which imports what it needs as it goes."""
    done = run(
        "import os, signal, sys, torch\n"
        "class Finder:\n"
        "    def find_spec(self, name, *more):\n"
        "        if name == 'absent':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "def work():\n"
        "    try:\n"
        "        import absent\n"
        "    except KeyboardInterrupt:\n"
        "        print('continue with --out')\n"
        "import pennyweight.cli.app\n"
        "pennyweight.cli.app.main = work\n"
        "from pennyweight.cli import main\nmain()\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "continue with --out\n", "")


def test_what_a_library_makes_of_ctrl_c_is_one_line_too(default_signals: None) -> None:
    done = run(
        "import os, signal, sys, torch\n"
        "class Finder:\n"
        "    def find_spec(self, name, *more):\n"
        "        if name == 'pennyweight.predict.load_classifier':\n"
        "            try:\n"
        "                os.kill(os.getpid(), signal.SIGINT)\n"
        "            except KeyboardInterrupt:\n"
        "                raise ImportError('broken') from None\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.argv = ['pennyweight', 'predict', 'absent', '--text', 'The bank.']\n"
        "from pennyweight.cli import main\nmain()\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


def test_the_command_starts_where_ctrl_c_is_one_line() -> None:
    with (ROOT / "pyproject.toml").open("rb") as handle:
        assert tomllib.load(handle)["project"]["scripts"] == {"pennyweight": "pennyweight.cli:main"}


def test_public_names_are_there_and_stay_what_they_are() -> None:
    """The function `train` and the folder `train/` share a name: importing the folder must not hide the function."""
    done = run(
        "import pennyweight as pw\nimport pennyweight.train.loop\nimport pennyweight.data.sources\n"
        "kinds = {name: type(getattr(pw, name)).__name__ for name in pw.__all__}\n"
        "import json; print(json.dumps(kinds))"
    )
    assert done.returncode == 0, done.stderr
    kinds = json.loads(done.stdout.splitlines()[-1])
    assert {name: kind for name, kind in kinds.items() if kind == "module"} == {}
    assert kinds["train"] == kinds["load"] == "function"


def test_the_wheel_holds_the_code_the_data_and_the_licence(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wheel = Path(next(iter(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))))
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    expected = {
        file.relative_to(PACKAGE.parent).as_posix()
        for file in PACKAGE.rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    assert expected - inside == set()
    assert {"pennyweight/budget/checkpoints.json", "pennyweight/recipe/shipped/paper.yaml"} <= inside
    assert f"pennyweight-{metadata['version']}.dist-info/licenses/LICENSE" in inside

    import pennyweight

    assert pennyweight.__version__ == metadata["version"]
