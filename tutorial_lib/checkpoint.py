"""Named tensors and their configuration, in one safetensors file.

The configuration is kept as JSON in the file's header.  Reading parses numbers and JSON, and never
executes anything; writing goes to a temporary file that replaces the old one only when it is whole.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from tutorial_lib import files, hub
from tutorial_lib.files import ASSETS

FILE = "checkpoint.safetensors"  # what training writes into its folder
HEADER = "tutorial_lib"  # where in a file's header our configuration is


def save(path: Path | str, tensors: dict[str, Tensor], configuration: dict[str, Any]) -> None:
    """Write the file; an earlier one at the same place survives any failure.

    tensors: may share memory, as tied weights do; each is written.  Those of a compiled network
    get the names that they have without compilation.
    configuration: anything that JSON can hold.
    """
    copies = {
        plain(name): tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()
    }
    header = {HEADER: json.dumps(configuration)}
    files.write(path, serialize(copies, metadata=header))


def load(name: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file back: its tensors by name, and its configuration.

    name: one of `shipped()`, a file, or a folder that `train` wrote.
    Raises FileNotFoundError, or ValueError for a file that is not ours, damaged, or a pickle.
    """
    path = find(name)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            keys = file.keys()
            tensors = {plain(key): file.get_tensor(key) for key in keys}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is {_what_it_is(path)}; give a .safetensors file written by this package"
        ) from error
    if HEADER not in metadata:
        raise ValueError(
            f"{path} holds tensors but no {HEADER} configuration; "
            "it was not written by this package"
        )
    return tensors, _parsed(metadata[HEADER], path)


def _parsed(header: str, path: Path) -> dict[str, Any]:
    try:
        configuration = json.loads(header)
    except json.JSONDecodeError:
        configuration = None
    if not isinstance(configuration, dict):
        raise ValueError(
            f"{path} holds a {HEADER} configuration that cannot be read; "
            "it was changed after it was written"
        )
    return configuration


def find(name: Path | str) -> Path:
    """The file that is meant by a shipped name, a file's own path, or a folder that `train` wrote.

    Or by `hub:USER/NAME`, which is fetched from Hugging Face's hub, or found in its cache.
    Raises FileNotFoundError, which lists the networks that ship.
    """
    path = shipped().get(str(name)) or hub.resolve(name)
    if path.is_dir():
        path = path / FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"no weights at {path}; "
            f"give a file, a folder that `train` wrote, or one of: {', '.join(networks())}"
        )
    return path


def shipped() -> dict[str, Path]:
    """What comes with the package, name -> file: trained weights, and measurements made of them."""
    paths = sorted(ASSETS.glob("*.safetensors"))
    return {path.stem: path for path in paths}


def networks() -> list[str]:
    """The shipped names under which a network's weights are; the others are records."""
    return [name for name, path in shipped().items() if _parts(path) & {"model", "ema"}]


def _parts(path: Path) -> set[str]:
    """The first words of a file's tensors, read from its header alone."""
    with safe_open(path, framework="pt") as file:
        return {name.split(".")[0] for name in list(file.keys())}


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The state dict of one part: the tensors named `prefix.` ..., without the prefix.

    What was stored in 16 bits comes as float32, all else as it is.
    Raises ValueError when there are none, naming the parts that there are.
    """
    chosen = {}
    for name, tensor in tensors.items():
        if name.startswith(f"{prefix}."):
            short = tensor.dtype in (torch.float16, torch.bfloat16)
            chosen[name.removeprefix(f"{prefix}.")] = tensor.float() if short else tensor
    if not chosen:
        parts = sorted({name.split(".")[0] for name in tensors})
        held = ", ".join(parts) or "nothing"
        raise ValueError(f"no tensors named {prefix}.* in these weights; they hold {held}")
    return chosen


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `part`: put `prefix.` in front of every name."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def plain(name: str) -> str:
    """The name of a tensor without what `torch.compile` puts into it."""
    return name.replace("_orig_mod.", "")


def _what_it_is(path: Path) -> str:
    head = path.read_bytes()[:2]
    if head in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05"):
        return "a pickle, and unpickling can execute code, so it is refused"
    return "truncated, damaged or of another format"
