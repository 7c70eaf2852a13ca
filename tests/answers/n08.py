"""Answers to the exercises of notebook 08, wrong and right."""

SNR = "s = lambda a: a / (1 - a); e = (x_0 - x_0_hat).square().flatten(1).sum(1); return "
MIX = "b, t = math.log(beta), math.log(beta_tilde); return "
SIGNS = """
found = []
for r in probes:
    there = y.clone().requires_grad_()
    (row,) = torch.autograd.grad((field(there) * r).sum(), there)
    found.append({each})
return {end}
"""
BOUND = """
n, dimensions = len(x_0), x_0[0].numel()
def at(gamma):
    gamma = gamma.view(-1, *[1] * (x_0.ndim - 1))
    a, b = (1 / (1 + gamma.exp())).sqrt(), (1 / (1 + (-gamma).exp())).sqrt()
    return a, b, a * x_0 + b * torch.randn(x_0.shape, generator=generator, dtype=x_0.dtype)
gamma = low + (high - low) * torch.rand(n * draws, generator=generator, dtype=x_0.dtype)
total = 0.0
for part in gamma.view(draws, n):
    a, b, z = at(part)
    total += float(({height}).flatten(1).sum(1).mean()) / draws
walk = {walk}
a, b, _ = at(torch.full((n,), float(high), dtype=x_0.dtype))
prior = float(torch.distributions.kl_divergence(
    torch.distributions.Normal(a * x_0, b.expand(x_0.shape)), torch.distributions.Normal(0.0, 1.0)
).flatten(1).sum(1).mean())
a, b, z = at(torch.full((n,), float(low), dtype=x_0.dtype))
levels = torch.linspace(-1, 1, 256, dtype=x_0.dtype)
distance = (z.flatten(1)[:, :, None] - a.view(n, 1, 1) * levels) / b.view(n, 1, 1)
chance = torch.softmax(-distance**2 / 2, dim=2)
own = ((x_0.flatten(1) + 1) * 127.5).round().long()
end = -float(chance.gather(2, own[:, :, None]).log().sum((1, 2)).mean())
return {price}
"""


def signs(each: str = "(row * r).sum(1)", end: str = "sum(found) / len(found)") -> str:
    """The estimate of 08.6, with one thing done differently."""
    return SIGNS.format(each=each, end=end)


def bound(
    height: str = "0.5 * (a / b) ** 2 * (x_0 - denoise(z, part)) ** 2",
    walk: str = "(high - low) * total",
    price: str = "(walk + prior + end) / dimensions / math.log(2)",
) -> str:
    """The bound of 08.8, with one thing done differently."""
    return BOUND.replace("{height}", height).replace("{walk}", walk).replace("{price}", price)


WRONG = {
    "08.1": [
        ("nats / math.prod(shape)", "It is still in nats"),
        ("nats * math.log(2) / math.prod(shape)", "Bits are smaller"),
        ("nats / math.log(2)", "the whole image"),
        ("nats / math.log(2) / 784", "off by"),
        ("nats / math.log(2) / (shape[1] * shape[2])", "Each channel"),
    ],
    "08.2": [
        (SNR + "(s(alpha_bar_prev) - s(alpha_bar_t)) * e", "The half is missing"),
        (SNR + "0.5 * (s(alpha_bar_t) - s(alpha_bar_prev)) * e", "a sign is lost"),
        (SNR + "0.5 * (s(alpha_bar_prev) - s(alpha_bar_t)) * e / 16", "not their mean"),
        (SNR + "0.5 * (alpha_bar_prev - alpha_bar_t) * e", "not the signal-to-noise ratio"),
        (SNR + "0.5 * (s(alpha_bar_prev) - s(alpha_bar_t)) * e.sqrt()", "counts squared"),
        (SNR + "0.5 * s(alpha_bar_prev) * e", "before the step"),
        (SNR + "0.5 * (s(alpha_bar_prev)**0.5 - s(alpha_bar_t)**0.5) * e", "of variances"),
        (SNR + "(0.5 * (s(alpha_bar_prev) - s(alpha_bar_t)) * e).sum()", "should have shape"),
    ],
    "08.3": [
        ("(variance - beta_tilde) / (beta - beta_tilde)", "mixes logarithms, not variances"),
        (MIX + "(b - variance.log()) / (b - t)", "The ends are exchanged"),
        (MIX + "variance.log() / b", "Where is beta_tilde?"),
        (
            "(variance**0.5 - beta_tilde**0.5) / (beta**0.5 - beta_tilde**0.5)",
            "mixes logarithms, not roots",
        ),
    ],
    "08.4": [
        ("-log_p / (dimensions * math.log(2))", "the suspect's line, as it is"),
        ("-log_p / (dimensions * math.log(2)) - math.log2(127.5)", "a larger density is needed"),
        ("-log_p / (dimensions * math.log(2)) + math.log2(255)", "width 2, not 1."),
        ("-log_p / (dimensions * math.log(2)) + 8", "width 2, not 1, and 256 levels"),
        ("-log_p / (dimensions * math.log(2)) + 7", "255 gaps between them"),
        ("(-log_p + math.log(127.5)) / (dimensions * math.log(2))", "once in each"),
        ("-log_p / (dimensions * math.log(2)) + math.log(127.5)", "is in nats"),
    ],
    "08.5": [
        ("torch.rand(count, generator=generator)", "Two times lie in the same part"),
        ("torch.arange(count) / count", "The same times come back"),
        ("torch.linspace(0, 1, count)", "outside [0, 1)"),
        ("(torch.arange(count) + torch.rand(1, generator=generator)) / count", "one number"),
        (
            "(torch.arange(count) + torch.rand(count, generator=generator) / 4) / count",
            "from one end of the part",
        ),
    ],
    "08.6": [
        (signs(end="sum(found)"), "their mean"),
        (signs(each="row.sum(1)"), "missing on one side"),
        (signs(each="(row * r).sum()", end="sum(found) / len(found)"), "should have shape"),
        (signs(end="found[0]"), "Only the first probe"),
        (signs(end="found[-1]"), "Only the last probe"),
        (signs(each="(row * r).mean(1)"), "off by"),
    ],
    "08.8": [
        (bound(height="(a / b) ** 2 * (x_0 - denoise(z, part)) ** 2"), "is the half there?"),
        (bound(walk="total"), "multiplied by high - low"),
        (bound(price="(walk + prior + end) / dimensions"), "It is in nats"),
        (bound(price="(walk + prior + end) / math.log(2)"), "of a whole image"),
        (bound(price="walk + prior + end"), "in nats, of a whole image"),
        (bound(height="0.5 * (a / b) * (x_0 - denoise(z, part)) ** 2"), "08.8: not yet."),
    ],
}
RIGHT = {
    "08.1": [
        "math.log2(math.e) * nats / (shape[0] * shape[1] * shape[2])",
        "nats / math.log(2 ** math.prod(shape))",
    ],
    "08.2": [
        SNR + "(s(alpha_bar_prev) - s(alpha_bar_t)) * e / 2",
        """
b = 1 - alpha_bar_t / alpha_bar_prev
tilde = (1 - alpha_bar_prev) / (1 - alpha_bar_t) * b
c = alpha_bar_prev**0.5 * b / (1 - alpha_bar_t)
return torch.stack([((c * (x - y)) ** 2).sum() / (2 * tilde) for x, y in zip(x_0, x_0_hat)])
""",
    ],
    "08.3": [
        MIX + "(variance.log() - t) / (b - t)",
        "np.log(variance.numpy() / beta_tilde) / np.log(beta / beta_tilde)",
    ],
    "08.4": [
        "(-log_p / dimensions + math.log(127.5)) / math.log(2)",
        "-(log_p + dimensions * math.log(2 / 255)) / (dimensions * math.log(2))",
    ],
    "08.5": [
        "torch.cat([(k + torch.rand(1, generator=generator)) / count for k in range(count)])",
        "[(k + float(torch.rand((), generator=generator))) / count for k in range(count)]",
    ],
    "08.6": [
        signs(),
        signs(each="torch.einsum('bi,bi->b', row, r)", end="torch.stack(found).mean(0)"),
    ],
    "08.8": [
        bound(),
        bound(price="(walk + prior + end) / (dimensions * math.log(2))"),
    ],
}
