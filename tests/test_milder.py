"""Milder guidance: an interval, a rescaled contrast, a corrected start, against formulas."""

import pytest
import torch
from diffusers.guiders.classifier_free_zero_star_guidance import cfg_zero_star_scale
from diffusers.guiders.guider_utils import rescale_noise_cfg
from test_guidance import SCHEDULE, exact
from torch.testing import assert_close

from tutorial_lib import sample
from tutorial_lib.beyond import milder
from tutorial_lib.beyond.guidance import guided
from tutorial_lib.data import NOBODY
from tutorial_lib.schedule import same_t


@pytest.fixture
def points(generator):
    x_t = torch.randn(60, 2, generator=generator, dtype=torch.float64)
    t = torch.randint(1, 100, (60,), generator=generator)
    return x_t, t, torch.randint(3, (60,), generator=generator)


@pytest.mark.equation("Interval")
def test_an_interval_of_steps(points):
    x_t, t, y = points
    inside, outside = (guided(exact, y, w, clip=False) for w in (3, 1))
    got = milder.limited(inside, outside, 20, 70)(x_t, t)
    for k, step in enumerate(t.tolist()):
        w = 3 if 20 <= step <= 70 else 1
        one = guided(exact, y[k : k + 1], w, clip=False)(x_t[k : k + 1], t[k : k + 1])
        assert_close(got[k], one[0])
    assert_close(milder.guided_within(exact, y, 3, 20, 70, clip=False)(x_t, t), got)
    clipped = milder.guided_within(exact, y, 3, 20, 70, clip=True)(x_t, t)
    assert_close(clipped, got.clamp(-1, 1))


def test_only_the_one_that_is_asked_is_called():
    called = []

    def named(name):
        return lambda x_t, t: called.append(name) or x_t

    walk = milder.limited(named("in"), named("out"), 20, 70)
    for t in (19, 20, 70, 71):
        walk(torch.zeros(2, 2), same_t(t, 2))
    assert called == ["out", "in", "in", "out"]
    with pytest.raises(ValueError, match="t_from <= t_to, got 5 and 4"):
        milder.limited(named("in"), named("out"), 5, 4)


@pytest.mark.equation("Lin")
def test_rescaling_is_that_of_diffusers(generator):
    """Their function rescales noise; the formula is the same for x_0."""
    without, with_label = torch.randn(2, 3, 1, 8, 8, generator=generator)

    def denoise(x_t, t, y):
        return torch.where(
            (y == NOBODY).view(-1, 1, 1, 1),
            without.repeat(2, 1, 1, 1),
            with_label.repeat(2, 1, 1, 1),
        )

    y, t = torch.tensor([3, 4, 5]), same_t(7, 3)
    got = milder.rescaled(denoise, y, 4.0, share=0.7, clip=False)(without, t)
    theirs = rescale_noise_cfg(without + 4 * (with_label - without), with_label, 0.7)
    assert_close(got, theirs)


def test_rescaled_in_full_has_the_contrast_of_the_plain_model(points):
    x_t, t, y = points
    got = milder.rescaled(exact, y, 5.0, share=1.0, clip=False)(x_t, t)
    assert_close(got.std(1), exact(x_t, t, y).std(1))
    none = milder.rescaled(exact, y, 5.0, share=0.0, clip=False)(x_t, t)
    assert_close(none, guided(exact, y, 5.0, clip=False)(x_t, t))
    for share in (-0.1, 1.1):
        with pytest.raises(ValueError, match="share must lie in"):
            milder.rescaled(exact, y, 5.0, share=share, clip=False)


@pytest.mark.equation("Zero")
def test_the_scale_is_that_of_least_squares(generator):
    u, u_y = torch.randn(2, 5, 1, 4, 4, generator=generator, dtype=torch.float64)
    s = milder.fitting(u, u_y)
    for k in range(5):
        solved = torch.linalg.lstsq(u[k].reshape(-1, 1), u_y[k].reshape(-1, 1)).solution
        assert_close(s[k].flatten(), solved.flatten())
    assert_close(s.flatten(1), cfg_zero_star_scale(u_y.flatten(1), u.flatten(1)))


def test_of_two_estimates_that_agree_nothing_is_changed(points):
    """The scale is 1 then, and the velocity is the plain one."""
    x_t, t, y = points
    same = lambda x_t, t, y: exact(x_t, t, torch.full_like(y, 1))  # noqa: E731
    walk = milder.zero_star(same, SCHEDULE, y, 3.0, still=101, clip=False)
    assert_close(walk(x_t, t), same(x_t, t, y))


def test_w_1_is_the_plain_conditional_model_whatever_the_scale(points):
    x_t, t, y = points
    walk = milder.zero_star(exact, SCHEDULE, y, 1.0, still=101, clip=False)
    assert_close(walk(x_t, t), exact(x_t, t, y))


def test_a_walk_rests_where_its_velocity_is_zero(points):
    """On the straight path, x / (a + b), nothing moves while t >= still."""
    x_T, _, y = points
    walk = milder.zero_star(exact, SCHEDULE, y, 2.0, still=60, clip=False)
    a, b = SCHEDULE.alpha_bar.sqrt(), (1 - SCHEDULE.alpha_bar).sqrt()
    rests = []
    for frame in sample.ddim(walk, SCHEDULE, x_T, steps=10):
        straight = frame.x / (a[frame.t] + b[frame.t])
        first = x_T / (a[-1] + b[-1])
        rests.append((frame.t, torch.allclose(straight, first)))
    assert [t for t, rested in rests if rested] == [100, 90, 80, 70, 60, 50]
