"""The drawing of the house: who may import whom, and how.

    engine.app -> ops -> flow -> repo -> plan -> format -> base
    agents | chunker | store      know neither the engine nor each other

Each rule is a function from source texts to complaints.  It is asked about the tree, and, so that we know that it can say
no, about a small tree that breaks it.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "strandline": "strandline",
    "strandline.agents": "agents",
    "strandline.chunker": "chunker",
    "strandline.engine": "engine",
    "strandline.store": "store",
}

LEAVES = ("agents", "chunker", "store")
ENGINE = tuple(f"engine.{layer}" for layer in ("base", "format", "plan", "repo", "flow", "ops", "app"))

MAY_IMPORT = {
    "agents": (),
    "chunker": (),
    "store": (),
    "engine.base": (),
    "engine.format": ENGINE[:1],
    "engine.plan": ENGINE[:2],
    "engine.repo": (*ENGINE[:3], "store", "chunker.idset"),
    # The flow of bytes knows an agent's types, errors and ways to read, not a vendor.
    "engine.flow": (*ENGINE[:4], "chunker", "store", "agents.base", "agents.errors", "agents.filling"),
    "engine.ops": (*ENGINE[:5], *LEAVES),
    "engine.app": (*ENGINE[:6], *LEAVES),
    "engine": ("engine",),  # the shop window of the engine
    "": ("engine", *LEAVES),  # the shop window of all
    "__main__": ("engine.app",),  # python -m strandline
}

Sources = Mapping[str, str]
"""Text by module; a package is a name that ends with `.__init__`."""


@dataclass(frozen=True)
class Import:
    """*importer* imports module *target*; as `from target import name` where there is a name."""

    importer: str
    target: str
    name: str
    line: int
    relative: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.name and self.name + ' from '}{self.target}"


# What there is


def read_tree() -> dict[str, str]:
    sources = {}
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py*")):
            if path.suffix in (".py", ".pyi"):  # a native module is known by its types
                sources[".".join((package, *path.relative_to(ROOT / folder).with_suffix("").parts))] = (
                    path.read_text()
                )
    return sources


def read_outsiders() -> dict[str, str]:
    """Tests and benchmarks: they see the product as others do."""
    paths = [path for folder in ("tests", "bench") for path in sorted((ROOT / folder).rglob("*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text() for path in paths}


def known_modules(sources: Sources) -> set[str]:
    return {name.removesuffix(".__init__") for name in sources}


def find_imports(sources: Sources) -> Iterator[Import]:
    modules = known_modules(sources)
    for module, text in sources.items():
        name = module.removesuffix(".__init__")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(name, alias.name, "", node.lineno, relative=False)
            elif isinstance(node, ast.ImportFrom):
                target = _absolute(module, node)
                for alias in node.names:
                    whole = f"{target}.{alias.name}"
                    found = (whole, "") if whole in modules else (target, alias.name)
                    yield Import(name, *found, node.lineno, relative=node.level > 0)


def _absolute(module: str, node: ast.ImportFrom) -> str:
    parts = module.split(".")[: -node.level] if node.level else []
    return ".".join([*parts, *([node.module] if node.module else [])])


def is_ours(target: str) -> bool:
    return target == "strandline" or target.startswith("strandline.")


def layer_of(module: str) -> str:
    """`engine.plan` of strandline.engine.plan.prune, `store` of strandline.store.local, "" of strandline."""
    parts = module.split(".")[1:]
    return ".".join(parts[: 2 if parts[:1] == ["engine"] else 1])


def is_within(module: str, place: str) -> bool:
    name = module.removeprefix("strandline").removeprefix(".")
    return name == place or name.startswith(f"{place}.")


# The rules


def imports_against_the_current(sources: Sources) -> list[str]:
    complaints = []
    for found in find_imports(sources):
        here = layer_of(found.importer)
        if here not in MAY_IMPORT:
            complaints.append(f"{found.importer} is in no layer that we know")
        elif is_ours(found.target) and not any(
            is_within(found.target, place) for place in (here, *MAY_IMPORT[here])
        ):
            complaints.append(str(found))
    return complaints


def imports_by_full_name(sources: Sources) -> list[str]:
    """Inside, imports are relative: a second name would be a second copy of every class."""
    folders = {"strandline", *FOLDERS.values()}
    return [
        str(found)
        for found in find_imports(sources)
        if not found.relative and found.target.split(".")[0] in folders
    ]


def imports_from_a_shop_window(sources: Sources) -> list[str]:
    """Names are taken from the module that defines them.  A package is not one."""
    packages = {name.removesuffix(".__init__") for name in sources if name.endswith(".__init__")}
    return [str(found) for found in find_imports(sources) if found.target in packages]


def imports_by_folder(sources: Sources) -> list[str]:
    """From outside, the product is `strandline`.  From the root of the repository its folders could be imported too."""
    inside = set(FOLDERS.values()) - {"strandline"}
    return [
        str(found)
        for found in find_imports(sources)
        if not found.relative and found.target.split(".")[0] in inside
    ]


def rings(sources: Sources) -> list[str]:
    modules = known_modules(sources)
    arrows: dict[str, set[str]] = {module: set() for module in modules}
    for found in find_imports(sources):
        if found.target in modules:
            arrows[found.importer].add(found.target)
    done: set[str] = set()
    complaints: list[str] = []

    def walk(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            complaints.append(" -> ".join((*path[path.index(module) :], module)))
        elif module not in done:
            for target in sorted(arrows[module]):
                walk(target, (*path, module))
            done.add(module)

    for module in sorted(modules):
        walk(module, ())
    return complaints


def prints(sources: Sources) -> list[str]:
    """Only the application talks to people; the rest raises, returns and emits."""
    return [
        f"{module}:{node.lineno} prints"
        for module, text in sources.items()
        if layer_of(module) != "engine.app"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]


def folders_that_are_no_packages(sources: Sources) -> list[str]:
    homes = {name.rpartition(".")[0] for name in sources}
    return sorted(f"{home} has no __init__.py" for home in homes if f"{home}.__init__" not in sources)


# The tree, and small trees that break the rules

RULES: dict[Callable[[Sources], list[str]], dict[str, dict[str, str]]] = {
    imports_against_the_current: {
        "format reads plan": {"engine.format.a": "from ..plan.b import x"},
        "plan reads the store": {"engine.plan.a": "from ...store.base import Store"},
        "repo knows an agent": {"engine.repo.a": "from ...agents.base import Agent"},
        "repo cuts": {"engine.repo.a": "from ...chunker.cutter import Cutter"},
        "flow knows a vendor": {"engine.flow.a": "from ...agents.mysql import dump"},
        "flow reads ops, lazily": {"engine.flow.a": "def f():\n    from ..ops.backup import backup"},
        "ops read the app": {"engine.ops.a": "from ..app import settings"},
        "a leaf reads the engine": {"store.a": "from ..engine.base.errors import Damaged"},
        "a leaf reads a leaf": {"agents.a": "from ..chunker import params"},
        "a leaf shops": {"store.a": "from .. import open_repository"},
        "base reads the window": {"engine.base.a": "from .. import backup"},
        "a new layer": {"engine.magic.a": "from ..base.ids import x"},
    },
    imports_by_full_name: {
        "absolute": {"engine.plan.a": "from strandline.engine.base.ids import x"},
        "absolute module": {"engine.plan.a": "import strandline.engine.base.ids"},
        "by folder": {"engine.plan.a": "import engine.base.ids"},
        "leaf by folder": {"engine.repo.a": "from store.base import Store"},
    },
    imports_from_a_shop_window: {
        "neighbour": {
            "engine.ops.a": "from ...store import Store",
            "store.__init__": "from .base import Store",
        },
        "own package": {"engine.ops.a": "from . import run", "engine.ops.__init__": "run = 1"},
    },
    imports_by_folder: {
        "module": {"tests.a": "import engine.base.ids"},
        "name": {"tests.a": "from store.base import Store"},
    },
    rings: {
        "two": {"store.a": "from .b import x", "store.b": "from .a import y"},
        "three": {
            "engine.ops.a": "from . import b",
            "engine.ops.b": "def f():\n    from .c import x",
            "engine.ops.c": "from ..ops.a import y",
        },
    },
    prints: {"library": {"engine.ops.a": "def f():\n    print('done')"}},
    folders_that_are_no_packages: {"no __init__": {"engine.ops.sub.a": ""}},
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps_the_rule(rule):
    tree = read_outsiders() if rule is imports_by_folder else read_tree()

    assert rule(tree) == []


BROKEN = [(rule, name) for rule, trees in RULES.items() for name in trees]


@pytest.mark.parametrize(("rule", "name"), BROKEN, ids=[f"{rule.__name__}-{name}" for rule, name in BROKEN])
def test_a_broken_tree_is_told(rule, name):
    tree = {f"strandline.{module}": text for module, text in RULES[rule][name].items()}

    assert len(rule(tree)) == 1


def test_what_is_right_is_not_complained_about():
    tree = {
        "strandline.__init__": "from .engine.ops.backup import backup",
        "strandline.engine.__init__": "",
        "strandline.engine.ops.__init__": "",
        "strandline.engine.ops.backup": "import os\nfrom ...agents.mysql import dump\nfrom . import other, third",
        "strandline.engine.ops.other": "from ..base.ids import ChunkId",
        "strandline.engine.ops.third": "from ..flow.a import x",
        "strandline.engine.flow.__init__": "",
        "strandline.engine.flow.a": "from ...agents.base import Agent\nfrom ..plan.p import x",
        "strandline.engine.app.__init__": "",
        "strandline.engine.app.cli": "print('hello')",
    }

    assert [complaint for rule in RULES if rule is not imports_by_folder for complaint in rule(tree)] == []


def test_the_tree_is_where_we_look():
    tree = read_tree()

    assert {"strandline.__init__", "strandline.store.base", "strandline.engine.base.errors"} <= set(tree)
    assert "tests.test_architecture" in read_outsiders()


def test_every_package_is_shipped():
    """One that is missing from the list works in an editable install, and is absent from the wheel."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    on_disk = {name.removesuffix(".__init__") for name in read_tree() if name.endswith(".__init__")}

    assert set(setuptools["packages"]) == on_disk
    assert setuptools["package-dir"] == FOLDERS
