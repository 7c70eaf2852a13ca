"""The command line: `python -m tutorial_lib COMMAND --help` explains each command.

A command is a function of the options; another one adds to the parser the options it needs.
"""

import argparse
import sys
from collections.abc import Sequence

from tutorial_lib import __version__
from tutorial_lib.cli import evaluating, listing, sampling, training

COMMANDS = {
    "data": (listing.data, None),
    "weights": (listing.weights, None),
    "train": (training.run, training.add),
    "sample": (sampling.run, sampling.add),
    "evaluate": (evaluating.run, evaluating.add),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0, or 2 after one clear sentence about bad input."""
    options = _parser().parse_args(arguments)
    try:
        if not 0 <= options.seed < 2**63:
            raise ValueError(f"seed must lie in 0..2**63 - 1, got {options.seed}")
        options.run(options)
    except (ValueError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tutorial_lib", description="Diffusion models, from the command line."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (run, add) in COMMANDS.items():
        what = run.__doc__.splitlines()[0].rstrip(".")
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
        command.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")
        command.set_defaults(run=run)
        if add:
            add(command)
    return parser
