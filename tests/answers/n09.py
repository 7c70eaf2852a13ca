"""Answers to the exercises of notebook 09, wrong and right."""

LOSS = """
each = sigma.view(-1, 1, 1, 1)
x = {x}
guess = network(x, sigma)
return {result}
"""
WALK = """
for level in {levels}:
    h = {h}
    for _ in range(steps):
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        at = torch.full((len(x),), float(level), dtype=x.dtype)
        x = x + {climb} * score(x, at) + {noise} * z
return x
"""
STEP = """
f = a_slope / a
g_square = {g_square}
score = (a * x_0_hat - x) / b**2
return {result}
"""
EULER = """
for k in range({first}, 0, -1):
    x = x - network(x, torch.full((len(x),), {t})) / {parts}
return x
"""


def loss(
    result: str = "((guess + eps / each) ** 2).flatten(1).sum(1) / 2", x: str = "x_0 + each * eps"
) -> str:
    """The loss of 09.4, with one thing done differently."""
    return LOSS.format(x=x, result=result)


def walk(
    levels: str = "sigmas",
    h: str = "eta * float(level) ** 2",
    climb: str = "h / 2",
    noise: str = "h**0.5",
) -> str:
    """The walk of 09.5, with one thing done differently."""
    return WALK.format(levels=levels, h=h, climb=climb, noise=noise)


def step(
    result: str = "x - dt * (f * x - g_square * score) + (g_square * dt) ** 0.5 * z",
    g_square: str = "2 * b * b_slope - 2 * f * b**2",
) -> str:
    """The step of 09.8, with one thing done differently."""
    return STEP.format(g_square=g_square, result=result)


def euler(t: str = "(k - 1) / S", first: str = "S", parts: str = "S") -> str:
    """The walk of 09.9, with one thing done differently."""
    return EULER.format(t=t, first=first, parts=parts)


VARIANCE = "V = alpha_bar * variance + 1 - alpha_bar; "
NAMES = "n = (1 - alpha_bar) ** 0.5; a = alpha_bar**0.5; return "

WRONG = {
    "09.1": [
        (VARIANCE + "return (x_t - alpha_bar**0.5 * mean) / V", "away from the mean"),
        (VARIANCE + "return (mean - x_t) / V", "The mean has shrunk, too"),
        ("(mean - x_t) / variance", "the score of the clean data"),
        ("(alpha_bar**0.5 * mean - x_t) / (1 - alpha_bar)", "a variance of their own"),
        ("(alpha_bar**0.5 * mean - x_t) / (variance + 1 - alpha_bar)", "variance has shrunk"),
        (VARIANCE + "return (alpha_bar**0.5 * mean - x_t) / V**0.5", "the standard deviation"),
        (VARIANCE + "return (alpha_bar * mean - x_t) / V", "is off by"),
    ],
    "09.2": [
        (NAMES + "n * score, (x_t + n**2 * score) / a", "a sign"),
        (NAMES + "-score / n, (x_t + n**2 * score) / a", "divided where"),
        (NAMES + "-(n**2) * score, (x_t + n**2 * score) / a", "A root is lost"),
        (NAMES + "(x_t + n**2 * score) / a, -n * score", "other order"),
        (NAMES + "-n * score, (x_t - n**2 * score) / a", "downhill"),
        (NAMES + "-n * score, x_t + n**2 * score", "not scaled back"),
        (NAMES + "-n * score, (x_t + n * score) / a", "A root too much"),
        (NAMES + "-n * score, (x_t + n**2 * score) / a**2", "not by its root"),
        (NAMES + "-n * score", "two things"),
    ],
    "09.3": [
        ("x.mean(), 1 / x.var(correction=0)", "other order"),
        ("x.var(correction=0), x.mean()", "the variance itself"),
        ("1 / x.std(correction=0), x.mean()", "not by the standard deviation"),
        ("-1 / x.var(correction=0), x.mean()", "k is positive"),
        ("1 / x.var(), x.mean()", "not over N - 1"),
        ("1 / (x**2).mean(), x.mean()", "measured from 0"),
        ("1 / x.var(correction=0), x.median()", "the median"),
        ("1 / x.var(correction=0), -x.mean()", "a sign"),
        ("1 / x.var(correction=0), 0.0", "m is off by"),
    ],
    "09.4": [
        (loss("((guess + eps / each) ** 2).flatten(1).sum(1)"), "The half is missing"),
        (loss("((guess + eps / each) ** 2).flatten(1).mean(1) / 2"), "not the sum"),
        (loss("((guess + eps / each) ** 2).flatten(1).mean(1)"), "without the half"),
        (loss("((each * guess + eps) ** 2).flatten(1).sum(1) / 2"), "weighted with sigma^2"),
        (loss("((guess + each * eps) ** 2).flatten(1).sum(1) / 2"), "multiplied by sigma"),
        (loss("((guess + eps) ** 2).flatten(1).sum(1) / 2"), "the noise over sigma."),
        (loss("((guess - eps / each) ** 2).flatten(1).sum(1) / 2"), "a sign"),
        (loss(x="x_0"), "the clean images"),
        (loss(x="x_0 + eps"), "without its sigma"),
        (loss("((guess + eps / each) ** 2).flatten(1).sum(1).mean() / 2"), "should have shape"),
        ("network(x_0, sigma[0])", "one sigma for each image"),
    ],
    "09.5": [
        (walk(climb="h"), "too narrow"),
        (walk(noise="h"), "The variance at the end"),
        (walk(noise="0.0"), "too narrow"),
        (walk(levels="sigmas.flip(0)"), "levels should fall"),
        (walk(levels="sigmas[:-1]"), "The score was asked"),
        (walk(h="eta * float(level)"), "The variance at the end"),
        (walk(h="eta"), "The variance at the end"),
        (walk(climb="-h / 2"), "too wide"),
        (walk(noise="(2 * h) ** 0.5"), "too wide"),
        ("for _ in range(steps):\n    x = score(x, sigmas)\nreturn x", "one sigma for each item"),
    ],
    "09.6": [
        ("x + h / 2 * score + h**0.5 * z", "the sound one"),
        ("x + h / 2 * score + h * z", "narrower still"),
        ("x + h * score", "nothing would be left"),
        ("x + h / 4 * score + h**0.5 * z", "too wide"),
        ("x + h / 2 * score + (h / 2) ** 0.5 * z", "Less noise would do it"),
        ("x - h * score + h**0.5 * z", "Downhill"),
        ("x + h * score + h * z", "is off by"),
    ],
    "09.7": [
        ("x + t * u, x + (1 - t) * u, u", "the wrong way"),
        ("x - (1 - t) * u, x + t * u, u", "The time to go is t"),
        ("(x - t * u) / (1 - t), u, u", "taken for the noise"),
        ("x - t * u, x - (1 - t) * u, u", "the wrong way"),
        ("x - t * u, x + t * u, u", "The time to go is 1 - t"),
        ("x - t * u, x + (1 - t) * u, u", "no circle"),
        ("x - t * u, x + (1 - t) * u, (1 - t) * (x + (1 - t) * u) - t * (x - t * u)", "Rescale"),
        ("x - t * u, x + (1 - t) * u, x / ((1 - t) ** 2 + t**2) ** 0.5", "a right angle"),
        ("x - t * u, x + (1 - t) * u", "three things"),
    ],
    "09.8": [
        (
            step("x + dt * (f * x - g_square * score) + (g_square * dt) ** 0.5 * z"),
            "on towards noise",
        ),
        (
            step("x - dt * (f * x - g_square / 2 * score) + (g_square * dt) ** 0.5 * z"),
            "Half of the climb",
        ),
        (step("x - dt * (f * x + g_square * score) + (g_square * dt) ** 0.5 * z"), "downhill"),
        (step("x - dt * (f * x - g_square * score)"), "No fresh noise"),
        (
            step("x - dt * (f * x - g_square * score) + g_square**0.5 * dt * z"),
            "The noise has the variance g^2 dt",
        ),
        (step("x - dt * (f * x - g_square * score) + g_square * dt**0.5 * z"), "lost in the noise"),
        (step("x + dt * g_square * score + (g_square * dt) ** 0.5 * z"), "f x is left out"),
        (step(g_square="2 * b * b_slope"), "the shrink makes room"),
        (step("x - dt * (f * x - g_square / 2 * score)"), "the step of the ODE"),
    ],
    "09.9": [
        (euler("k / S"), "the sound one"),
        (euler("(k - 0.5) / S"), "Half-way"),
        (euler("1 - k / S"), "the other way"),
        (euler("k / S", parts="(S + 1)"), "as long as they should be"),
        (euler("k / S", first="S - 1"), "makes all of its steps"),
    ],
}

RIGHT = {
    "09.1": [
        """
        signal = math.sqrt(alpha_bar)
        x = x_t.clone().requires_grad_()
        variance = signal**2 * variance + 1 - signal**2
        log_density = -((x - signal * mean) ** 2) / (2 * variance)
        return torch.autograd.grad(log_density.sum(), x)[0]
        """,
    ],
    "09.2": [
        """
        x_0_hat = (x_t + (1 - alpha_bar) * score) / math.sqrt(alpha_bar)
        return [(x_t - math.sqrt(alpha_bar) * x_0_hat) / math.sqrt(1 - alpha_bar), x_0_hat]
        """,
    ],
    "09.3": [
        """
        x = x.numpy()
        return 1 / np.var(x), np.mean(x)
        """,
        """
        m = sum(x.tolist()) / len(x)
        return torch.tensor([len(x) / sum((one - m) ** 2 for one in x.tolist()), m])
        """,
    ],
    "09.4": [
        """
        losses = []
        for one, s, e in zip(x_0, sigma, eps):
            guess = network((one + s * e)[None], s[None])[0]
            losses.append(((s * guess + e) ** 2).sum() / 2 / s**2)
        return torch.stack(losses)
        """,
    ],
    "09.5": [
        """
        i = 0
        while i < len(sigmas):
            h = eta * sigmas[i] ** 2
            for _ in range(steps):
                climb = h * score(x, sigmas[i].expand(len(x))) / 2
                x = x + climb + h.sqrt() * torch.randn(x.shape, generator=generator, dtype=x.dtype)
            i += 1
        return x
        """,
    ],
    "09.6": ["x + 2 * (h / 2) * score + torch.tensor(h).sqrt() * z"],
    "09.7": [
        """
        eps_hat = x + (1 - t) * u
        x_0_hat = eps_hat - u
        ab = (1 - t) ** 2 / ((1 - t) ** 2 + t**2)
        return x_0_hat, eps_hat, math.sqrt(ab) * eps_hat - math.sqrt(1 - ab) * x_0_hat
        """,
    ],
    "09.8": [
        """
        eps_hat = (x - a * x_0_hat) / b
        g = math.sqrt(2 * b * b_slope - 2 * a_slope / a * b**2)
        back = x - dt * (a_slope / a * x + g**2 * eps_hat / b)
        return back + g * math.sqrt(dt) * z
        """,
    ],
    "09.9": [
        """
        times = torch.linspace(1, 0, S + 1)
        for then in times[1:]:
            x = x - network(x, then.expand(len(x))) / S
        return x
        """,
    ],
}
