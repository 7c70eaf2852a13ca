"""Answers to the exercises of notebook 00, wrong and right."""

import re

ROOTS = "a, b = alpha_bar_t**0.5, (1 - alpha_bar_t) ** 0.5; return "
WALK = """
{before}
for t in range(schedule.T, 0, -1):
    beta, alpha, alpha_bar = schedule.beta[t], schedule.alpha[t], schedule.alpha_bar[t]
    eps_hat = network(x, torch.full((len(x), 1), t))
    x = (x - beta / (1 - alpha_bar).sqrt() * eps_hat) / alpha.sqrt()
    {step}
return x
"""
WHOLE = """
alpha = 1 - beta
alpha_bar = alpha.cumprod(0)
{before}
for t in range(len(beta) - 1, 0, -1):
    eps_hat = network(x, torch.full((len(x), 1), t))
    {mean}
    {noise}
return x
"""
MEAN = "x = (x - beta[t] / (1 - alpha_bar[t]).sqrt() * eps_hat) / alpha[t].sqrt()"
NOISE = "x = x + beta[t].sqrt() * torch.randn(x.shape, generator=generator) * (t > 1)"
FRESH = "z = torch.randn(x.shape, generator=generator, dtype=x.dtype)"


def walk(step: str, before: str = "pass", **instead: str) -> str:
    """The loop of 00.3, with other lines before it and at the end of a step."""
    text = WALK.format(step=step, before=before)
    for old, new in instead.items():
        text = text.replace(f"schedule.{old}[t]", new)
    return text


def whole(before: str = "pass", mean: str = MEAN, noise: str = NOISE, **instead: str) -> str:
    """The walk of 00.2, with other lines before the loop and in it.

    instead: what stands in the place of beta[t], alpha[t] or alpha_bar[t] in the mean.
    """
    for old, new in instead.items():
        mean = re.sub(rf"\b{old}\[t\]", new, mean)
    return WHOLE.format(before=before, mean=mean, noise=noise)


WRONG = {
    "00.1": [
        ("(x_t - (1 - alpha_bar_t) * eps_hat) / alpha_bar_t", "Both roots are missing"),
        (ROOTS + "x_t - b * eps_hat", "the shrinking is not undone"),
        (ROOTS + "(x_t - eps_hat) / a", "more than was added"),
        ("x_t - eps_hat", "Nothing is scaled"),
        (ROOTS + "a * x_t + b * eps_hat", "That is the jump itself"),
        (ROOTS + "(x_t + b * eps_hat) / a", "The noise is added"),
        (ROOTS + "(x_t - b * eps_hat) / alpha_bar_t", "no root"),
        (ROOTS + "(x_t - (1 - alpha_bar_t) * eps_hat) / a", "multiplied by the right root"),
        (ROOTS + "(x_t - a * eps_hat) / b", "The two roots have changed places"),
        (ROOTS + "x_t / a - b * eps_hat", "Only x_t is divided"),
        (ROOTS + "(b * eps_hat - x_t) / a", "The sign is wrong"),
        (ROOTS + "((x_t - b * eps_hat) / a).clamp(-1, 1)", "cut off at -1 and 1"),
        (ROOTS + "((x_t - b * eps_hat) / a)[0]", "should have shape"),
        (ROOTS + "(x_t - b * eps_hat).mean() / a", "should have shape"),
        ("math.sqrt(x_t) - eps_hat", "It stops with"),
        ("y = x_t - eps_hat", "nothing came back"),
    ],
    "00.2": [
        (whole(noise="pass"), "The fresh noise is missing"),
        (
            whole(noise=NOISE.replace("beta[t].sqrt()", "beta[t]")),
            "standard deviation beta_t, not variance",
        ),
        (whole(noise=NOISE.replace("beta[t].sqrt() * ", "")), "is not scaled"),
        (whole(noise=NOISE.replace("x.shape", "x.shape[1]")), "All points get the same noise"),
        (whole(noise=NOISE.replace("x.shape", "(len(x), 1)")), "The two coordinates"),
        (whole(noise=NOISE.replace("randn", "rand")), "not the variance"),
        (
            whole(noise=NOISE.replace("x + beta", "x - 1 + beta")),
            "not the mean 0",
        ),
        (
            whole(noise=NOISE.replace(" * (t > 1)", " / alpha[t].sqrt() * (t > 1)")),
            "stretched as well",
        ),
        (whole(noise=NOISE.replace(" * (t > 1)", "")), "The last step adds noise"),
        (whole(noise=NOISE.replace("t > 1", "t > 2")), "The fresh noise is missing"),
        (whole(FRESH, noise="x = x + beta[t].sqrt() * z * (t > 1)"), "not fresh"),
        (
            whole(
                FRESH + "; y = z",
                noise=FRESH + "; x = x + beta[t].sqrt() * (0.8 * z + 0.6 * y) * (t > 1); y = z",
            ),
            "depends on that of another",
        ),
        (whole(mean=MEAN.replace(" / alpha[t].sqrt()", "")), "The shrinking is not undone"),
        (whole(mean=MEAN.replace("alpha[t].sqrt()", "alpha[t]")), "which is no root"),
        (
            whole(mean=MEAN.replace("/ alpha[t]", "/ alpha_bar[t]")),
            "of all steps is undone",
        ),
        (whole(mean=MEAN.replace("/ alpha[t]", "* alpha[t]")), "It shrinks once more"),
        (
            whole(mean="x = x / alpha[t].sqrt() - beta[t] / (1 - alpha_bar[t]).sqrt() * eps_hat"),
            "Look at your brackets",
        ),
        (whole(mean=MEAN.replace("(x -", "(x +")), "The guessed noise is added"),
        (whole(mean="x = (x - eps_hat) / alpha[t].sqrt()"), "not a part"),
        (whole(mean=MEAN.replace("[t]).sqrt()", "[t])")), "A root below beta_t is missing"),
        (whole(mean=MEAN.replace("beta[t]", "beta[t].sqrt()")), "beta_t has no root there"),
        (whole(mean="x = (x - beta[t] * eps_hat) / alpha[t].sqrt()"), "lacks its denominator"),
        (
            whole(mean="x = (x - beta[t] / alpha_bar[t].sqrt() * eps_hat) / alpha[t].sqrt()"),
            "what is left of the data",
        ),
        (whole("alpha_bar = alpha"), "not that of all steps so far"),
        (
            whole(mean="x = (x - (1 - alpha_bar[t]).sqrt() * eps_hat) / alpha_bar[t].sqrt()"),
            "in one leap",
        ),
        (whole(beta="beta[t - 1]"), "beta is read one step off"),
        (whole(alpha="alpha[t - 1]"), "alpha is read one step off"),
        (whole(alpha_bar="alpha_bar[t - 1]"), "no finite numbers"),
        (whole(mean=MEAN.replace("eps_hat", "0.5 * eps_hat")), "Compare its parts"),
        (whole(mean=MEAN.replace("(1 - alpha_bar", "(1 + alpha_bar")), "Compare its parts"),
        (whole(mean=MEAN.replace("(x -", "((1 - 0.1 * (t < 6)) * x -")), "Compare its parts"),
        (whole(mean=MEAN.replace("(x -", "((1 + 0.01 * (t < 2)) * x -")), "The last step is not"),
        (whole(noise=NOISE + "; x = x + 0.1 * (t == 1)"), "The last step is not right"),
        (whole().replace("(len(x), 1)", "(len(x),)"), "takes t as a tensor of shape"),
        (whole().replace("len(beta) - 1, 0, -1", "1, len(beta)"), "should be asked at t = 6, 5"),
        (whole().replace("len(beta) - 1, 0", "len(beta) - 1, 1"), "should be asked at t = 6, 5"),
        (whole("x = torch.randn(x.shape)"), "about x itself"),
        (whole().replace("return x", "return x[0]"), "the points at t = 0"),
        (whole().replace("return x", "x"), "Nothing came back"),
        ("return x", "should be asked at t = 6, 5"),
    ],
    "00.3": [
        (walk("x = x + beta.sqrt() * z * (t > 1)", FRESH), "too widely"),
        (walk(f"{FRESH}; x = x + beta.sqrt() * z"), "too widely"),
        (walk("pass"), "too narrowly"),
        (walk(f"{FRESH}; x = x + beta * z * (t > 1)"), "too narrowly"),
        (walk(f"{FRESH}; x = x + beta.sqrt() * z[:1] * (t > 1)"), "The points"),
        (walk(f"{FRESH}; x = x + beta.sqrt() * z[:, :1] * (t > 1)"), "The two coordinates"),
        (walk(f"{FRESH}; x = x + beta.sqrt() * z * (t > 1)", beta="schedule.beta[t - 1]"), "The p"),
        (
            walk(f"{FRESH}; x = x + beta.sqrt() * z * (t > 1)", alpha="schedule.alpha[t - 1]"),
            "The p",
        ),
        (
            walk(
                f"{FRESH}; x = x + beta.sqrt() * z * (t > 1)", alpha_bar="schedule.alpha_bar[t - 1]"
            ),
            "",
        ),
        (
            walk(f"{FRESH}; x = x + beta.sqrt() * z * (t > 1)").replace(
                "range(schedule.T, 0, -1)", "range(1, schedule.T + 1)"
            ),
            "The p",
        ),
        (
            walk(f"{FRESH}; x = x + beta.sqrt() * z * (t > 1)").replace("(len(x), 1)", "(len(x),)"),
            "takes t as a tensor of shape",
        ),
        (
            walk(f"{FRESH}; x = x + beta.sqrt() * z * (t > 1)", alpha_bar="schedule.alpha[t]"),
            "The p",
        ),
        ("return x", "The points"),
    ],
}

RIGHT = {
    "00.1": [
        "(x_t - np.sqrt(1 - alpha_bar_t) * eps_hat) / np.sqrt(alpha_bar_t)",
        "(x_t.numpy() - math.sqrt(1 - alpha_bar_t) * eps_hat.numpy()) / math.sqrt(alpha_bar_t)",
        "x_t / alpha_bar_t**0.5 - (1 / alpha_bar_t - 1) ** 0.5 * eps_hat",
        "x_t.sub_((1 - alpha_bar_t).sqrt() * eps_hat).div_(alpha_bar_t.sqrt())",
        "((x_t - (1 - alpha_bar_t).sqrt() * eps_hat) / alpha_bar_t.sqrt()).float()",
        "((x_t - (1 - alpha_bar_t).sqrt() * eps_hat) / alpha_bar_t.sqrt()).tolist()",
        ROOTS + "[(one - b * noise) / a for one, noise in zip(x_t, eps_hat)]",
        "x_t * alpha_bar_t.rsqrt() - eps_hat * (1 / alpha_bar_t - 1).sqrt()",
    ],
    "00.2": [
        whole(),
        whole(noise="if t > 1: x = x + beta[t].sqrt() * torch.randn_like(x)"),
        whole(
            "zs = torch.randn(len(beta), *x.shape, generator=generator)",
            noise="x = x - beta[t] ** 0.5 * zs[t] if t > 1 else x",
        ),
        whole("x = x.float()", noise=NOISE + "; x = x.float()"),
        """
        # in place, with tables of Python's numbers
        alpha_bar = [1.0]
        for b in beta[1:].tolist():
            alpha_bar.append(alpha_bar[-1] * (1 - b))
        for t in reversed(range(1, len(beta))):
            b = float(beta[t])
            guess = network(x, torch.full((len(x), 1), float(t)))
            x -= guess.mul_(b / math.sqrt(1 - alpha_bar[t]))
            x /= math.sqrt(1 - b)
            if t != 1:
                x += math.sqrt(b) * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        return x
        """,
        """
        # by way of x_0 and Eq. 7, with another variance of the noise
        alpha_bar = (1 - beta).cumprod(0)
        for t in range(len(beta) - 1, 0, -1):
            alpha_bar_t, alpha_bar_prev = alpha_bar[t], alpha_bar[t - 1]
            eps_hat = network(x, torch.full((len(x), 1), t))
            x_0 = (x - (1 - alpha_bar_t).sqrt() * eps_hat) / alpha_bar_t.sqrt()
            mean = alpha_bar_prev.sqrt() * beta[t] * x_0
            mean += (1 - beta[t]).sqrt() * (1 - alpha_bar_prev) * x
            x = mean / (1 - alpha_bar_t)
            x = torch.normal(x, float(beta[t].sqrt() * (t > 1)), generator=generator)
        return x
        """,
    ],
    "00.3": [
        walk(f"{FRESH}; x = x + beta.sqrt() * z * (t > 1)"),
        walk("z = torch.randn(x.shape, generator=generator) * (t > 1); x = x + beta.sqrt() * z"),
        walk("z = torch.randn(x.shape); x = x - beta.sqrt() * z * (t > 1)"),
        walk(
            "x = x + beta.sqrt() * zs[t] * (t > 1)",
            "zs = torch.randn(schedule.T + 1, *x.shape, generator=generator)",
        ),
        walk("x = torch.normal(x, float(beta.sqrt() * (t > 1)), generator=generator)"),
        walk("x = x.float() + beta.sqrt() * torch.randn_like(x) * (t > 1)"),
    ],
}
