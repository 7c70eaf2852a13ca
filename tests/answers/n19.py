"""Answers to the exercises of the errata lab, notebook 19, wrong and right."""

NEAR = "a, ab = schedule.alpha[t], schedule.alpha_bar[t]; return "
FOLD = 'from einops import rearrange\nreturn rearrange(x, "b c {rows} {columns} -> {to}", p=2, q=2)'
SEEN = "x_t = diffusion.q_sample(schedule, x_0, t, eps); return "


def fold(rows: str = "(p y)", columns: str = "(x q)", to: str = "b (c p q) y x") -> str:
    """The line of 19.4 with other groups of letters."""
    return FOLD.format(rows=rows, columns=columns, to=to)


WRONG = {
    "19.1": [
        ("p @ P", "no slip in it"),
        ("P.T @ p", "no slip in it"),
        ("(x := P @ p) / x.sum()", "Yours does"),
        ("p", "moves nothing"),
        ("P @ P @ p", "one step, and not two"),
        ("p @ P.inverse()", "the inverse of a step"),
        ("P * p", "should have shape (4,)"),
    ],
    "19.2": [
        (NEAR + "ab.sqrt() * x_0 + (1 - ab).sqrt() * eps", "no slip in it"),
        (NEAR + "ab * x_0 + (1 - ab) * eps", "grey half way"),
        (NEAR + "x_0 + (1 - a).sqrt() * eps", "shrinks the picture a little"),
        (NEAR + "a.sqrt() * x_0 + (1 - a) * eps", "Its noise is larger"),
        (NEAR + "ab.sqrt() * x_0 + (1 - a).sqrt() * eps", "shrinks the picture as it should"),
        (NEAR + "a.sqrt() * x_0 + (1 - ab).sqrt() * eps", "adds the noise as it should"),
        ("t = t - 1; " + NEAR + "a.sqrt() * x_0 + (1 - a).sqrt() * eps", "a step earlier"),
        ("t = t - 1; " + NEAR + "ab.sqrt() * x_0 + (1 - ab).sqrt() * eps", "too late"),
        (NEAR + "(1 - a).sqrt() * x_0 + a.sqrt() * eps", "changed places"),
        ("x_0", "off by"),
        (NEAR + "(a.sqrt() * x_0 + (1 - a).sqrt() * eps).clamp(-1, 1)", "off by"),
    ],
    "19.3": [
        ("(q * (q / p).log()).sum()", "no slip in it"),
        ("(p * (q / p).log()).sum()", "its sign turned round"),
        ("(q - p).abs().sum()", "absolute differences"),
        ("((q - p) * (q / p).log()).sum() / 2", "both directions"),
        ("-(p * q.log()).sum()", "a single spike"),
        ("-(q * p.log()).sum()", "the sound direction"),
        ("(p * (p / q).log()).mean()", "A mean over the states"),
        ("(p * (p / q).log2()).sum()", "in bits"),
        ("p * (p / q).log()", "a single number, got 5"),
        ("(p / q).log().sum()", "off by"),
    ],
    "19.4": [
        (fold("(y p)"), "no slip in it"),
        (fold("(y p)", "(q x)"), "halves the picture across"),
        (fold("(p y)", "(q x)"), "the four quarters"),
        (fold(to="b (c q p) y x"), "in another order"),
        ("x.reshape(len(x), 4, x.shape[2] // 2, x.shape[3] // 2)", "A plain reshape"),
        (fold("(y p)", "(q x)", "b (c q p) y x"), "Rows and columns"),
        (fold() + ".flip(2)", "upside down"),
        ("F.pixel_unshuffle(x, 2)", "no slip in it"),
        ("F.avg_pool2d(x, 2).expand(-1, 4, -1, -1)", "off by"),
        ("x", "should have shape"),
    ],
    "19.5": [
        (SEEN + "(network(x_t, t) - eps).square().flatten(1).mean(1)", "no slip in it"),
        ("(network(x_0, t) - eps).square().flatten(1).sum(1)", "the mean over its pixels"),
        (SEEN + "(network(x_t, t - 1) - eps).square().flatten(1).mean(1)", "a neighbour's t"),
        (SEEN + "(network(x_t, t) - x_0).square().flatten(1).mean(1)", "compares with the picture"),
        ("(network(eps, t) - eps).square().flatten(1).mean(1)", "nothing but noise"),
        ("(network(x_0, t) - eps).square().mean().expand(len(x_0))", "over the batch"),
        ("(network(x_0, t) - eps).square().mean()", "should have shape (3,), got ()"),
        ("(network(x_0, t) - eps).abs().flatten(1).mean(1)", "an absolute value"),
        ("(network(x_0, t) - eps).square().flatten(1).mean(1).sqrt()", "the root of the loss"),
        ("(network(x_0, t) - eps).square().flatten(1).mean(1) / 2", "off by"),
        ("(network(x_0, t - 1) - eps).square().flatten(1).mean(1)", "neighbour's t as well"),
        ("(network(x_0, t) - eps).square().mean((0, 1, 2))", "should have shape (3,)"),
        ("(network(x_0, t) - eps).flatten(1).var(1)", "off by"),
    ],
    "19.6": [
        ("mean + sigma * z if t > 1 else mean", "no slip in it"),
        ("mean", "all garments would be smooth"),
        ("mean + sigma**2 * z", "less noise"),
        ("mean + sigma**0.5 * z", "more noise"),
        ("mean - sigma * z", "as rough"),
        ("mean + z", "by nothing"),
        ("mean + sigma * torch.randn_like(z)", "off by"),
        ("mean + sigma * z if t == 1 else mean", "would be smooth"),
        ("mean + sigma * z if t < 3 else mean", ""),
        ("sigma * z", "off by"),
    ],
}

RIGHT = {
    "19.1": [
        "p @ P.T",
        "(P * p).sum(1)",
        "np.array(P) @ np.array(p)",
        "[sum(P[i, j] * p[j] for j in range(len(p))) for i in range(len(p))]",
        "torch.einsum('ij,j->i', P, p)",
        "F.linear(p, P).float()",
    ],
    "19.2": [
        NEAR + "a.sqrt() * x_0 + (1 - a).sqrt() * eps",
        "(1 - schedule.beta[t]) ** 0.5 * x_0 + schedule.beta[t] ** 0.5 * eps",
        "diffusion.q_step(schedule, x_0, torch.full((len(x_0),), t), eps)",
        "x_0.mul_(schedule.alpha[t] ** 0.5).add_(schedule.beta[t] ** 0.5 * eps)",
        "a = float(schedule.alpha[t])\n"
        "return math.sqrt(a) * np.array(x_0) + math.sqrt(1 - a) * np.array(eps)",
        "r = schedule.alpha_bar[t] / schedule.alpha_bar[t - 1]\n"
        "return [r.sqrt() * x + (1 - r).sqrt() * e for x, e in zip(x_0, eps)]",
    ],
    "19.3": [
        "(p * (p.log() - q.log())).sum()",
        "sum(b * math.log(b / a) for a, b in zip(q.tolist(), p.tolist()))",
        "F.kl_div(q.log(), p, reduction='sum')",
        "torch.dot(p, (p / q).log())",
        "(np.array(p) * np.log(np.array(p) / np.array(q))).sum()",
        "-(p * (q / p).log()).sum()",
    ],
    "19.4": [
        fold(),
        fold(to="b (p q c) y x"),
        """
        upper, lower = x.chunk(2, dim=2)
        halves = [half[..., column::2] for half in (upper, lower) for column in (0, 1)]
        return torch.cat(halves, dim=1)
        """,
        "x.view(len(x), 2, x.shape[2] // 2, -1, 2).permute(0, 1, 4, 2, 3).flatten(1, 2)",
        "np.stack([h[:, 0, :, c::2] for h in np.split(np.array(x), 2, axis=2) for c in (0, 1)], 1)",
    ],
    "19.5": [
        "(network(x_0, t) - eps).square().flatten(1).mean(1)",
        "F.mse_loss(network(x_0, t), eps, reduction='none').mean((1, 2, 3))",
        "torch.stack([((network(x_0, t) - eps)[i] ** 2).mean() for i in range(len(t))])",
        "(np.array(network(x_0, t) - eps) ** 2).mean((1, 2, 3))",
        "torch.einsum('bchw,bchw->b', *2 * [network(x_0, t) - eps]) / x_0[0].numel()",
        "[float(((e - n) ** 2).mean()) for e, n in zip(eps, network(x_0, t))]",
        "diffusion.regression_loss(network(x_0, t), eps)",
    ],
    "19.6": [
        "mean.add_(sigma * z)",
        "torch.add(mean, z, alpha=sigma)",
        "np.array(mean) + sigma * np.array(z)",
        "(mean + sigma * z).tolist()",
        "torch.lerp(mean, mean + z, sigma)",
        "(mean / sigma + z) * sigma",
    ],
}
