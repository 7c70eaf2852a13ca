"""The command line: `python -m tutorial_lib COMMAND --help` explains each command.

A command is a function of the options; another one adds to the parser the options it needs.
"""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from tutorial_lib import __version__
from tutorial_lib.cli import evaluating, export, info, listing, sampling, training
from tutorial_lib.cli.streams import Steady, steady

COMMANDS = {
    "data": (listing.data, listing.add),
    "weights": (listing.weights, listing.add),
    "info": (info.run, info.add),
    "train": (training.run, training.add),
    "sample": (sampling.run, sampling.add),
    "evaluate": (evaluating.run, evaluating.add),
    "export": (export.run, export.add),
}
COMPUTING = ("train", "sample", "evaluate")  # with chance, on a device
BAD_INPUT, INTERRUPTED, READER_GONE = 2, 130, 141  # exit codes; the last two are the shell's


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code.

    0 or what the command returns; 2 after one clear sentence about what cannot be done; 130 after
    Ctrl-C; 141 when whoever read the output has gone, as in `... | head -1`.
    """
    with steady(sys.stdout, sys.stderr) as (output, _):
        options = _parser().parse_args(arguments)
        code = _run(options)
    return code or _said(output)


def _run(options: argparse.Namespace) -> int:
    """Run the command; what cannot be done becomes one sentence, a bug stays a traceback."""
    try:
        _expand_home(options)
        if not 0 <= getattr(options, "seed", 0) < 2**63:
            raise ValueError(f"seed must lie in 0..2**63 - 1, got {options.seed}")
        return options.run(options) or 0
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
    except (MemoryError, RuntimeError) as error:
        if not _is_lack_of_memory(error):
            raise
        print(
            "error: this needs more memory than there is; ask for less at once "
            f"(a smaller --batch, --count or --size): {_first_line(error)}",
            file=sys.stderr,
        )
    return BAD_INPUT


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether Python, PyTorch's allocator on the CPU, or an accelerator's has run out."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "DefaultCPUAllocator" in str(error)


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def _expand_home(options: argparse.Namespace) -> None:
    """`~` is the home folder in every path, however the shell has passed it on."""
    for name, value in vars(options).items():
        if isinstance(value, str | Path) and str(value).startswith("~"):
            setattr(options, name, type(value)(os.path.expanduser(value)))


def _said(output: Steady) -> int:
    """The exit code of a command that has done its work: whether its words have arrived."""
    if output.failure is None:
        return 0
    if output.failure.errno == errno.EPIPE:
        return READER_GONE
    reason = output.failure.strerror
    Steady(sys.stderr).write(f"error: could not write to the standard output: {reason}\n")
    return BAD_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_program(), description="Diffusion models, from the command line."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (run, add) in COMMANDS.items():
        what = (run.__doc__ or "").partition("\n")[0].rstrip(".")
        command = commands.add_parser(name, help=what, description=what)
        if name in COMPUTING:
            command.add_argument(
                "--seed", type=int, default=0, help="of everything random (default 0)"
            )
            command.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")
        command.set_defaults(run=run)
        add(command)
    return parser


def _program() -> str:
    """How the program was started, for its help: by its own name or through Python."""
    script = Path(sys.argv[0]).stem.startswith("tutorial-lib")
    return "tutorial-lib" if script else "python -m tutorial_lib"
