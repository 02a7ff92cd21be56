"""``python -m benchrig``, in namespaces of its own: see scripts/bench."""

import sys

from benchrig.cli import main

sys.exit(main(sys.argv[1:]))
