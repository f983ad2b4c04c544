"""The parser of every verb: a misspelt flag is an error that names the nearest, never a guess."""

import argparse
from difflib import get_close_matches
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations: `--max-num-seq` is not taken for `--max-num-seqs`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Print usage and message, with the nearest flag for each that is unknown; exit with 2."""
        unknown = message.partition("unrecognized arguments: ")[2].split()
        for word in unknown:
            flag = word.partition("=")[0]
            near = get_close_matches(flag, self._option_string_actions, n=1)
            if flag.startswith("--") and near:
                message += f"\nhint: did you mean {near[0]}?"
        super().error(message)
