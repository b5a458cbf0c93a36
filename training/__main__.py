"""``python -m lesioncore.training``: the same as ``lesioncore train``, in a form that ``torchrun`` can start.

torchrun --nproc-per-node 2 -m lesioncore.training vae DATA -o OUT
"""

import os
import sys

from lesioncore.cli import main

if os.environ.get("RANK", "0") != "0":
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends; the first process speaks for all

raise SystemExit(main(["train", *sys.argv[1:]]))
