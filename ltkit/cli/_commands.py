"""How groups of commands list their commands and report a wrong command line."""

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from ltkit.errors import InputError

UsageError: Any = typer.BadParameter.__base__
"""typer's error for a wrong command line; typer does not export it by name."""


class Commands(TyperGroup):
    """A group that lists commands by section and reports a wrong command line in one line."""

    def get_params(self, context: Any) -> list[Any]:
        """Return the options, of which --help leaves out what few need."""
        params: list[Any] = super().get_params(context)
        for param in params:
            if param.name == "show_completion":
                param.hidden = True
        return params

    def make_context(self, *words: Any, **named: Any) -> Any:
        """Parse the options before the command."""
        return _in_one_line(super().make_context, *words, **named)

    def invoke(self, context: Any) -> Any:
        """Parse the command's options and run it."""
        return _in_one_line(super().invoke, context)

    def format_commands(self, context: Any, formatter: Any) -> None:
        """List the commands by section, in the order in which they were added."""
        steps: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            step = getattr(command, "rich_help_panel", None) or "Commands"
            steps.setdefault(step, []).append((name, command.short_help or ""))
        width = max(len(name) for name in self.commands)
        for step, rows in steps.items():
            with formatter.section(step):
                formatter.write_dl([(name.ljust(width), text) for name, text in rows])


def _in_one_line(run: Callable[..., Any], *words: Any, **named: Any) -> Any:
    try:
        return run(*words, **named)
    except UsageError as error:
        said = error.format_message().replace("Value error, ", "").rstrip(".")
        if said.startswith("Usage: "):
            raise  # nothing was asked for: it prints the help
        where = error.ctx.command_path if error.ctx else "ltkit"
        raise InputError(f"{said}; see {where} --help") from None
