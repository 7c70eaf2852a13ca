"""Break the library, and a notebook's own assert must fail: that is what makes a notebook a proof
and not a copy.

`NOTICED` is to be read as a table, and to be extended.  Each row makes one slip in a function, by
an operator of `mutants.py`; the cell is run, after what it needs of the earlier ones alone, and one
of its asserts must fail.  Without the slip it must pass.  `SWEPT` makes all slips in a few
functions.  When a function changes, the rows that no longer find their place are named in one list.
"""

import ast
import copy
import functools
import importlib
import inspect
import io
import json
import linecache
import pkgutil
import re
import symtable
import textwrap
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from conftest import ROOT
from mutants import (
    PARAMETERLESS,
    Slip,
    add_root,
    drop_call,
    drop_keyword,
    drop_root,
    drop_statement,
    drop_term,
    earlier,
    exchange_calls,
    flip_sign,
    negate_condition,
    other_axis,
    other_boundary,
    other_call,
    other_comparison,
    other_constant,
    other_name,
    other_string,
    rotate_axes,
    shift_index,
    square,
    swap_arguments,
    swap_operands,
)

import tutorial_lib
from tutorial_lib import train
from tutorial_lib.course import animation, plot
from tutorial_lib.nets import unet


class Mutation(NamedTuple):
    """One row: with the slip in `function`, the cell of notebook `number` fails that has `cell`."""

    number: str
    cell: str
    function: str
    slip: Slip


# (notebook, what its cell contains): the slips that this cell notices, as (function, operator)
NOTICED = {
    ("00", "assert_close(walks[1][-1], sample.final(library)"): [
        ("sample.ddpm", drop_root(0)),
        ("sample.ddpm", earlier(0, name="i")),
        ("sample.ddpm", shift_index(0, name="sigma")),
        ("denoise.denoiser", earlier(0, name="t")),
    ],
    ("01", "assert_close(path, torch.tensor(naive"): [
        ("markov.distributions", swap_operands(0)),
        ("markov.distributions", shift_index(0, name="range")),
    ],
    ("01", "assert_close(torch.stack([power, counted])"): [
        ("markov.stationary", drop_call(0, name="T")),
        ("markov.stationary", other_name(0, sum="norm")),
        ("markov.simulate", shift_index(0, name="states", by=1)),
    ],
    ("01", "assert_close(values[:2].abs(), torch.stack("): [
        ("markov.eigenvalues", other_name(0, abs="angle")),
        ("markov.eigenvalues", other_constant(0)),
    ],
    ("01", "assert (markov.settles(chain), markov.forgets(chain))"): [
        ("markov.forgets", other_comparison(0)),
        ("markov.forgets", negate_condition(0)),
        ("markov.settles", other_comparison(0)),
        ("markov.settles", negate_condition(0)),
        ("markov.classes", drop_term(2)),
        ("markov.classes", drop_statement(2)),
        ("markov.period", drop_call(0, name="gcd")),
    ],
    ("01", "assert_close(naive, markov.reverse(P, S_0))"): [
        ("markov.reverse", other_axis(0)),
        ("markov.reverse", other_constant(0)),
        ("markov.reverse", drop_call(0, name="T")),
    ],
    ("01", "assert_close(P - markov.reverse(P, eigenvector)"): [
        ("markov.flow", swap_operands(0)),
        ("markov.flow", other_axis(0)),
    ],
    ("01", "assert_close(markov.autoregression(phi, eps)"): [
        ("markov.autoregression", drop_call(0, name="flip")),
        ("markov.autoregression", shift_index(1, name="x", by=1)),
        ("markov.autoregression", flip_sign(3)),
    ],
    ("01", "assert_close(naive, x)"): [
        ("markov.metropolis", other_comparison(0)),
        ("markov.metropolis", drop_call(0, name="log")),
        ("markov.metropolis", swap_operands(0)),
    ],
    ("01", "markov.langevin(lambda x: -x"): [
        ("markov.langevin", drop_term(2)),
        ("markov.langevin", flip_sign(0)),
        ("markov.langevin", drop_root(0)),
    ],
    ("02", "x_0, same_t(7, 8), eps)"): [
        ("diffusion.q_step", drop_root(0)),
        ("diffusion.q_step", drop_root(1)),
        ("schedule.NoiseSchedule.alpha", add_root(0)),
        ("schedule.NoiseSchedule.at", shift_index(0, name="table")),
    ],
    ("02", "x_0, same_t(40, 8), eps)"): [
        ("diffusion.q_sample", square(0)),
        ("diffusion.q_sample", square(4)),
        ("diffusion.q_sample", earlier(0, name="t")),
        ("schedule.NoiseSchedule.signal_and_noise", drop_root(1)),
        ("schedule.NoiseSchedule.alpha_bar", drop_call(0, name="cumprod")),
    ],
    ("02", "assert_close(x, every / 127.5 - 1)"): [
        ("data.to_model", other_constant(0)),
        ("data.to_model", drop_call(0, name="sub_")),
    ],
    ("02", "assert_close(torch.tensor(alpha_bar, dtype=torch.float64), linear(1000)"): [
        ("schedule.linear", earlier(2, name="T")),
        ("schedule.linear", swap_arguments(0, name="linspace")),
        ("schedule.from_betas", other_name(2, beta="beta.flip(0)")),
        ("schedule.cosine", other_name(1, T="T + 1")),
        ("schedule.cosine", drop_term(4)),
        ("schedule.cosine", drop_term(14)),
        ("schedule.cosine", drop_call(0, name="clamp")),
    ],
    ("02", "assert_close(by_library.squeeze(), by_bayes"): [
        ("toys.Mixture.x_0_hat", drop_term(7)),
        ("toys.Mixture.x_0_hat", drop_term(18)),
        ("toys.Mixture.x_0_hat", drop_term(4)),
    ],
    ("03", "closed.append(float(gaussian.kl("): [
        ("gaussian.kl", swap_operands(0)),
        ("gaussian.kl", drop_term(10)),
        ("gaussian.kl", drop_term(13)),
        ("gaussian.log_density", other_constant(2)),
    ],
    ("03", "A = 0.25 / 0.75 + 1 / 0.36"): [
        ("schedule.NoiseSchedule.mu_tilde_weights", drop_root(0)),
        ("schedule.NoiseSchedule.mu_tilde_weights", drop_root(1)),
        ("schedule.NoiseSchedule.mu_tilde_weights", shift_index(0, name="alpha_bar")),
        ("diffusion.q_posterior", swap_arguments(3)),
        ("diffusion.q_posterior", flip_sign(0)),
        ("diffusion.q_posterior", other_name(0, beta_tilde="beta")),
        ("schedule.NoiseSchedule.beta_tilde", shift_index(0, name="alpha_bar")),
    ],
    ("03", "assert_close([mu, eq_8, eq_12]"): [
        ("diffusion.mu_from_eps", drop_root(0)),
        ("diffusion.mu_from_eps", drop_root(1)),
        ("diffusion.mu_from_eps", flip_sign(1)),
        ("diffusion.L_t_minus_1", swap_arguments(0, name="kl", pair=(1, 3))),
        ("diffusion.L_t_minus_1", other_name(0, sum="mean")),
        ("schedule.NoiseSchedule.reverse_variance", negate_condition(0)),
    ],
    ("03", "for target in diffusion.TARGETS"): [
        ("diffusion.target_from", flip_sign(0)),
        ("diffusion.x_0_from", flip_sign(1)),
        ("diffusion.x_0_from", square(7)),
        ("diffusion.x_0_from", earlier(0, name="t")),
        ("diffusion.eps_from", flip_sign(2)),
        ("diffusion.eps_from", square(11)),
    ],
    ("03", "assert_close(mass, naive)"): [
        ("diffusion.L_0", drop_root(0)),
        ("diffusion.L_0", other_constant(0)),
        ("diffusion.L_0", other_constant(3)),
        ("diffusion.L_0", drop_statement(3)),
        ("diffusion.L_0", drop_statement(4)),
        ("diffusion._log_normal_mass", swap_operands(0)),
    ],
    ("03", "far = diffusion.L_0("): [
        ("diffusion._log_normal_mass", drop_statement(0)),
    ],
    ("03", "library = train.training_step("): [
        ("train.training_step", swap_arguments(0, name="q_sample", pair=(1, 3))),
        ("train.training_step", swap_arguments(0, name="target_from", pair=(2, 3))),
        ("schedule.NoiseSchedule.signal_and_noise", drop_root(0)),
    ],
    ("03", "assert_close(path[-1], sample.final(frames)"): [
        ("sample.ddpm", other_boundary(0)),  # noise at the last step
        ("sample.ddpm", drop_root(0)),
        ("sample.ddpm", earlier(0, name="i")),
        ("schedule.NoiseSchedule.reverse_variance", negate_condition(0)),
    ],
    ("04", "assert_close(naive, down(x))"): [
        ("nets.blocks.Down.forward", rotate_axes(2)),
    ],
    ("04", "assert_close(F.conv2d(repeated, up.smooth.weight"): [
        ("nets.blocks.Up.forward", other_string(0, nearest="bilinear")),
    ],
    ("04", "assert_close(naive, blocks.time_embedding(torch.tensor("): [
        ("nets.blocks.time_embedding", drop_term(4)),
        ("nets.blocks.time_embedding", swap_arguments(2)),
    ],
    ("04", "assert_close(naive_block(block, x, embedding)"): [
        ("nets.blocks.ResidualBlock.forward", drop_term(9)),
        ("nets.blocks.ResidualBlock.forward", drop_term(5)),
        ("nets.blocks.ResidualBlock.forward", drop_term(0)),
        ("nets.blocks.ResidualBlock.forward", exchange_calls(1)),
    ],
    ("04b", "assert_close(naive, layer(x), rtol=0"): [
        ("nets.blocks.StandardizedConv2d.forward", drop_term(0)),
        ("nets.blocks.StandardizedConv2d.forward", other_axis(0)),
    ],
    ("04", "naive_attention(layer, image) for image in x"): [
        ("nets.blocks.Attention.forward", other_constant(1)),
        ("nets.blocks.Attention.forward", other_axis(0)),
        ("nets.blocks.Attention.forward", drop_term(8)),
        ("nets.blocks._heads", rotate_axes(0)),
    ],
    ("04b", "assert_close(x + layer.out(naive.reshape("): [
        ("nets.blocks.LinearAttention.forward", other_axis(1)),
        ("nets.blocks.LinearAttention.forward", drop_term(0)),
    ],
    ("04b", "assert_close(naive, library)"): [
        ("train.self_conditioned_step", drop_statement(5)),
        ("train.self_conditioned_step", drop_call(0, name="zeros_like")),
        ("train.self_conditioned_step", drop_statement(4)),
        ("train.self_conditioned_step", other_name(0, x_t="x_0")),
        ("train.self_conditioned_step", other_name(0, target="'eps'")),
    ],
    ("04b", "assert_close(two.x_0_hat, second)"): [
        ("denoise.self_conditioned", other_name(0, given="{}")),
        ("denoise.self_conditioned", other_name(1, last_estimate="x_t")),
        ("denoise.self_conditioned", other_comparison(0)),
        ("denoise.self_conditioned", negate_condition(0)),
    ],
    ("04b", "assert_close(naive_dit_block("): [
        ("nets.dit.DiTBlock.forward", drop_term(3)),
        ("nets.dit.DiTBlock.forward", drop_term(7)),
        ("nets.dit.DiTBlock.forward", drop_term(9)),
        ("nets.dit.DiTBlock._attend", rotate_axes(0)),
    ],
    ("05", 'library = train.training_step(simple, schedule, x_0, t, eps, target="eps")'): [
        ("train.training_step", other_name(0, x_t="x_0")),
        ("train.training_step", earlier(1, name="t")),
        ("train.training_step", other_name(0, target="'x_0'")),
        ("diffusion.regression_loss", other_name(0, mse_loss="l1_loss")),
        ("diffusion.regression_loss", other_name(0, mean="sum")),
        ("diffusion.q_sample", square(4)),
    ],
    ("05", "assert_close(by_hand, library)"): [
        ("diffusion.target_weights", swap_arguments(5)),
        ("diffusion.target_weights", flip_sign(1)),
        ("diffusion.target_from", swap_arguments(0)),
        ("train.training_step", earlier(2, name="t")),
    ],
    ("05", "rates.update_ema(copied, single"): [
        ("engine.rates.update_ema", drop_call(0, name="min")),
        ("engine.rates.update_ema", other_name(0, min="max")),
        ("engine.rates.update_ema", drop_term(7)),
    ],
    ("05", "assert_close(torch.tensor(library), naive"): [
        ("engine.rates.learning_rate", earlier(1, name="step")),
        ("engine.rates.learning_rate", drop_term(4)),
        ("engine.rates.learning_rate", flip_sign(2)),
    ],
    ("05b", "assert_close(tenths(times), below.diff()"): [
        ("train.draw", drop_term(3)),
        ("train.draw", square(1)),
        ("train.draw", negate_condition(1)),
    ],
    ("05b", "assert_close(muon.orthogonalize(matrix[None])[0], naive"): [
        ("engine.muon.orthogonalize", drop_term(16)),
        ("engine.muon.orthogonalize", drop_term(0)),
    ],
    ("06", "assert_close(eps_theta(x_t, t), diffusion.eps_from("): [
        ("diffusion.eps_from", flip_sign(2)),
        ("diffusion.eps_from", drop_root(1)),
    ],
    ("06", "assert_close(torch.stack(naive_mean), by_noise)"): [
        ("diffusion.mu_from_eps", drop_root(0)),
    ],
    ("06", "assert_close(by_picture, by_noise"): [
        ("diffusion.x_0_from", square(7)),
        ("schedule.NoiseSchedule.mu_tilde_weights", drop_root(0)),
    ],
    ("06", "assert_close(own_denoise(x_t, t), denoise(x_t, t))"): [
        ("denoise.denoiser", earlier(0, name="t")),
        ("denoise.denoiser", earlier(1, name="t")),
        ("denoise.denoiser", swap_arguments(5)),
        ("denoise.denoiser", negate_condition(0)),
    ],
    ("06", "assert_close(sample.final(frames), naive"): [
        ("sample.ddpm", other_boundary(0)),  # noise at the last step
        ("sample.ddpm", shift_index(0, name="sigma")),
        ("sample.ddpm", drop_root(0)),
        ("sample.ddpm", earlier(0, name="i")),
        ("sample.ddpm", earlier(1, name="i")),
    ],
    ("06", "assert_close(without, library, rtol=0"): [
        ("sample.ddim", drop_term(12)),
        ("sample.ddim", shift_index(1, name="signal", by=1)),
        ("sample.ddim", drop_term(3)),
    ],
    ("06b", "naive_distance(a, reference)"): [
        ("evaluate.frechet_distance", drop_term(17)),
    ],
    ("06b", "indices, distances = evaluate.nearest(points, references"): [
        ("evaluate.nearest", drop_term(2)),
        ("evaluate.nearest", other_constant(5)),
    ],
    ("06", "assert_close(short.beta,"): [
        ("schedule.NoiseSchedule.strided", add_root(0)),
    ],
    ("06b", 'assert_close(suspects["B"][-1][1], library'): [
        ("sample.ddpm", other_name(0, visited="schedule")),
        ("sample.ddpm", other_name(1, visited="schedule")),
    ],
    ("07", "assert_close(sample.final(frames), naive)"): [
        ("sample.ddim", drop_term(3)),  # eta
        ("sample.ddim", drop_root(2)),  # of the fresh noise
        ("sample.ddim", drop_term(13)),  # all of the old noise beside it
        ("sample.ddim", shift_index(1, name="signal", by=1)),
    ],
    ("07", "assert_close(y, library"): [
        ("sample.ddim", drop_root(1)),
        ("sample.ddim", drop_term(12)),
    ],
    ("07", "assert_close(two_m(knows"): [
        ("beyond.solvers.dpm_solver", drop_term(20)),  # to the end of the step
        ("beyond.solvers.dpm_solver", drop_term(18)),
        ("beyond.solvers.dpm_solver", flip_sign(9)),
        ("beyond.solvers.dpm_solver", other_boundary(0)),  # the last step looks ahead, too
    ],
    ("07", "assert_close(inversion.slerp("): [
        ("beyond.inversion.slerp", drop_term(2)),
        ("beyond.inversion.slerp", drop_term(17)),
        ("beyond.inversion.slerp", drop_term(28)),
    ],
    ("07", "assert_close(loss(student"): [
        ("beyond.distillation.Consistency.__call__", drop_term(4)),
        ("beyond.distillation.Consistency.__call__", drop_term(6)),  # the unit
        ("beyond.distillation.Consistency.__call__", drop_root(1)),
    ],
    ("09", "assert_close(own_score(grid), three.score(grid))"): [
        ("toys.Mixture.score", flip_sign(0)),
        ("toys.Mixture.score", swap_operands(1)),
        ("toys.Mixture.score", drop_term(2)),
    ],
    ("09", "score.denoising_loss(model, narrow, sigma, eps))"): [
        ("beyond.score.denoising_loss", drop_term(4)),
        ("beyond.score.denoising_loss", flip_sign(2)),
        ("beyond.score.denoising_loss", flip_sign(3)),
    ],
    ("09", "score.score_from(schedule,"): [
        ("beyond.score.score_from", flip_sign(0)),
        ("beyond.score.score_from", drop_term(0)),
        ("beyond.score.score_from", drop_term(4)),  # the square of the noise
    ],
    ("09", "assert_close(frames[-1].x, x)"): [
        ("beyond.langevin.annealed", drop_term(0)),
        ("beyond.langevin.annealed", drop_term(1)),
        ("beyond.langevin.annealed", drop_term(2)),
        ("markov.langevin", drop_root(0)),
        ("markov.langevin", flip_sign(0)),
    ],
    ("09", "assert_close(mean, diffusion.mu_from_eps("): [
        ("diffusion.mu_from_eps", drop_root(0)),
        ("diffusion.mu_from_eps", flip_sign(0)),
    ],
    ("09", "assert_close(paths.velocity(road, x"): [
        ("beyond.paths.velocity", flip_sign(0)),
        ("beyond.paths.velocity", flip_sign(1)),
        ("beyond.paths.velocity", other_name(0, of_a="a")),
        ("beyond.paths.Path.rates", flip_sign(0)),
        ("beyond.paths.Path.rates", drop_term(3)),
    ],
    ("09", "assert_close(tried[found, 0], c_skip"): [
        ("beyond.edm.coefficients", flip_sign(0)),
        ("beyond.edm.coefficients", drop_root(0)),
        ("beyond.edm.coefficients", drop_term(4)),
    ],
    ("09", "by_ddim, rtol="): [
        ("beyond.flow.as_denoiser", drop_root(0)),
        ("beyond.flow.as_denoiser", flip_sign(0)),
        ("beyond.flow.ends_of", flip_sign(2)),
        ("beyond.flow.as_schedule", square(0)),
    ],
    ("10", "assert_close(naive, library(x_t, t), rtol=1e-6"): [
        ("beyond.guidance.of_score", drop_root(0)),
        ("beyond.guidance.of_score", drop_term(2)),
        ("beyond.guidance.classifier_guided", other_name(0, log_softmax="softmax")),
        ("beyond.guidance.classifier_guided", flip_sign(0)),
    ],
    ("10", "assert_close(naive, guidance.guided(exact, y, w, clip=False)(x_t, t))"): [
        ("beyond.guidance.guided", flip_sign(0)),
        ("beyond.guidance.guided", flip_sign(1)),
        ("beyond.guidance.pair", swap_arguments(1)),
    ],
    ("10", "assert_close(shares[3], (among(clouds[3], few)"): [
        ("evaluate._share_among", other_comparison(0)),
        ("evaluate.precision_recall", swap_arguments(0, name="_share_among")),
    ],
    ("19", "assert_close(right[:100], torch.stack(naive[3:]))"): [
        ("markov.autoregression", drop_call(0, name="flip")),
        ("markov.autoregression", shift_index(1, name="x", by=1)),
        ("markov.autoregression", flip_sign(3)),
    ],
    ("19", "assert_close(naive, diffusion.L_T(each, x))"): [
        ("diffusion.L_T", drop_root(0)),
        ("diffusion.L_T", shift_index(0)),
    ],
    ("19", "assert_close(gaussian.entropy(torch.tensor(1.0))"): [
        ("gaussian.entropy", drop_term(4)),
    ],
    ("19", "assert_close(ours, torch.tensor([[1.0, 1.0 + torch.pi / 2]]).sin())"): [
        ("nets.blocks.time_embedding", drop_call(0, name="max")),
    ],
    ("19", "assert best == {"): [
        ("diffusion.regression_loss", other_name(0, l1_loss="mse_loss")),
    ],
    ("08", "library = variance.log_variance(schedule, shares, t)"): [
        ("beyond.variance.log_variance", flip_sign(0)),
        ("beyond.variance.log_variance", swap_arguments(0)),
        ("beyond.variance.log_ends", drop_call(0, name="log")),
    ],
    ("08", "assert_close(variational.noised(x, gamma, eps), z"): [
        ("beyond.variational.signal_and_noise", drop_root(0)),
        ("beyond.variational.signal_and_noise", flip_sign(1)),
        ("beyond.variational.noised", flip_sign(0)),
        ("beyond.variational.diffusion_nats", other_constant(0)),
        ("beyond.variational.diffusion_nats", drop_call(0, name="square")),
        ("beyond.variational.diffusion_nats", flip_sign(0)),
    ],
    ("08", "library = variational.decoder_nats(pixel, mean.view(1, 1)"): [
        ("beyond.variational.decoder_nats", drop_call(0, name="square")),
        ("beyond.variational.decoder_nats", flip_sign(2)),
        ("beyond.variational.decoder_nats", drop_term(1)),
    ],
    ("08", "assert_close(variational.spread(6, seeded(7))"): [
        ("beyond.variational.spread", drop_term(0)),
    ],
    ("08", "assert_close(library, naive, rtol=0, atol=5e-3)"): [
        ("beyond.exact.log_density", flip_sign(1)),
        ("beyond.exact.log_density", flip_sign(4)),
        ("beyond.exact.log_density", drop_term(2)),
        ("beyond.exact._field", flip_sign(0)),
        ("beyond.exact._field", drop_term(1)),
    ],
    ("08", "assert_close(exact.hutchinson(probe)("): [
        ("beyond.exact.hutchinson", drop_term(0)),
    ],
    ("08", "assert naive == number"): [
        ("beyond.compression.push", flip_sign(1)),
        ("beyond.compression.push", drop_term(0)),
        ("beyond.compression.push", drop_term(3)),
    ],
}
# the same for cells that assert nothing: with the slip they print something else than is stored,
# and nbval fails
PRINTED = {
    ("02", "by_density, by_count ="): [
        ("gaussian.log_density", other_constant(2)),
        ("gaussian.grid_density", drop_term(4)),
    ],
    ("02", "start = torch.full((20_000, 1), 0.8)"): [
        ("diffusion.q_walk", other_name(1, x="x_0")),
        ("diffusion.q_walk", other_name(0, t="1")),
    ],
    ("02", "bits = diffusion.L_T(one"): [
        ("diffusion.L_T", drop_root(0)),
        ("diffusion.L_T", shift_index(0)),
        ("diffusion.L_T", swap_arguments(0, name="kl", pair=(1, 3))),
        ("schedule.linear", other_constant(1)),
    ],
    ("02", "ended = zero_terminal(rescaled)"): [
        ("schedule.zero_terminal", drop_statement(1)),
    ],
    ("02", "h = gaussian.entropy("): [
        ("gaussian.entropy", drop_term(4)),
        ("gaussian.entropy", drop_term(1)),
    ],
    ("02", "def average_kl(beta)"): [
        ("gaussian.log_density", drop_term(11)),
    ],
    ("02", "def entropy_at(t)"): [
        ("toys.Mixture._log_joint", drop_term(11)),
    ],
    ("02", "nearest, noise = ("): [
        ("toys.Mixture.x_0_hat", drop_term(4)),
    ],
    ("02", "half gone, of 1000"): [
        ("schedule.quadratic", drop_root(1)),
        ("schedule.sigmoid", other_constant(0)),
        ("schedule.geometric", shift_index(1, name="ends")),
        ("schedule.geometric", swap_arguments(0)),
    ],
    ("05", "data.to_pixels(data.to_model(levels))"): [
        ("data.to_model", other_constant(0)),
        ("data.to_pixels", drop_term(0)),
        ("data.to_pixels", drop_call(0, name="round")),
        ("data.to_pixels", drop_call(0, name="clamp")),
    ],
    ("05", "errors = [(a - b).square()"): [
        ("diffusion.eps_from", drop_root(0)),
        ("diffusion.x_0_from", drop_root(1)),
    ],
    ("05", "batches seen:"): [
        ("engine.rates.update_ema", drop_statement(4)),
    ],
    ("05", "first, again, other ="): [
        ("train.draw", negate_condition(0)),
        ("train.draw", drop_keyword(3, name="generator")),
        ("train.draw", other_name(0, step="0")),
        ("train.draw", other_name(1, randn="rand")),
        ("engine.order.generator_of", drop_term(2)),
    ],
    ("05", "sums = [pictures"): [
        ("train.draw", other_constant(2)),
        ("engine.order.indices_of", other_name(1, epoch="step")),
        ("engine.order.indices_of", other_constant(0)),
        ("engine.order.epoch_order", other_call(0, randperm="torch.randint(count, (count,))")),
        ("engine.order.epoch_order", other_call(0, randperm="torch.arange(count)")),
    ],
    ("05", "turned = (flipped"): [
        ("train.draw", other_constant(0)),
        ("data.batch", drop_call(0, name="flip")),
    ],
    ("06", "def two_points(S)"): [
        ("schedule.NoiseSchedule.mu_tilde_weights", drop_root(0)),
        ("schedule.NoiseSchedule.strided", square(0)),
        ("schedule.even_tau", other_constant(0)),
    ],
    ("06", "def spread(sigma_squared)"): [
        ("schedule.NoiseSchedule.beta_tilde", swap_operands(0)),
    ],
    ("06b", "drawn_again = torch.tensor("): [
        ("evaluate.frechet_distance", drop_term(17)),
    ],
}
MUTATIONS = [Mutation(*cell, *slip) for cell, slips in NOTICED.items() for slip in slips]
PRINTS = [Mutation(*cell, *slip) for cell, slips in PRINTED.items() for slip in slips]

# notebook: what makes its cells quick and changes nothing that a row is about, as (what a cell
# says, what it says here): fewer samples, fewer steps
SHORTER = {
    "00": [("3000", "300")],
    "03": [("range(2000)", "range(2)")],
    "05": [("range(250)", "range(2)")],
    "06": [("10_000", "400")],
    "09": [("steps=1200", "steps=3")],
}

# function: the cells that between them notice every slip in it, by any operator at any place
SWEPT = {
    "diffusion.q_sample": [("02", "x_0, same_t(40, 8), eps)")],
    "diffusion.q_posterior": [("03", "A = 0.25 / 0.75 + 1 / 0.36")],
    "diffusion.target_weights": [
        ("03", "for target in diffusion.TARGETS"),
        ("05", "assert_close(by_hand, library)"),
    ],
    "diffusion.x_0_from": [("03", "for target in diffusion.TARGETS")],
    "schedule.NoiseSchedule.strided": [("06", "assert_close(short.beta,")],
    "gaussian.kl": [
        ("03", "closed.append(float(gaussian.kl("),
        ("03", "assert_close([mu, eq_8, eq_12]"),
    ],
}
# but for its lines with these words: no cell says what mu should be (test_diffusion does)
LEFT_OUT = {"diffusion.target_weights": "of_x_t"}
# nor for these slips, which change nothing that a notebook could see, and why they do not
EQUIVALENT = [
    ("diffusion.q_sample", drop_call(0), "shapes are compared, to be refused if they differ"),
    ("diffusion.q_sample", drop_statement(0), "the same"),
    ("diffusion.q_posterior", drop_call(0), "shapes are compared, to be refused if they differ"),
    ("diffusion.q_posterior", drop_statement(0), "the same"),
    ("diffusion.target_weights", drop_call(6), "an unknown name is refused"),
    ("diffusion.target_weights", drop_statement(2), "the same"),
    ("diffusion.target_weights", other_comparison(1), "no name comes behind x_0"),
    ("diffusion.target_weights", other_comparison(2), "but x_0 none comes behind v"),
    ("diffusion.x_0_from", drop_call(0), "shapes are compared, to be refused if they differ"),
    ("diffusion.x_0_from", drop_statement(0), "the same"),
    ("diffusion.x_0_from", other_comparison(0), "no name comes behind x_0"),
    ("schedule.NoiseSchedule.strided", drop_call(0), "a tau that begins elsewhere is refused"),
    ("schedule.NoiseSchedule.strided", drop_statement(0), "the same"),
    ("schedule.NoiseSchedule.strided", drop_call(2), "a warning is not repeated"),
    ("schedule.NoiseSchedule.strided", drop_statement(2), "the same"),
    ("gaussian.kl", swap_operands(1), "the difference is squared"),
    ("gaussian.kl", drop_call(0), "a variance is refused if it is not positive"),
    ("gaussian.kl", drop_call(1), "the same"),
    ("gaussian.kl", drop_statement(0), "the same"),
    ("gaussian.kl", drop_statement(1), "the same"),
]

# what a cell calls to be looked at, or to check something: nothing depends on it
SHOWS = {"print", "plot", "animation", "show_source", "assert_close", "check_environment"}
CELLS = list(dict.fromkeys([*NOTICED, *(cell for cells in SWEPT.values() for cell in cells)]))
MODULES = {
    module.name.removeprefix("tutorial_lib."): importlib.import_module(module.name)
    for module in pkgutil.walk_packages(tutorial_lib.__path__, "tutorial_lib.")
    if not module.name.endswith("__main__")
}


class Step:
    """A statement of a code cell: which global names it uses from before, which it binds or
    changes, and whether it acts: calls something for what that does, not for what it returns.
    """

    def __init__(self, tree: ast.stmt):
        self.tree, self.uses, self.binds, self.changes = tree, set(), set(), set()
        for piece in pieces([tree]):
            scope = symtable.symtable(ast.unparse(piece), "step", "exec")
            changed = changes(piece)
            self.uses |= (used(scope) | changed) - self.binds
            self.binds |= {
                s.get_name() for s in scope.get_symbols() if s.is_assigned() or s.is_imported()
            } - changed
            self.changes |= changed
        alone = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
        calls = [ast.unparse(node.func) for node in alone if isinstance(node, ast.Call)]
        definition = isinstance(tree, ast.FunctionDef | ast.ClassDef)
        self.acts = not definition and any(call.partition(".")[0] not in SHOWS for call in calls)

    def gives(self, wanted: set[str]) -> bool:
        """Whether one of these names has its value from here."""
        return bool((self.binds | self.changes) & wanted)


class Cell:
    """A code cell, or some statements of one."""

    def __init__(self, name: str, source: str, steps: list[Step] | None = None):
        self.name, self.source, self.tree = name, source, ast.parse(source)
        self.steps = [Step(node) for node in self.tree.body] if steps is None else steps

    def before(self, wanted: set[str]) -> tuple["Cell", set[str]]:
        """What of the cell must run to give these names their values, none of it if it does not;
        and the names that are wanted then.  Nothing is shown or checked.
        """
        kept = []
        if any(step.gives(wanted) for step in self.steps):
            for step in reversed(self.steps):
                if step.acts or step.gives(wanted):
                    wanted = (wanted - step.binds) | step.uses
                    kept.append(step)
        return Cell(self.name, self.source, kept[::-1]), wanted

    def run(self, names: dict) -> None:
        """Execute it; its source stays known, for `show_source` and tracebacks."""
        remember(self.name, self.source)
        tree = ast.Module([step.tree for step in self.steps], [])
        exec(compile(tree, self.name, "exec"), names)

    def asserts_at(self, line: int) -> bool:
        """Whether the statement on this line is an `assert` or a call of `assert_close`."""
        statements = [
            node for node in ast.walk(self.tree) if isinstance(node, ast.Assert | ast.Expr)
        ]
        return any(
            node.lineno <= line <= node.end_lineno
            for node in statements
            if isinstance(node, ast.Assert) or ast.unparse(node).startswith("assert_close(")
        )


def pieces(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements in the order in which they run: a loop, an `if` or a `with` as its first line,
    then what is in it.
    """
    for node in body:
        if isinstance(node, ast.For | ast.While | ast.If | ast.With):
            head = copy.copy(node)
            head.body, head.orelse = [ast.Pass()], []
            yield head
            yield from pieces(node.body + getattr(node, "orelse", []))
        else:
            yield node


def used(scope: symtable.SymbolTable) -> set[str]:
    """The global names that a scope and all scopes inside it refer to."""
    top = scope.get_type() == "module"
    found = {
        s.get_name() for s in scope.get_symbols() if s.is_referenced() and (top or s.is_global())
    }
    return found.union(*(used(inner) for inner in scope.get_children()))


def changes(piece: ast.stmt) -> set[str]:
    """The names whose value a statement changes without binding them anew: `table[3] = ...`, `rows
    += ...`.
    """
    if isinstance(piece, ast.FunctionDef | ast.ClassDef):
        return set()
    parts = [node for node in ast.walk(piece) if isinstance(node, ast.Subscript | ast.Attribute)]
    found = [node.value for node in parts if isinstance(node.ctx, ast.Store)]
    found += [piece.target] if isinstance(piece, ast.AugAssign) else []
    return {node.id for node in found if isinstance(node, ast.Name)}


def remember(file: str, source: str) -> None:
    """Let Python find the source of what was never in a file."""
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)


@cache
def cells(number: str) -> list[Cell]:
    """The code cells of a committed notebook, in order."""
    (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    everything = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in everything if cell["cell_type"] == "code"]
    for old, new in SHORTER.get(number, []):
        if not any(old in source for source in sources):
            raise LookupError(f"no cell of notebook {number} says {old!r}: correct SHORTER")
        sources = [source.replace(old, new) for source in sources]
    return [
        Cell(f"<notebook {number}, code cell {n}>", source) for n, source in enumerate(sources, 1)
    ]


def squeezed(source: str) -> str:
    """Code without its blanks, so that it may be broken into lines anew."""
    return "".join(source.split())


def needed(number: str, snippet: str) -> list[Cell]:
    """The one cell that contains the snippet, last, after what it needs of the earlier ones."""
    everything = cells(number)
    found = [n for n, cell in enumerate(everything) if squeezed(snippet) in squeezed(cell.source)]
    if len(found) != 1:
        raise LookupError(
            f"{snippet!r} should be in one code cell of notebook {number}, and is in {len(found)}"
        )
    last = everything[found[0]]
    chosen, wanted = [last], set()
    for step in reversed(last.steps):
        wanted = (wanted - step.binds) | step.uses
    for cell in reversed(everything[: found[0]]):
        part, wanted = cell.before(wanted)
        chosen.append(part)
    return [cell for cell in reversed(chosen) if cell.steps]


def run(number: str, snippet: str) -> None:
    """Execute a cell, and what it needs, as a notebook would."""
    names = {"__name__": "__main__"}
    Path("outputs").mkdir(exist_ok=True)
    for cell in needed(number, snippet):
        cell.run(names)


def printed(number: str, snippet: str) -> str:
    """What a cell prints, or the error in which it, or one that it needs, ends."""
    names = {"__name__": "__main__"}
    Path("outputs").mkdir(exist_ok=True)
    *before, cell = needed(number, snippet)
    try:
        for earlier_cell in before:
            earlier_cell.run(names)
        with redirect_stdout(io.StringIO()) as said:
            cell.run(names)
    except Exception as error:
        return repr(error)
    return said.getvalue()


def owner_of(function: str) -> tuple[ModuleType, Any, str]:
    """The module and the owner of a function (`diffusion.q_step`) or method, and its own name."""
    names = function.split(".")
    for length in range(len(names) - 1, 0, -1):
        module = MODULES.get(".".join(names[:length]))
        if module:
            owner = module
            for name in names[length:-1]:
                owner = getattr(owner, name, None)
            if names[-1] in vars(owner or object):
                return module, owner, names[-1]
    same_name = [
        f"{short}.{names[-1]}"
        for short, module in MODULES.items()
        if getattr(vars(module).get(names[-1]), "__module__", "") == module.__name__
    ]
    hint = f", but there is {', '.join(same_name)}" if same_name else ""
    raise LookupError(f"there is no {function}{hint}")


def source_of(function: str) -> str:
    """What a function says now."""
    _, owner, name = owner_of(function)
    now = vars(owner)[name]
    source = inspect.getsource(now.func if isinstance(now, cached_property) else now)
    return textwrap.dedent(source)


def tree_of(function: str) -> ast.FunctionDef:
    """The same as a syntax tree."""
    return ast.parse(source_of(function)).body[0]


def mutated(function: str, slip: Slip) -> Any:
    """The function with the slip in it, to be put in the place of the sound one."""
    module, owner, name = owner_of(function)
    source, file, names = ast.unparse(slip(tree_of(function))), f"<broken {function}>", {}
    remember(file, source)
    exec(compile(source, file, "exec"), vars(module), names)
    if isinstance(names[name], cached_property):
        names[name].__set_name__(owner, name)
    return names[name]


def break_library(monkeypatch, function: str, slip: Slip) -> None:
    """Put the broken function wherever the sound one is: in every module that imported it, and in
    its tables.
    """
    _, owner, name = owner_of(function)
    now, broken = vars(owner)[name], mutated(function, slip)
    monkeypatch.setattr(owner, name, broken)
    for module in MODULES.values():
        for key, value in list(vars(module).items()):
            if value is now:
                monkeypatch.setattr(module, key, broken)
            elif isinstance(value, dict) and not key.startswith("__"):
                for entry in [entry for entry, item in value.items() if item is now]:
                    monkeypatch.setitem(value, entry, broken)


def stand_in(*saved) -> Callable:
    """In the place of a trained network: for what is compared here, any function will do."""
    return lambda x_t, t: 0.5 * x_t + t.view(-1, 1, 1, 1) / 1000


@pytest.fixture(autouse=True)
def in_short(tmp_path, monkeypatch):
    """What is not tested here is left out: pictures, and the minutes of training that some cells
    begin with.
    """
    torch.manual_seed(0)  # a slice may leave out the cell that does
    monkeypatch.chdir(tmp_path)  # cells write into their folder
    for module in (plot, animation):
        for name, value in list(vars(module).items()):
            ours = inspect.isfunction(value) and value.__module__ == module.__name__
            if ours and name != "every":
                monkeypatch.setattr(module, name, lambda *_, **__: None)
    monkeypatch.setattr(train, "train", lambda *_, **__: iter(()))
    monkeypatch.setattr(unet, "restore", stand_in)
    for cached in [value for module in MODULES.values() for value in vars(module).values()]:
        if isinstance(cached, functools._lru_cache_wrapper):  # what a sound function has drawn
            cached.cache_clear()


@pytest.mark.parametrize(("number", "snippet"), CELLS, ids=lambda value: value[:50])
def test_cell_passes_with_the_library_as_it_is(number, snippet):
    run(number, snippet)


@pytest.mark.filterwarnings("ignore")  # what is broken may warn
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.number}-{m.function}-{m.slip}")
def test_cell_notices(mutation, monkeypatch):
    break_library(monkeypatch, mutation.function, mutation.slip)
    with pytest.raises(AssertionError) as error:
        run(mutation.number, mutation.cell)
    frames = [
        frame for frame in traceback.extract_tb(error.tb) if frame.filename.startswith("<notebook ")
    ]
    assert frames, f"not from a notebook: {error.value}"
    cell = needed(mutation.number, mutation.cell)[-1]
    assert frames[-1].filename == cell.name, (
        f"caught already in {frames[-1].filename}, line {frames[-1].lineno}"
    )
    assert cell.asserts_at(frames[-1].lineno), (
        f"no assert on line {frames[-1].lineno} of {cell.name}"
    )


@pytest.mark.filterwarnings("ignore")  # what is broken may warn
@pytest.mark.parametrize("mutation", PRINTS, ids=lambda m: f"{m.number}-{m.function}-{m.slip}")
def test_cell_prints_something_else(mutation, monkeypatch):
    sound = printed(mutation.number, mutation.cell)
    assert re.search(r"\d", sound) and "Error(" not in sound, sound
    break_library(monkeypatch, mutation.function, mutation.slip)
    assert printed(mutation.number, mutation.cell) != sound


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("function", SWEPT)
def test_every_slip_in_a_core_function_is_noticed(function, monkeypatch, capsys):
    overlooked, lines = {}, source_of(function).splitlines()
    for make in PARAMETERLESS:
        for occurrence, (old, new) in enumerate(make(0).places(tree_of(function))):
            slip = make(occurrence)
            if LEFT_OUT.get(function, "\n") in lines[old.lineno - 1]:
                continue
            with monkeypatch.context() as patch:
                torch.manual_seed(0)
                break_library(patch, function, slip)
                if not any(fails(*cell) for cell in SWEPT[function]):
                    overlooked[str(slip)] = ast.unparse(new)
            capsys.readouterr()  # what the cells have printed
    assert overlooked.keys() == {str(slip) for name, slip, _ in EQUIVALENT if name == function}, (
        overlooked
    )


def fails(number: str, snippet: str) -> bool:
    """Whether a cell, or one that it needs, ends in an error: a crash is noticed too."""
    needed(number, snippet)  # or it would seem to fail
    try:
        run(number, snippet)
    except Exception:
        return True
    return False


def test_every_row_finds_its_place():
    """All rows that a change of the library has left behind, in one list."""
    lost = []
    for mutation in MUTATIONS + PRINTS:
        try:
            mutated(mutation.function, mutation.slip)
        except LookupError as error:
            lost.append(f"{mutation.number}, {mutation.function}, {mutation.slip}: {error}")
    assert not lost, "\n".join(lost)


@pytest.mark.parametrize(
    ("slip", "before", "after"),
    [
        (drop_root(0), "a.sqrt() + b**0.5", "a + b ** 0.5"),
        (drop_root(1), "a.sqrt() + b**0.5", "a.sqrt() + b"),
        (add_root(1), "a + b", "a + b ** 0.5"),
        (square(0), "2 * b", "2 * b ** 2"),
        (flip_sign(1), "a + b - c", "a + b + c"),
        (swap_operands(0), "a + b @ c", "a + c @ b"),
        (drop_term(2), "a * b + c", "a * b"),
        (drop_term(0), "a**2", "a"),
        (swap_arguments(0, name="f", pair=(0, 2)), "g(f(a, b, c), d)", "g(f(c, b, a), d)"),
        (swap_arguments(0), "[a, b]", "[b, a]"),
        (exchange_calls(0), "f(g(a))", "g(f(a))"),
        (exchange_calls(0), "a.f(1).g()", "a.g().f(1)"),
        (drop_call(0), "F.f(a, b)", "a"),
        (drop_call(1), "a.f(b).g(c)", "a.f(b)"),
        (drop_call(0, name="T"), "a.f().T", "a.f()"),
        (drop_keyword(0, name="c"), "f(a, b=1, c=2)", "f(a, b=1)"),
        (other_call(0, f="g(b)"), "a + f(a, b)", "a + g(b)"),
        (shift_index(0), "a[b]", "a[b - 1]"),
        (shift_index(0), "a[1:]", "a[:-1]"),
        (shift_index(0), "a[:-1]", "a[1:]"),
        (
            shift_index(1, name="a", by=1),
            "a[0] + b[1] + a[c : c + 2]",
            "a[0] + b[1] + a[c + 1:c + 2 + 1]",
        ),
        (shift_index(0), "range(1, a)", "range(1, a - 1)"),
        (earlier(1, name="a"), "a + a", "a + (a - 1 + (a == 1))"),
        (other_constant(0), "a + 1", "a + 2"),
        (other_constant(1), "f(0.5, a=True)", "f(0.5, a=False)"),
        (other_axis(0), "f(a, dim=(1, 2))", "f(a, dim=(0, 2))"),
        (other_axis(0), "f(a, dim=-2)", "f(a, dim=-1)"),
        (other_axis(0), "a[:, None]", "a[None, :]"),
        (other_comparison(0), "a == b", "a >= b"),
        (other_boundary(0), "a > b", "a >= b"),
        (negate_condition(0), "a if b else c", "a if not b else c"),
        (other_name(1, a="b"), "a + f.a(c)", "a + f.b(c)"),
        (other_string(0, near="far"), "f('near')", "f('far')"),
        (rotate_axes(1), "f('(a b) -> (a b c)')", "f('(a b) -> (b c a)')"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_operator(slip, before, after):
    tree = slip(ast.parse(f"def f():\n    return {before}").body[0])
    assert ast.unparse(tree.body[0]) == f"return {after}"


def test_a_statement_is_dropped_and_what_only_checks_is_left_alone():
    tree = ast.parse('def f(a=1):\n    """1"""\n    if a > 2:\n        raise E(3)\n    b = 4').body[
        0
    ]
    assert len(other_constant(0).places(tree)) == 2
    with pytest.raises(LookupError, match="f has 1 sites for drop_statement, got occurrence 3"):
        drop_statement(3)(tree)
    assert ast.unparse(drop_statement(0)(tree)).endswith("pass")


def test_what_is_not_needed_of_an_earlier_cell_does_not_run():
    source = "a = 1\nb = f(a)\nprint(b)\na += 1\nassert a\nfor x in b:\n    print(x)\ng(c)"
    part, wanted = Cell("<cell>", source).before({"a", "d"})
    assert [ast.unparse(step.tree) for step in part.steps] == ["a = 1", "a += 1", "g(c)"]
    assert wanted == {"c", "d", "g"}
    assert Cell("<cell>", source).before({"d"})[0].steps == []
