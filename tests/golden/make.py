"""Write the golden files that are missing; those that are there are never touched.

    python -m tests.golden.make

A golden file that no longer fits is not out of date: the format changed, and needs a new version that reads the old one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import anyio

from ..engine.format.golden import CAPTURED, GOLDEN, MADE
from .repository import ENCRYPTIONS, make_repository, repository_path


def write_new(path: Path, data: bytes) -> bool:
    """Write *path* unless it is there; say whether it was written."""
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    return True


def main() -> None:
    # What was captured comes first: other files are made of it.
    for name, make in [*CAPTURED.items(), *MADE.items()]:
        if not (GOLDEN / name).exists() and write_new(GOLDEN / name, make()):
            print(f"made {name}")
    for encryption in ENCRYPTIONS:
        root = repository_path(encryption)
        if not root.exists():
            anyio.run(make_repository, root, encryption)
            shutil.rmtree(root / "tmp", ignore_errors=True)
            print(f"made {root.name}")


if __name__ == "__main__":
    main()
