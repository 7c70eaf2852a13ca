"""Named tensors and their configuration, in one safetensors file.

The configuration travels as JSON in the file's own header.  Reading parses numbers and JSON and
never executes anything; writing goes to a temporary file that replaces the old one only when it is
complete.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from tutorial_lib import files
from tutorial_lib.files import ASSETS

HEADER = "tutorial_lib"


def save(path: Path | str, tensors: dict[str, Tensor], configuration: dict[str, Any]) -> None:
    """Write the file; an earlier one at the same place survives any failure.  configuration:
    anything JSON holds.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    files.write(path, serialize(plain, metadata={HEADER: json.dumps(configuration)}))


def load(name: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file back: its tensors by name, and its configuration.

    name: one of `shipped()`, a file, or a folder that `train` wrote.
    Raises FileNotFoundError, or ValueError for a file that is not ours, damaged, or a pickle.
    """
    path = find(name)
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is {_what_it_is(path)}; give a .safetensors file written by this package"
        ) from error
    if header is None:
        raise ValueError(
            f"{path} holds tensors but no {HEADER} configuration; it was not written by this package"
        )
    return tensors, json.loads(header)


def find(name: Path | str) -> Path:
    """The file behind a shipped name, a file or a training folder.  Raises FileNotFoundError,
    naming what ships.
    """
    path = shipped().get(str(name), Path(name))
    if path.is_dir():
        path = path / "checkpoint.safetensors"
    if not path.is_file():
        raise FileNotFoundError(
            f"no weights at {path}; give a file, a folder that `train` wrote, or one of: {', '.join(shipped())}"
        )
    return path


def shipped() -> dict[str, Path]:
    """What comes with the package: trained weights, and what was measured with them.  Name -> file."""
    return {path.stem: path for path in sorted(ASSETS.glob("*.safetensors"))}


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those tensors whose name begins with `prefix.`, without it, as float32: a state dict."""
    chosen = {
        name.removeprefix(prefix + "."): t.float()
        for name, t in tensors.items()
        if name.startswith(prefix + ".")
    }
    if not chosen:
        parts = sorted({name.split(".")[0] for name in tensors})
        raise ValueError(
            f"no tensors named {prefix}.* in these weights; they hold {', '.join(parts) or 'nothing'}"
        )
    return chosen


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `part`: put `prefix.` in front of every name."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _what_it_is(path: Path) -> str:
    head = path.read_bytes()[:2]
    if head in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05"):
        return "a pickle, and unpickling can execute code, so it is refused"
    return "truncated, damaged or of another format"
