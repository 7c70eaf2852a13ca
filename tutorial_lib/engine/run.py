"""A network, its losses and its optimisers, ready to take steps, to be saved and restored."""

import copy
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutorial_lib import checkpoint
from tutorial_lib.engine import hardware, stopping, wrapping
from tutorial_lib.engine.optimisers import Together, optimisers, restore_states, states
from tutorial_lib.engine.rates import learning_rate, update_ema


class Run:
    """What stays the same from step to step of a training run.

    network: trained in place; compiled or not, in `nn.DataParallel` or not.
    losses: by the name of the part of the network that each moves; "" is the whole network, and a
    part inside a part has a dotted name.  Each maps (network, *what was drawn) to the loss of each
    item, (B,).
    batch: items a step, over all processes.
    accumulation: pieces a batch is cut into, to save memory.
    clip: largest norm of the gradient.
    precision, device: as for `hardware.accelerator`.
    ema, warmup, lr, lr_end: as in `rates`.
    rates: what `optimisers.optimisers` wants to know besides these.
    Raises ValueError when the batch cannot be shared, when several losses meet several processes,
    or when they are not of parts that the network has, each with weights of its own to train.
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
        self.network, self.losses = wrapping.unwrapped(network)[-1], losses
        _check_parts(self.network, losses)
        hardware.lay_out(self.network)
        network.train()
        self.batch, self.accumulation = batch, accumulation
        self.clip, self.ema = clip, ema
        self.rising: dict[str, Any] = {"warmup": warmup, "lr": lr, "lr_end": lr_end}
        self.lr = 0.0  # at the latest step
        self.done = 0  # the number of the latest whole step
        self.halfway = False  # whether a step has begun to move weights, and has not ended
        self.before: dict[str, Tensor] = {}  # what a step that fails must not leave in a file
        ema_model = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.ema_model = ema_model.to(self.accelerator.device)
        self.parts = {name: self.network.get_submodule(name) for name in losses}
        self._prepare(network, lr=lr, **rates)

    def _prepare(self, network: nn.Module, **rates: Any) -> None:
        """Make an optimiser for each part, and hand all to the hardware."""
        bf16 = self.accelerator.mixed_precision == "bf16"
        dtype = torch.bfloat16 if bf16 else torch.float32
        self.optimizers = {
            name: optimisers(part, dtype=dtype, **rates) for name, part in self.parts.items()
        }
        together = [Together(*one.values()) for one in self.optimizers.values()]
        self.attributes = wrapping.attributes(network)
        self.prepared, *movers = self.accelerator.prepare(network, *together)
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
        self.before = self._what_may_change()
        losses = []
        for part, mover in self.movers.items():
            losses.append(self._differentiate(part, own))
            with stopping.held_back():  # weights move as a whole, or not at all
                self.halfway = True
                mover.step()
                mover.zero_grad()
                if len(losses) == len(self.parts):
                    update_ema(self.ema_model, self.network, step, self.ema)
                    self.done, self.halfway, self.before = step, False, {}
        return torch.stack(losses)

    def _differentiate(self, part: str, drawn: Sequence[Tensor]) -> Tensor:
        """The gradient of one loss, piece by piece of the batch.  Returns the mean loss."""
        accelerator = self.accelerator
        for group in self.movers[part].param_groups:
            group["lr"] = group["initial_lr"] * self.lr / self.rising["lr"]
        self.network.zero_grad()  # of what another part's loss has left
        total = torch.zeros((), device=accelerator.device)
        for piece in torch.arange(len(drawn[0])).chunk(self.accumulation):
            with accelerator.accumulate(self.prepared):
                here = [tensor[piece].contiguous().to(accelerator.device) for tensor in drawn]
                loss = self.losses[part](self.prepared, *here).mean()
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(self.parts[part].parameters(), self.clip)
                total += loss.detach() / self.accumulation
        return accelerator.reduce(total, reduction="mean")

    def _what_may_change(self) -> dict[str, Tensor]:
        """Copies of what a step changes before its last loss is known.

        Buffers change as a network is called.  Of several parts, the first have moved when the last
        loss fails: so everything is copied.
        """
        if len(self.parts) > 1:
            return {name: tensor.clone() for name, tensor in self._tensors().items()}
        buffers = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        kept = self.network.state_dict().keys() & buffers.keys()  # the others are never saved
        return checkpoint.prefixed("model", {name: buffers[name] for name in kept})

    def agreed(self, seconds: float) -> float:
        """The mean over all processes, so that all decide the same."""
        tensor = torch.tensor(seconds, device=self.accelerator.device)
        return float(self.accelerator.reduce(tensor, reduction="mean"))

    @property
    def whole(self) -> bool:
        """Whether the state of the latest whole step is at hand."""
        return not self.halfway or len(self.parts) > 1

    def save(self, path: Path, configuration: dict[str, Any]) -> None:
        """Write the state of the latest whole step.

        Tensors are called model.*, ema.*, adam.* or muon.*, and in fp16 scaler.*.
        Raises FloatingPointError, and leaves an earlier file, when a weight is no longer a number.
        """
        tensors = self._tensors() | self.before
        weights = [tensors[name] for name in tensors if name.startswith(("model.", "ema."))]
        if not all(tensor.isfinite().all() for tensor in weights):
            raise FloatingPointError("the weights stopped being numbers")
        checkpoint.save(path, tensors, configuration)

    def _tensors(self) -> dict[str, Tensor]:
        scaler = self.accelerator.scaler
        scale = {} if scaler is None else scaler.state_dict()
        return {
            **checkpoint.prefixed("model", self.network.state_dict()),
            **checkpoint.prefixed("ema", self.ema_model.state_dict()),
            **states(self.network, self._kinds()),
            **{f"scaler.{key}": torch.tensor(value) for key, value in scale.items()},
        }

    def restore(self, path: Path, check: Callable[[dict[str, Any]], None]) -> None:
        """Take back the state that `save` has written, bit for bit.

        check: raises when the file's configuration is not one to go on from.
        Raises ValueError where the file's weights are of another network.
        """
        tensors, then = checkpoint.load(path)
        check(then)
        for network, name in ((self.network, "model"), (self.ema_model, "ema")):
            own = {checkpoint.plain(key): key for key in network.state_dict()}
            part = checkpoint.part(tensors, name)
            try:
                network.load_state_dict({own.get(key, key): part[key] for key in part})
            except RuntimeError as error:
                reason = str(error).splitlines()[1].strip()
                raise ValueError(f"{path} holds weights of another network: {reason}") from error
        restore_states(self.network, self._kinds(), tensors)
        if self.accelerator.scaler is not None and "scaler.scale" in tensors:
            scale = checkpoint.part(tensors, "scaler")
            self.accelerator.scaler.load_state_dict({key: scale[key].item() for key in scale})
        self.done = then["step"]

    def _kinds(self) -> list[tuple[str, torch.optim.Optimizer]]:
        """All optimisers, each with its kind."""
        return [pair for one in self.optimizers.values() for pair in one.items()]

    def close(self) -> None:
        """Take back what accelerate has put around the network."""
        wrapping.put_back(self.attributes)


def _check_parts(network: nn.Module, names: Iterable[str]) -> None:
    known = dict(network.named_modules(remove_duplicate=False))
    owner: dict[nn.Parameter, str] = {}
    for name in names:
        if name not in known:
            children = ", ".join(child for child, _ in network.named_children())
            raise ValueError(f"the network has no part {name!r} to move; it has {children}")
        if not any(weight.requires_grad for weight in known[name].parameters()):
            raise ValueError(
                f"nothing is left to train in {name or 'the network'}: each of its weights is "
                "frozen (`restore` returns them so); network.requires_grad_(True) frees them"
            )
        for weight in known[name].parameters():
            if weight.requires_grad and owner.setdefault(weight, name) != name:
                raise ValueError(
                    f"two losses would move the same weights: those of {owner[weight]!r} "
                    f"and those of {name!r}; give each a part of its own"
                )
