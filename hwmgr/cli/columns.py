"""The columns of every table: their titles, their order, and which go first where room is short."""

from __future__ import annotations

from hwmgr.cli.output import Column
from hwmgr.cli.text import cut_owner

PF_COLUMNS = (
    Column("ADDRESS", "address"),
    Column("IFNAME", "ifname"),
    Column("DRIVER", "driver", rank=1),
    Column("VFS", "numVfs"),
    Column("FREE", "freeVfs"),
    Column("TOTAL", "totalVfs", rank=2),
    Column("LINK", "linkState", rank=3),
    Column("MODE", "eswitchMode", rank=4),
    Column("NUMA", "numaNode", rank=5),
    Column("MODE BY", "modeToldBy", wide=True, rank=6),
    Column("ID", "id", wide=True, rank=7),
    Column("MTU", "mtu", wide=True, rank=8),
    Column("MAC", "mac", wide=True, rank=9),
)
VF_COLUMNS = (
    Column("ADDRESS", "address"),
    Column("PF", "pf", rank=1),
    Column("VF", "index", rank=2),
    Column("STATE", "state"),
    Column("DRIVER", "driver", rank=3),
    Column("IFNAME", "ifname", rank=4),
    Column("OWNER", "owner", shrink=True, shorten=cut_owner, least=24),
    Column("MAC", "mac", rank=7),
    Column("VLAN", "vlan", rank=8),
    Column("TRUST", "trust", wide=True, rank=9),
    Column("SPOOFCHK", "spoofchk", wide=True, rank=10),
    Column("NUMA", "numaNode", wide=True, rank=11),
    Column("GROUP", "iommuGroup", wide=True, rank=12),
    Column("SINCE", "since", wide=True, rank=13),
    Column("REASON", "reason", wide=True, rank=6, shrink=True),
)
# As narrow as ``vf list`` can be, and which VFs have just changed.
LIVE_COLUMNS = (Column(" ", "mark"), *(c for c in VF_COLUMNS if not c.wide))
STATE_COLUMNS = (
    Column("ID", "id", shrink=True),
    Column("FORMAT", "format"),
    Column("ADDRESS", "address"),
    Column("CONTAINER", "containerId", rank=3, shrink=True),
    Column("IFNAME", "ifname", rank=2),
    Column("MODE", "mode", rank=5),
    Column("PF", "pf", rank=6),
    Column("NETNS", "netnsInode", wide=True, rank=7),
    Column("WRITTEN", "mtime", wide=True, rank=8),
    Column("PROBLEM", "problem", rank=1, shrink=True),
)
FINDING_COLUMNS = (
    Column("SEVERITY", "severity"),
    Column("ID", "id"),
    Column("SUBJECT", "subject", shrink=True),
    Column("FINDING", "finding", shrink=True),
    Column("REPAIR", "repair", rank=1, shrink=True),
    Column("EVIDENCE", "evidence", wide=True, rank=2, shrink=True),
)
OUTCOME_COLUMNS = (
    Column("RESULT", "result"),
    Column("ID", "id"),
    Column("SUBJECT", "subject", shrink=True),
    Column("REPAIR", "repair", shrink=True),
    Column("PROBLEMS", "problems", shrink=True),
)
CHANGE_COLUMNS = (
    Column("PF", "pf"),
    Column("VF", "index"),
    Column("ADDRESS", "address", rank=3),
    Column("ATTRIBUTE", "attribute"),
    Column("NOW", "now", shrink=True),
    Column("THEN", "then", shrink=True),
    Column("HITS", "hits", rank=1, shrink=True),
    Column("WHY", "why", rank=2, shrink=True),
)
