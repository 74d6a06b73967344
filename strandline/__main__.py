"""python -m strandline: the command line."""

from .engine.app.entry import main

main()
