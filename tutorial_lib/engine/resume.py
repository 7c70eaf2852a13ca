"""A run's weights, their average and its optimisers' states, in a checkpoint and back."""

from pathlib import Path
from typing import Any

from tutorial_lib import checkpoint
from tutorial_lib.engine.optimisers import restore_states, states
from tutorial_lib.engine.run import Run


def save_run(run: Run, path: Path, configuration: dict[str, Any]) -> None:
    """Write the whole state of a run: tensors called model.*, ema.*, and adam.* or muon.*.

    Raises FloatingPointError, and leaves an earlier file, when a weight has stopped being a number.
    """
    weights = {
        **checkpoint.prefixed("model", run.network.state_dict()),
        **checkpoint.prefixed("ema", run.ema_model.state_dict()),
    }
    if not all(tensor.isfinite().all() for tensor in weights.values()):
        raise FloatingPointError("the weights stopped being numbers")
    checkpoint.save(path, weights | states(run.network, run.kinds()), configuration)


def restore_run(run: Run, path: Path) -> None:
    """Give a run the state that `save_run` has written, bit for bit."""
    tensors, _ = checkpoint.load(path)
    run.network.load_state_dict(checkpoint.part(tensors, "model"))
    run.ema_model.load_state_dict(checkpoint.part(tensors, "ema"))
    restore_states(run.network, run.kinds(), tensors)
