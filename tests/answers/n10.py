"""Answers to the exercises of notebook 10, wrong and right."""

MIX = "return mask * ({noised}) + (1 - mask) * x_t"
AB = "a = schedule.alpha_bar[t].view(-1, 1, 1, 1); "
BELL = "r = w / v + (1 - w) / V; return {mean}, {variance}"
BALLS = """
radius = torch.cdist(samples, samples).sort(1).values[:, {place}]
return {share}
"""
INSIDE = "(torch.cdist(real, samples) <= radius).any(1).double()"
WALK = """
x, none = x_T, torch.full_like(y, {nobody})
for t_prev, t in {pairs}:
    step = torch.full((len(x),), t)
    without, label = network(x, step, none), network(x, step, y)
    eps = {eps}
    now, before = schedule.alpha_bar[t], schedule.alpha_bar[t_prev]
    x_0_hat = {guess}
    x = before**0.5 * x_0_hat + (1 - before) ** 0.5 * eps
return x
"""


def walk(
    eps: str = "without + w * (label - without)",
    guess: str = "(x - (1 - now) ** 0.5 * eps) / now**0.5",
    pairs: str = "list(zip(tau[:-1], tau[1:]))[::-1]",
    nobody: str = "-1",
) -> str:
    """The sampler of 10.8, with one thing done differently."""
    return WALK.format(eps=eps, guess=guess, pairs=pairs, nobody=nobody)


INTERVAL = """
if not {inside}:
    return {outside}
none = denoise(x_t, t, torch.full_like(y, -1))
return none + w * (denoise(x_t, t, y) - none)
"""


def interval(
    inside: str = "(t_from <= int(t[0]) <= t_to)", outside: str = "denoise(x_t, t, y)"
) -> str:
    """The guidance of 10.6, with one thing done differently."""
    return INTERVAL.format(inside=inside, outside=outside)


WRONG = {
    "10.1": [
        ("eps_hat + w * (1 - alpha_bar_t) ** 0.5 * slope", "Its sign"),
        ("eps_hat - (1 - alpha_bar_t) ** 0.5 * slope", "w is missing"),
        ("eps_hat - w * (1 - alpha_bar_t) / alpha_bar_t**0.5 * slope", "the one of x_0_hat"),
        ("eps_hat - w * (1 - alpha_bar_t) * slope", "not a variance"),
        ("eps_hat - w * alpha_bar_t**0.5 * slope", "1 - alpha_bar_t"),
        ("eps_hat - w * slope", "no factor there"),
    ],
    "10.2": [
        ("eps_none + w * (eps_y - eps_none), w", "taken for ours"),
        ("(1 + w) * eps_y - w * eps_none, w", "That is theirs"),
        ("(1 + w) * eps_y - w * eps_none, w - 1", "the larger one"),
        ("(1 + w) * eps_none - w * eps_y, w + 1", "changed places"),
        ("(1 + w) * eps_y, 1 + w", "leaves out"),
        ("(1 + w) * eps_y - w * eps_none", "two things"),
    ],
    "10.3": [
        ("alpha_bar_t**0.5 / (1 - alpha_bar_t) * (without - with_label)", "Its sign"),
        ("(1 - alpha_bar_t) / alpha_bar_t**0.5 * (with_label - without)", "upside down"),
        ("with_label - without", "is missing"),
        ("(with_label - without) / (1 - alpha_bar_t) ** 0.5", "the one for noise"),
        ("(alpha_bar_t / (1 - alpha_bar_t)) ** 0.5 * (with_label - without)", "not its root"),
        ("alpha_bar_t / (1 - alpha_bar_t) * (with_label - without)", "A root is missing"),
    ],
    "10.4": [
        (BELL.format(mean="w * m / v / r", variance="r"), "one over it"),
        (BELL.format(mean="w * m / v / r", variance="w * v + (1 - w) * V"), "not variances"),
        (BELL.format(mean="w * m / v / r", variance="1 / (w / v + 1 / V)"), "exponent"),
        (BELL.format(mean="w * m / v / r", variance="v / w"), "left out"),
        (BELL.format(mean="w * m / v / r", variance="r**-0.5"), "its root"),
        (BELL.format(mean="m", variance="1 / r"), "without guidance"),
        (BELL.format(mean="w * m", variance="1 / r"), "weighed by precision"),
        (BELL.format(mean="w * m / v", variance="1 / r"), "multiplied by the variance"),
        (BELL.format(mean="m / v / r", variance="1 / r"), "w of the mean"),
    ],
    "10.5": [
        ("mask * known + (1 - mask) * x_t", "of another step"),
        (AB + MIX.format(noised="known + (1 - a) ** 0.5 * eps"), "fainter"),
        (AB + MIX.format(noised="a**0.5 * known"), "noise as well"),
        (AB + MIX.format(noised="a * known + (1 - a) * eps"), "not yet what it is"),
        (
            AB + "return (1 - mask) * (a**0.5 * known + (1 - a) ** 0.5 * eps) + mask * x_t",
            "wrong way round",
        ),
    ],
    "10.6": [
        (interval("True"), "plain guess with the label"),
        (interval("False"), "guidance should act"),
        (interval("(t_from < int(t[0]) <= t_to)"), "guidance should act"),
        (interval("(t_from <= int(t[0]) < t_to)"), "guidance should act"),
        (interval(outside="denoise(x_t, t, torch.full_like(y, -1))"), "without a label"),
        (
            interval(outside="0 * denoise(x_t, t, torch.full_like(y, -1)) + denoise(x_t, t, y)"),
            "asked 2 times, 1 will do",
        ),
        (
            "a, b = denoise(x_t, t, y), denoise(x_t, t, torch.full_like(y, -1)); "
            "return a + w * (a - b)",
            "",
        ),
    ],
    "10.7": [
        (BALLS.format(place="k", share=INSIDE + ".sum()"), "not a number of points"),
        (BALLS.format(place="k - 1", share=INSIDE + ".mean()"), "the point itself"),
        (BALLS.format(place="k + 1", share=INSIDE + ".mean()"), "too far"),
        (
            "samples, real = real, samples" + BALLS.format(place="k", share=INSIDE + ".mean()"),
            "precision",
        ),
    ],
    "10.8": [
        (walk("(1 + w) * label - w * without"), "counted as in the paper"),
        (walk("label"), "plain conditional"),
        (walk("without"), "ignored"),
        (walk("label + w * (without - label)"), "wrong way"),
        (walk(pairs="list(zip(tau[1:-1], tau[2:]))[::-1]"), "The last step is missing"),
        (walk(pairs="[(t - 1, t) for t in range(20, 0, -1)]"), "all steps"),
        (walk(guess="((x - (1 - now) ** 0.5 * eps) / now**0.5).clamp(-1, 1)"), "clipped"),
        (walk(nobody="0"), "off by"),
    ],
}
RIGHT = {
    "10.1": [
        "eps_hat - w * (1 - alpha_bar_t) ** 0.5 * slope",
        """
        noise, signal = (1 - alpha_bar_t) ** 0.5, alpha_bar_t**0.5
        x_t = eps_hat * 0
        x_0_hat = (x_t - noise * eps_hat) / signal + w * noise**2 / signal * slope
        return (x_t - signal * x_0_hat) / noise
        """,
    ],
    "10.2": [
        "(1 + w) * eps_y - w * eps_none, 1 + w",
        "[eps_none + (w + 1) * (eps_y - eps_none), w + 1.0]",
    ],
    "10.3": [
        "alpha_bar_t**0.5 / (1 - alpha_bar_t) * (with_label - without)",
        "(with_label - without).numpy() * math.sqrt(alpha_bar_t) / (1 - alpha_bar_t)",
    ],
    "10.4": [
        BELL.format(mean="w * m / v / r", variance="1 / r"),
        """
        x = np.linspace(-30, 30, 200001)
        log_p = -(1 - w) * x**2 / (2 * V) - w * (x - m) ** 2 / (2 * v)
        p = np.exp(log_p - log_p.max())
        p /= p.sum()
        mean = (p * x).sum()
        return mean, (p * (x - mean) ** 2).sum()
        """,
    ],
    "10.5": [
        AB + MIX.format(noised="a**0.5 * known + (1 - a) ** 0.5 * eps"),
        """
        out = x_t.clone()
        for k, step in enumerate(t.tolist()):
            a = float(schedule.alpha_bar[step])
            here = a**0.5 * known[k] + (1 - a) ** 0.5 * eps[k]
            out[k] = torch.where(mask.bool(), here, x_t[k])
        return out
        """,
    ],
    "10.6": [
        interval(),
        """
        if t_from <= t[0] <= t_to:
            both = torch.cat([torch.full_like(y, -1), y])
            a, b = denoise(torch.cat([x_t, x_t]), torch.cat([t, t]), both).chunk(2)
            return (1 - w) * a + w * b
        return denoise(x_t, t, y)
        """,
    ],
    "10.7": [
        BALLS.format(place="k", share=INSIDE + ".mean()"),
        """
        found = 0
        radii = [sorted(float((a - b).norm()) for b in samples)[k] for a in samples]
        for point in real:
            found += any(float((point - s).norm()) <= r for s, r in zip(samples, radii))
        return found / len(real)
        """,
    ],
    "10.8": [
        walk(),
        """
        x = x_T
        for i in range(len(tau) - 1, 0, -1):
            step, both = torch.full((2 * len(x),), tau[i]), torch.cat([torch.full_like(y, -1), y])
            a, b = network(torch.cat([x, x]), step, both).chunk(2)
            eps = a + w * (b - a)
            now, then = schedule.alpha_bar[tau[i]], schedule.alpha_bar[tau[i - 1]]
            shrink = (then / now) ** 0.5
            x = shrink * x + ((1 - then) ** 0.5 - shrink * (1 - now) ** 0.5) * eps
        return x
        """,
    ],
}
