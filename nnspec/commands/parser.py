"""The parser of a command's arguments: options and files in any order, and the nearest option to a misspelt one."""

from __future__ import annotations

import re
from argparse import Action, ArgumentParser
from typing import NoReturn

_WORD = re.compile(r"--?[A-Za-z][\w-]*")


class Parser(ArgumentParser):
    """As argparse has it; of an option that it does not know it says which one is nearest."""

    def __init__(self, **given: object) -> None:
        self.options: list[str] = []
        super().__init__(**given)  # type: ignore[arg-type]

    def _add_action(self, action: Action) -> Action:
        self.options += action.option_strings
        return super()._add_action(action)

    def error(self, message: str) -> NoReturn:
        from nnspec.dsl.suggest import nearest

        if message.startswith("unrecognized arguments"):
            found = (nearest(word, self.options) for word in _WORD.findall(message))
            hint = next((f"; did you mean `{option}`?" for option in found if option), "")
            message += hint
        super().error(message)
