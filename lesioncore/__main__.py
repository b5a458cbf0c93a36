"""``python -m lesioncore``."""

import sys

from lesioncore.cli import main

if __name__ == "__main__":
    sys.exit(main())
