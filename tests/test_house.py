"""The rules of the house, held by walking the syntax trees of `src/`: who may import whom, print, or load what."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import accumulate
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "pennyweight"
FILES = sorted(PACKAGE.rglob("*.py"))


@cache
def trees() -> dict[Path, ast.Module]:
    return {file: ast.parse(file.read_text("utf-8")) for file in FILES}


# The one way through the house: imports go to the left only. `__init__` loads lazily and may name anything but cli.
ORDER = [
    "errors", "system", "storage", "budget", "recipe", "data", "evaluate", "model", "train", "artifact", "predict",
    "export", "serve", "audit", "runs", "pipeline", "search", "integrations", "scale", "cli", "__main__",
]  # fmt: skip
# Methods that users expect on the object itself; what they need is imported when they are called.
METHODS = {("predict/predictor.py", stage) for stage in ("runs", "export", "pipeline")}
# What may lie beside the folders; a new module goes into one of them.
LOOSE = {"__init__.py", "__main__.py", "errors.py", "pipeline.py"}

# Third-party packages that only some stages may import, at the top of a file or inside a function.
OWNERS = {
    "transformers peft": {"model", "export"},
    "aiohttp django fastapi flask litestar quart sanic starlette tornado uvicorn": {"serve"},
    "dask deepspeed horovod pyspark ray": {"scale"},
    "torch.distributed": {"train"},
    "optuna": {"search"},
    "click typer": {"cli"},
}
# All that these stages may import when their modules are first imported, the standard library and the house aside;
LIGHT = {"budget": set(), "data": {"numpy"}, "evaluate": {"numpy"}, "audit": {"numpy"}}
# and what importing these must not bring with it, by whatever modules of ours.
WITHOUT = {"predict": {"matplotlib", "peft", "scipy", "sklearn", "transformers"}}

# What may call torch's operators and private functions, each probed once and with a fallback.
TORCH_INSIDES = ("model/kernels/", "model/device.py")

MAX_LINES, MAX_FUNCTION, MAX_PARAMETERS = 500, 60, 8
# scikit-learn reads an estimator's parameters off its constructor: each must be an argument by name.
SCIKIT_LEARN = {"integrations/scikit_learn.py": {"PennyweightClassifier.__init__"}}

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
                rest = name.lstrip(".")
                above = package[: len(package) - (len(name) - len(rest)) + 1] if rest != name else []
                yield node.lineno, ".".join([*above, rest]), None


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
    if stage == "__init__":
        return target not in ("cli", "__main__")
    return target == stage or (target in ORDER and stage in ORDER and ORDER.index(target) < ORDER.index(stage))


def wrong_way(tree: ast.Module, file: Path) -> Iterator[Finding]:
    stage = stage_of(file)
    for line, module, name in imports(tree, file):
        target = own_target(module, name)
        known = (file.relative_to(PACKAGE).as_posix(), target) in METHODS
        if target is not None and not known and not may_import(stage, target):
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


def reaches_into_torch(tree: ast.Module, file: Path) -> Iterator[Finding]:
    if file.relative_to(PACKAGE).as_posix().startswith(TORCH_INSIDES):
        return
    found = [(line, module) for line, module, name in imports(tree, file) if name is None]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and dotted(node.func) in ("getattr", "hasattr") and len(node.args) > 1:
            found.append((node.lineno, f"{dotted(node.args[0])}.{getattr(node.args[1], 'value', '')}"))
    for line, name in [*names_used(tree), *found]:
        first, *rest = name.removesuffix("()").split(".")
        private = any(part.startswith("_") and not part.endswith("__") for part in rest)
        if first == "torch" and (private or rest[:1] == ["ops"]):
            yield line, name


def functions(tree: ast.AST, path: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
    """Every function by its dotted name, and whether it is a method."""
    for node in ast.iter_child_nodes(tree):
        named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        here = f"{path}.{node.name}".lstrip(".") if named else path
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield here, node, isinstance(tree, ast.ClassDef)
        yield from functions(node, here)


def too_large_a_function(tree: ast.Module, file: Path) -> Iterator[Finding]:
    if stage_of(file) == "cli":
        return
    excepted = SCIKIT_LEARN.get(file.relative_to(PACKAGE).as_posix(), set())
    for name, node, method in functions(tree):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        given = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        parameters = len(given) - (method and given[:1] in (["self"], ["cls"]))
        if lines > MAX_FUNCTION:
            yield node.lineno, f"{name} has {lines} lines"
        if parameters > MAX_PARAMETERS and name not in excepted:
            yield node.lineno, f"{name} has {parameters} parameters"


RULES = [
    wrong_way, not_the_owner, heavy_at_import_time, prints_or_exits, loads_unsafely, reaches_into_torch,
    too_large_a_function,
]  # fmt: skip
Rule = Callable[[ast.Module, Path], Iterator[Finding]]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps_the_rule(rule: Rule) -> None:
    assert len(FILES) > 10
    found = [
        f"{file.relative_to(ROOT)}:{line}: {what}" for file, tree in trees().items() for line, what in rule(tree, file)
    ]
    assert found == []


BODY = "    x\n"


# The rules themselves can fail: code that breaks each, and its nearest innocent relative.
@pytest.mark.parametrize(
    ("rule", "file", "code", "found"),
    [
        (wrong_way, "data/read.py", "from ..model import heads", ["data imports model"]),
        (wrong_way, "data/read.py", "from .. import model", ["data imports model"]),
        (wrong_way, "data/read.py", "def f():\n    from pennyweight.train import loop", ["data imports train"]),
        (wrong_way, "data/read.py", "def f():\n    import pennyweight.train.loop", ["data imports train"]),
        (wrong_way, "data/read.py", "import importlib\nimportlib.import_module('..cli', 'x')", ["data imports cli"]),
        (wrong_way, "data/read.py", "from ..errors import DataError\nfrom . import clean\nfrom ..budget import x", []),
        (wrong_way, "data/sample/__init__.py", "from ..table import Table\nfrom ...storage.files import sha256", []),
        (wrong_way, "budget/plan.py", "from ..recipe import schema", ["budget imports recipe"]),
        (wrong_way, "budget/plan.py", "from ..storage import files", []),
        (wrong_way, "errors.py", "from .storage import files", ["errors imports storage"]),
        (wrong_way, "evaluate/evaluation.py", "from ..model.heads import Head", ["evaluate imports model"]),
        (wrong_way, "model/heads.py", "from ..evaluate.evaluation import Evaluation", []),
        (wrong_way, "export/peft.py", "from ..serve import app", ["export imports serve"]),
        (wrong_way, "export/peft.py", "from ..predict import predictor\nfrom .. import __version__", []),
        (wrong_way, "predict/bulk.py", "from ..pipeline import train", ["predict imports pipeline"]),
        (wrong_way, "runs/compare.py", "from .. import pipeline", ["runs imports pipeline"]),
        (wrong_way, "pipeline.py", "from .search import study", ["pipeline imports search"]),
        (wrong_way, "pipeline.py", "from .runs import compare", []),
        (wrong_way, "model/heads.py", "from .. import Classifier", ["model imports Classifier"]),
        (wrong_way, "__init__.py", "from .cli import main", ["__init__ imports cli"]),
        (wrong_way, "__init__.py", "from .pipeline import train", []),
        (wrong_way, "cli/app.py", "from .. import __main__", []),
        (wrong_way, "__main__.py", "from .cli.app import main", []),
        (not_the_owner, "train/loop.py", "def f():\n    from peft import x", ["train imports peft"]),
        (not_the_owner, "predict/predictor.py", "import peft.utils", ["predict imports peft"]),
        (not_the_owner, "model/loop.py", "from torch import distributed", ["model imports torch.distributed"]),
        (not_the_owner, "model/adapters/lora.py", "import peft\nfrom torch import nn\nimport raytracer", []),
        (not_the_owner, "cli/app.py", "import fastapi", ["cli imports fastapi"]),
        (not_the_owner, "serve/web/app.py", "import fastapi", []),
        (not_the_owner, "train/loop.py", "import ray.data", ["train imports ray"]),
        (not_the_owner, "scale/data.py", "import ray.data", []),
        (not_the_owner, "pipeline.py", "import optuna", ["pipeline imports optuna"]),
        (not_the_owner, "search/study.py", "import optuna", []),
        (not_the_owner, "runs/compare.py", "def f():\n    import typer", ["runs imports typer"]),
        (not_the_owner, "cli/flags.py", "import typer\nimport click", []),
        (heavy_at_import_time, "data/read.py", "import pandas as pd", ["data imports pandas"]),
        (heavy_at_import_time, "data/read.py", "try:\n    import pandas\nfinally: ...", ["data imports pandas"]),
        (heavy_at_import_time, "data/read.py", "class A:\n    import pandas", ["data imports pandas"]),
        (heavy_at_import_time, "data/read.py", "import numpy as np\ndef f():\n    import pandas", []),
        (heavy_at_import_time, "data/read.py", "if TYPE_CHECKING:\n    import pandas", []),
        (heavy_at_import_time, "budget/plan.py", "def f():\n    import numpy", ["budget imports numpy"]),
        (heavy_at_import_time, "budget/plan.py", "import json\nfrom ..errors import BudgetError", []),
        (heavy_at_import_time, "audit/scan.py", "import torch", ["audit imports torch"]),
        (heavy_at_import_time, "evaluate/report/html.py", "from jinja2 import x", ["evaluate imports jinja2"]),
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
        (reaches_into_torch, "train/loop.py", "import torch\nx = torch._foreach_add", ["torch._foreach_add"]),
        (reaches_into_torch, "train/loop.py", "import torch\nf(torch.ops.mkldnn)", ["torch.ops.mkldnn", "torch.ops"]),
        (reaches_into_torch, "train/loop.py", "from torch import ops", ["torch.ops"]),
        (reaches_into_torch, "train/loop.py", "from torch._C import x", ["torch._C.x"]),
        (reaches_into_torch, "train/loop.py", "import torch._dynamo", ["torch._dynamo"]),
        (reaches_into_torch, "train/loop.py", "from torch.nn import functional as F\nF._x", ["torch.nn.functional._x"]),
        (reaches_into_torch, "train/loop.py", "import torch\nf = getattr(torch, '_mm', None)", ["torch._mm"]),
        (reaches_into_torch, "train/loop.py", "import torch\ntorch.__version__\nself._x\nself.torch._x\nops.torch", []),
        (reaches_into_torch, "model/kernels/frozen_linear.py", "import torch\ntorch.ops.mkldnn", []),
        (reaches_into_torch, "model/device.py", "import torch\ntorch._C._x", []),
        (reaches_into_torch, "model/backbone.py", "import torch\ntorch._C", ["torch._C"]),
        (too_large_a_function, "data/read.py", f"def f():\n{BODY * 60}", ["f has 61 lines"]),
        (too_large_a_function, "data/read.py", f"class A:\n  def f():\n{BODY * 60}", ["A.f has 61 lines"]),
        (too_large_a_function, "data/read.py", f"@f\n@g\ndef f():\n{BODY * 59}", []),
        (too_large_a_function, "cli/app.py", f"def f(a, b, c, d, e, g, h, i, j):\n{BODY * 60}", []),
        (too_large_a_function, "data/read.py", "def f(a, b, c, d, e, *, g, h, i, j): ...", ["f has 9 parameters"]),
        (too_large_a_function, "data/read.py", "def f(a, b, c, d, e, *x, g, h, i, **y): ...", []),
        (too_large_a_function, "data/read.py", "class A:\n def f(self, a, b, c, d, e, *, g, h, i): ...", []),
        (too_large_a_function, "data/read.py", "def f(self, a, b, c, d, e, *, g, h, i): ...", ["f has 9 parameters"]),
        (too_large_a_function, "data/read.py", "def o():\n def f(a, b, c, d, e, g, h, i, j): ...",
         ["o.f has 9 parameters"]),
        (too_large_a_function, "integrations/scikit_learn.py",
         "class PennyweightClassifier:\n def __init__(self, a, b, c, d, e, g, h, i, j): ...", []),
        (too_large_a_function, "integrations/scikit_learn.py",
         "class PennyweightClassifier:\n def fit(self, a, b, c, d, e, g, h, i, j): ...",
         ["PennyweightClassifier.fit has 9 parameters"]),
    ],
)  # fmt: skip
def test_the_rule_finds_what_breaks_it(rule: Rule, file: str, code: str, found: list[str]) -> None:
    assert [what for _, what in rule(ast.parse(code), PACKAGE / file)] == found


# --- rules of the whole tree: each takes all syntax trees by their file -------------------------------------------

Trees = dict[Path, ast.Module]


def file_of(module: str) -> Iterator[Path]:
    """What importing `pennyweight.a.b` runs: the packages on the way and the module, as far as these can be files."""
    parts = module.split(".")[1:]
    for end in range(len(parts) + 1):
        yield PACKAGE.joinpath(*parts[:end], "__init__.py")
    if parts:
        yield PACKAGE.joinpath(*parts[:-1], f"{parts[-1]}.py")


def brought_along(sources: Trees) -> Iterator[str]:
    """What importing a module of `WITHOUT` brings that it must not, with the file of ours that imports it."""
    for stage, forbidden in WITHOUT.items():
        waiting = [file for file in sources if stage_of(file) == stage]
        seen = set(waiting)
        while waiting:
            file = waiting.pop()
            nodes = [node for node in at_import_time(sources[file]) if isinstance(node, ast.Import | ast.ImportFrom)]
            for _, module, name in (found for node in nodes for found in imports(node, file)):
                if module.partition(".")[0] in forbidden:
                    yield f"{stage} brings {module.partition('.')[0]} by {file.relative_to(PACKAGE).as_posix()}"
                if module.partition(".")[0] == "pennyweight":
                    reached = {*file_of(module), *file_of(f"{module}.{name}")} & sources.keys() - seen
                    seen |= reached
                    waiting += reached


def loose(sources: Trees) -> Iterator[str]:
    """Modules beside the folders, and folders without a place in the order."""
    yield from (file.name for file in sources if file.parent == PACKAGE and file.name not in LOOSE)
    yield from sorted({stage_of(file) for file in sources if file.parent != PACKAGE} - set(ORDER))


def two_of_a_name(sources: Trees) -> Iterator[str]:
    """Modules that share a name, those of cli/ aside, and public classes that do."""
    named: dict[str, list[str]] = {}
    for file, tree in sources.items():
        path = file.relative_to(PACKAGE).as_posix()
        if file.name != "__init__.py" and stage_of(file) != "cli":
            named.setdefault(file.name, []).append(path)
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                named.setdefault(f"class {node.name}", []).append(path)
    yield from (f"{name}: {', '.join(paths)}" for name, paths in named.items() if len(paths) > 1)


TREE_RULES = [brought_along, loose, two_of_a_name]
TreeRule = Callable[[Trees], Iterator[str]]


@pytest.mark.parametrize("rule", TREE_RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps_the_rule(rule: TreeRule) -> None:
    assert sorted(rule(trees())) == []


@pytest.mark.parametrize(
    ("rule", "sources", "found"),
    [
        (brought_along, {"predict/a.py": "import peft.utils"}, ["predict brings peft by predict/a.py"]),
        (brought_along, {"predict/a.py": "from ..model import b", "model/b.py": "from sklearn import x"},
         ["predict brings sklearn by model/b.py"]),
        (brought_along, {"predict/a.py": "from ..model.b import C", "model/b.py": "if x:\n    import peft"},
         ["predict brings peft by model/b.py"]),
        (brought_along, {"predict/a.py": "from ..model.b import C", "model/__init__.py": "import peft"},
         ["predict brings peft by model/__init__.py"]),
        (brought_along, {"predict/a.py": "from .. import errors", "__init__.py": "import matplotlib"},
         ["predict brings matplotlib by __init__.py"]),
        (brought_along, {"predict/a.py": "from ..model import b", "model/b.py": "def f():\n    import peft"}, []),
        (brought_along, {"predict/a.py": "def f():\n    from ..model import b", "model/b.py": "import peft"}, []),
        (brought_along, {"predict/a.py": "from ..model import b", "export/b.py": "import peft"}, []),
        (loose, {"extra.py": "", "pipeline.py": "", "model/extra.py": ""}, ["extra.py"]),
        (loose, {"helpers/text.py": "", "data/formats/text.py": ""}, ["helpers"]),
        (two_of_a_name, {"data/labels.py": "", "model/labels.py": ""}, ["labels.py: data/labels.py, model/labels.py"]),
        (two_of_a_name, {"data/__init__.py": "", "model/__init__.py": "", "cli/search.py": "", "search/search.py": ""},
         []),
        (two_of_a_name, {"data/a.py": "class Feed: ...", "cli/b.py": "class Feed: ..."},
         ["class Feed: data/a.py, cli/b.py"]),
        (two_of_a_name, {"data/a.py": "class _F: ...\nclass G:\n  class H: ...",
                         "model/b.py": "class _F: ...\nclass H: ..."}, []),
    ],
)  # fmt: skip
def test_the_rule_finds_what_breaks_it_in_a_tree(rule: TreeRule, sources: dict[str, str], found: list[str]) -> None:
    assert list(rule({PACKAGE / path: ast.parse(code) for path, code in sources.items()})) == found


def test_no_source_file_is_too_long() -> None:
    long = {str(file.relative_to(ROOT)): len(file.read_text("utf-8").splitlines()) for file in FILES}
    assert {name: lines for name, lines in long.items() if lines > MAX_LINES} == {}


# --- the tests mirror the tree ------------------------------------------------------------------------------------

# Tests whose subject is no single module.
ACROSS = {
    "evaluate/baselines/test_baselines.py": "all baselines",
    "runs/test_finished_run.py": "what a finished run leaves: metrics.json, report, card and pictures",
    "test_benchmarks.py": "what the benchmarks conclude",
    "test_bad_input.py": "what a user may get wrong, through the commands",
    "test_cases.py": "the files of tests/cases, through training and the commands",
    "test_dependency_audit.py": "the script .ci/audit",
    "test_deploy.py": "the Dockerfile and the systemd unit",
    "test_docs.py": "the documentation",
    "test_formats.py": "file formats, through the commands",
    "test_house.py": "the source tree",
    "test_kinds_of_runs.py": "every kind of run through the later commands",
    "test_label_handling.py": "labels from every kind of source, through training and evaluation",
    "test_multi_label.py": "multi-label classification, from a file to stock PEFT",
    "test_overwrite.py": "what commands may write over",
    "test_package.py": "a fresh interpreter and the wheel",
    "test_pairs.py": "pairs of texts, from a file to stock PEFT",
    "test_site.py": "the documentation site",
    "test_tiny_backbones.py": "the backbones that conftest.py makes",
    "model/test_families.py": "every family through training, saving and export",
    "train/test_shift_options.py": "what helps under shift: options in several modules of train/",
}
# Folders that mirror nothing: tests of what must be shown before a release, of faults, and on a GPU.
APART = {"acceptance", "faults", "gpu"}


def without_a_place(tests: Iterable[str], modules: Iterable[str]) -> list[str]:
    """Tests, by their path, that mirror nothing.

    a/test_b.py and a/test_b_more.py mirror a/b.py or the folder a/b; a/test_a.py mirrors the folder a.
    """
    folders = {parent for module in modules for parent in PurePosixPath(module).parents}
    known = {*modules} | {f"{folder}.py" for folder in folders} | {f"{folder}/{folder.name}.py" for folder in folders}
    return [
        test
        for test in tests
        if test not in ACROSS
        and test.partition("/")[0] not in APART
        and not any(
            (PurePosixPath(test).parent / f"{name}.py").as_posix() in known
            for name in accumulate(PurePosixPath(test).stem.split("_")[1:], "{}_{}".format)
        )
    ]


def test_the_tests_mirror_the_tree() -> None:
    tests = [file.relative_to(ROOT / "tests").as_posix() for file in sorted((ROOT / "tests").rglob("test_*.py"))]
    assert len(tests) > 100
    assert without_a_place(tests, [file.relative_to(PACKAGE).as_posix() for file in FILES]) == []
    assert ACROSS.keys() - set(tests) == set(), "listed, but gone"


@pytest.mark.parametrize(
    ("test", "found"),
    [
        ("data/test_labels.py", True),
        ("data/test_labels_of_lists.py", True),
        ("data/test_formats.py", True),
        ("data/formats/test_formats.py", True),
        ("data/formats/test_data.py", False),
        ("data/test_label.py", False),
        ("data/test_of_labels.py", False),
        ("test_labels.py", False),
        ("test_data.py", True),
        ("model/test_labels.py", False),
        ("test_docs.py", True),
        ("data/test_docs.py", False),
        ("faults/test_kills.py", True),
    ],
)
def test_a_test_without_a_module_is_found(test: str, found: bool) -> None:
    assert (without_a_place([test], ["data/labels.py", "data/formats/excel.py", "model/heads.py"]) == []) is found


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
