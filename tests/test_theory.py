"""What notebook 03 says in passing, and its page to print."""

import json
import math

import one_page
import pytest
import torch
from torch.testing import assert_close

from tutorial_lib import data, diffusion, gaussian, sample, toys
from tutorial_lib.course import plot
from tutorial_lib.course.widgets import n03
from tutorial_lib.schedule import linear, same_t

SCHEDULE = linear(1000)
COIN = toys.Mixture(torch.tensor([0.8, 0.2]), torch.tensor([[-1.0], [1.0]]), 1e-12)


def test_the_page_to_print_is_current():
    assert one_page.PAGE.read_text(encoding="utf-8") == one_page.page(), (
        "run: python tools/one_page.py"
    )


def test_the_divergence_in_closed_form_fluctuates_fifty_times_less_than_with_x_prev_drawn():
    """Rao-Blackwell: what is averaged exactly need not be drawn."""
    generator = torch.Generator().manual_seed(0)
    images = data.to_model(data.load("embedded").pixels[:16]).double()
    eps, wrong = torch.randn(2, *images.shape, generator=generator, dtype=torch.float64)
    for moment in (2, 50, 200, 500, 900):
        t = same_t(moment, 16)
        x_t = diffusion.q_sample(SCHEDULE, images, t, eps)
        x_0_hat = diffusion.x_0_from(SCHEDULE, "eps", 0.95 * eps + 0.05 * wrong, x_t, t)
        mean_q, variance_q = diffusion.q_posterior(SCHEDULE, images, x_t, t)
        mean_p, _ = diffusion.q_posterior(SCHEDULE, x_0_hat, x_t, t)
        z = torch.randn(64, *images.shape, generator=generator, dtype=torch.float64)
        x_prev = mean_q + variance_q.sqrt() * z  # (64, 16, 1, 28, 28)
        log_q = gaussian.log_density(x_prev, mean_q, variance_q)
        log_p = gaussian.log_density(x_prev, mean_p, float(SCHEDULE.beta[moment]))
        drawn = (log_q - log_p).sum((2, 3, 4))  # (64, 16)
        closed = diffusion.L_t_minus_1(SCHEDULE, images, x_t, t, x_0_hat)  # (16,)
        assert drawn.std() > 50 * closed.std()
        error = drawn.std() / drawn.numel() ** 0.5
        assert abs(drawn.mean() - closed.mean()) < 4 * error  # and they mean the same


def huber(mean):
    """The guess that is best for Huber's loss, where +1 and -1 have the mean 2 w - 1."""
    w = (1 - mean.abs()) / 2  # the probability of the less likely outcome
    return -mean.sign() * (w / (1 - w) - 1)


@pytest.mark.parametrize("w", [0.1, 0.3, 0.45, 0.8])
def test_the_best_guess_for_hubers_loss_is_the_best_on_a_fine_grid(w):
    guesses = torch.linspace(-1, 1, 20_001, dtype=torch.float64)
    up, down = ((guesses - end).abs() for end in (1, -1))
    cost = sum(p * torch.where(e < 1, e**2 / 2, e - 0.5) for p, e in ((w, up), (1 - w, down)))
    best = huber(torch.tensor(2 * w - 1).double())
    assert_close(guesses[cost.argmin()], best, rtol=0, atol=2e-4)


def coin_denoiser(predict):
    return lambda x_t, t: predict(COIN.x_0_hat(x_t, float(SCHEDULE.alpha_bar[t[0]])))


@pytest.mark.parametrize(
    ("predict", "share"),
    [(lambda mean: mean, 0.2), (huber, 0.18), (torch.sign, 0.125)],
    ids=["l2", "huber", "l1"],
)
def test_what_a_loss_aims_at_decides_how_often_a_rare_outcome_is_drawn(predict, share, generator):
    x_T = torch.randn(10_000, 1, generator=generator)
    x_0 = sample.final(sample.ddpm(coin_denoiser(predict), SCHEDULE, x_T, generator=generator))
    assert abs(float((x_0 > 0).double().mean()) - share) < 0.012  # three standard errors


@pytest.mark.parametrize(("predict", "share"), [(lambda mean: mean, 0.201), (torch.sign, 0.049)])
def test_a_deterministic_walk_makes_the_median_worse_still(predict, share):
    quantiles = (torch.arange(10_000).double() + 0.5) / 10_000
    x_T = torch.special.ndtri(quantiles)[:, None].float()
    x_0 = sample.final(sample.ddim(coin_denoiser(predict), SCHEDULE, x_T))
    assert abs(float((x_0 > 0).double().mean()) - share) < 0.003


@pytest.mark.parametrize("t", [1, 100, 900])
def test_the_best_prediction_of_the_noise_is_the_score_scaled(t):
    r"""$E[\epsilon | x_t] = -\sqrt{1 - \bar\alpha_t} \nabla \log q(x_t)$, by differentiation."""
    weights, means = torch.tensor([0.3, 0.7]).double(), torch.tensor([[-1.0, 0.5], [1.0, 0.0]])
    bumps = toys.Mixture(weights, means.double(), 0.04)
    alpha_bar = float(SCHEDULE.alpha_bar[t])
    variance = alpha_bar * 0.04 + 1 - alpha_bar
    noised = toys.Mixture(weights, math.sqrt(alpha_bar) * means.double(), variance)
    generator = torch.Generator().manual_seed(t)
    x_t = torch.randn(50, 2, dtype=torch.float64, generator=generator).requires_grad_()
    (score,) = torch.autograd.grad(noised.log_density(x_t).sum(), x_t)
    x_t = x_t.detach()
    eps = diffusion.eps_from(SCHEDULE, "x_0", bumps.x_0_hat(x_t, alpha_bar), x_t, same_t(t, 50))
    assert_close(eps, -math.sqrt(1 - alpha_bar) * score, rtol=1e-6, atol=1e-8)


def test_paths_begin_and_end_where_the_picture_says():
    model, forward = n03._paths()
    assert model.shape == forward.shape == (41, 60)
    assert (forward[0] == n03.PICTURE).all()
    assert 0.5 < float(model[0].std()) < 1.5
    assert 0.5 < float(forward[-1].std()) < 1.5
    titles = [axis.get_title() for axis in n03.paths_picture().axes]
    assert titles[0] == "from noise: 2 of 60 arrive"  # as the notebook's text says


def test_the_spiral_comes_back(monkeypatch):
    """The cells of section 3.10, as they are: nine of ten points end beside the spiral."""
    monkeypatch.setattr(plot, "clouds", lambda *_, **__: None)
    cells = json.loads(one_page.NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    begin = next(i for i, text in enumerate(sources) if text.startswith("## 3.10 "))
    end = next(i for i, text in enumerate(sources) if text.startswith("## Exercises"))
    names = {"schedule": SCHEDULE}
    for i, cell in enumerate(cells):
        if cell["cell_type"] == "code" and (begin < i < end or "check_environment(" in sources[i]):
            exec(sources[i], names)
    dense = toys.swiss_roll(20_000, torch.Generator().manual_seed(1))
    distance = torch.cdist(names["path"][-1], dense).amin(1)  # (1000,)
    assert float((distance < 0.1).double().mean()) > 0.8
    reached = torch.cdist(dense, names["path"][-1]).amin(1)
    assert float((reached < 0.2).double().mean()) > 0.9  # and no part of it is left out
