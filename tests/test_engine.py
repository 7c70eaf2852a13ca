"""The engine: order of data, time, rates, optimisers, hardware, stopping, and a run of them all."""

import copy
import math
import os
import signal
import subprocess
import sys

import accelerate
import pytest
import torch
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from tutorial_lib import train
from tutorial_lib.config import TrainConfig
from tutorial_lib.engine import hardware, order, stopping
from tutorial_lib.engine.budget import steps_that_fit
from tutorial_lib.engine.optimisers import Together, optimisers, restore_states, states
from tutorial_lib.engine.rates import learning_rate, update_ema
from tutorial_lib.engine.run import Run
from tutorial_lib.nets import blocks
from tutorial_lib.nets.unet import UNet, UNetConfig

# --- order


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**63 - 1))
def test_every_epoch_has_each_item_once(count, batch, seed):
    steps = -(-5 * count // batch)  # five epochs at least
    seen = torch.cat([order.indices_of(count, k, batch, seed) for k in range(1, steps + 1)])
    assert seen.dtype == torch.int64 and seen.shape == (steps * batch,)
    for epoch in seen[: 5 * count].view(5, count):
        assert torch.equal(epoch.sort().values, torch.arange(count))


@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 50), st.integers(0, 2**63 - 1))
def test_how_a_sequence_is_cut_into_batches_does_not_change_it(count, a, b, seed):
    """Steps of a or of b items walk along the same sequence."""
    one = torch.cat([order.indices_of(count, k, a, seed) for k in range(1, b + 1)])
    other = torch.cat([order.indices_of(count, k, b, seed) for k in range(1, a + 1)])
    assert torch.equal(one, other)


def test_a_step_does_not_depend_on_what_was_asked_before():
    expected = [order.indices_of(10, step, 4, 0) for step in range(1, 31)]
    for step in (30, 1, 17, 17, 3):
        order.epoch_order.cache_clear()
        order.indices_of(7, step, 3, 5)  # of another run
        torch.rand(step)  # nor on global randomness
        assert torch.equal(order.indices_of(10, step, 4, 0), expected[step - 1])


def test_what_a_caller_does_to_its_indices_stays_with_it():
    kept = order.indices_of(10, 1, 10, 0).clone()
    order.indices_of(10, 1, 10, 0).zero_()
    assert torch.equal(order.indices_of(10, 1, 10, 0), kept)


def test_epochs_and_seeds_are_ordered_differently():
    epochs = {
        tuple(order.indices_of(10, k, 10, seed).tolist()) for k in (1, 2, 3) for seed in (0, 1)
    }
    assert len(epochs) == 6


def test_items_have_no_favourite_place():
    """Over 2,000 epochs each of 8 items stands at each of 8 places about 250 times."""
    places = torch.stack([order.indices_of(8, k, 8, 0) for k in range(1, 2001)])  # (epochs, 8)
    counts = nn.functional.one_hot(places, 8).sum(0).double()  # (places, items)
    # each row and each column has a fixed sum, which leaves 7 x 7 degrees of freedom
    chi_square = float(((counts - 250) ** 2 / 250).sum()) * 7 / 8
    assert chi_square < 85.4  # the 99.9th percentile


@pytest.mark.parametrize("seed", [0, 1, 2**40, 2**63 - 1])
def test_randomness_of_a_step_is_its_own(seed):
    def drawn(seed, k):
        return tuple(torch.rand(4, generator=order.generator_of(seed, k)).tolist())

    assert drawn(seed, 5) == drawn(seed, 5)
    assert len({drawn(seed, k) for k in range(-20, 21)}) == 41
    assert drawn(seed, 1) != drawn(seed + 1, 1)


# --- time and rates


@pytest.mark.parametrize(
    ("minutes", "step", "done", "seconds", "expected"),
    [
        (1.0, 20, 20, 10.0, 120),  # half a second a step
        (1.0, 120, 20, 10.0, 220),  # resumed at 100
        (0.01, 20, 20, 10.0, 20),  # too late already
        (1.0, 80, 80, 60.0, 80),  # just in time
        (2.0, 40, 40, 60.0, 80),  # half of the time is gone
        (1.0, 20, 20, 0.001, 1_200_000),
    ],
)
def test_minutes_are_turned_into_a_number_of_steps(minutes, step, done, seconds, expected):
    assert steps_that_fit(minutes, step=step, done=done, seconds=seconds) == expected


def test_learning_rate_rises_in_a_line_and_falls_along_a_cosine():
    run = {"steps": 110, "warmup": 10, "lr": 0.4, "lr_end": 0.1}
    rate = [learning_rate(step, **run) for step in range(1, 111)]
    assert_close(rate[:10], [0.04 * step for step in range(1, 11)])
    assert_close(rate[59], 0.25)  # halfway down
    assert_close(rate[-1], 0.1)
    falling = torch.tensor(rate[9:])
    assert (falling.diff() < 0).all()
    # a cosine is odd about its middle
    assert_close(falling + falling.flip(0), torch.full_like(falling, 0.5))


def test_a_warm_up_longer_than_the_run():
    run = {"steps": 4, "warmup": 10, "lr": 1.0, "lr_end": 0.0}
    assert_close([learning_rate(step, **run) for step in range(1, 5)], [0.1, 0.2, 0.3, 0.4])


def test_average_follows_a_naive_loop():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = copy.deepcopy(model).requires_grad_(False)
    expected = [p.detach().clone() for p in model.parameters()]
    for step in range(1, 40):
        for p in model.parameters():
            nn.init.normal_(p)
        model[1].running_mean.fill_(step)
        update_ema(average, model, step, 0.75)
        decay = min(0.75, (1 + step) / (10 + step))
        pairs = zip(expected, model.parameters(), strict=True)
        expected = [decay * e + (1 - decay) * p.detach() for e, p in pairs]
        for got, want in zip(average.parameters(), expected, strict=True):
            assert_close(got, want)
        assert_close(average[1].running_mean, model[1].running_mean)
    assert decay == 0.75 and (1 + 2) / (10 + 2) < 0.75  # both branches were taken


# --- optimisers


class Mixed(nn.Module):
    """Layers to train and frozen ones, convolutions and lines, with names that begin the same."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.conv_frozen = nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 1).requires_grad_(False)
        self.line, self.line_frozen = nn.Linear(2, 3), nn.Linear(3, 1).requires_grad_(False)
        self.line2 = nn.Linear(2, 3)

    def forward(self, x):
        x = self.conv_frozen(self.conv(x)).mean((2, 3))
        return self.line_frozen(self.line(x) * self.line2(x))


RATES = {"lr": 0.01, "lr_muon": 0.02, "momentum": 0.8, "dtype": torch.float32}


def mixed(seed: int = 0) -> Mixed:
    torch.manual_seed(seed)
    return Mixed().to(memory_format=torch.channels_last)


def steps(network: nn.Module, optimizers, first: int, last: int) -> None:
    """Some steps towards zero output, each on inputs of its own."""
    for k in range(first, last + 1):
        x = torch.randn(5, 2, 6, 6, generator=torch.Generator().manual_seed(k))
        network.zero_grad()
        network(x).square().mean().backward()
        for optimizer in optimizers.values():
            optimizer.step()


def names_of(network: nn.Module, optimizer: torch.optim.Optimizer) -> set[str]:
    names = {parameter: name for name, parameter in network.named_parameters()}
    return {names[p] for group in optimizer.param_groups for p in group["params"]}


@pytest.mark.parametrize("muon", [True, False])
def test_muon_takes_convolutions_adam_all_others_and_nobody_what_is_frozen(muon):
    network = mixed()
    made = optimisers(network, muon=muon, **RATES)
    lines = {"line.weight", "line.bias", "line2.weight", "line2.bias", "conv.bias"}
    if muon:
        assert list(made) == ["adam", "muon"]
        assert names_of(network, made["muon"]) == {"conv.weight"}
        assert names_of(network, made["adam"]) == lines
        assert made["muon"].param_groups[0]["initial_lr"] == RATES["lr_muon"]
        assert made["muon"].param_groups[0]["momentum"] == RATES["momentum"]
    else:
        assert list(made) == ["adam"]
        assert names_of(network, made["adam"]) == lines | {"conv.weight"}
    assert made["adam"].param_groups[0]["initial_lr"] == RATES["lr"]
    assert made["adam"].param_groups[0]["betas"] == (0.9, 0.99)


def test_muon_takes_no_other_weights_of_four_dimensions():
    """Nor those of grouped and transposed convolutions, which make no one matrix."""
    network = nn.ModuleDict(
        {
            "plain": nn.Conv2d(4, 4, 3),
            "standardized": blocks.StandardizedConv2d(4, 4, 3),
            "grouped": nn.Conv2d(4, 4, 3, groups=2),
            "depthwise": nn.Conv2d(4, 4, 3, groups=4),
            "transposed": nn.ConvTranspose2d(4, 4, 3),
            "line": nn.Conv1d(4, 4, 3),
            "volume": nn.Conv3d(4, 4, 3),
        }
    )
    network.places = nn.Parameter(torch.zeros(1, 4, 8, 8))
    made = optimisers(network, muon=True, **RATES)
    assert names_of(network, made["muon"]) == {"plain.weight", "standardized.weight"}
    assert "places" in names_of(network, made["adam"])


def test_of_the_unet_muon_takes_all_weights_of_four_dimensions():
    """As the shipped weights were trained."""
    network = UNet(UNetConfig())
    made = optimisers(network, muon=True, **RATES)
    four = {name for name, p in network.named_parameters() if p.ndim == 4}
    assert names_of(network, made["muon"]) == four


def test_an_optimiser_with_nothing_to_move_is_not_made():
    conv = nn.Conv2d(1, 1, 3, bias=False)
    assert list(optimisers(conv, muon=True, **RATES)) == ["muon"]
    assert list(optimisers(nn.Linear(2, 2), muon=True, **RATES)) == ["adam"]
    assert optimisers(conv.requires_grad_(False), muon=True, **RATES) == {}


def test_frozen_weights_stay_as_they_are():
    network, before = mixed(), mixed().state_dict()
    steps(network, optimisers(network, muon=True, **RATES), 1, 3)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]) == ("frozen" in name), name


@pytest.mark.parametrize("muon", [True, False])
def test_states_make_the_round_trip(muon):
    """Three steps, states taken out, put into fresh optimisers of a copy, three more: as six."""
    whole = mixed()
    of_whole = optimisers(whole, muon=muon, **RATES)
    steps(whole, of_whole, 1, 6)

    first = mixed()
    of_first = optimisers(first, muon=muon, **RATES)
    steps(first, of_first, 1, 3)
    taken = {name: x.clone() for name, x in states(first, of_first.items()).items()}
    expected = {f"adam.line2.bias.{key}" for key in ("step", "exp_avg", "exp_avg_sq")}
    assert expected <= taken.keys() and not any("frozen" in name for name in taken)
    assert ("muon.conv.weight.momentum" in taken) == muon

    second = mixed(seed=1)
    second.load_state_dict(first.state_dict())
    of_second = optimisers(second, muon=muon, **RATES)
    others = {"model.line.weight": torch.ones(3, 2), "adam.gone.weight.step": torch.ones(())}
    restore_states(second, of_second.items(), taken | others)
    again = states(second, of_second.items())
    assert again.keys() == taken.keys()
    for name, tensor in again.items():
        assert torch.equal(tensor, taken[name]) and tensor.dtype == taken[name].dtype, name
    steps(second, of_second, 4, 6)
    for name, tensor in second.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name


def test_restored_states_lie_in_memory_as_their_weights_do():
    network = mixed()
    made = optimisers(network, muon=True, **RATES)
    steps(network, made, 1, 1)
    taken = {name: x.clone().contiguous() for name, x in states(network, made.items()).items()}
    restore_states(network, made.items(), taken)
    for optimizer in made.values():
        for weight, state in optimizer.state.items():
            for key, tensor in state.items():
                assert tensor.ndim == 0 or tensor.stride() == weight.stride(), key
    assert not network.conv.weight.is_contiguous()  # so that it made a difference


def test_restored_states_are_copies():
    """What is read from a file may lie in it, and Windows would not replace the file then."""
    network = mixed()
    made = optimisers(network, muon=True, **RATES)
    steps(network, made, 1, 1)
    taken = {name: x.clone() for name, x in states(network, made.items()).items()}
    restore_states(network, made.items(), taken)
    kept = states(network, made.items())
    assert kept.keys() == taken.keys()
    assert all(kept[name].data_ptr() != tensor.data_ptr() for name, tensor in taken.items())


def test_states_before_the_first_step_are_none():
    network = mixed()
    made = optimisers(network, muon=True, **RATES)
    assert states(network, made.items()) == {}
    restore_states(network, made.items(), {})
    steps(network, made, 1, 1)  # and a restored nothing does not disturb the first
    other = mixed()
    steps(other, optimisers(other, muon=True, **RATES), 1, 1)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_several_optimisers_as_one_step_at_the_rates_of_its_groups():
    network, apart = mixed(), mixed()
    together = Together(*optimisers(network, muon=True, **RATES).values())
    alone = optimisers(apart, muon=True, **RATES)
    assert [group["initial_lr"] for group in together.param_groups] == [0.01, 0.02]
    together.load_state_dict(together.state_dict())  # as accelerate does: groups are copies then
    for share in (1.0, 0.3):
        for group in [*together.param_groups, *(o.param_groups[0] for o in alone.values())]:
            group["lr"] = share * group["initial_lr"]
        steps(network, {"both": together}, 1, 2)
        steps(apart, alone, 1, 2)
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, apart.state_dict()[name]), name


# --- hardware


@pytest.fixture
def machine(monkeypatch):
    """A function that makes this machine look like another one."""

    def become(cuda: bool = False, mps: bool = False, bf16: bool = False, cpu_bf16: bool = False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bf16)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: cpu_bf16)

    return become


def test_the_best_device_is_taken_or_the_one_that_was_asked_for(machine):
    machine()
    assert hardware.get_device() == hardware.get_device("cpu") == "cpu"
    machine(mps=True)
    assert hardware.get_device() == "mps" and hardware.get_device("cpu") == "cpu"
    machine(cuda=True, mps=True)
    assert hardware.get_device() == "cuda" and hardware.get_device("mps") == "mps"


@pytest.mark.parametrize("name", ["tpu", "cuda", "mps", "CPU", ""])
def test_a_device_that_is_not_here(machine, name):
    machine()
    with pytest.raises(ValueError, match=f"unknown device '{name}'; this machine has cpu"):
        hardware.get_device(name)
    machine(cuda=True)
    if name != "cuda":
        with pytest.raises(ValueError, match="this machine has cuda, cpu"):
            hardware.get_device(name)


def test_what_auto_means_on_each_machine(machine):
    """On the best device there is, and on the CPU beside it."""

    def auto() -> tuple[str, str]:
        best = hardware.best_precision(hardware.get_device())
        return best, hardware.best_precision("cpu")

    machine()
    assert auto() == ("no", "no")
    machine(cpu_bf16=True)
    assert auto() == ("bf16", "bf16")
    machine(cuda=True, bf16=True)
    assert auto() == ("bf16", "no")
    machine(cuda=True)
    assert auto() == ("fp16", "no")
    machine(mps=True, cpu_bf16=True)
    assert auto() == ("no", "bf16")


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_notebook_may_train_more_than_once(precision):
    """The second handle is not bound to what the first was told."""
    for accumulation, wanted in ((1, "no"), (3, precision)):
        made = hardware.accelerator(wanted, accumulation=accumulation, device="cpu")
        assert made.mixed_precision == wanted and made.device.type == "cpu"
        assert made.gradient_accumulation_steps == accumulation


# --- stopping

NUMBERS = (signal.SIGINT, signal.SIGTERM)


def handlers() -> list:
    return [signal.getsignal(number) for number in NUMBERS]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_signals_are_noted_and_the_handlers_come_back(error, number):
    """However the block is left."""
    before = handlers()
    try:
        with stopping.on_signals() as stopped:
            assert stopped == [] and not stopping.agreed(stopped)
            assert not set(handlers()) & set(before)
            os.kill(os.getpid(), number)
            if error:
                raise error
    except (ValueError, KeyboardInterrupt):
        assert error
    assert stopped == [number] and stopping.agreed(stopped) == number
    assert handlers() == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
def test_a_block_inside_another_gives_the_handlers_back_to_it():
    with stopping.on_signals() as outer:
        with stopping.on_signals() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert (inner, outer) == ([signal.SIGTERM], [signal.SIGINT])


def test_a_single_process_has_no_others_to_leave():
    stopping.leave_processes()
    assert stopping.end(3) == 3


ENDING = """
import atexit, sys, threading, time
from tutorial_lib.engine import stopping
atexit.register(print, "finished")
threading.Thread(target=time.sleep, args=(60,)).start()  # Python's own end would wait for it
print("done", end=" ")
stopping.end(3)
"""


def test_one_of_several_ends_at_once_with_all_that_it_has_said():
    alone = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    several = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ENDING],
        env=alone | several,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "done finished\n", "")


# --- a run


class Pair(nn.Module):
    """Two parts, each a number to be learnt; called, it adds them up."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = (nn.Linear(1, 1, bias=False) for _ in range(2))
        for part in (self.one, self.other):
            nn.init.ones_(part.weight)

    def forward(self, x):
        return self.one(x) + self.other(x)


def one_loss(network, x):
    return network.one(x)[:, 0]


def other_loss(network, x):
    return -network.other(x)[:, 0]


def make_run(network: nn.Module, losses, **changed) -> Run:
    config = TrainConfig(batch=4, warmup=0, precision="no", optimizer="adam")
    return Run(network, losses, **config.machinery() | {"device": "cpu"} | changed)


def processes(monkeypatch, count: int, index: int = 0) -> None:
    """Let this process look like one of several."""
    monkeypatch.setattr(accelerate.Accelerator, "num_processes", count)
    monkeypatch.setattr(accelerate.Accelerator, "process_index", index)


def test_several_losses_do_not_meet_several_processes(monkeypatch):
    two = {"one": one_loss, "other": other_loss}
    processes(monkeypatch, 2)
    with pytest.raises(ValueError, match=r"2 losses trains in one process, and these are 2"):
        make_run(Pair(), two)
    make_run(Pair(), {"one": one_loss})  # a single one may
    processes(monkeypatch, 1)
    make_run(Pair(), two)


@pytest.mark.parametrize(("batch", "accumulation"), [(3, 1), (6, 2), (2, 2)])
def test_a_batch_that_processes_cannot_share(monkeypatch, batch, accumulation):
    processes(monkeypatch, 2)
    wrong = rf"batch {batch} cannot be shared by 2 processes x {accumulation} accumulated pieces"
    with pytest.raises(ValueError, match=wrong):
        make_run(Pair(), {"": one_loss}, batch=batch, accumulation=accumulation)


def test_processes_share_a_batch_without_overlap(monkeypatch):
    seen = []

    def loss(network, x, y):
        assert torch.equal(x[:, 0], y)
        seen.append(y.tolist())
        return network(x)[:, 0]

    y = torch.arange(8.0)
    for index in (0, 1):
        processes(monkeypatch, 2, index)
        make_run(Pair(), {"": loss}, batch=8, accumulation=2).step([y[:, None], y], 1, 10)
    assert [len(piece) for piece in seen] == [2] * 4
    assert sorted(item for piece in seen for item in piece) == y.tolist()


def test_each_loss_moves_its_own_part_and_its_mean_is_reported():
    """The first uphill, the second downhill, each at the rate of the step."""
    network = Pair()
    run = make_run(network, {"one": one_loss, "other": other_loss}, lr=0.1, warmup=4)
    losses = run.step([torch.tensor([[1.0], [2.0], [3.0], [6.0]])], 1, 10)
    assert_close(losses, torch.tensor([3.0, -3.0]))
    assert_close(run.lr, 0.025)  # a quarter of the warm-up
    # Adam's first step is as long as the rate
    assert_close(network.one.weight.item(), 1 - 0.025)
    assert_close(network.other.weight.item(), 1 + 0.025)


def test_the_average_follows_every_step():
    run = make_run(Pair(), {"": one_loss}, ema=0.3)
    average = 1.0
    for step in range(1, 6):
        run.step([torch.ones(4, 1)], step, 10)
        decay = min(0.3, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * run.network.one.weight.item()
        assert_close(run.ema_model.one.weight.item(), average)
    assert not run.ema_model.training and not run.ema_model.one.weight.requires_grad


def test_what_another_loss_leaves_behind_is_not_stepped_on():
    """The second loss has a gradient for the first part, too, which must not be used there."""

    def both(network, x):
        return -100 * network(x)[:, 0]  # the other way

    alone, together = Pair(), Pair()
    x = [torch.ones(4, 1)]
    for network, losses in (
        (alone, {"one": one_loss}),
        (together, {"other": both, "one": one_loss}),
    ):
        run = make_run(network, losses, lr=0.1, clip=0.5)
        for step in (1, 2, 3):
            run.step(x, step, 10)
    assert torch.equal(alone.one.weight, together.one.weight)


@pytest.mark.parametrize("losses", [{"": one_loss, "other": other_loss}, {"one": 0, "tied": 1}])
def test_two_losses_for_the_same_weights_are_refused(losses):
    network = Pair()
    network.tied = nn.Sequential(network.one)
    with pytest.raises(ValueError, match="two losses would move the same weights"):
        make_run(network, losses)


def test_weights_that_stand_still_may_be_in_two_parts():
    network = Pair()
    network.frozen = nn.Linear(1, 1).requires_grad_(False)
    network.one, network.other = (
        nn.Sequential(x, network.frozen) for x in (network.one, network.other)
    )
    make_run(network, {"one": one_loss, "other": other_loss})


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="no part 'critic' to move; it has one, other"):
        make_run(Pair(), {"one": one_loss, "critic": other_loss})


def test_a_part_may_lie_deeper():
    network = nn.Sequential(Pair(), nn.Linear(1, 1))
    run = make_run(network, {"0.one": lambda network, x: network[0].one(x)[:, 0]})
    run.step([torch.ones(4, 1)], 1, 10)
    assert network[0].one.weight.item() < 1 == network[0].other.weight.item()


def test_mixed_precision_is_taken_off_again():
    network = Pair()
    x = torch.full((4, 1), 1 + 2**-12)  # which bfloat16 cannot say
    run = make_run(network, {"": lambda network, x: network(x)[:, 0]}, precision="bf16")
    assert run.prepared(x).dtype == torch.float32 and not torch.equal(run.prepared(x), 2 * x)
    run.close()
    assert torch.equal(network(x), 2 * x)


def saved_and_restored(network: nn.Module, other: nn.Module, loss, x, path) -> tuple[Run, Run]:
    """Three steps of one network, saved; read into a run of another."""
    run = make_run(network, {"": loss})
    for step in (1, 2, 3):
        run.step([x], step, 10)
    run.save(path, {"step": 3})
    again = make_run(other, {"": loss})
    again.restore(path, lambda then: None)
    assert again.done == 3
    return run, again


def same_numbers(a: nn.Module, b: nn.Module) -> None:
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y) and x.dtype == y.dtype, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_run_is_restored_to_the_last_digit_in_every_type(dtype, tmp_path):
    """Buffers of whole numbers, too."""

    class Counted(Pair):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.tensor(2**40 + 1))

    def loss(network, x):
        return (network(x)[:, 0] - math.pi).square()

    x = torch.linspace(0.1, 1, 4, dtype=dtype)[:, None]
    pair = [Counted().to(dtype) for _ in range(2)]
    run, again = saved_and_restored(*pair, loss, x, tmp_path / "a.safetensors")
    same_numbers(run.network, again.network)
    same_numbers(run.ema_model, again.ema_model)
    for one in (run, again):
        one.step([x], 4, 10)
    same_numbers(run.network, again.network)


def test_tied_weights_are_saved_and_stay_tied(tmp_path):
    """As in a language model, whose last layer reads the table of its first."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.last = nn.Embedding(5, 8), nn.Linear(8, 5, bias=False)
            self.last.weight = self.table.weight

        def forward(self, x):
            return self.last(self.table(x))

    def loss(network, x):
        return nn.functional.cross_entropy(network(x), x, reduction="none")

    x = torch.tensor([0, 1, 2, 4])
    run, again = saved_and_restored(Tied(), Tied(), loss, x, tmp_path / "a.safetensors")
    for one in (run, again):
        one.step([x], 4, 10)
        assert one.network.last.weight is one.network.table.weight
    same_numbers(run.network, again.network)
    same_numbers(run.ema_model, again.ema_model)


def test_frozen_parts_are_saved_and_left_alone(tmp_path):
    def loss(network, x):
        return network(x)[:, 0]

    x = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    run, again = saved_and_restored(mixed(), mixed(1), loss, x, tmp_path / "a.safetensors")
    same_numbers(run.network, again.network)
    for name, tensor in run.network.state_dict().items():
        assert torch.equal(tensor, mixed().state_dict()[name]) == ("frozen" in name), name
        if "frozen" in name:
            assert torch.equal(run.ema_model.state_dict()[name], tensor), name


def test_a_step_that_draws_too_little_is_refused():
    torch.manual_seed(0)
    config = TrainConfig(steps=2, batch=8, precision="no", report_every=1)

    def loss(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return network(x).square().mean(1)

    reports = train.train(nn.Linear(2, 2), lambda step: (torch.ones(6, 2),), loss, config)
    with pytest.raises(ValueError, match="must draw 8 items, as batch says, but drew 6"):
        next(reports)


def test_training_on_a_device_that_is_not_here_is_refused():
    config = TrainConfig(steps=1, batch=8)
    reports = train.train(nn.Linear(2, 2), lambda step: (), lambda *_: None, config, device="tpu")
    with pytest.raises(ValueError, match=r"unknown device 'tpu'; this machine has .*cpu"):
        next(reports)


def test_weights_are_laid_out_as_by_pytorch_itself():
    """Strides of 1 x 1 filters included: they decide the order of what a convolution returns."""
    ours, torchs = UNet(UNetConfig()), UNet(UNetConfig())
    hardware.lay_out(ours)
    torchs.to(memory_format=torch.channels_last)
    for p, q in zip(ours.parameters(), torchs.parameters(), strict=True):
        assert p.stride() == q.stride()
