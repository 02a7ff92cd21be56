"""How ``--help`` looks: arguments by their names, without types beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.core import TyperArgument, TyperCommand

if TYPE_CHECKING:
    import typer


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
