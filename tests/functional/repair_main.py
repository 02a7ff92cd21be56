"""``hwmgr repair`` with the programs of calls in the folder that is the first argument."""

from __future__ import annotations

import sys
from dataclasses import replace

from hwmgr.cli.app import main
from hwmgr.cli.session import real_session

if __name__ == "__main__":
    sys.exit(main(["repair", *sys.argv[2:]], replace(real_session(), programs=sys.argv[1])))
