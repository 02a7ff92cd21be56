"""How ``--help`` looks: arguments by their names, without types beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.core import TyperArgument, TyperCommand, TyperGroup

if TYPE_CHECKING:
    import typer

STATES = """States, and what to do:

\b
  free       nobody has it
  allocated  a pod has it; OWNER says which
  leaked     its pod is gone: hwmgr repair
  dirty      nobody has it, but a setting or driver is left over: hwmgr doctor
  foreign    somebody without a record has it: hwmgr doctor says who
  broken     no driver has it, or its record is wrong: hwmgr doctor
"""


class GroupsFirst(TyperGroup):
    """A group of commands with ``pf`` and ``vf`` first in its help; use it as ``cls``."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Return the names in that order, each kind as it was added."""
        return sorted(super().list_commands(ctx), key=lambda name: name not in ("pf", "vf"))


class PlainCommand(TyperCommand):
    """A command with arguments; use it as ``cls``."""

    def get_help(self, ctx: typer.Context) -> str:  # type: ignore[override]
        """Return the help, ``{ADDR}`` in the usage line and ``ADDR <str>`` below it as ``ADDR``."""
        text: str = super().get_help(ctx)
        for argument in self.params:
            if isinstance(argument, TyperArgument) and argument.metavar:
                name = argument.metavar
                text = text.replace(f"{{{name}}}", name)
                for kind in ("<str>", "<list[str]>"):
                    text = text.replace(f"{name} {kind}", name)
        return text
