"""Runs the ``hwmgr`` command as ``python3 -m hwmgr``."""

from __future__ import annotations

import sys

from hwmgr.cli.start import main

if __name__ == "__main__":
    sys.exit(main())
