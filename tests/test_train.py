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
from itertools import product

import pytest
import torch
from conftest import ROOT
from torch import nn
from torch.testing import assert_close

from tutorial_lib import checkpoint, sample, train
from tutorial_lib.config import (
    EARLIER,
    OPTIMIZERS,
    T_SAMPLING,
    DiffusionConfig,
    TrainConfig,
    schedule_of,
)
from tutorial_lib.data import NOBODY, Images, to_model
from tutorial_lib.denoise import denoiser
from tutorial_lib.diffusion import q_posterior, regression_loss, target_from
from tutorial_lib.engine.muon import orthogonalize
from tutorial_lib.nets.unet import UNet, UNetConfig, restore
from tutorial_lib.schedule import cosine, linear
from tutorial_lib.train import Progress

SMALL = DiffusionConfig(
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


def training(model: nn.Module, images: Images, config: DiffusionConfig, **options):
    """Algorithm 1 on the CPU: a generator of reports."""
    learning = train.algorithm_1(images, config)
    return train.train(model, *learning, config, **{"device": "cpu"} | options)


def run(
    tiny: UNetConfig,
    images: Images,
    config: DiffusionConfig,
    model: nn.Module | None = None,
    **options,
):
    """Train to the end; the network, the last report, and every loss."""
    model = model or network(tiny)
    losses, last = [], None
    for last in training(model, images, config, about={"model": asdict(tiny)}, **options):
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
    draws = [train.draw(tiny_images, step, config) for step in range(1, 31)]
    seen = [name[x.numpy().tobytes()] for drawn in draws for x in drawn.x_0]
    epochs = [seen[i : i + 10] for i in range(0, len(seen) - 9, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def many(images: Images, config: DiffusionConfig) -> train.Drawn:
    """What ten steps draw, one behind the other."""
    draws = [train.draw(images, step, config) for step in range(1, 11)]
    return train.Drawn(*(torch.cat(of_all) for of_all in zip(*draws, strict=True)))


@pytest.mark.equation("Esser")
@pytest.mark.parametrize("t_sampling", T_SAMPLING)
def test_steps_follow_their_law_and_noise_is_normal(tiny_images, t_sampling):
    drawn = many(tiny_images, replace(SMALL, batch=1000, T=10, t_sampling=t_sampling))
    counts = drawn.t.bincount(minlength=11)
    assert counts[0] == 0 and len(counts) == 11
    way = torch.linspace(0, 1, 11, dtype=torch.float64)
    below = way if t_sampling == "uniform" else torch.special.ndtr(way.logit() / 1.2)  # P(t <= k)
    expected = 10_000 * below.diff()
    chi_square = float(((counts[1:] - expected) ** 2 / expected).sum())
    assert chi_square < 27.9  # the 99.9th percentile of chi-square with 9 degrees of freedom
    eps = drawn.eps.double()
    assert_close(float(eps.mean()), 0.0, rtol=0, atol=4 / math.sqrt(eps.numel()))
    assert_close(float(eps.var()), 1.0, rtol=4 * math.sqrt(2 / eps.numel()), atol=0)


def test_u_is_uniform_and_has_nothing_to_do_with_the_rest(tiny_images):
    x_0, t, eps, y, u = many(tiny_images, replace(SMALL, batch=1000))
    assert u.shape == (10_000,) and float(u.min()) >= 0 and float(u.max()) < 1
    counts = (10 * u).long().bincount(minlength=10)
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 27.9  # as above
    for other in (x_0[:, 0, 0, 0], t.float(), eps[:, 0, 0, 0], y.float()):
        correlation = float(torch.stack([u, other]).corrcoef()[0, 1])
        assert abs(correlation) < 4 / math.sqrt(10_000)


@pytest.mark.parametrize("flip", [False, True])
def test_labels_travel_with_their_images(tiny_images, flip):
    labels = torch.tensor([4, 0, 7, 7, 1, 9, 2, 5, 3, 3])
    images = Images(tiny_images.pixels, labels, "")
    drawn = many(images, replace(SMALL, batch=23, flip=flip))
    name = {}
    for pixels, label in zip(tiny_images.pixels, labels.tolist(), strict=True):
        for side in (pixels, pixels.flip(-1)):
            name[to_model(side.contiguous()).numpy().tobytes()] = label
    seen = [name[x.contiguous().numpy().tobytes()] for x in drawn.x_0]
    assert drawn.y.tolist() == seen


def test_flip_mirrors_about_half_of_the_images(tiny_images):
    config = replace(SMALL, batch=1000)
    straight = train.draw(tiny_images, 1, config).x_0
    mirrored = train.draw(tiny_images, 1, replace(config, flip=True)).x_0
    flipped = (mirrored == straight.flip(-1)).flatten(1).all(1)
    assert ((mirrored == straight).flatten(1).all(1) ^ flipped).all()
    assert_close(float(flipped.double().mean()), 0.5, rtol=0, atol=4 * 0.5 / math.sqrt(1000))


@pytest.mark.equation("Algorithm 1")
@pytest.mark.equation("14")
@pytest.mark.parametrize("target", ["eps", "x_0", "v", "mu"])
def test_training_step_is_algorithm_1(tiny, tiny_images, schedule, target):
    model = network(tiny)
    nn.init.normal_(model.out.weight, std=0.1)
    x_0, t, eps, *_ = train.draw(tiny_images, 1, replace(SMALL, T=100))
    expected = []
    for i in range(len(x_0)):
        ab = float(schedule.alpha_bar[t[i]])
        x_t = math.sqrt(ab) * x_0[i] + math.sqrt(1 - ab) * eps[i]
        v = math.sqrt(ab) * eps[i] - math.sqrt(1 - ab) * x_0[i]
        mu = q_posterior(schedule, x_0[i : i + 1], x_t[None], t[i : i + 1])[0][0]
        wanted = {"eps": eps[i], "x_0": x_0[i], "v": v, "mu": mu}[target]
        expected.append(((model(x_t[None], t[i : i + 1])[0] - wanted) ** 2).mean())
    got = train.training_step(model, schedule, x_0, t, eps, target=target)
    assert_close(got, torch.stack(expected))


@pytest.mark.parametrize("loss", ["l1", "huber"])
def test_a_training_step_with_another_loss_and_with_what_else_the_network_takes(
    schedule, generator, loss
):
    """Here a label, which moves the output."""
    x_0, eps = torch.randn(2, 5, 3, generator=generator)
    t, y = torch.tensor([1, 7, 30, 99, 100]), torch.arange(5.0)

    def labelled(x_t, t, y):
        return x_t + y[:, None]

    got = train.training_step(labelled, schedule, x_0, t, eps, target="eps", loss=loss, y=y)
    ab = schedule.alpha_bar[t, None].float()
    output = ab.sqrt() * x_0 + (1 - ab).sqrt() * eps + y[:, None]
    assert_close(got, regression_loss(output, eps, loss))


@pytest.mark.parametrize("told", [[False] * 6, [True, False, True, True, False, False], [True] * 6])
@pytest.mark.parametrize("target", ["eps", "v"])
def test_a_self_conditioned_step_shows_some_images_their_first_estimate(
    tiny, tiny_images, schedule, told, target
):
    """Image by image: asked with zeros, told the clipped answer, asked again; no gradient flows
    into the first question.
    """
    model = network(replace(tiny, self_conditioning=True))
    nn.init.normal_(model.out.weight, std=0.3)
    x_0, t, eps, *_ = train.draw(tiny_images, 1, replace(SMALL, T=100, batch=6))
    expected = []
    for i, tell in enumerate(told):
        x, k, e = x_0[i : i + 1], t[i : i + 1], eps[i : i + 1]
        signal, spread = schedule.signal_and_noise(k, x)
        x_t, shown = signal * x + spread * e, torch.zeros_like(x)
        if tell:
            said = model(x_t, k, shown).detach()
            v_or_eps = {"eps": (x_t - spread * said) / signal, "v": signal * x_t - spread * said}
            shown = v_or_eps[target].clamp(-1, 1)
        wanted = target_from(schedule, target, x, e, k)
        expected.append((model(x_t, k, shown) - wanted).square().mean())
    got = train.self_conditioned_step(
        model, schedule, x_0, t, eps, torch.tensor(told), target=target
    )
    assert_close(got, torch.stack(expected), rtol=1e-4, atol=1e-5)
    weights = list(model.parameters())
    ours = torch.autograd.grad(got.mean(), weights)
    theirs = torch.autograd.grad(torch.stack(expected).mean(), weights)
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_algorithm_1_tells_half_of_the_images(tiny_images):
    """Those of which u is below 1/2; without self-conditioning nobody is shown anything."""
    shown = []

    class Looking(nn.Module):
        def forward(self, x_t, t, **given):
            shown.append(given.get("x_0_hat"))
            return torch.full_like(x_t, 0.25)

    config = replace(SMALL, batch=10, target="x_0", self_conditioning=True)
    draw, loss = train.algorithm_1(tiny_images, config)
    drawn = draw(3)
    loss(Looking(), *drawn)
    told = drawn.u < 0.5
    first, second = shown
    assert first is None and 0 < int(told.sum()) < 10
    assert bool((second[told] == 0.25).all()) and not second[~told].any()
    shown.clear()
    _, loss = train.algorithm_1(tiny_images, replace(config, self_conditioning=False))
    loss(Looking(), *drawn)
    assert shown == [None]


@pytest.mark.parametrize("self_conditioning", [False, True])
def test_algorithm_1_drops_some_labels(tiny_images, self_conditioning):
    """A share of `label_drop`, whether an image is told its estimate or not."""
    shown = []

    class Looking(nn.Module):
        def forward(self, x_t, t, y, x_0_hat=None):
            shown.append((y, x_0_hat))
            return torch.full_like(x_t, 0.25)

    config = replace(SMALL, batch=10, target="x_0", labels=True, label_drop=0.4)
    config = replace(config, self_conditioning=self_conditioning)
    _, loss = train.algorithm_1(tiny_images, config)
    count = 2000
    x_0, y = torch.zeros(count, 1, 1, 1), torch.arange(count) % 5
    u, t = torch.rand(count, generator=torch.Generator().manual_seed(0)), torch.ones(count).long()
    loss(Looking(), x_0, t, x_0, y, u)
    seen, estimate = shown[-1]
    assert bool(((seen == y) | (seen == NOBODY)).all())
    dropped = (seen == NOBODY).double()
    assert abs(float(dropped.mean()) - 0.4) < 0.04
    if self_conditioning:
        told = (estimate != 0).flatten()
        assert torch.equal(shown[0][0], seen[told])  # the first question is of the same label
        for half in (told, ~told):
            assert abs(float(dropped[half].mean()) - 0.4) < 0.06


@pytest.mark.equation("Algorithm 1")
@pytest.mark.parametrize("kind", ["l2", "l1", "huber"])
def test_algorithm_1_is_draw_and_training_step(tiny, tiny_images, kind):
    config = replace(SMALL, loss=kind, schedule="linear", T=1000, target="eps")
    draw, loss = train.algorithm_1(tiny_images, config)
    for step in (1, 5):
        drawn, again = draw(step), train.draw(tiny_images, step, config)
        assert all(map(torch.equal, drawn, again))
        x_0, t, eps, *_ = drawn
        model = network(tiny)
        expected = train.training_step(model, linear(1000), x_0, t, eps, target="eps", loss=kind)
        assert torch.equal(loss(model, *drawn), expected)


def first_gradient(tiny, images, config) -> UNet:
    """The network before its first step, with the gradient of that step's loss."""
    reference = network(tiny)
    x_0, t, eps, *_ = train.draw(images, 1, config)
    loss = train.training_step(reference, cosine(50), x_0, t, eps, target=config.target)
    loss.mean().backward()
    return reference


def test_one_optimiser_step_against_adam_written_out(tiny, tiny_images):
    """After one step Adam has moved every parameter by lr * g / (|g| + 1e-8), g being the clipped
    gradient.
    """
    constant = {"warmup": 0, "lr_end": 1e-3}
    config = replace(SMALL, steps=1, clip=0.05, optimizer="adam", **constant)
    reference = first_gradient(tiny, tiny_images, config)
    gradients = [p.grad for p in reference.parameters()]
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    assert norm > config.clip
    trained, last, losses = run(tiny, tiny_images, config)
    weights = zip(reference.parameters(), gradients, trained.parameters(), strict=True)
    for before, g, after in weights:
        g = g * config.clip / norm
        assert_close(after, before.detach() - 1e-3 * g / (g.abs() + 1e-8), rtol=1e-3, atol=2e-6)
    assert last.step == 1 and len(losses) == 1


def test_with_muon_convolutions_move_along_the_orthogonalised_gradient(tiny, tiny_images):
    """After one step from rest the momentum is a multiple of the gradient; everything else is
    Adam's.
    """
    config = replace(SMALL, steps=1, warmup=0, lr_end=1e-3, lr_muon=0.05)
    reference = first_gradient(tiny, tiny_images, config)
    trained, _, _ = run(tiny, tiny_images, config)
    kinds = set()
    for before, after in zip(reference.parameters(), trained.parameters(), strict=True):
        g, moved = before.grad, after.detach() - before.detach()
        kinds.add(before.ndim)
        if before.ndim == 4:
            length = 0.05 * max(1, len(g) / g[0].numel()) ** 0.5
            wanted = -length * orthogonalize(g.flatten(1)[None])[0]
            assert_close(moved.flatten(1), wanted, rtol=1e-2, atol=1e-4)
        else:
            wanted = -1e-3 * g / (g.abs() + 1e-8)
            # clipping scales all gradients, and 1e-8 is felt by the smallest
            where = g.abs() > 1e-6
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
    options = {"out": tmp_path, "device": "cuda"}
    for report in training(network(tiny), tiny_images, config, **options):
        if report.step == 2:
            break
    reports = list(training(network(tiny), tiny_images, config, resume=True, **options))
    assert len(reports) == 2
    assert {p.device.type for p in reports[-1].ema_model.parameters()} == {"cuda"}


def test_momentum_is_muons(tiny, tiny_images):
    """Without momentum the first step is the same, and the second goes elsewhere."""
    ways = []
    for momentum in (0.9, 0.0):
        config = replace(SMALL, steps=2, warmup=0, lr_end=1e-3, momentum=momentum)
        model, weights = network(tiny), []
        for _ in training(model, tiny_images, config):
            weights.append(model.out.weight.detach().clone())
        ways.append(weights)
    (first, second), (again, elsewhere) = ways
    assert_close(first, again, rtol=1e-3, atol=1e-5)
    assert float((second - elsewhere).abs().max()) > 1e-3


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_networks_without_and_with_convolutions_train_alike(optimizer, tiny_images):
    """A network of linear layers has nothing for Muon, one of convolutions nothing for Adam."""

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
        for _ in training(model, tiny_images, replace(SMALL, optimizer=optimizer)):
            pass
        assert not torch.equal(model.layer.weight, start.layer.weight)


def test_overfits_one_batch(tiny, tiny_images):
    one = Images(tiny_images.pixels[:1], tiny_images.labels[:1], "one image")
    config = replace(SMALL, steps=250, batch=16, lr=1e-2, target="x_0", T=20)
    _, _, losses = run(tiny, one, config)
    start, end = sum(losses[:5]) / 5, sum(losses[-20:]) / 20
    assert end < 0.1 * start, (start, end)


def test_reports_carry_every_loss_and_the_rate_that_was_used(tiny, tiny_images):
    config = replace(SMALL, report_every=5)
    reports: list[Progress] = list(training(network(tiny), tiny_images, config))
    assert [r.step for r in reports] == [5, 10, 12]
    assert [len(r.losses) for r in reports] == [5, 5, 2]
    assert_close(reports[0].loss, sum(reports[0].losses) / 5)
    rate = 0.5 * (1 + math.cos(math.pi * (5 - 3) / (12 - 3)))  # half a cosine after the warm-up
    assert_close((reports[0].lr, reports[-1].lr), (1e-3 * rate, 0.0))
    assert all(r.images_per_second > 0 for r in reports)
    for report in reports:  # one loss, of the whole network
        assert report.parts == ("",)
        assert report.by_step == [[loss] for loss in report.losses]


def test_pieces_of_a_batch_add_up_to_the_batch(tiny, tiny_images):
    whole, _, losses = run(tiny, tiny_images, SMALL)
    pieces, _, same_losses = run(tiny, tiny_images, replace(SMALL, accumulation=4))
    assert_close(losses, same_losses, rtol=1e-4, atol=1e-5)
    same_parameters(whole, pieces, rtol=1e-3, atol=1e-4)


def test_resumed_run_is_the_uninterrupted_one_bit_for_bit(tiny, tiny_images, tmp_path):
    """12 steps of 4 from 10 images: epochs end in the middle of batches, before and after the
    break.
    """
    config = replace(SMALL, save_every=4)
    whole, last, losses = run(tiny, tiny_images, config, out=tmp_path / "whole")
    first: list[float] = []
    options = {"out": tmp_path / "broken", "about": {"model": asdict(tiny)}}
    broken = training(network(tiny), tiny_images, SMALL, **options)
    for report in broken:
        first += report.losses
        if report.step == 7:
            broken.close()
    torch.manual_seed(99)
    other_start = UNet(tiny)
    where = {"out": tmp_path / "broken", "resume": True}
    resumed, end, rest = run(tiny, tiny_images, SMALL, other_start, **where)
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
    reports = training(model, tiny_images, SMALL, out=tmp_path, about={"note": "kept"})
    next(reports)
    assert next(reports).step == 2
    reports.close()
    tensors, configuration = checkpoint.load(tmp_path)
    assert configuration["step"] == 2 and configuration["note"] == "kept"
    assert configuration["train"] == asdict(SMALL)
    for name, p in model.state_dict().items():
        assert torch.equal(tensors[f"model.{name}"], p)


def test_saves_every_so_often(tiny, tiny_images, tmp_path):
    config = replace(SMALL, report_every=100, save_every=5)
    reports = training(network(tiny), tiny_images, config, out=tmp_path)
    steps = [checkpoint.load(tmp_path)[1]["step"] for _ in reports]
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
        list(training(Spoiled(8), tiny_images, config, out=tmp_path))
    tensors, configuration = checkpoint.load(tmp_path)
    assert configuration["step"] == 6
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


class SteepCliff(nn.Module):
    """A network whose n-th loss is a number while its gradient is none: the root of zero."""

    def __init__(self, n: int):
        super().__init__()
        self.weight, self.calls, self.n = nn.Parameter(torch.ones(())), 0, n

    def forward(self, x, t):
        self.calls += 1
        steep = (0 * self.weight).sqrt() if self.calls == self.n else 0.0
        return x * self.weight + steep


@pytest.mark.parametrize("save_every", [1, 2, 4])
def test_weights_that_are_not_numbers_are_never_saved(tiny_images, tmp_path, save_every):
    config = replace(SMALL, save_every=save_every)
    wrong = r"(weights stopped being numbers at step 8|nan at step 9).*is kept"
    with pytest.raises(ValueError, match=wrong):
        list(training(SteepCliff(8), tiny_images, config, out=tmp_path))
    tensors, configuration = checkpoint.load(tmp_path)
    assert configuration["step"] == 8 - save_every
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_a_loss_that_is_not_a_number_without_a_folder(tiny_images):
    with pytest.raises(ValueError, match="nan at step 1, so training stopped; try a lower lr"):
        list(training(Spoiled(1), tiny_images, SMALL))


OF_ANY_RUN = {
    **dict.fromkeys(("steps", "batch", "report_every", "save_every", "accumulation"), (0, -1)),
    **dict.fromkeys(("lr", "lr_muon", "clip"), (0.0, -1.0)),
    **dict.fromkeys(("ema", "momentum"), (1.0, -0.1)),
    **dict.fromkeys(("warmup", "lr_end"), (-1,)),
    **dict.fromkeys(("precision", "optimizer"), ("int4",)),
}
OF_DIFFUSION = {
    "target": ("noise",),
    "loss": ("l3",),
    "schedule": ("cosinus",),
    "T": (0,),
    "t_sampling": ("middle",),
    "label_drop": (-0.1, 1.1),
}


@pytest.mark.parametrize("field", OF_ANY_RUN | OF_DIFFUSION)
def test_illegal_configurations(field):
    kinds = [DiffusionConfig, TrainConfig] if field in OF_ANY_RUN else [DiffusionConfig]
    for kind, value in product(kinds, (OF_ANY_RUN | OF_DIFFUSION)[field]):
        with pytest.raises(ValueError, match=rf"\b{field}\b"):
            kind(**{field: value})


@pytest.mark.parametrize("kind", [DiffusionConfig, TrainConfig])
def test_a_batch_that_cannot_be_cut(kind):
    with pytest.raises(ValueError, match="batch 4 cannot be cut into 3 equal pieces"):
        kind(batch=4, accumulation=3)


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.5},
        {"batch": 8},
        {"seed": 1},
        {"target": "eps"},
        {"T": 60},
        {"t_sampling": "uniform"},
        {"self_conditioning": True},
        {"labels": True},
        {"label_drop": 0.1},
    ],
)
def test_resuming_with_another_configuration(tiny, tiny_images, tmp_path, change):
    run(tiny, tiny_images, replace(SMALL, steps=1), out=tmp_path)
    with pytest.raises(ValueError, match=f"was trained with {next(iter(change))} = "):
        run(tiny, tiny_images, replace(SMALL, **change), out=tmp_path, resume=True)


def forget(folder, *fields: str) -> None:
    """Make a checkpoint look like one from before there were these fields."""
    tensors, configuration = checkpoint.load(folder)
    for field in fields:
        del configuration["train"][field]
    checkpoint.save(folder / train.FILE, tensors, configuration)


def test_an_older_checkpoint_is_resumed_with_the_values_of_its_time(tiny, tiny_images, tmp_path):
    """Momentum was 0.95, t uniform, and no network was self-conditioning or took labels."""
    now = {"momentum": 0.9, "t_sampling": "logit-normal", "self_conditioning": True}
    now |= {"labels": True, "label_drop": 0.5}
    assert EARLIER.keys() == now.keys()
    then = replace(SMALL, **EARLIER)
    whole, *_ = run(tiny, tiny_images, then)
    old = {"out": tmp_path, "about": {"model": asdict(tiny)}}
    reports = training(network(tiny), tiny_images, then, **old)
    for report in reports:
        if report.step == 5:
            reports.close()
    forget(tmp_path, *EARLIER)
    for field, value in now.items():
        other = replace(then, **{field: value})
        with pytest.raises(ValueError, match=f"{field} = {EARLIER[field]}, not {value}"):
            run(tiny, tiny_images, other, out=tmp_path, resume=True)
    resumed, last, _ = run(tiny, tiny_images, then, out=tmp_path, resume=True)
    assert last.step == 12
    same_parameters(resumed, whole)
    assert checkpoint.load(tmp_path)[1]["train"] == asdict(then)


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
    config = replace(SMALL, steps=10_000_000)
    *_, last = training(Spoiled(0), tiny_images, config, out=tmp_path, minutes=1e-6)
    assert last.step == last.config.steps == 1  # there was no time for more
    assert checkpoint.load(tmp_path)[1]["train"]["steps"] == 1


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
    for last in training(network, tiny_images, config, minutes=3):
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
from tutorial_lib.nets.unet import UNet, UNetConfig, restore
out = Path(sys.argv[1])
tiny = UNetConfig(image_size=8, widths=(8,), patch=2, blocks=1, heads=2, groups=4)
generator = torch.Generator().manual_seed(0)
pixels = torch.randint(0, 256, (10, 1, 8, 8), generator=generator, dtype=torch.uint8)
images = Images(pixels, torch.arange(10), "")
small = {"steps": 6, "batch": 4, "warmup": 3, "T": 50, "lr": 1e-3}
config = train.DiffusionConfig(**small, precision="no", report_every=2)
torch.manual_seed(3)
losses, learning = [], train.algorithm_1(images, config)
for report in train.train(UNet(tiny), *learning, config, out=out, device="cpu"):
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
    """On one machine, and as on two: two launchers with one process each, as in notebook 05."""
    script, out = tmp_path / "two.py", tmp_path / "out"
    script.write_text(textwrap.dedent(PROCESS))
    quiet = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    where = "--standalone --nproc_per_node 2"
    if machines == 2:
        where = "--nnodes 2 --nproc_per_node 1 --master_addr 127.0.0.1 --master_port " + free_port()
    launched = []
    for rank in range(machines):
        which = f"--node_rank {rank}" if machines == 2 else ""
        options = [*where.split(), *which.split(), str(script), str(out)]
        command = [sys.executable, "-m", "torch.distributed.run", *options]
        launched.append(
            subprocess.Popen(command, env=os.environ | quiet, stderr=subprocess.PIPE, text=True)
        )
    results, patience = [out / f"{rank}.json" for rank in (0, 1)], time.monotonic() + 180
    try:  # not until the launchers are gone: sometimes they wait five minutes for each other
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
    """A network that says zero costs mean(x_0^2), whatever the schedule; v's cost depends on it."""
    zero = Spoiled(0)
    config = replace(SMALL, steps=1, batch=10, target="x_0", schedule="linear", T=1000)
    (report,) = training(zero, tiny_images, config)
    mean_square = float(to_model(tiny_images.pixels).square().mean())
    assert_close(report.loss, mean_square, rtol=1e-5, atol=0)
    x_0, t, eps, *_ = train.draw(tiny_images, 1, config)
    ab = linear(1000).alpha_bar[t].view(-1, 1, 1, 1).float()
    v = ab.sqrt() * eps - (1 - ab).sqrt() * x_0
    (report,) = training(Spoiled(0), tiny_images, replace(config, target="v"))
    assert_close(report.loss, float(v.square().mean()), rtol=1e-5, atol=0)


class Foreign(nn.Module):
    """A network of somebody else's, with PyTorch's own group norm behind a convolution."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4)
        self.last = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x, t):
        return self.last(self.norm(self.first(x)))


PARTS = ("embed", "stem", "down", "attention", "norm", "out", "first", "all but out")


@pytest.mark.parametrize("part", PARTS)
def test_what_is_frozen_stays_and_the_rest_is_resumed_bit_for_bit(
    tiny, tiny_images, tmp_path, part
):
    """Behind a frozen stem, or first layer, PyTorch's group norm can end the whole process."""

    def partly(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        model = Foreign() if part == "first" else UNet(tiny)
        for p in model.parameters():
            nn.init.normal_(p, std=0.1)  # a last layer of zeros would pass no gradient on
        for name, p in model.named_parameters():
            frozen = not name.startswith("out") if part == "all but out" else part in name
            p.requires_grad_(not frozen)
        return model

    config = replace(SMALL, steps=6)
    whole = partly(3)
    *_, last = training(whole, tiny_images, config, out=tmp_path / "whole")
    before = partly(3).state_dict()
    for name, p in whole.named_parameters():
        assert p.requires_grad or torch.equal(p, before[name]), name
    assert any(not torch.equal(p, before[name]) for name, p in whole.named_parameters())
    for report in training(partly(3), tiny_images, config, out=tmp_path / "broken"):
        if report.step == 3:
            break
    resumed = partly(4)
    *_, end = training(resumed, tiny_images, config, out=tmp_path / "broken", resume=True)
    same_parameters(resumed, whole)
    same_parameters(end.ema_model, last.ema_model)


def test_restored_weights_are_trained_on_once_they_are_freed(tiny, tiny_images, tmp_path):
    """Fine-tuning: the average starts from the given weights, too."""
    run(tiny, tiny_images, SMALL, out=tmp_path)
    given = restore(*checkpoint.load(tmp_path))
    with pytest.raises(ValueError, match=r"nothing is left to train.*requires_grad_\(True\)"):
        list(training(given, tiny_images, SMALL))
    start = copy.deepcopy(given)
    reports = training(given.requires_grad_(True), tiny_images, SMALL)
    first = next(reports)
    networks = (first.ema_model, given, start)
    for average, now, then in zip(*(m.parameters() for m in networks), strict=True):
        assert float((now - then).detach().abs().max()) < 0.1
        assert_close(
            average, then.lerp(now.detach(), 9 / 11), rtol=0, atol=1e-6
        )  # the decay is 2 / 11


def built(tiny, seed: int, *, frozen: bool, tied: bool, dtype: torch.dtype) -> UNet:
    torch.manual_seed(seed)
    model = UNet(tiny).to(dtype)
    if tied:
        model.middle_2.conv_1.weight = model.middle_1.conv_1.weight
    for part in (model.stem, model.embed):
        part.requires_grad_(not frozen)
    return model


def compiled(model: nn.Module) -> nn.Module:
    """By the backend that needs no compiler; the names of its weights change all the same."""
    return torch.compile(model, backend="eager")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_any_network_is_trained_saved_resumed_and_sampled_from(
    tiny, tiny_images, tmp_path, frozen, tied, wrapped, dtype
):
    """Bit for bit; and a compiled run may go on without compilation, and the other way round."""
    kind = {"frozen": frozen, "tied": tied, "dtype": dtype}
    config = replace(SMALL, steps=4)
    whole = built(tiny, 3, **kind)
    *_, last = training(whole, tiny_images, config, out=tmp_path / "whole")

    first, second = built(tiny, 3, **kind), built(tiny, 4, **kind)
    wrappers = (compiled, nn.DataParallel) if wrapped else (nn.Identity(), nn.Identity())
    options = {"out": tmp_path / "broken"}
    with torch.compiler.set_stance("force_eager"):  # compiling takes seconds each time
        for report in training(wrappers[0](first), tiny_images, config, **options):
            if report.step == 2:
                break
        *_, end = training(wrappers[1](second), tiny_images, config, resume=True, **options)
    same_parameters(second, whole)
    same_parameters(end.ema_model, last.ema_model)
    ours, theirs = checkpoint.load(tmp_path / "broken"), checkpoint.load(tmp_path / "whole")
    assert ours[0].keys() == theirs[0].keys() and ours[1] == theirs[1]

    restored = restore(*ours)
    x_T = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    frames = {}
    for precision in (dtype, torch.float32):
        denoise = denoiser(restored.to(precision), cosine(50), target="v", clip=True)
        frames[precision] = sample.final(sample.ddim(denoise, cosine(50), x_T, steps=4))
        assert frames[precision].dtype == torch.float32
    assert_close(frames[dtype], frames[torch.float32], rtol=0.02, atol=0.02)
    same_parameters(restored, last.ema_model.float())


def test_a_compiled_part_of_a_network_keeps_its_plain_names(tiny, tiny_images, tmp_path):
    config = replace(SMALL, steps=3)
    whole, parts = network(tiny), network(tiny)
    parts.attention = compiled(parts.attention)
    for model, folder in ((whole, "whole"), (parts, "parts")):
        list(training(model, tiny_images, config, out=tmp_path / folder))
    ours, theirs = (checkpoint.load(tmp_path / name)[0] for name in ("parts", "whole"))
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name
    more = {"out": tmp_path / "whole", "resume": True}
    *_, last = training(parts, tiny_images, replace(config, steps=4), **more)
    assert last.step == 4
    restore(*checkpoint.load(tmp_path / "whole"))


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("wrap", [nn.Identity(), compiled, nn.DataParallel])
def test_a_network_is_handed_back_as_it_was_given(tiny, tiny_images, wrap, precision):
    """So that it computes in full precision, and a second training is like a first."""
    config = replace(SMALL, steps=2, precision=precision)
    once, twice, plain = (network(tiny) for _ in range(3))
    list(training(once, tiny_images, config))
    given = wrap(twice)
    attributes = set(vars(twice))
    for _ in range(2):
        twice.load_state_dict(plain.state_dict())
        with torch.compiler.set_stance("force_eager"):
            list(training(given, tiny_images, config))
        assert set(vars(twice)) == attributes
        same_parameters(once, twice)
    x = torch.full((1, 1, 8, 8), 1 + 2**-12)
    plain.load_state_dict(once.state_dict())
    with torch.compiler.set_stance("force_eager"):
        assert_close(given(x, torch.tensor([3])), plain(x, torch.tensor([3])))


def test_a_network_says_by_itself_what_it_is(tiny, tiny_images, tmp_path):
    """Without `about`, or with one that does not mention it; another one is then refused."""
    for name, about in (("none", None), ("other", {"note": "mine"})):
        list(training(network(tiny), tiny_images, SMALL, out=tmp_path / name, about=about))
        tensors, configuration = checkpoint.load(tmp_path / name)
        assert restore(tensors, configuration).config == tiny
    options = {"out": tmp_path / "none", "resume": True}
    with pytest.raises(ValueError, match="weights of another network"):
        list(training(network(replace(tiny, widths=(16,))), tiny_images, SMALL, **options))
    with pytest.raises(ValueError, match="weights of another network"):
        list(training(Foreign(), tiny_images, SMALL, **options))
    list(training(Foreign(), tiny_images, SMALL, out=tmp_path / "foreign"))
    with pytest.raises(ValueError, match=r"no.*U-Net's.*load_state_dict\(checkpoint.part"):
        restore(*checkpoint.load(tmp_path / "foreign"))


def test_a_schedule_of_ones_own_is_trained_on_and_recorded(tiny, tiny_images, tmp_path):
    """And not the named one, which the configuration still mentions."""
    own = linear(50, beta_T=0.3)
    config = replace(SMALL, steps=4)
    learning = train.algorithm_1(tiny_images, config, own)
    x_0, t, eps, *_ = drawn = learning[0](1)
    model = network(tiny)
    nn.init.normal_(model.out.weight, std=0.1)
    expected = train.training_step(model, own, x_0, t, eps, target="v")
    assert torch.equal(learning[1](model, *drawn), expected)

    options = {"out": tmp_path, "device": "cpu"}
    reports = train.train(network(tiny), *learning, config, **options)
    next(reports)
    reports.close()
    saved = checkpoint.load(tmp_path)[1]
    assert torch.equal(schedule_of(saved).beta, own.beta)
    more = {"resume": True, **options}
    assert len(list(train.train(network(tiny), *learning, config, **more))) == 3
    for other in (None, linear(50, beta_T=0.4)):
        learning = train.algorithm_1(tiny_images, config, other)
        with pytest.raises(ValueError, match="trained on another noise schedule"):
            list(train.train(network(tiny), *learning, config, **more))
    with pytest.raises(ValueError, match="the schedule has 40 steps, but T is 50"):
        train.algorithm_1(tiny_images, config, linear(40, beta_T=0.4))


def test_named_schedules_are_found_by_what_weights_say():
    _, shipped = checkpoint.load("fashion_mnist")
    assert torch.equal(schedule_of(shipped).beta, cosine(1000).beta)
    for wrong in ({}, {"train": None}, {"train": {"schedule": "cosine"}}):
        with pytest.raises(ValueError, match=r"do not say with which .*T they were trained"):
            schedule_of(wrong)


class OfPoints(nn.Module):
    """A network for points in the plane, or for volumes, by the convolutions of its dimension."""

    def __init__(self, dimension: int):
        super().__init__()
        torch.manual_seed(0)
        conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}.get(dimension)
        last = nn.Linear(4, 2) if conv is None else conv(4, 2, 3, padding=1)
        first = nn.Linear(2, 4) if conv is None else conv(2, 4, 3, padding=1)
        norm = nn.Identity() if conv is None else nn.GroupNorm(2, 4)
        self.body = nn.Sequential(first, norm, nn.SiLU(), last)

    def forward(self, x_t, t):
        return self.body(x_t)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dimension", [0, 1, 2, 3])
def test_points_sequences_and_volumes_are_trained_on(tmp_path, generator, dimension, dtype):
    """(N, 2), (N, 2, 4), (N, 2, 4, 4), ...: each point once an epoch, with the label 0."""
    points = torch.randn(10, 2, *[4] * dimension, generator=generator, dtype=dtype)
    config = replace(SMALL, steps=30, batch=10, warmup=5, lr=0.01, report_every=30)
    draw, loss = train.algorithm_1(points, config)
    drawn = draw(3)
    assert drawn.x_0.dtype == torch.float32 and not drawn.y.any()
    order = [(points - x).flatten(1).abs().sum(1).argmin().item() for x in drawn.x_0]
    assert sorted(order) == list(range(10))
    model = OfPoints(dimension)
    (report,) = train.train(model, draw, loss, config, out=tmp_path, device="cpu")
    assert sum(report.losses[-5:]) < sum(report.losses[:5])


def test_points_that_are_none(tiny_images):
    with pytest.raises(TypeError, match=r"floating-point numbers, got torch.uint8"):
        train.algorithm_1(tiny_images.pixels, SMALL)
    with pytest.raises(ValueError, match="points have no left and right"):
        train.algorithm_1(torch.randn(5, 2), replace(SMALL, flip=True))
    for shape in ((0, 2), (5,), ()):
        with pytest.raises(ValueError, match=r"points must have shape \(N, D, \.\.\.\)"):
            train.algorithm_1(torch.zeros(shape), SMALL)
    with pytest.raises(TypeError, match=r"must be a tensor of .*, got ndarray; "):
        train.algorithm_1(torch.randn(5, 2).numpy(), SMALL)
