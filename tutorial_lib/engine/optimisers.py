"""Adam for most weights and Muon for convolutions, several optimisers as one, and their states."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from tutorial_lib.checkpoint import plain
from tutorial_lib.engine.muon import Muon


def optimisers(
    network: nn.Module,
    *,
    muon: bool,
    lr: float,
    lr_muon: float,
    momentum: float,
    dtype: torch.dtype,
) -> dict[str, torch.optim.Optimizer]:
    """One optimiser or two for the weights of a network that are to be trained.

    muon: whether the weights of two-dimensional convolutions go to Muon; all others go to Adam.
    So do those of grouped convolutions, whose filters see different channels and make no one
    matrix, and of transposed ones.
    lr, lr_muon: the rates at the top of their schedule, kept as "initial_lr".
    dtype: of Muon's products.
    Returns {"adam": ..., "muon": ...}, less what has nothing to move.
    """
    trained = [p for p in network.parameters() if p.requires_grad]
    matrices = {
        part.weight
        for part in network.modules()
        if muon and isinstance(part, nn.Conv2d) and part.groups == 1
    }
    convolutions = [p for p in trained if p in matrices]
    others = [p for p in trained if p not in matrices]
    made: dict[str, torch.optim.Optimizer] = {}
    if others:
        group = {"params": others, "initial_lr": lr}
        made["adam"] = torch.optim.Adam([group], betas=(0.9, 0.99), fused=True)
    if convolutions:
        group = {"params": convolutions, "initial_lr": lr_muon}
        made["muon"] = Muon([group], lr_muon, momentum, dtype)
    return made


class Together(torch.optim.Optimizer):
    """Several optimisers as one: 16-bit gradients are scaled back, and checked, once for all."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = parts

    def step(self, closure: None = None) -> None:  # type: ignore[override]  # takes no closure
        """Step with each, at the rates that this one's groups say."""
        groups = iter(self.param_groups)  # copies by now: accelerate has loaded the state anew
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = next(groups)["lr"]
            part.step()


def states(
    network: nn.Module, optimizers: Iterable[tuple[str, torch.optim.Optimizer]]
) -> dict[str, Tensor]:
    """What (kind, optimiser) pairs remember of each weight: tensors called kind.weight.key."""
    names: dict[Tensor, str] = {
        parameter: plain(name) for name, parameter in network.named_parameters()
    }
    return {
        f"{kind}.{names[parameter]}.{key}": torch.as_tensor(value)
        for kind, optimizer in optimizers
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def restore_states(
    network: nn.Module,
    optimizers: Iterable[tuple[str, torch.optim.Optimizer]],
    tensors: dict[str, Tensor],
) -> None:
    """Give optimisers back what `states` has noted; tensors of other names are passed over."""
    names = {parameter: plain(name) for name, parameter in network.named_parameters()}
    for kind, optimizer in optimizers:
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            prefix = f"{kind}.{names[parameter]}."
            found = {
                name.removeprefix(prefix): tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }
            optimizer.state[parameter] = {
                key: _like(parameter, value) for key, value in found.items()
            }


def _like(parameter: nn.Parameter, value: Tensor) -> Tensor:
    """A copy of a state where its parameter is, in its layout unless it only counts steps.

    Windows replaces no file of which a tensor is still a part, as those are that were read from it.
    """
    if value.ndim == 0:
        return value.to(parameter.device, copy=True)
    return torch.empty_like(parameter).copy_(value)
