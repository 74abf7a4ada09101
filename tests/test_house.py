"""The rules of the house, held by walking the syntax trees of `src/`: who may import whom, print, or load what."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "pennyweight"
FILES = sorted(PACKAGE.rglob("*.py"))

# The one way through the house. Places on the same rung do not import each other.
LINE = [
    {"recipe"},
    {"data"},
    {"budget"},
    {"estimate"},
    {"model"},
    {"train"},
    {"evaluate"},
    {"schema"},
    {"manifest"},
    {"untrusted"},
    {"artifact"},
    {"card"},
    {"predict", "answers"},
    {"converse"},
    {"export", "serve", "scale", "explain", "leaderboard", "push"},
    {"planning"},
    {"reporting"},
    {"audit"},
    {"pipeline"},
    {"estimator", "seeds", "searching"},
    {"flags", "progress", "failures"},
    {"verbs"},
    {"cli"},
    {"__main__"},
]
RUNG = {stage: rung for rung, stages in enumerate(LINE) for stage in stages}
LEAVES = {
    "errors": set(),
    "files": {"errors"},
    "bounded_yaml": set(),
    "fields": set(),
    "contradictions": {"fields"},
    "recipe": {"bounded_yaml", "contradictions", "errors", "fields", "files"},
    "budget": {"errors", "files"},
}

# Third-party packages that only some stages may import, at the top of a file or inside a function.
OWNERS = {
    "transformers peft": {"model", "export"},
    "aiohttp django fastapi flask litestar quart sanic starlette tornado uvicorn": {"serve"},
    "dask deepspeed horovod pyspark ray torch.distributed": {"scale"},
    "optuna": {"searching"},
    "click typer": {"flags", "failures", "verbs", "cli"},
}
# What these stages may import when their modules are first imported, the standard library aside.
LIGHT = {"budget": set(), "data": {"numpy"}, "evaluate": {"numpy"}, "audit": {"numpy"}}

# Names that must not be read; with brackets, that must not be called (`input` alone is a good name for a tensor).
PRINTS = {
    "print", "breakpoint", "input()", "exit()", "quit()", "SystemExit", "sys.exit", "os._exit",
    "sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__",
}  # fmt: skip
UNSAFE = {
    "eval()", "exec()", "compile()", "__import__()", "os.system", "os.popen", "torch.load", "torch.jit.load",
    "torch.save", "pandas.read_pickle", "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.full_load_all",
    "yaml.unsafe_load", "yaml.unsafe_load_all", "accelerator.load_state", "accelerator.save_state",
}  # fmt: skip
PICKLERS = {"_pickle", "cPickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "pickle", "shelve"}
# The allow-listing reader of pickled datasets is the one place for pickle, and it too must not call these.
PICKLE_READER = "data/formats/pickled.py"
PICKLE_CALLS = {"pickle.load", "pickle.loads"}


# --- reading a syntax tree ---------------------------------------------------------------------------------------


def imports(tree: ast.AST, file: Path) -> Iterator[tuple[int, str, str | None]]:
    """Every import as (line, absolute module, imported name); `import_module("literal")` counts as one."""
    package = ["pennyweight", *file.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, None
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, module, alias.name
        elif isinstance(node, ast.Call) and dotted(node.func).endswith("import_module"):
            name = getattr(next(iter(node.args), None), "value", None)
            if isinstance(name, str):
                yield node.lineno, f"pennyweight{name}" if name.startswith(".") else name, None


def at_import_time(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements that run when the module is imported: not function bodies, not `if TYPE_CHECKING`."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and dotted(node.test).endswith("TYPE_CHECKING"):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


def dotted(node: ast.AST) -> str:
    """`a.b.c` for the expression a.b.c, an empty string for any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (above := dotted(node.value)):
        return f"{above}.{node.attr}"
    return ""


def names_used(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every name and dotted name in the module, aliases resolved: `from torch import load` gives torch.load.

    A bare name that is called comes a second time, with brackets.
    """
    aliases = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            aliases |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and (name := dotted(node)):
            first, _, rest = name.partition(".")
            yield node.lineno, ".".join(filter(None, [aliases.get(first, first), rest]))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.lineno, f"{aliases.get(node.func.id, node.func.id)}()"


# --- the rules: each gives (line, what is wrong) -----------------------------------------------------------------

Finding = tuple[int, str]


def stage_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def own_target(module: str, name: str | None) -> str | None:
    """The stage that an import of our own code reaches; None for third-party and for `from . import __version__`."""
    parts = module.split(".")
    if parts[0] != "pennyweight":
        return None
    if len(parts) > 1:
        return parts[1]
    return None if name is not None and name.startswith("__") else name or "__init__"


def may_import(stage: str, target: str) -> bool:
    if stage == target:
        return True
    if stage == "__init__":
        return target not in ("flags", "cli", "__main__")
    if stage in LEAVES:
        return target in LEAVES[stage]
    return target in ("errors", "files", "bounded_yaml", "recipe") or RUNG.get(target, 99) < RUNG[stage]


def wrong_way(tree: ast.Module, file: Path) -> Iterator[Finding]:
    stage = stage_of(file)
    for line, module, name in imports(tree, file):
        target = own_target(module, name)
        if target is not None and not may_import(stage, target):
            yield line, f"{stage} imports {target}"


def not_the_owner(tree: ast.Module, file: Path) -> Iterator[Finding]:
    stage = stage_of(file)
    for line, module, name in imports(tree, file):
        full = module if name is None else f"{module}.{name}"
        for packages, owners in OWNERS.items():
            for package in packages.split():
                if f"{full}.".startswith(f"{package}.") and stage not in owners:
                    yield line, f"{stage} imports {package}"


def heavy_at_import_time(tree: ast.Module, file: Path) -> Iterator[Finding]:
    stage = stage_of(file)
    if stage not in LIGHT:
        return
    # What budget may not import it may not import anywhere; elsewhere a function may be heavier than its module.
    nodes: list[ast.AST] = [tree] if not LIGHT[stage] else list(at_import_time(tree))
    for node in nodes:
        if node is tree or isinstance(node, ast.Import | ast.ImportFrom):
            for line, module, _ in imports(node, file):
                package = module.partition(".")[0]
                if package not in {"pennyweight", *sys.stdlib_module_names, *LIGHT[stage]}:
                    yield line, f"{stage} imports {package}"


def prints_or_exits(tree: ast.Module, file: Path) -> Iterator[Finding]:
    if stage_of(file) != "cli":
        yield from ((line, name) for line, name in names_used(tree) if name in PRINTS)


def loads_unsafely(tree: ast.Module, file: Path) -> Iterator[Finding]:
    reader = file.relative_to(PACKAGE).as_posix() == PICKLE_READER
    for line, module, _ in imports(tree, file):
        if module.partition(".")[0] in PICKLERS - ({"pickle"} if reader else set()):
            yield line, f"import {module}"
    for line, name in names_used(tree):
        if name in UNSAFE | PICKLE_CALLS:
            yield line, name
    for node in ast.walk(tree):
        switch = isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "trust_remote_code", "shell")
        if switch and getattr(node.value, "value", None) is not False:
            yield node.value.lineno, f"{node.arg} is not False"


RULES = [wrong_way, not_the_owner, heavy_at_import_time, prints_or_exits, loads_unsafely]
Rule = Callable[[ast.Module, Path], Iterator[Finding]]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps_the_rule(rule: Rule) -> None:
    assert len(FILES) > 10
    found = [
        f"{file.relative_to(ROOT)}:{line}: {what}"
        for file in FILES
        for line, what in rule(ast.parse(file.read_text("utf-8")), file)
    ]
    assert found == []


def test_every_module_has_a_place_on_the_line() -> None:
    stages = {stage_of(file) for file in FILES}
    assert stages - RUNG.keys() - LEAVES.keys() == {"__init__"}


# The rules themselves can fail: code that breaks each, and its nearest innocent relative.
@pytest.mark.parametrize(
    ("rule", "file", "code", "found"),
    [
        (wrong_way, "data/read.py", "from ..budget import plan", ["data imports budget"]),
        (wrong_way, "data/read.py", "from .. import model", ["data imports model"]),
        (wrong_way, "data/read.py", "def f():\n    from pennyweight.train import loop", ["data imports train"]),
        (wrong_way, "data/read.py", "def f():\n    import pennyweight.train.loop", ["data imports train"]),
        (wrong_way, "data/read.py", "import importlib\nimportlib.import_module('.cli', 'x')", ["data imports cli"]),
        (wrong_way, "data/read.py", "from ..errors import DataError\nfrom . import clean\nfrom ..recipe import x", []),
        (wrong_way, "data/sample/__init__.py", "from ..table import Table\nfrom ...files import sha256", []),
        (wrong_way, "budget/plan.py", "from ..data import read", ["budget imports data"]),
        (wrong_way, "budget/plan.py", "from ..recipe import Recipe", ["budget imports recipe"]),
        (wrong_way, "errors.py", "from . import files", ["errors imports files"]),
        (wrong_way, "export/stock.py", "from .serve import app", ["export imports serve"]),
        (wrong_way, "export/stock.py", "from .predict import load\nfrom . import __version__", []),
        (wrong_way, "predict/predictor.py", "from .pipeline import train", ["predict imports pipeline"]),
        (wrong_way, "__init__.py", "from .cli import main", ["__init__ imports cli"]),
        (wrong_way, "__init__.py", "from .pipeline import train", []),
        (not_the_owner, "train/loop.py", "def f():\n    from peft import x", ["train imports peft"]),
        (not_the_owner, "predict/predictor.py", "import peft.utils", ["predict imports peft"]),
        (not_the_owner, "train/loop.py", "from torch import distributed", ["train imports torch.distributed"]),
        (not_the_owner, "model/adapters/lora.py", "import peft\nfrom torch import nn\nimport raytracer", []),
        (not_the_owner, "cli/app.py", "import fastapi", ["cli imports fastapi"]),
        (heavy_at_import_time, "data/read.py", "import pandas as pd", ["data imports pandas"]),
        (heavy_at_import_time, "data/read.py", "try:\n    import pandas\nfinally: ...", ["data imports pandas"]),
        (heavy_at_import_time, "data/read.py", "class A:\n    import pandas", ["data imports pandas"]),
        (heavy_at_import_time, "data/read.py", "import numpy as np\ndef f():\n    import pandas", []),
        (heavy_at_import_time, "data/read.py", "if TYPE_CHECKING:\n    import pandas", []),
        (heavy_at_import_time, "budget/plan.py", "def f():\n    import numpy", ["budget imports numpy"]),
        (heavy_at_import_time, "model/heads.py", "import torch", []),
        (prints_or_exits, "predict/predictor.py", "print('x')", ["print"]),
        (prints_or_exits, "predict/a.py", "from sys import exit as leave\ndef f():\n    leave(1)", ["sys.exit"] * 2),
        (prints_or_exits, "predict/predictor.py", "import sys as s\ns.stdout.write('x')", ["sys.stdout"]),
        (prints_or_exits, "predict/predictor.py", "f(log=print)\nquit()", ["quit()", "print"]),
        (prints_or_exits, "predict/predictor.py", "raise SystemExit(2)", ["SystemExit"]),
        (prints_or_exits, "predict/predictor.py", "table.print()\nprints = 1\ndef f(input, exit): return input", []),
        (prints_or_exits, "cli/app.py", "print('x')", []),
        (loads_unsafely, "artifact/artifact.py", "import pickle", ["import pickle"]),
        (loads_unsafely, "artifact/artifact.py", "def f():\n    from joblib import load", ["import joblib"]),
        (loads_unsafely, "artifact/artifact.py", "from torch import load\nload('x')", ["torch.load"] * 2),
        (loads_unsafely, "artifact/artifact.py", "import torch as t\nt.load('x', weights_only=True)", ["torch.load"]),
        (loads_unsafely, "artifact/artifact.py", "import yaml\nyaml.load('x', yaml.Loader)", ["yaml.load"]),
        (loads_unsafely, "artifact/a.py", "import yaml\nyaml.safe_load('x')\nm.eval()\ncompile = re.compile('x')", []),
        (loads_unsafely, "artifact/artifact.py", "eval('1')\nexec('1')", ["eval()", "exec()"]),
        (loads_unsafely, "artifact/artifact.py", "np.load('x', allow_pickle=True)", ["allow_pickle is not False"]),
        (loads_unsafely, "artifact/artifact.py", "f(trust_remote_code=flag)", ["trust_remote_code is not False"]),
        (loads_unsafely, "artifact/artifact.py", "f(trust_remote_code=False, allow_pickle=False)", []),
        (loads_unsafely, "data/formats/pickled.py", "import pickle\nclass R(pickle.Unpickler): ...", []),
        (loads_unsafely, "data/formats/pickled.py", "import pickle\npickle.loads(b'')", ["pickle.loads"]),
        (loads_unsafely, "data/formats/pickled.py", "import dill", ["import dill"]),
    ],
)  # fmt: skip
def test_the_rule_finds_what_breaks_it(rule: Rule, file: str, code: str, found: list[str]) -> None:
    assert [what for _, what in rule(ast.parse(code), PACKAGE / file)] == found


def test_no_source_file_passes_500_lines() -> None:
    long = {str(file.relative_to(ROOT)): len(file.read_text("utf-8").splitlines()) for file in FILES}
    assert {name: lines for name, lines in long.items() if lines > 500} == {}


def test_nothing_is_left_for_later() -> None:
    words = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "Not" + "ImplementedError", "no " + "cover")
    left = [
        f"{file.relative_to(ROOT)}:{number}"
        for folder in ("src", "tests", "benchmarks", "docs")
        for file in sorted((ROOT / folder).rglob("*"))
        if file.suffix in (".py", ".md", ".yaml", ".html")
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1)
        if any(word in line for word in words)
    ]
    assert left == []
