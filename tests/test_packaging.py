"""What is shipped is whole: sdist, the wheel made of it, and an installation far from the sources.

An editable install finds whatever lies in the tree; only a wheel shows what was forgotten.  Dependencies are borrowed from
the environment that runs the tests, so nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS: dict[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]
MODULES = {module["name"] for module in PROJECT["tool"]["setuptools"]["ext-modules"]}
NATIVE = {name.replace(".", "/") + sysconfig.get_config_var("EXT_SUFFIX") for name in MODULES}

IMPORT_ALL = """
import importlib, pkgutil, strandline

for module in pkgutil.walk_packages(strandline.__path__, "strandline."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
    print(module.name)
print(strandline.__file__)
"""


def run(*command: str | Path, **env: str) -> str:
    """Run it, and return what it printed; fail with all that it said."""
    done = subprocess.run(
        command,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        pytest.fail(
            f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}",
            pytrace=False,
        )
    return done.stdout


def build_wheel(sdist: Path, target: Path, **env: str) -> Path:
    """Make a wheel of the sdist, with the build tools that are here."""
    options = ["--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--no-cache-dir"]
    run(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", target, sdist, **env)
    return next(target.glob("*.whl"))


@dataclass(frozen=True)
class Installation:
    """A virtual environment with the wheel in it, and with our dependencies borrowed."""

    home: Path

    @classmethod
    def of(cls, wheel: Path, home: Path) -> Installation:
        venv.create(home, with_pip=False, symlinks=os.name != "nt")
        made = cls(home)
        run(
            sys.executable,
            "-m",
            "pip",
            "--python",
            made.bin("python"),
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            wheel,
        )
        # Further .pth files in there are not read, so our own editable install stays invisible.
        (made.packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
        return made

    @property
    def packages(self) -> Path:
        return Path(sysconfig.get_path("purelib", "venv", {"base": str(self.home)}))

    def bin(self, name: str) -> Path:
        return Path(sysconfig.get_path("scripts", "venv", {"base": str(self.home)})) / name

    def python(self, code: str, **env: str) -> str:
        return run(self.bin("python"), "-I", "-c", code, **env)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("packaging")


@pytest.fixture(scope="module")
def sdist(place):
    """The sdist of a copy of the sources: building leaves things behind."""
    copy = place / "sources"
    copy.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd", "*.egg-info")
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, copy)
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", place / "sdist", copy)
    return next((place / "sdist").glob("*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(sdist, place):
    return build_wheel(sdist, place / "wheel")


@pytest.fixture(scope="module")
def installed(wheel, place):
    return Installation.of(wheel, place / "installed")


def sources(*suffixes: str) -> set[str]:
    """Files of the product, by their path in the repository."""
    found = [
        path for folder in FOLDERS.values() for path in (ROOT / folder).rglob("*") if path.suffix in suffixes
    ]
    return {path.relative_to(ROOT).as_posix() for path in found}


def shipped(path: str) -> str:
    """Where a file of the repository goes in the wheel."""
    return path if path.startswith("strandline/") else f"strandline/{path}"


def test_the_sdist_has_all_that_a_build_needs(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    needed = sources(".py", ".pyi", ".c", ".h", ".typed") | {"pyproject.toml", "README.md"}
    assert needed - names == set()
    assert "chunker/native/scan.h" in names


def test_the_wheel_has_every_module_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert names == {shipped(path) for path in sources(".py", ".pyi", ".typed")} | NATIVE


def test_every_module_can_be_imported_far_from_the_sources(installed):
    *modules, file = installed.python(IMPORT_ALL).split()

    expected = {shipped(path).removesuffix(".py").replace("/", ".") for path in sources(".py")}
    assert Path(file).is_relative_to(installed.home)
    assert set(modules) == {name.removesuffix(".__init__") for name in expected} - {"strandline"} | MODULES


def test_the_native_scan_runs_where_the_wheel_is_installed(installed):
    code = "from strandline.chunker.kernel import kernel_names; print(*kernel_names())"

    assert installed.python(code).split()[:2] == ["reference", "portable"]


def test_the_command_runs(installed):
    assert PROJECT["project"]["version"] in run(installed.bin("strandline"), "--version")
    assert "backup" in run(installed.bin("strandline"), "--help")


def test_without_a_compiler_the_installation_succeeds_and_says_what_runs(sdist, place):
    wheel = build_wheel(sdist, place / "no-compiler", CC="/bin/false")
    bare = Installation.of(wheel, place / "bare")

    said = bare.python("from strandline.chunker.kernel import choose_kernel as k; print(k().name, k().slow)")

    assert said.split() == ["reference", "True"]


def test_types_are_shipped(installed):
    """`py.typed` makes them count, for whoever embeds us."""
    assert (installed.packages / "strandline" / "py.typed").exists()
    assert (installed.packages / "strandline" / "chunker" / "_scan.pyi").exists()
