"""A stage's program that loads before there is a directory for it.

    python -m workers.standby MODULE

imports MODULE, reads the path of a directory from stdin, and from then on is `python -m MODULE DIRECTORY`,
with its output in the directory's log. So the libraries of a stage load while the one before it keeps the
engines busy. It ends when stdin is closed without a path.
"""

import importlib
import os
import runpy
import sys
from contextlib import suppress
from pathlib import Path

from workers.stage import LOG


def main() -> None:
    module = sys.argv[1]
    with suppress(Exception):  # it says so below, where somebody reads it
        importlib.import_module(module)
    directory = sys.stdin.readline().strip()
    if not directory:
        return
    with (Path(directory) / LOG).open("ab") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    sys.argv = [module, directory]
    sys.modules.pop(module, None)  # it is run as a program now; what it imported stays
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
