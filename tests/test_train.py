"""Training: what a step draws, Algorithm 1, averaging, resuming, several processes."""

import copy
import json
import math
import os
import socket
import subprocess
import sys
import textwrap
import time
from dataclasses import asdict, replace

import pytest
import torch
from conftest import ROOT
from torch import nn
from torch.testing import assert_close

from tutorial_lib import checkpoint, train
from tutorial_lib.data import Images, to_model
from tutorial_lib.diffusion import q_posterior
from tutorial_lib.engine.muon import orthogonalize
from tutorial_lib.nets.unet import UNet, UNetConfig
from tutorial_lib.schedule import cosine, linear
from tutorial_lib.train import Progress, TrainConfig

SMALL = TrainConfig(
    steps=12,
    batch=4,
    warmup=3,
    T=50,
    precision="no",
    report_every=1,
    save_every=100,
    lr=1e-3,
    target="v",
)


def network(config: UNetConfig) -> UNet:
    torch.manual_seed(3)
    return UNet(config)


def run(
    tiny: UNetConfig, images: Images, config: TrainConfig, model: nn.Module | None = None, **options
):
    """Train to the end; the network, the last report, and every loss."""
    model = model or network(tiny)
    about, losses, last = {"model": asdict(tiny)}, [], None
    for last in train.train(model, images, config, about=about, device="cpu", **options):
        losses += last.losses
    return model, last, losses


def same_parameters(a: nn.Module, b: nn.Module, **tolerance) -> None:
    for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
        assert_close(p, q, **(tolerance or {"rtol": 0, "atol": 0}))


def test_a_step_draws_the_same_whatever_was_drawn_before(tiny_images):
    expected = [train.draw(tiny_images, step, SMALL) for step in range(1, 10)]
    for step in (7, 2, 9, 1):
        torch.rand(step)  # global state plays no part
        for got, want in zip(train.draw(tiny_images, step, SMALL), expected[step - 1], strict=True):
            assert torch.equal(got, want)
    other = train.draw(tiny_images, 1, replace(SMALL, seed=1))
    assert not any(torch.equal(a, b) for a, b in zip(other, expected[0], strict=True))


@pytest.mark.parametrize("batch", [1, 3, 4, 10, 23])
def test_every_epoch_shows_each_image_once_in_a_new_order(tiny_images, batch):
    config = replace(SMALL, batch=batch)
    name = {to_model(p).numpy().tobytes(): i for i, p in enumerate(tiny_images.pixels)}
    seen = [
        name[x.numpy().tobytes()]
        for step in range(1, 31)
        for x in train.draw(tiny_images, step, config)[0]
    ]
    epochs = [seen[i : i + 10] for i in range(0, len(seen) - 9, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


@pytest.mark.equation("Esser")
@pytest.mark.parametrize("t_sampling", train.T_SAMPLING)
def test_steps_follow_their_law_and_noise_is_normal(tiny_images, t_sampling):
    config = replace(SMALL, batch=1000, T=10, t_sampling=t_sampling)
    draws = [train.draw(tiny_images, step, config) for step in range(1, 11)]
    counts = torch.cat([t for _, t, _ in draws]).bincount(minlength=11)
    assert counts[0] == 0 and len(counts) == 11
    way = torch.linspace(0, 1, 11, dtype=torch.float64)
    below = way if t_sampling == "uniform" else torch.special.ndtr(way.logit() / 1.2)  # P(t <= k)
    expected = 10_000 * below.diff()
    chi_square = float(((counts[1:] - expected) ** 2 / expected).sum())
    assert chi_square < 27.9  # the 99.9th percentile of chi-square with 9 degrees of freedom
    eps = torch.cat([eps for _, _, eps in draws]).double()
    assert_close(float(eps.mean()), 0.0, rtol=0, atol=4 / math.sqrt(eps.numel()))
    assert_close(float(eps.var()), 1.0, rtol=4 * math.sqrt(2 / eps.numel()), atol=0)


def test_flip_mirrors_about_half_of_the_images(tiny_images):
    config = replace(SMALL, batch=1000)
    straight, mirrored = (
        train.draw(tiny_images, 1, config)[0],
        train.draw(tiny_images, 1, replace(config, flip=True))[0],
    )
    flipped = (mirrored == straight.flip(-1)).flatten(1).all(1)
    assert ((mirrored == straight).flatten(1).all(1) ^ flipped).all()
    assert_close(float(flipped.double().mean()), 0.5, rtol=0, atol=4 * 0.5 / math.sqrt(1000))


@pytest.mark.equation("Algorithm 1")
@pytest.mark.equation("14")
@pytest.mark.parametrize("target", ["eps", "x_0", "v", "mu"])
def test_training_step_is_algorithm_1(tiny, tiny_images, schedule, target):
    model = network(tiny)
    nn.init.normal_(model.out.weight, std=0.1)
    config = replace(SMALL, T=100, target=target)
    x_0, t, eps = train.draw(tiny_images, 1, config)
    expected = []
    for i in range(len(x_0)):
        ab = float(schedule.alpha_bar[t[i]])
        x_t = math.sqrt(ab) * x_0[i] + math.sqrt(1 - ab) * eps[i]
        v = math.sqrt(ab) * eps[i] - math.sqrt(1 - ab) * x_0[i]
        mu = q_posterior(schedule, x_0[i : i + 1], x_t[None], t[i : i + 1])[0][0]
        wanted = {"eps": eps[i], "x_0": x_0[i], "v": v, "mu": mu}[target]
        expected.append(((model(x_t[None], t[i : i + 1])[0] - wanted) ** 2).mean())
    assert_close(train.training_step(model, schedule, x_0, t, eps, config), torch.stack(expected))


def test_one_optimiser_step_against_adam_written_out(tiny, tiny_images):
    """After one step Adam has moved every parameter by lr * g / (|g| + 1e-8), g being the clipped
    gradient.
    """
    config = replace(
        SMALL, steps=1, warmup=0, clip=0.05, lr_end=1e-3, optimizer="adam"
    )  # a constant lr
    reference = network(tiny)
    x_0, t, eps = train.draw(tiny_images, 1, config)
    train.training_step(reference, cosine(50), x_0, t, eps, config).mean().backward()
    gradients = [p.grad for p in reference.parameters()]
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    assert norm > config.clip
    trained, last, losses = run(tiny, tiny_images, config)
    for before, g, after in zip(
        reference.parameters(), gradients, trained.parameters(), strict=True
    ):
        g = g * config.clip / norm
        assert_close(after, before.detach() - 1e-3 * g / (g.abs() + 1e-8), rtol=1e-3, atol=2e-6)
    assert last.step == 1 and len(losses) == 1


def test_with_muon_convolutions_move_along_the_orthogonalised_gradient(tiny, tiny_images):
    """After one step from rest the momentum is a multiple of the gradient; everything else is
    Adam's.
    """
    config = replace(SMALL, steps=1, warmup=0, lr_end=1e-3, lr_muon=0.05)
    reference = network(tiny)
    x_0, t, eps = train.draw(tiny_images, 1, config)
    train.training_step(reference, cosine(50), x_0, t, eps, config).mean().backward()
    trained, _, _ = run(tiny, tiny_images, config)
    kinds = set()
    for before, after in zip(reference.parameters(), trained.parameters(), strict=True):
        g, moved = before.grad, after.detach() - before.detach()
        kinds.add(before.ndim)
        if before.ndim == 4:
            wanted = (
                -0.05 * orthogonalize(g.flatten(1)[None])[0] * max(1, len(g) / g[0].numel()) ** 0.5
            )
            assert_close(moved.flatten(1), wanted, rtol=1e-2, atol=1e-4)
        else:
            wanted = -1e-3 * g / (g.abs() + 1e-8)
            where = (
                g.abs() > 1e-6
            )  # clipping scales all gradients, and 1e-8 is felt by the smallest
            assert_close(moved[where], wanted[where], rtol=2e-2, atol=2e-6)
    assert kinds == {1, 2, 4}


def test_the_rate_of_the_schedule_reaches_both_optimisers(tiny, tiny_images):
    """A first step at a quarter of the rate moves every weight a quarter as far."""
    moved = {}
    for warmup in (0, 4):
        config = replace(SMALL, steps=1, warmup=warmup, lr_end=SMALL.lr)
        trained, _, _ = run(tiny, tiny_images, config)
        pairs = zip(network(tiny).parameters(), trained.parameters(), strict=True)
        moved[warmup] = [after.detach() - before.detach() for before, after in pairs]
    for whole, quarter in zip(moved[0], moved[4], strict=True):
        assert_close(quarter, whole / 4, rtol=1e-2, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_run_resumed_on_a_gpu_has_all_its_state_there(tiny, tiny_images, tmp_path):
    config = replace(SMALL, steps=4)
    for report in train.train(network(tiny), tiny_images, config, tmp_path, device="cuda"):
        if report.step == 2:
            break
    losses = [
        r.loss
        for r in train.train(
            network(tiny), tiny_images, config, tmp_path, resume=True, device="cuda"
        )
    ]
    assert len(losses) == 2


def test_momentum_is_muons(tiny, tiny_images):
    """Without momentum the first step is the same, and the second goes elsewhere."""
    ways = []
    for momentum in (0.9, 0.0):
        config = replace(SMALL, steps=2, warmup=0, lr_end=1e-3, momentum=momentum)
        model, weights = network(tiny), []
        for _ in train.train(model, tiny_images, config, device="cpu"):
            weights.append(model.out.weight.detach().clone())
        ways.append(weights)
    (first, second), (again, elsewhere) = ways
    assert_close(first, again, rtol=1e-3, atol=1e-5)
    assert float((second - elsewhere).abs().max()) > 1e-3


@pytest.mark.parametrize("optimizer", train.OPTIMIZERS)
def test_networks_without_and_with_convolutions_train_alike(optimizer, tiny_images):
    """A network of linear layers has nothing for Muon, one of convolutions alone nothing for Adam."""

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 64)

        def forward(self, x, t):
            return self.layer(x.flatten(1)).view_as(x)

    class Convolution(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(1, 1, 3, padding=1, bias=False)

        def forward(self, x, t):
            return self.layer(x)

    for kind in (Linear, Convolution):
        torch.manual_seed(0)
        model = kind()
        start = copy.deepcopy(model)
        for _ in train.train(model, tiny_images, replace(SMALL, optimizer=optimizer), device="cpu"):
            pass
        assert not torch.equal(model.layer.weight, start.layer.weight)


def test_overfits_one_batch(tiny, tiny_images):
    one = Images(tiny_images.pixels[:1], tiny_images.labels[:1], "one image")
    config = replace(SMALL, steps=250, batch=16, lr=1e-2, target="x_0", T=20)
    _, _, losses = run(tiny, one, config)
    start, end = sum(losses[:5]) / 5, sum(losses[-20:]) / 20
    assert end < 0.1 * start, (start, end)


def test_average_follows_a_naive_loop():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = copy.deepcopy(model).requires_grad_(False)
    expected = [p.detach().clone() for p in model.parameters()]
    for step in range(1, 40):
        for p in model.parameters():
            nn.init.normal_(p)
        model[1].running_mean.fill_(step)
        train.update_ema(average, model, step, 0.75)
        decay = min(0.75, (1 + step) / (10 + step))
        expected = [
            decay * e + (1 - decay) * p.detach()
            for e, p in zip(expected, model.parameters(), strict=True)
        ]
        for got, want in zip(average.parameters(), expected, strict=True):
            assert_close(got, want)
        assert_close(average[1].running_mean, model[1].running_mean)
    assert decay == 0.75 and (1 + 2) / (10 + 2) < 0.75  # both branches were taken


def test_learning_rate_rises_in_a_line_and_falls_along_a_cosine():
    config = replace(SMALL, steps=110, warmup=10, lr=0.4, lr_end=0.1)
    rate = [train.learning_rate(step, config) for step in range(1, 111)]
    assert_close(rate[:10], [0.04 * step for step in range(1, 11)])
    assert_close(rate[59], 0.25)  # halfway down
    assert_close(rate[-1], 0.1)
    falling = torch.tensor(rate[9:])
    assert (falling.diff() < 0).all()
    assert_close(
        falling + falling.flip(0), torch.full_like(falling, 0.5)
    )  # a cosine is odd about its middle


def test_reports_carry_every_loss_and_the_rate_that_was_used(tiny, tiny_images):
    reports: list[Progress] = list(
        train.train(network(tiny), tiny_images, replace(SMALL, report_every=5), device="cpu")
    )
    assert [r.step for r in reports] == [5, 10, 12]
    assert [len(r.losses) for r in reports] == [5, 5, 2]
    assert_close(reports[0].loss, sum(reports[0].losses) / 5)
    assert_close(reports[0].lr, train.learning_rate(5, SMALL))
    assert all(r.images_per_second > 0 for r in reports)


def test_pieces_of_a_batch_add_up_to_the_batch(tiny, tiny_images):
    whole, _, losses = run(tiny, tiny_images, SMALL)
    pieces, _, same_losses = run(tiny, tiny_images, replace(SMALL, accumulation=4))
    assert_close(losses, same_losses, rtol=1e-4, atol=1e-5)
    same_parameters(whole, pieces, rtol=1e-3, atol=1e-4)


def test_resumed_run_is_the_uninterrupted_one_bit_for_bit(tiny, tiny_images, tmp_path):
    """12 steps of 4 from 10 images: epochs end in the middle of batches, before and after the
    break.
    """
    whole, last, losses = run(
        tiny, tiny_images, replace(SMALL, save_every=4), out=tmp_path / "whole"
    )
    about = {"model": asdict(tiny)}
    first: list[float] = []
    broken = train.train(
        network(tiny), tiny_images, SMALL, tmp_path / "broken", about, device="cpu"
    )
    for report in broken:
        first += report.losses
        if report.step == 7:
            broken.close()
    torch.manual_seed(99)
    other_start = UNet(tiny)
    resumed, end, rest = run(
        tiny, tiny_images, SMALL, other_start, out=tmp_path / "broken", resume=True
    )
    assert first + rest == losses
    assert (end.step, last.step) == (12, 12)
    same_parameters(resumed, whole)
    same_parameters(end.ema_model, last.ema_model)
    ours, theirs = checkpoint.load(tmp_path / "broken"), checkpoint.load(tmp_path / "whole")
    assert ours[0].keys() == theirs[0].keys()
    assert any(name.endswith("exp_avg_sq") for name in ours[0])
    for name in ours[0]:
        assert torch.equal(ours[0][name], theirs[0][name]), name


def test_resuming_a_finished_run_with_more_steps(tiny, tiny_images, tmp_path):
    run(tiny, tiny_images, SMALL, out=tmp_path)
    _, last, losses = run(tiny, tiny_images, replace(SMALL, steps=15), out=tmp_path, resume=True)
    assert last.step == 15 and len(losses) == 3
    _, last, losses = run(tiny, tiny_images, replace(SMALL, steps=15), out=tmp_path, resume=True)
    assert last is None and losses == []


def test_stopping_early_saves(tiny, tiny_images, tmp_path):
    model = network(tiny)
    reports = train.train(model, tiny_images, SMALL, tmp_path, {"note": "kept"}, device="cpu")
    next(reports)
    assert next(reports).step == 2
    reports.close()
    tensors, configuration = checkpoint.load(tmp_path)
    assert configuration["step"] == 2 and configuration["note"] == "kept"
    assert configuration["train"] == asdict(SMALL)
    for name, p in model.state_dict().items():
        assert torch.equal(tensors[f"model.{name}"], p)


def test_saves_every_so_often(tiny, tiny_images, tmp_path):
    reports = train.train(
        network(tiny),
        tiny_images,
        replace(SMALL, report_every=100, save_every=5),
        tmp_path,
        device="cpu",
    )
    steps = []
    for _ in reports:
        steps.append(checkpoint.load(tmp_path)[1]["step"])
    assert steps == [5, 10, 12]


class Spoiled(nn.Module):
    """A network whose output stops being a number at its n-th call."""

    def __init__(self, n: int):
        super().__init__()
        self.weight, self.calls, self.n = nn.Parameter(torch.zeros(())), 0, n

    def forward(self, x, t):
        self.calls += 1
        return x * self.weight + (math.nan if self.calls == self.n else 0.0)


@pytest.mark.parametrize("report_every", [1, 4])
def test_a_loss_that_is_not_a_number_stops_and_keeps_the_last_good_checkpoint(
    tiny_images, tmp_path, report_every
):
    config = replace(SMALL, save_every=3, report_every=report_every)
    with pytest.raises(ValueError, match=r"nan at step 8.*last good checkpoint is kept"):
        for _ in train.train(Spoiled(8), tiny_images, config, tmp_path, device="cpu"):
            pass
    tensors, configuration = checkpoint.load(tmp_path)
    assert configuration["step"] == 6
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


class SteepCliff(nn.Module):
    """A network whose loss is a number at its n-th call while its gradient is none: the root of
    zero.
    """

    def __init__(self, n: int):
        super().__init__()
        self.weight, self.calls, self.n = nn.Parameter(torch.ones(())), 0, n

    def forward(self, x, t):
        self.calls += 1
        return (
            x * self.weight + (0 * self.weight).sqrt() if self.calls == self.n else x * self.weight
        )


@pytest.mark.parametrize("save_every", [1, 2, 4])
def test_weights_that_are_not_numbers_are_never_saved(tiny_images, tmp_path, save_every):
    config = replace(SMALL, save_every=save_every)
    with pytest.raises(
        ValueError, match=r"(weights stopped being numbers at step 8|nan at step 9).*is kept"
    ):
        for _ in train.train(SteepCliff(8), tiny_images, config, tmp_path, device="cpu"):
            pass
    tensors, configuration = checkpoint.load(tmp_path)
    assert configuration["step"] == 8 - save_every
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_a_loss_that_is_not_a_number_without_a_folder(tiny_images):
    with pytest.raises(ValueError, match="nan at step 1, so training stopped; try a lower lr"):
        list(train.train(Spoiled(1), tiny_images, SMALL, device="cpu"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0), ("steps", -1), ("batch", 0), ("lr", 0.0), ("lr", -1.0), ("clip", 0.0), ("accumulation", 0),
        ("report_every", 0), ("save_every", 0), ("ema", 1.0), ("ema", -0.1), ("warmup", -1), ("lr_end", -1.0),
        ("accumulation", 3), ("target", "noise"), ("loss", "l3"), ("precision", "int4"), ("momentum", 1.0),
        ("schedule", "cosinus"), ("T", 0), ("t_sampling", "middle"),
    ],
)  # fmt: skip
def test_illegal_configurations(field, value):
    with pytest.raises(ValueError, match=rf"\b{field}\b|cannot be cut into {value} equal pieces"):
        replace(SMALL, **{field: value})


@pytest.mark.parametrize(
    "change", [{"lr": 0.5}, {"batch": 8}, {"seed": 1}, {"target": "eps"}, {"T": 60}]
)
def test_resuming_with_another_configuration(tiny, tiny_images, tmp_path, change):
    run(tiny, tiny_images, replace(SMALL, steps=1), out=tmp_path)
    with pytest.raises(ValueError, match=f"was trained with {next(iter(change))} = "):
        run(tiny, tiny_images, replace(SMALL, **change), out=tmp_path, resume=True)


def test_resuming_with_another_network(tiny, tiny_images, tmp_path):
    run(tiny, tiny_images, replace(SMALL, steps=1), out=tmp_path)
    wider = replace(tiny, widths=(16,))
    with pytest.raises(ValueError, match="weights of another network"):
        run(wider, tiny_images, SMALL, out=tmp_path, resume=True)


def test_resuming_from_nothing(tiny, tiny_images, tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights at"):
        run(tiny, tiny_images, SMALL, out=tmp_path, resume=True)
    with pytest.raises(ValueError, match="give out="):
        run(tiny, tiny_images, SMALL, resume=True)


def test_minutes_choose_the_number_of_steps(tiny_images, tmp_path):
    """With half a second a step, 1 minute is 120 steps."""
    assert train._fit(SMALL, 20, 20, 10.0, 1.0).steps == 120
    assert train._fit(SMALL, 120, 20, 10.0, 1.0).steps == 220  # resumed at 100
    assert train._fit(SMALL, 20, 20, 10.0, 0.01).steps == 20  # too late already
    config = replace(SMALL, steps=10_000_000)
    *_, last = train.train(Spoiled(0), tiny_images, config, tmp_path, device="cpu", minutes=1e-6)
    assert last.step == last.config.steps == 20
    assert checkpoint.load(tmp_path)[1]["train"]["steps"] == 20


@pytest.mark.parametrize("report_every", [1, 7, 1000])
def test_minutes_end_in_time_and_with_the_last_learning_rate(
    tiny_images, monkeypatch, report_every
):
    """A clock of our own: half a second a step, a second later on, and the caller takes time as
    well.
    """
    now, network = [0.0], Spoiled(0)

    def tick(module, inputs):
        now[0] += 0.5 if now[0] < 60 else 1.0

    network.register_forward_pre_hook(tick)
    monkeypatch.setattr(train.time, "perf_counter", lambda: now[0])
    config = replace(SMALL, steps=10_000_000, report_every=report_every, save_every=10_000_000)
    for last in train.train(network, tiny_images, config, device="cpu", minutes=3):
        now[0] += 0.25
    assert 170 < now[0] < 190  # not the 90 or 360 of a clock that starts anew at each report
    assert last.step == last.config.steps and last.lr < 0.01 * config.lr


@pytest.mark.parametrize("precision", ["bf16", "auto"])
def test_mixed_precision_stays_near_full_precision(tiny, tiny_images, precision):
    _, _, losses = run(tiny, tiny_images, SMALL)
    model, _, mixed = run(tiny, tiny_images, replace(SMALL, precision=precision))
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert_close(mixed, losses, rtol=0.02, atol=0.02)


PROCESS = """
import json, sys, torch
from pathlib import Path
torch.set_num_threads(1)
from tutorial_lib import train
from tutorial_lib.data import Images
from tutorial_lib.nets.unet import UNet, UNetConfig
out = Path(sys.argv[1])
tiny = UNetConfig(image_size=8, widths=(8,), patch=2, blocks=1, heads=2, groups=4)
pixels = torch.randint(0, 256, (10, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
config = train.TrainConfig(steps=6, batch=4, warmup=3, T=50, precision="no", report_every=2, lr=1e-3)
torch.manual_seed(3)
losses = []
for report in train.train(UNet(tiny), Images(pixels, torch.arange(10), ""), config, out, device="cpu"):
    losses += report.losses
rank = torch.distributed.get_rank()
out.mkdir(exist_ok=True)
(out / f"{rank}.json").write_text(json.dumps([torch.distributed.get_world_size(), losses]))
torch.distributed.destroy_process_group()
"""


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


@pytest.mark.parametrize("machines", [1, 2])
def test_two_processes_do_what_one_does(tiny, tiny_images, tmp_path, machines):
    """On one machine, and as on two: two launchers, each with one process, as notebook 05 starts
    them.
    """
    script, out = tmp_path / "two.py", tmp_path / "out"
    script.write_text(textwrap.dedent(PROCESS))
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "",
    }
    where = ["--standalone", "--nproc_per_node", "2"]
    if machines == 2:
        where = [
            "--nnodes",
            "2",
            "--nproc_per_node",
            "1",
            "--master_addr",
            "127.0.0.1",
            "--master_port",
            free_port(),
        ]
    launched = []
    for rank in range(machines):
        which = ["--node_rank", str(rank)] if machines == 2 else []
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            *where,
            *which,
            str(script),
            str(out),
        ]
        launched.append(
            subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        )
    results, patience = [out / f"{rank}.json" for rank in (0, 1)], time.monotonic() + 180
    try:  # not until the launchers are gone: they sometimes wait five minutes for each other when all is done
        while not all(path.exists() and path.stat().st_size for path in results):
            for process in launched:
                assert process.poll() in (None, 0), process.communicate()[1]
            assert time.monotonic() < patience, "the processes never finished"
            time.sleep(0.1)
    finally:
        for process in launched:
            process.kill()
    config = replace(SMALL, steps=6)
    _, last, losses = run(tiny, tiny_images, config)
    for rank in (0, 1):
        world, theirs = json.loads((out / f"{rank}.json").read_text())
        assert world == 2
        assert_close(theirs, losses, rtol=0, atol=1e-5)
    tensors, _ = checkpoint.load(out)
    for name, p in last.ema_model.state_dict().items():
        assert_close(tensors[f"ema.{name}"], p, rtol=1e-3, atol=1e-5)


def test_linear_schedule_is_used_when_asked_for(tiny_images):
    """A network that says zero has the loss mean(x_0^2): whatever the schedule; and eps costs about
    1.
    """
    zero = Spoiled(0)
    config = replace(SMALL, steps=1, batch=10, target="x_0", schedule="linear", T=1000)
    (report,) = train.train(zero, tiny_images, config, device="cpu")
    assert_close(
        report.loss, float(to_model(tiny_images.pixels).square().mean()), rtol=1e-5, atol=0
    )
    x_0, t, eps = train.draw(tiny_images, 1, config)
    ab = linear(1000).alpha_bar[t].view(-1, 1, 1, 1).float()
    v = ab.sqrt() * eps - (1 - ab).sqrt() * x_0
    (report,) = train.train(Spoiled(0), tiny_images, replace(config, target="v"), device="cpu")
    assert_close(report.loss, float(v.square().mean()), rtol=1e-5, atol=0)
