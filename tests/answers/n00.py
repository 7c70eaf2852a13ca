"""Answers to the exercises of notebook 00, wrong and right."""

ROOTS = "a, b = alpha_bar_t**0.5, (1 - alpha_bar_t) ** 0.5; return "
STEP = "root, alpha = (1 - alpha_bar_t) ** 0.5, 1 - beta_t; return "
WALK = """
{before}
for t in range(schedule.T, 0, -1):
    beta, alpha, alpha_bar = schedule.beta[t], schedule.alpha[t], schedule.alpha_bar[t]
    eps_hat = network(x, torch.full((len(x), 1), t))
    x = (x - beta / (1 - alpha_bar).sqrt() * eps_hat) / alpha.sqrt()
    {step}
return x
"""
FRESH = "z = torch.randn(x.shape, generator=generator, dtype=x.dtype)"


def walk(step: str, before: str = "pass", **instead: str) -> str:
    """The loop of 00.3, with other lines before it and at the end of a step."""
    text = WALK.format(step=step, before=before)
    for old, new in instead.items():
        text = text.replace(f"schedule.{old}[t]", new)
    return text


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
        (STEP + "(x - beta_t / root * eps_hat) / alpha**0.5", "The fresh noise is missing"),
        (
            STEP + "(x - beta_t / root * eps_hat) / alpha**0.5 + beta_t * z",
            "standard deviation beta_t, not variance",
        ),
        (STEP + "(x - beta_t / root * eps_hat) / alpha**0.5 + z", "is not scaled"),
        (STEP + "x - beta_t / root * eps_hat + beta_t**0.5 * z", "The shrinking is not undone"),
        (
            STEP + "(x - beta_t / root * eps_hat) / alpha + beta_t**0.5 * z",
            "by 1 - beta_t, which is no root",
        ),
        (
            STEP + "(x - beta_t / root**2 * eps_hat) / alpha**0.5 + beta_t**0.5 * z",
            "A root below beta_t is missing",
        ),
        (
            STEP + "(x - beta_t / root * eps_hat) / alpha_bar_t**0.5 + beta_t**0.5 * z",
            "of all steps is undone",
        ),
        (
            STEP + "(x + beta_t / root * eps_hat) / alpha**0.5 + beta_t**0.5 * z",
            "The guessed noise is added",
        ),
        (STEP + "(x - eps_hat) / alpha**0.5 + beta_t**0.5 * z", "not a part"),
        (
            STEP + "(x - beta_t / root * eps_hat + beta_t**0.5 * z) / alpha**0.5",
            "stretched as well",
        ),
        (
            STEP + "(x - beta_t**0.5 / root * eps_hat) / alpha**0.5 + beta_t**0.5 * z",
            "beta_t has no root there",
        ),
        (
            STEP + "(x - beta_t * eps_hat) / alpha**0.5 + beta_t**0.5 * z",
            "lacks its denominator",
        ),
        (
            STEP + "(x - beta_t / alpha_bar_t**0.5 * eps_hat) / alpha**0.5 + beta_t**0.5 * z",
            "what is left of the picture",
        ),
        (
            STEP + "(x - beta_t / root * eps_hat) * alpha**0.5 + beta_t**0.5 * z",
            "It shrinks once more",
        ),
        (
            STEP + "(x - root * eps_hat) / alpha_bar_t**0.5 + beta_t**0.5 * z",
            "in one leap",
        ),
        (
            STEP + "x / alpha**0.5 - beta_t / root * eps_hat + beta_t**0.5 * z",
            "Look at your brackets",
        ),
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
        STEP + "(x - beta_t / root * eps_hat) / alpha**0.5 + beta_t**0.5 * z",
        "(x.numpy() - beta_t.numpy() / np.sqrt(1 - alpha_bar_t.numpy()) * eps_hat.numpy())"
        " / np.sqrt(1 - beta_t.numpy()) + np.sqrt(beta_t.numpy()) * z.numpy()",
        """
        x -= beta_t * eps_hat / torch.sqrt(1 - alpha_bar_t)
        x /= torch.sqrt(1 - beta_t)
        x += torch.sqrt(beta_t) * z
        return x
        """,
        """
        # by way of x_0 and Eq. 7, with another variance of the noise
        alpha, before = 1 - beta_t, alpha_bar_t / (1 - beta_t)
        x_0 = (x - (1 - alpha_bar_t).sqrt() * eps_hat) / alpha_bar_t.sqrt()
        mean = before.sqrt() * beta_t * x_0 + alpha.sqrt() * (1 - before) * x
        return mean / (1 - alpha_bar_t) + beta_t.sqrt() * z
        """,
        STEP + "[((a - beta_t / root * b) / alpha**0.5 + beta_t**0.5 * c).tolist()"
        " for a, b, c in zip(x, eps_hat, z)]",
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
