"""A network, its losses and its optimisers, ready to take steps, to be saved and restored."""

import copy
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutorial_lib import checkpoint
from tutorial_lib.engine import hardware
from tutorial_lib.engine.optimisers import Together, optimisers, restore_states, states
from tutorial_lib.engine.rates import learning_rate, update_ema


class Run:
    """What stays the same from step to step of a training run.

    network: trained in place.
    losses: by the name of the part of the network that each moves, "" for the whole; each maps
    (network, *what was drawn) to the loss of each item, (B,).
    batch: items a step, over all processes.  accumulation: pieces it is cut into, to save memory.
    clip: largest norm of the gradient.  precision, device: as for `hardware.accelerator`.
    ema, warmup, lr, lr_end: as in `rates`.
    rates: what `optimisers.optimisers` wants to know besides these.
    Raises ValueError when the batch cannot be shared, when several losses meet several processes,
    or when they are not of parts that the network has, each with weights of its own.
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
        ema: float,
        warmup: int,
        lr: float,
        lr_end: float,
        **rates: Any,
    ) -> None:
        self.accelerator = hardware.accelerator(precision, accumulation=accumulation, device=device)
        self._check_shares(batch, accumulation, len(losses))
        _check_parts(network, losses)
        network.to(memory_format=torch.channels_last).train()
        self.network, self.losses = network, losses
        self.batch, self.accumulation = batch, accumulation
        self.clip, self.ema = clip, ema
        self.rising = {"warmup": warmup, "lr": lr, "lr_end": lr_end}
        self.lr = 0.0  # at the latest step
        ema_model = copy.deepcopy(network).requires_grad_(False).eval()
        self.ema_model = ema_model.to(self.accelerator.device)
        self.parts = {name: network.get_submodule(name) for name in losses}
        self._prepare(lr=lr, **rates)

    def _prepare(self, **rates: Any) -> None:
        """Make an optimiser for each part, and hand all to the hardware."""
        bf16 = self.accelerator.mixed_precision == "bf16"
        dtype = torch.bfloat16 if bf16 else torch.float32
        self.optimizers = {
            name: optimisers(part, dtype=dtype, **rates) for name, part in self.parts.items()
        }
        together = [Together(*one.values()) for one in self.optimizers.values()]
        self.prepared, *movers = self.accelerator.prepare(self.network, *together)
        self.movers = dict(zip(self.parts, movers, strict=True))

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

    def step(self, drawn: Sequence[Tensor], step: int, steps: int) -> Tensor:
        """Step number `step` of `steps`: each part's optimiser, then the averaged weights.

        drawn: the whole batch, on the CPU; this process takes its share.
        Returns the mean loss of each part, (parts,).
        """
        self.lr = learning_rate(step, steps=steps, **self.rising)
        lengths = {len(tensor) for tensor in drawn}
        if lengths != {self.batch}:
            got = " and ".join(map(str, sorted(lengths)))
            raise ValueError(f"a step must draw {self.batch} items, as batch says, but drew {got}")
        first, stride = self.accelerator.process_index, self.accelerator.num_processes
        own = [tensor[first::stride] for tensor in drawn]
        losses = torch.stack([self._move(part, own) for part in self.parts])
        update_ema(self.ema_model, self.network, step, self.ema)
        return losses

    def _move(self, part: str, drawn: Sequence[Tensor]) -> Tensor:
        """One step of one optimiser, piece by piece of the batch.  Returns the mean loss."""
        accelerator, mover = self.accelerator, self.movers[part]
        for group in mover.param_groups:
            group["lr"] = group["initial_lr"] * self.lr / self.rising["lr"]
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

    def save(self, path: Path, configuration: dict[str, Any]) -> None:
        """Write the whole state: tensors called model.*, ema.*, and adam.* or muon.*.

        Raises FloatingPointError, and leaves an earlier file, when a weight is no longer a number.
        """
        weights = {
            **checkpoint.prefixed("model", self.network.state_dict()),
            **checkpoint.prefixed("ema", self.ema_model.state_dict()),
        }
        if not all(tensor.isfinite().all() for tensor in weights.values()):
            raise FloatingPointError("the weights stopped being numbers")
        checkpoint.save(path, weights | states(self.network, self._kinds()), configuration)

    def restore(
        self, path: Path, now: dict[str, Any], *, earlier: dict[str, Any], free: Sequence[str]
    ) -> int:
        """Take back the state that `save` has written, bit for bit; the step that it had reached.

        now: the present configuration; its "model" and its "train" must be those of the file.
        earlier: what "train" meant before it had a field.  free: fields that may differ.
        Raises ValueError, naming the field and both values, where they are not the same.
        """
        tensors, then = checkpoint.load(path)
        settings = earlier | then.get("train", {})
        for name in (name for name in now["train"] if name not in free):
            if settings.get(name) != now["train"][name]:
                raise ValueError(
                    f"{path} was trained with {name} = {settings.get(name)}, "
                    f"not {now['train'][name]}; resume with the same"
                )
        model = json.loads(json.dumps(now.get("model")))  # a tuple returns as a list
        if then.get("model") != model:
            raise ValueError(
                f"{path} holds weights of another network: {then.get('model')}, not {model}"
            )
        self.network.load_state_dict(checkpoint.part(tensors, "model"))
        self.ema_model.load_state_dict(checkpoint.part(tensors, "ema"))
        restore_states(self.network, self._kinds(), tensors)
        return then["step"]

    def _kinds(self) -> list[tuple[str, torch.optim.Optimizer]]:
        """All optimisers, each with its kind."""
        return [pair for one in self.optimizers.values() for pair in one.items()]

    def close(self) -> None:
        """Take back what mixed precision has wrapped around the network's forward."""
        self.accelerator.unwrap_model(self.prepared, keep_fp32_wrapper=False)


def _check_parts(network: nn.Module, names: Iterable[str]) -> None:
    known = dict(network.named_modules(remove_duplicate=False))
    owner: dict[nn.Parameter, str] = {}
    for name in names:
        if name not in known:
            children = ", ".join(child for child, _ in network.named_children())
            raise ValueError(f"the network has no part {name!r} to move; it has {children}")
        for weight in known[name].parameters():
            if weight.requires_grad and owner.setdefault(weight, name) != name:
                raise ValueError(
                    f"two losses would move the same weights: those of {owner[weight]!r} "
                    f"and those of {name!r}; give each a part of its own"
                )
