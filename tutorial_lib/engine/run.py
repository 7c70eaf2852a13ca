"""A network, its losses and its optimisers, ready to take steps on whatever hardware there is."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tutorial_lib.engine import hardware
from tutorial_lib.engine.optimisers import Together, optimisers


class Run:
    """What stays the same from step to step of a training run.

    network: trained in place.
    losses: by the name of the part of the network that each moves, "" for the whole; each maps
    (network, *what was drawn) to the loss of each item, (B,).
    batch: items a step, over all processes.  accumulation: pieces it is cut into, to save memory.
    clip: largest norm of the gradient.  precision, device: as for `hardware.accelerator`.
    rates: what `optimisers.optimisers` wants to know besides the network and the dtype.
    Raises ValueError when the batch cannot be shared, or several losses meet several processes.
    """

    def __init__(
        self,
        network: nn.Module,
        losses: dict[str, Callable[..., Tensor]],
        *,
        batch: int,
        accumulation: int,
        clip: float,
        precision: str,
        device: str | None,
        **rates: Any,
    ) -> None:
        self.accelerator = hardware.accelerator(precision, accumulation=accumulation, device=device)
        self._check_shares(batch, accumulation, len(losses))
        network.to(memory_format=torch.channels_last).train()
        self.network, self.losses = network, losses
        self.accumulation, self.clip = accumulation, clip
        ema_model = copy.deepcopy(network).requires_grad_(False).eval()
        self.ema_model = ema_model.to(self.accelerator.device)
        self.parts = {name: network.get_submodule(name) for name in losses}
        bf16 = self.accelerator.mixed_precision == "bf16"
        dtype = torch.bfloat16 if bf16 else torch.float32
        self.optimizers = {
            name: optimisers(part, dtype=dtype, **rates) for name, part in self.parts.items()
        }
        together = [Together(*one.values()) for one in self.optimizers.values()]
        self.prepared, *movers = self.accelerator.prepare(network, *together)
        self.movers = dict(zip(losses, movers, strict=True))

    def _check_shares(self, batch: int, accumulation: int, losses: int) -> None:
        processes = self.accelerator.num_processes
        if batch % (processes * accumulation):
            raise ValueError(
                f"batch {batch} cannot be shared by {processes} processes "
                f"x {accumulation} accumulated pieces; choose a multiple"
            )
        if losses > 1 and processes > 1:
            raise ValueError(
                f"a network with {losses} losses trains in one process, and these are {processes}; "
                "start one"
            )

    def step(self, drawn: Sequence[Tensor], share: float) -> Tensor:
        """One step of each part's optimiser.  Returns the mean loss of each, (parts,).

        drawn: the whole batch, on the CPU; this process takes its share.
        share: of the rates at the top of the schedule.
        """
        first, stride = self.accelerator.process_index, self.accelerator.num_processes
        own = [tensor[first::stride] for tensor in drawn]
        return torch.stack([self._move(part, own, share) for part in self.parts])

    def _move(self, part: str, drawn: Sequence[Tensor], share: float) -> Tensor:
        """One step of one optimiser, piece by piece of the batch.  Returns the mean loss."""
        accelerator, mover = self.accelerator, self.movers[part]
        for group in mover.param_groups:
            group["lr"] = group["initial_lr"] * share
        self.network.zero_grad()  # of what another part's loss has left
        total = torch.zeros((), device=accelerator.device)
        for piece in torch.arange(len(drawn[0])).chunk(self.accumulation):
            with accelerator.accumulate(self.prepared):
                here = [tensor[piece].to(accelerator.device) for tensor in drawn]
                loss = self.losses[part](self.prepared, *here).mean()
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(self.parts[part].parameters(), self.clip)
                mover.step()
                mover.zero_grad()
                total += loss.detach() / self.accumulation
        return accelerator.reduce(total, reduction="mean")

    def agreed(self, seconds: float) -> float:
        """The mean over all processes, so that all decide alike."""
        tensor = torch.tensor(seconds, device=self.accelerator.device)
        return float(self.accelerator.reduce(tensor, reduction="mean"))

    def kinds(self) -> list[tuple[str, torch.optim.Optimizer]]:
        """All optimisers, each with its kind: what `optimisers.states` takes."""
        return [pair for one in self.optimizers.values() for pair in one.items()]

    def close(self) -> None:
        """Take back what mixed precision has wrapped around the network's forward."""
        self.accelerator.unwrap_model(self.prepared, keep_fp32_wrapper=False)
