"""python -m strandline: the command line."""

from .engine.app.cli import main

main(prog_name="strandline")
