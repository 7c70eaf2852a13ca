"""Checks of the exercises of notebook 02: forward noising."""

import math

import torch
from torch import Tensor

from tutorial_lib import data, diffusion, gaussian
from tutorial_lib.course.exercises.checks import (
    Exercise,
    between,
    numbers,
    returned,
    same,
    some_images,
    some_schedule,
    some_t,
    true,
)
from tutorial_lib.schedule import NoiseSchedule

# `sigmoid` is not among them, because torch has one too; the library's does not end in noise at
# T = 100, and so does not pass the check.
SCHEDULES = ("constant", "linear", "quadratic", "cosine", "geometric", "named", "NAMED")


def left_of_it(answer, generator):
    """(beta, t) -> the factor in front of x_0 after t steps of the same beta."""
    some_beta = float(between(0.01, 0.13, generator))
    for beta, t in ((some_beta, 7), (0.02, 69)):
        alpha_bar = (1 - beta) ** t
        slips = {
            "That is alpha_bar; the factor is its root.": alpha_bar,
            "That is the factor of the noise.": (1 - alpha_bar) ** 0.5,
            "One step is missing.": (1 - beta) ** ((t - 1) / 2),
            "That is one step too many.": (1 - beta) ** ((t + 1) / 2),
            "t is odd here, and half of it is no whole number.": (1 - beta) ** (t // 2),
            "That is a single step.": (1 - beta) ** 0.5,
            "The factors of the steps multiply; they do not add up.": abs(1 - beta * t) ** 0.5,
            "beta is what a step adds. How much does it keep?": beta ** (t / 2),
            "The root belongs to 1 - beta, not to beta alone.": (1 - beta**0.5) ** t,
            "beta is a variance, and not a standard deviation.": (1 - beta**2) ** (t / 2),
            "Near, but (1 - beta)^t is not exp(-beta t).": math.exp(-beta * t / 2),
            "That is what is gone.": 1 - alpha_bar**0.5,
        }
        what = f"What is left for beta = {beta:.3f} after {t} steps"
        same(answer(beta, t), alpha_bar**0.5, what, slips)


def one_step(answer, generator):
    """(x_prev, beta, eps) -> x_t, with the slip repaired."""
    x_prev, eps = some_images(generator)
    beta = between(0.05, 0.5, generator)
    alpha = 1 - beta
    signal, noise = alpha**0.5 * x_prev, beta**0.5 * eps
    slips = {
        # of the code as it is given: no more than the symptom
        "Where x_prev has variance 1, x_t has less.": signal + beta * eps,
        "The noise is right; now the image is multiplied by the wrong number.": (
            alpha * x_prev + noise
        ),
        "Nothing is shrunk: the variance grows with every step.": x_prev + noise,
        "Now the noise is multiplied by the factor of the image.": signal + alpha**0.5 * eps,
        "The noise is not scaled at all.": signal + eps,
        "The noise is subtracted: as good in the long run, but for this eps another x_t.": (
            signal - noise
        ),
    }
    got = answer(x_prev, beta, eps)
    true(
        not _keeps_the_variance(got, x_prev, eps)
        or _close(got, signal + noise)
        or _close(got, signal - noise),
        "x_t keeps the variance, so this is a step of some forward process. But in Eq. 2 the "
        "noise that is added has variance beta, and here it has another one.",
    )
    same(got, signal + noise, "x_t", slips)


def _close(got, other: Tensor) -> bool:
    return torch.allclose(numbers(got, "x_t"), other, atol=1e-5)


def _keeps_the_variance(got, x_prev: Tensor, eps: Tensor) -> bool:
    """Whether `got` is a x_prev + b eps with a^2 + b^2 = 1."""
    returned(got)
    got = numbers(got, "x_t")
    if got.shape != eps.shape or not got.isfinite().all():
        return False
    columns = torch.stack([x_prev.flatten(), eps.flatten()], 1)  # (N, 2)
    wanted = got.flatten()[:, None]
    weights = torch.linalg.lstsq(columns, wanted).solution
    linear = torch.allclose(columns @ weights, wanted, atol=1e-5)
    return linear and abs(float(weights.square().sum()) - 1) < 1e-5


def jump(answer, generator):
    """(schedule, x_0, t, eps) -> x_t."""
    schedule = some_schedule(generator)
    x_0, eps = some_images(generator)
    t = some_t(generator, T=19)  # a step later there is one more
    times = t.view(-1, 1, 1, 1)  # (B, 1, 1, 1)
    alpha_bar, alpha = schedule.alpha_bar[times], schedule.alpha[times]
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def mix(of_x_0: Tensor, of_eps: Tensor) -> Tensor:
        return of_x_0 * x_0 + of_eps * eps

    slips = {
        "A square root is missing.": mix(alpha_bar, 1 - alpha_bar),
        "The image lacks its root.": mix(alpha_bar, noise),
        "The noise lacks its root.": mix(signal, 1 - alpha_bar),
        "It is one step behind: tables have T + 1 entries, alpha_bar[t] belongs to t.": (
            diffusion.q_sample(schedule, x_0, t - 1, eps)
        ),
        "It is one step ahead.": diffusion.q_sample(schedule, x_0, t + 1, eps),
        "All images are at the step of the first one.": (
            diffusion.q_sample(schedule, x_0, t[:1].expand(3), eps)
        ),
        "That is alpha_t, of one step; the jump needs alpha_bar_t, of all steps up to t.": (
            mix(alpha.sqrt(), (1 - alpha).sqrt())
        ),
        "The steps multiply: alpha_t to the power t is not alpha_bar_t.": (
            mix((alpha**times).sqrt(), (1 - alpha**times).sqrt())
        ),
        "The noise is that of the last step alone; those before it are missing.": (
            mix(signal, (1 - alpha).sqrt())
        ),
        "The two factors have changed places.": mix(noise, signal),
        "The noise is subtracted.": mix(signal, -noise),
        "The image is not shrunk.": mix(torch.ones_like(signal), noise),
        "The noise is not scaled.": mix(signal, torch.ones_like(noise)),
        "1 - sqrt(alpha_bar) is not sqrt(1 - alpha_bar).": mix(signal, 1 - signal),
    }
    same(answer(schedule, x_0, t, eps), mix(signal, noise), "x_t", slips)


def steps_to_noise(answer, generator):
    """(beta, s) -> the real number t at which the signal-to-noise ratio is s, for a constant beta.

    No stepping finds it: it is hardly ever a whole number.
    """
    some_beta = float(between(0.005, 0.2, generator))
    some_s = float(between(0.001, 0.5, generator))
    for beta, s in ((0.01, 1.0), (some_beta, some_s), (0.5, 3.0)):
        log_alpha = math.log(1 - beta)
        t = math.log(s / (1 + s)) / log_alpha
        slips = {
            "There alpha_bar is s; the ratio is alpha_bar / (1 - alpha_bar).": (
                math.log(s) / log_alpha
            ),
            "Twice too large: alpha_bar is (1 - beta)^t, without a root.": 2 * t,
            "There (1 - alpha_bar) / alpha_bar is s: it is upside down.": (
                math.log(1 / (1 + s)) / log_alpha
            ),
            "The sign is wrong: the logarithm of 1 - beta is negative.": -t,
            "There the ratio of the amplitudes is s; the signal-to-noise ratio is that of the "
            "variances.": (math.log(s**2 / (1 + s**2)) / log_alpha),
            "Two logarithms of different bases.": t / math.log(10),
            "Two other logarithms of different bases.": t * math.log(10),
            "Near, but the logarithm of 1 - beta is not -beta.": -t * log_alpha / beta,
            "There 1 - alpha_bar is s.": math.log(max(1e-9, 1 - s)) / log_alpha,
            "The fraction is upside down: divide by the logarithm of 1 - beta.": 1 / t,
            "It is rounded, and t is a real number here.": math.floor(t),
            "It is rounded up, and t is a real number here.": math.ceil(t),
        }
        got = answer(beta, s)
        what = f"The t for beta = {beta:.3f}, s = {s:.3f}"
        same(got, t, what, slips)


def own_schedule(answer, generator):
    """(T) -> the betas of a schedule of one's own, T numbers."""
    for T in (100, 1000):
        beta = answer(T)
        returned(beta)
        true(
            not isinstance(beta, NoiseSchedule),
            "It should return the betas alone, not a whole schedule.",
        )
        beta = torch.as_tensor(beta, dtype=torch.float64)
        true(
            beta.shape == (T,),
            f"For T = {T} it should return {T} numbers, beta_1 to beta_T; "
            f"got shape {tuple(beta.shape)}.",
        )
        true(((beta > 0) & (beta < 1)).all(), "Each beta must lie between 0 and 1, both excluded.")
        _destroys_well(beta)
        _is_new(beta)


def _destroys_well(beta: Tensor) -> None:
    """Raise Wrong unless a schedule ends in noise, begins gently, and does so in small steps."""
    T = len(beta)
    alpha_bar = (1 - beta).cumprod(0)  # (T,), alpha_bar_1 to alpha_bar_T
    end, middle, first = float(alpha_bar[-1]), float(alpha_bar[T // 2].sqrt()), float(beta[0])
    true(
        end <= 1e-3,
        f"It does not end in noise: for T = {T}, alpha_bar is {end:.2g} at the end.",
    )
    true(
        first <= 1e-3,
        f"It begins too roughly: for T = {T}, beta_1 is {first:.2g}; 0.001 is allowed.",
    )
    true(
        middle > 0.1,
        f"Half of the steps are wasted: in the middle only {middle:.3f} of the image is left.",
    )
    steepest = float(beta[: T * 9 // 10].max())
    true(
        steepest <= 0.25,
        f"One step is too large: for T = {T}, a beta of {steepest:.2g} stands among the first nine "
        "tenths, where 0.25 is allowed.",
    )
    late = float(alpha_bar[T * 9 // 10].sqrt())
    true(
        late <= 0.5,
        f"Its last tenth has to destroy nearly everything: before that, {late:.2f} of the image "
        "is left.",
    )


def _is_new(beta: Tensor) -> None:
    """Raise Wrong where the betas follow a rule of section 2.5 or 2.9, but for their ends."""
    T = len(beta)
    inner = slice(T // 10, T * 9 // 10)
    u = torch.linspace(-6, 6, T, dtype=torch.float64).sigmoid()[inner]
    rules = {
        "constant or linear": beta[inner].diff(),
        "quadratic": beta[inner].sqrt().diff(),
        "geometric": beta[inner].log().diff(),
        "sigmoid": beta[inner].diff() / u.diff(),
        "cosine": _angle(beta, 0.008)[inner].diff(),
        "offset-free cosine": _angle(beta, 0.0)[inner].diff(),
    }
    for name, steps in rules.items():
        spread = float((steps - steps.mean()).abs().max())
        constant = name == "constant or linear" and float(steps.abs().max()) <= 1e-9
        true(
            not constant and spread > 2e-3 * float(steps.abs().max()),
            f"It ends in noise; but this is the {name} rule. Invent one of your own.",
        )


def _angle(beta: Tensor, s: float) -> Tensor:
    """The angle that rises by equal steps in a cosine schedule with the offset s."""
    start = math.cos(s / (1 + s) * math.pi / 2)
    return ((1 - beta).cumprod(0).sqrt() * start).acos()


def way_back(answer, generator):
    """(grid, density, x_1, beta) -> the density of x_0 given x_1, on the grid."""
    grid = torch.linspace(-4, 4, 801, dtype=torch.float64)
    spacing = grid[1] - grid[0]
    density = _two_bumps(grid, 0.0)
    x_1 = float(between(-1.5, 1.5, generator))
    beta = float(between(0.1, 0.8, generator))
    root = (1 - beta) ** 0.5

    def posterior(factor: float = root, variance: float = beta, power: int = 1) -> Tensor:
        seen = torch.tensor(x_1, dtype=torch.float64)
        likelihood = gaussian.log_density(seen, factor * grid, variance).exp()
        weight = (density if power else 1) * likelihood ** max(power, 1)
        return weight / (weight.sum() * spacing)

    got = answer(grid, density, x_1, beta)
    returned(got)
    slips = {
        "It sums to 1, but a density times the spacing must.": posterior() * spacing,
        "Where is the prior?": posterior(power=0),
        "beta is the variance of the step, not its standard deviation.": posterior(
            variance=beta**2
        ),
        "The mean of the step lacks its root.": posterior(1 - beta),
        "The step shrinks x_0 before it adds noise.": posterior(1),
        "The step multiplies x_0 by the root; it does not divide.": posterior(1 / root),
        "1 - beta is what is left of the variance; the noise of the step has another.": posterior(
            variance=1 - beta
        ),
        "That is where x_0 was before anything was seen.": density,
        "It is multiplied by the spacing, and not divided by it.": posterior() * spacing**2,
        "In its exponent the 2 is missing.": posterior(power=2),
        "It is not normalised.": posterior() * numbers(got, "The posterior").sum() * spacing,
        "That is the density of x_1, and not of x_0 given x_1.": _two_bumps(grid, beta),
    }
    same(got, posterior(), "The posterior", slips)


def _two_bumps(grid: Tensor, beta: float) -> Tensor:
    """A density of two bumps after one step of the forward process, on the grid."""
    root = (1 - beta) ** 0.5
    left = gaussian.grid_density(grid, -1.0 * root, 0.05 * (1 - beta) + beta)
    right = gaussian.grid_density(grid, 1.2 * root, 0.1 * (1 - beta) + beta)
    return 0.3 * left + 0.7 * right


def centre_square(answer, generator):
    """(photo (C, H, W), uint8) -> its central square, (C, side, side), in [-1, 1]."""
    for height, width in ((12, 20), (25, 11), (8, 8)):
        photo = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
        got = answer(photo)
        returned(got)
        got, side = numbers(got, "The square"), min(height, width)
        true(
            got.shape == (3, side, side),
            f"A photo of shape {tuple(photo.shape)} should become {(3, side, side)}, "
            f"got {tuple(got.shape)}.",
        )
        _in_range(got, photo, side)


def _in_range(got: Tensor, photo: Tensor, side: int) -> None:
    """Raise Wrong unless `got` is the square in the middle of the photo, scaled to [-1, 1]."""
    top, left = (photo.shape[1] - side) // 2, (photo.shape[2] - side) // 2
    more_top, more_left = (photo.shape[1] - side + 1) // 2, (photo.shape[2] - side + 1) // 2
    middle = photo[:, top : top + side, left : left + side]
    other = photo[:, more_top : more_top + side, more_left : more_left + side]  # of an odd rest
    corner = photo[:, :side, :side]
    far = photo[:, -side:, -side:]
    if torch.allclose(got.double(), data.to_model(other).double(), rtol=0, atol=1e-5):
        return
    slips = {
        "That square is at the edge, not in the middle.": data.to_model(corner),
        "That square is at the other edge, not in the middle.": data.to_model(far),
        "That is [0, 1].": middle / 255,
        "These are still the bytes 0..255.": middle,
        "Bytes have wrapped around: make floats of them first.": middle * 2 / 255 - 1,
        "White is not 1. What must become of 255?": middle / 128 - 1,
        "Black is 0 and white 2: it is not centred.": middle / 127.5,
        "That is [-0.5, 0.5]: centred, but half as wide.": middle / 255 - 0.5,
        "Black and white have changed places.": 1 - middle / 127.5,
        "Black is -1; but what becomes of white?": middle / 255 - 1,
        "It is centred, but still 255 wide.": middle - 127.5,
        "The picture is turned upside down.": data.to_model(middle).flip(1),
        "Rows and columns have changed places.": data.to_model(middle).mT,
    }
    same(got, data.to_model(middle), "The square", slips)


EXERCISES = {
    "02.1": Exercise(
        test=left_of_it,
        praise=(
            "After 69 steps with beta = 0.02 half of the image is left: "
            "halving, like radioactive decay."
        ),
        hints=(
            "Each step multiplies the image by the same number. Which?",
            "By sqrt(1 - beta). Not by 1 - beta: that is what becomes of its variance.",
        ),
    ),
    "02.2": Exercise(
        test=one_step,
        praise="beta is a variance; the noise must be multiplied by its root.",
        hints=(
            "Start from x_prev of variance 1. Which variance does x_t have, in the code as it is?",
            (
                "The variance of a * x is a^2 times that of x. "
                "Here (1 - beta) + beta^2 comes out, and not 1."
            ),
        ),
        forbidden=("q_step", "q_sample", "q_walk"),
    ),
    "02.3": Exercise(
        test=jump,
        praise="A loop of t steps in one line: the whole of diffusion training rests on it.",
        hints=(
            "Eq. 4 has two factors, one for x_0 and one for eps. Both come from alpha_bar at t.",
            (
                "schedule.alpha_bar[t] has shape (B,); an image has (B, C, H, W). "
                "`.view(-1, 1, 1, 1)` makes them fit."
            ),
        ),
        forbidden=("q_sample", "q_walk", "q_step", "signal_and_noise"),
    ),
    "02.4": Exercise(
        test=steps_to_noise,
        praise=(
            "The first whole step below s is the next integer. Where noise prevails, each tenfold "
            "loss of signal takes the same number of steps: t grows with the logarithm of 1 / s."
        ),
        hints=(
            (
                "alpha_bar = (1 - beta)^t, and the signal-to-noise ratio is "
                "alpha_bar / (1 - alpha_bar). Solve for t."
            ),
            ("snr = s means alpha_bar = s / (1 + s). Take logarithms on both sides, and divide."),
        ),
    ),
    "02.5": Exercise(
        test=own_schedule,
        praise=(
            "It may be a schedule that nobody has tried yet. To train with it, give it a name, "
            "NAMED['mine'] = lambda T: from_betas(own_schedule(T)), with both from "
            "tutorial_lib.schedule; and then DiffusionConfig(schedule='mine') in notebook 05."
        ),
        hints=(
            (
                "Any T numbers between 0 and 1 make a schedule; "
                "the question is whether they destroy the image, and not too fast."
            ),
            (
                "Think of alpha_bar first, a curve from nearly 1 to nearly 0. "
                "Then beta_t = 1 - alpha_bar_t / alpha_bar_(t-1)."
            ),
            (
                "For example alpha_bar_t = (1 - (t / T)^2)^2, where the last one, which would be "
                "0, becomes a tenth of the one before; then the betas as above."
            ),
        ),
        forbidden=SCHEDULES,
    ),
    "02.6": Exercise(
        test=way_back,
        praise=(
            "This is what a denoising network learns, for every pixel at once, and without a grid."
        ),
        hints=(
            (
                "Bayes on a grid: posterior(x_0) is proportional to prior(x_0) "
                "times the likelihood of x_1 given x_0."
            ),
            (
                "The likelihood is the Gaussian of Eq. 2: mean sqrt(1 - beta) * x_0, "
                "variance beta, at x_1. Divide by the sum times the grid's spacing."
            ),
        ),
    ),
    "02.7": Exercise(
        test=centre_square,
        praise=(
            "The way back is `data.to_pixels`: clamp, then round. You write that in exercise 05.1."
        ),
        hints=(
            "The square is as large as the shorter side. Where does it begin along the longer one?",
            (
                "Half of what is left over is cut off on each side: (W - side) // 2. "
                "For the range, 0 becomes -1 and 255 becomes 1; divide before you subtract."
            ),
        ),
        forbidden=("to_model", "batch"),
    ),
}
