"""Promises about the project as a whole: who imports whom, how long a file is, what the project files hold."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hbo
from hbo.extras import EXTRAS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "hbo"
LONGEST = 400
FORMER = ("actor_config", "config_file", "recipes")  # modules that only say where their names have gone
RANKS = {
    **dict.fromkeys(
        ("hbo", "arrays", "atomic", "compat", "errors", "extras", "progress", "text", "config", *FORMER), 0
    ),
    "core": 1,
    **dict.fromkeys(("folder", "data"), 2),
    **dict.fromkeys(("scoring", "report"), 3),
    "rewards": 4,
    "training": 5,
    "run": 6,
    **dict.fromkeys(("check", "compare", "benchmarks", "watch"), 7),
    **dict.fromkeys(("cli", "demo", "integrations", "__main__"), 8),
}


def sources():
    """Module name → its text, for every module of the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path.read_text(encoding="utf-8")
    return found


def room(module):
    """`hbo.core.stream` → `core`; `hbo` itself is a room of its own."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "hbo"


def imported(module, text, is_package=False):
    """The modules that `text` imports, wherever in the file; a public name of hbo counts as its home."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: None if is_package else -1]
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            for alias in node.names if base == "hbo" else ():
                yield hbo._HOME.get(alias.name, f"hbo.{alias.name}" if alias.name in RANKS else "hbo")
            if base != "hbo":
                yield base


def violations(modules):
    """One sentence per import that looks upwards or sideways."""
    found = []
    for module, text in modules.items():
        if module == "hbo":
            continue  # its public names are loaded on first use; the imports are for type checkers
        here = room(module)
        for target in imported(module, text):
            if target.split(".")[0] != "hbo":
                continue
            there = room(target)
            if here not in RANKS or there not in RANKS:
                found.append(f"{module} imports {target}: one of them is in no room")
            elif there != here and RANKS[there] >= RANKS[here] and (RANKS[here], RANKS[there]) not in SAME_ROOM:
                found.append(f"{module} (rank {RANKS[here]}) imports {target} (rank {RANKS[there]})")
    return found


SAME_ROOM = {(0, 0), (8, 8)}  # files of the package's own folder, not rooms


def test_a_module_imports_only_lower_rooms():
    assert violations(sources()) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("hbo.core.made_up", "from hbo.training.callback import HBOCallback"),
        ("hbo.core.made_up", "from hbo import HBOSampler"),
        ("hbo.core.made_up", "import hbo.data.mixture"),
        ("hbo.core.made_up", "from ..data import mixture"),
        ("hbo.data.made_up", "def late():\n    from hbo.report import page"),
        ("hbo.scoring.made_up", "from hbo import demo"),
        ("hbo.errors", "from hbo.core import groups"),
        ("hbo.attic.made_up", "from hbo import errors"),
    ],
)
def test_an_import_that_looks_upwards_is_found(module, text):
    assert len(violations({module: text})) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("hbo.training.made_up", "from hbo.core.stream import Stream\nimport torch\nfrom . import sampler"),
        ("hbo.config.methods", "from hbo.config import HBOConfig"),
        ("hbo.cli", "from hbo import HBOCallback, demo"),
    ],
)
def test_an_import_that_looks_downwards_is_fine(module, text):
    assert violations({module: text}) == []


def test_names_are_still_found_where_the_docs_once_had_them():
    from hbo import actor_config, config_file, recipes
    from hbo.config import HBOConfig
    from hbo.config.file import load
    from hbo.rewards import per_row, progress

    assert isinstance(HBOConfig().actor, actor_config.ActorConfig)
    assert (config_file.load, recipes.METHODS) == (load, hbo.METHODS)
    assert progress.perplexity_ratio is per_row.perplexity_ratio


def test_the_method_itself_needs_numpy_only():
    allowed = set(sys.stdlib_module_names) | {"numpy", "hbo"}
    core = {name: text for name, text in sources().items() if room(name) == "core"}
    foreign = {target for name, text in core.items() for target in imported(name, text, name == "hbo.core")}
    assert {target for target in foreign if target.split(".")[0] not in allowed} == set()


def test_no_file_is_long():
    lengths = {name: len(text.splitlines()) for name, text in sources().items()}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def top_names(text):
    """The public functions and classes that a module defines."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name for node in ast.parse(text).body if isinstance(node, kinds) and not node.name.startswith("_")}


def doubles(modules):
    """Public name → the modules that define it, where there are several."""
    homes = {}
    for module, text in modules.items():
        for name in top_names(text):
            homes.setdefault(name, []).append(module)
    return {name: places for name, places in homes.items() if len(places) > 1}


def test_no_two_things_have_one_name():
    assert doubles(sources()) == {}


def test_two_things_with_one_name_are_found():
    assert doubles({"hbo.a": "class Row: ...", "hbo.b": "def _own(): ...", "hbo.c": "class Row: ..."}) == {
        "Row": ["hbo.a", "hbo.c"]
    }


def circles(modules):
    """The modules from which following imports leads back, at whatever place of the file they stand."""
    needs = {module: set(imports_of(module, text, modules)) for module, text in modules.items() if module != "hbo"}
    while free := [module for module, targets in needs.items() if not targets & needs.keys()]:
        for module in free:
            del needs[module]
    return sorted(needs)


def imports_of(module, text, modules):
    """The modules among `modules` that `text` imports, a name out of a package being the package's own."""
    for node in ast.walk(ast.parse(text)):
        for alias in node.names if isinstance(node, ast.ImportFrom) and node.module else ():
            target = f"{node.module}.{alias.name}"
            target = target if target in modules else node.module
            if target != module:
                yield target


def test_no_two_test_files_have_one_name():
    # pytest imports them by it: in one process, the second of them isn't collected.
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert not {name for name in names if names.count(name) > 1}


def test_no_module_needs_itself():
    assert circles(sources()) == []


def test_a_circle_is_found():
    modules = {"hbo.a": "from hbo.b import x", "hbo.b": "def late():\n    from hbo import a", "hbo.c": "import os"}
    assert circles(modules) == ["hbo.a", "hbo.b"]


def remembered(text):
    """What a module could keep between two calls: globals, caches of functions, containers that begin empty."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield from node.names
        if isinstance(node, ast.FunctionDef):
            made_by = " ".join(ast.unparse(decorator) for decorator in node.decorator_list)
            if re.search(r"\b(lru_)?cache\b", made_by):
                yield node.name
    empty = re.compile(r"\{\}|\[\]|(\w+\.)?(dict|list|set|defaultdict|Weak\w+)\(\w*\)")
    for node in tree.body:
        given = getattr(node, "value", None)
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and given and empty.fullmatch(ast.unparse(given)):
            yield ast.unparse(node).split(":")[0].split(" =")[0]


def test_no_module_remembers_anything():
    found = {module: names for module, text in sources().items() if (names := list(remembered(text)))}
    assert found == {"hbo.rewards.norms.layers": ["_OWN"]}  # the rules that users register


@pytest.mark.parametrize(
    "text",
    [
        "SEEN = {}",
        "SEEN: dict[str, int] = {}",
        "SEEN = set()",
        "@cache\ndef f(): ...",
        "def f():\n    global x\n    x = 1",
    ],
)
def test_a_memory_is_found(text):
    assert list(remembered(text))


def test_a_docstring_says_raises_only_where_something_is_raised():
    assert [module for module, text in sources().items() if re.search(r"Raises:\s+Nothing", text)] == []


def test_contributing_draws_the_rooms_as_they_stand():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    told = {}
    for rank, names in re.findall(r"^\| (\d) \| ([^|]+) \|", page, re.MULTILINE):
        told |= dict.fromkeys((name.rstrip("/") for name in re.findall(r"`([\w/]+)`", names)), int(rank))
    assert told == {name: rank for name, rank in RANKS.items() if name not in ("hbo", "__main__", *FORMER)}


@pytest.mark.parametrize("module", ["hbo", "hbo.config.file", "hbo.cli"])
def test_start_up_loads_nothing_heavy(module):
    heavy = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "pyarrow")
    code = f"import sys, {module}; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_dependency_has_a_release_known_to_work():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *(line for name in ("cli", "train", "dev", "docs") for line in extras[name])]
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    names = {re.match(r"[\w.-]+", line)[0].lower() for line in needed}
    assert names - {"hbo"} - {name.lower() for name in pinned} == set()


def test_a_command_asks_for_what_its_extra_brings():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, packages in EXTRAS.items():
        lines = {f"{package}>={lowest}" for package, lowest in packages.items()}
        assert {line for line in project["optional-dependencies"][name] if not line.startswith("hbo[")} == lines


def test_every_lowest_release_is_the_one_that_is_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lowest = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8")
    tested = dict(re.findall(r"^([\w.-]+)==([\w.]+)$", lowest, re.MULTILINE))
    for line in project["dependencies"]:
        name, claimed = line.split(">=")
        release = tested[name]
        is_torch = (line, release) == ("torch>=2.4", "2.4.1")
        assert is_torch or re.fullmatch(rf"{re.escape(claimed)}(\.0)*", release), f"{line}, but {release} is tested"


def test_what_trains_is_tested_at_the_lowest_releases_that_it_asks_for():
    middle = (ROOT / "constraints-axolotl.txt").read_text(encoding="utf-8")
    tested = dict(re.findall(r"^([\w.-]+)==([\w.]+)$", middle, re.MULTILINE))
    for name, lowest in EXTRAS["train"].items():
        is_near = (name, tested[name]) == ("accelerate", "1.13.0")  # axolotl's; 1.12 was tried by hand
        assert is_near or re.fullmatch(rf"{re.escape(lowest)}(\.0)*", tested[name]), name


def test_the_citation_names_this_version():
    assert f"version: {hbo.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("fails_at", "sentence"),
    [("version_info", "is older than Python 3.11"), ("ensurepip", "run: apt install python3-venv")],
)
def test_make_says_in_one_line_what_the_machine_lacks(tmp_path, fails_at, sentence):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$2" in *{fails_at}*) exit 1;; esac\n')
    python.chmod(0o755)
    environment = {**os.environ, "MAKEFLAGS": ""}
    command = ["make", "setup", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode != 0
    said, _ = done.stderr.splitlines()  # the second line is make's own
    assert said.startswith("error: ")
    assert sentence in said
    assert not (tmp_path / "venv").exists()
