"""The parser of a command's arguments: options and files in any order, and the nearest option to a misspelt one."""

from __future__ import annotations

import re
from argparse import Action, ArgumentParser
from typing import Any, NoReturn

from nnspec.exits import UsageError

_WORD = re.compile(r"--?[A-Za-z][\w-]*")


class Parser(ArgumentParser):
    """As argparse has it; of an option that it does not know it says which one is nearest."""

    def __init__(self, **given: Any) -> None:
        self.options: list[str] = []
        super().__init__(**given)

    def _add_action(self, action: Action) -> Action:
        self.options += action.option_strings
        return super()._add_action(action)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with what argparse says is wrong."""
        from nnspec.dsl.errors.command_line import WrongArguments
        from nnspec.dsl.suggest import nearest

        help_text = f"`{self.prog} --help` lists what it takes"
        if message.startswith("unrecognized arguments"):
            found = (nearest(word, self.options) for word in _WORD.findall(message))
            help_text = next((f"did you mean `{option}`?" for option in found if option), help_text)
        raise UsageError(WrongArguments(None, why=message, help=help_text))
