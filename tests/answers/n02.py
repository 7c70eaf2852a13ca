"""Answers to the exercises of notebook 02, wrong and right."""

TABLES = (
    "a, b, c = (x[t].view(-1, 1, 1, 1) for x in "
    "(schedule.alpha_bar, schedule.alpha, schedule.beta)); return "
)
BAYES = """
mean, variance = {mean}, {variance}
weight = {prior} * torch.exp(-((x_1 - mean) ** 2) / ({two} * variance))
return weight / ({over})
"""
SQUARE = """
side = min(photo.shape[1], photo.shape[2])
top, left = (photo.shape[1] - side) // 2, (photo.shape[2] - side) // 2
x = photo[:, top : top + side, left : left + side]
"""


def bayes(
    mean: str = "(1 - beta) ** 0.5 * grid",
    variance: str = "beta",
    prior: str = "density",
    two: str = "2",
    over: str = "weight.sum() * (grid[1] - grid[0])",
) -> str:
    """Bayes' rule on a grid, with one thing done differently."""
    return BAYES.format(mean=mean, variance=variance, prior=prior, two=two, over=over)


def from_alpha_bar(formula: str) -> str:
    """The betas of a curve alpha_bar, in which u runs from 0 to 1."""
    return (
        "u = torch.linspace(0, 1, T + 1, dtype=torch.float64)\n"
        f"alpha_bar = {formula}\n"
        "return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)"
    )


WRONG = {
    "02.1": [
        ("(1 - beta) ** t", "That is alpha_bar"),
        ("(1 - (1 - beta) ** t) ** 0.5", "the factor of the noise"),
        ("(1 - beta) ** ((t - 1) / 2)", "One step is missing"),
        ("(1 - beta) ** ((t + 1) / 2)", "one step too many"),
        ("(1 - beta) ** (t // 2)", ""),
        ("(1 - beta) ** 0.5", "a single step"),
        ("1 - beta * t", "off by"),
        ("(1 - beta * t) ** 0.5", "they do not add up"),
        ("beta ** (t / 2)", "How much does it keep?"),
        ("(1 - beta**0.5) ** t", "not to beta alone"),
        ("(1 - beta**2) ** (t / 2)", "beta is a variance"),
        ("math.exp(-beta * t / 2)", "not exp(-beta t)"),
        ("1 - (1 - beta) ** (t / 2)", "what is gone"),
        ("(1 - beta)[t]", "It stops with TypeError"),
        ("0.5", "off by"),
    ],
    "02.2": [
        ("(1 - beta) ** 0.5 * x_prev + beta * eps", "x_t has less"),
        ("(1 - beta) * x_prev + beta**0.5 * eps", "The noise is right"),
        ("(1 - beta) * x_prev + beta * eps", "off by"),
        ("x_prev + beta**0.5 * eps", "Nothing is shrunk"),
        ("(1 - beta) ** 0.5 * (x_prev + eps)", "factor of the image"),
        ("(1 - beta) ** 0.5 * x_prev + eps", "not scaled at all"),
        ("(1 - beta) ** 0.5 * x_prev - beta**0.5 * eps", "The noise is subtracted"),
        ("(1 - beta**2) ** 0.5 * x_prev + beta * eps", "keeps the variance"),
        ("beta**0.5 * x_prev + (1 - beta) ** 0.5 * eps", "keeps the variance"),
        ("(1 - beta) * x_prev + (1 - (1 - beta) ** 2) ** 0.5 * eps", "keeps the variance"),
        ("((1 - beta) ** 0.5 * x_prev + beta**0.5 * eps)[0]", "should have shape"),
        ("'x'", "should be numbers, got str"),
        ("x = (1 - beta) ** 0.5 * x_prev + beta**0.5 * eps", "Is a `return` missing?"),
    ],
    "02.3": [
        (TABLES + "a * x_0 + (1 - a) * eps", "A square root is missing"),
        (TABLES + "a * x_0 + (1 - a).sqrt() * eps", "The image lacks its root"),
        (TABLES + "a.sqrt() * x_0 + (1 - a) * eps", "The noise lacks its root"),
        (TABLES + "b.sqrt() * x_0 + (1 - b).sqrt() * eps", "That is alpha_t, of one step"),
        (TABLES + "b.sqrt() * x_0 + c.sqrt() * eps", "That is alpha_t, of one step"),
        (TABLES + "a.sqrt() * x_0 + c.sqrt() * eps", "that of the last step alone"),
        (TABLES + "(1 - a).sqrt() * x_0 + a.sqrt() * eps", "changed places"),
        ("t = t - 1; " + TABLES + "a.sqrt() * x_0 + (1 - a).sqrt() * eps", "one step behind"),
        ("t = t + 1; " + TABLES + "a.sqrt() * x_0 + (1 - a).sqrt() * eps", "one step ahead"),
        ("t = t[:1]; " + TABLES + "a.sqrt() * x_0 + (1 - a).sqrt() * eps", ""),
        (TABLES + "a.sqrt() * x_0 - (1 - a).sqrt() * eps", "The noise is subtracted"),
        (TABLES + "x_0 + (1 - a).sqrt() * eps", "The image is not shrunk"),
        (TABLES + "a.sqrt() * x_0 + eps", "The noise is not scaled"),
        (TABLES + "a.sqrt() * x_0 + (1 - a.sqrt()) * eps", "is not sqrt(1 - alpha_bar)"),
        (
            "n = t.view(-1, 1, 1, 1); " + TABLES + "(b**n).sqrt() * x_0 + (1 - b**n).sqrt() * eps",
            "alpha_t to",
        ),
        # (B,) against (B, 1, H, W), (B, 1, 1) against (B, 1, H, W)
        ("a = schedule.alpha_bar[t]; return a.sqrt() * x_0 + (1 - a).sqrt() * eps", "must match"),
        (
            "a = schedule.alpha_bar[t].view(-1, 1, 1)\n"
            "return a.sqrt() * x_0 + (1 - a).sqrt() * eps",
            "should have shape (3, 1, 4, 4), got (3, 3, 4, 4)",
        ),
        (
            "a = schedule.alpha_bar[t].view(1, -1, 1, 1)\n"
            "return a.sqrt() * x_0 + (1 - a).sqrt() * eps",
            "should have shape (3, 1, 4, 4), got (3, 3, 4, 4)",
        ),
        (
            "a = schedule.alpha_bar[t].mean(); return a.sqrt() * x_0 + (1 - a).sqrt() * eps",
            "off by",
        ),
        ("diffusion.q_sample(schedule, x_0, t, eps)", "It calls `q_sample`"),
    ],
    "02.4": [
        ("math.log(s) / math.log(1 - beta) + 1e-9", "There alpha_bar is s"),
        ("2 * math.log(s / (1 + s)) / math.log(1 - beta)", "Twice too large"),
        ("math.log(1 / (1 + s)) / math.log(1 - beta)", ""),
        ("math.log((1 + s) / s) / math.log(1 - beta)", "The sign is wrong"),
        ("math.log(s**2 / (1 + s**2)) / math.log(1 - beta)", ""),
        ("math.log10(s / (1 + s)) / math.log(1 - beta)", "different bases"),
        ("-math.log(s / (1 + s)) / beta", "is not -beta"),
        ("math.log(1 - beta) / math.log(s / (1 + s))", "upside down"),
        ("math.floor(math.log(s / (1 + s)) / math.log(1 - beta))", "rounded"),
        ("math.ceil(math.log(s / (1 + s)) / math.log(1 - beta))", "rounded up"),
        ("torch.tensor(math.log(s / (1 + s)) / math.log(1 - beta)).round()", "rounded"),
        (
            "t = 0\nwhile (1 - beta) ** t >= s * (1 - (1 - beta) ** t): t += 1\nreturn t",
            "rounded up",
        ),
        ("68.97", ""),
    ],
    "02.5": [
        ("torch.linspace(1e-4, 0.02, T)", "does not end in noise"),
        ("[7 / T] * T", "begins too roughly"),
        ("[1e-4] + [7 / T] * (T - 1)", "constant or linear rule"),
        ("[1e-4] * 2 + [7.2 / T] * (T - 2)", "constant or linear rule"),
        ("torch.linspace(1e-4, 20 / T, T)", "constant or linear rule"),
        ("torch.cat([torch.linspace(1e-4, 20 / T, T - 1), torch.tensor([0.9])])", "or linear rule"),
        ("torch.linspace(0.01, (30 / T) ** 0.5, T) ** 2", "the quadratic rule"),
        ("torch.logspace(-6, math.log10(0.24), T)", ""),
        (
            "1e-4 + (20 / T - 1e-4) * torch.sigmoid(torch.linspace(-6, 6, T))",
            "the sigmoid rule",
        ),
        (from_alpha_bar("torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2"), "the cosine rule"),
        (from_alpha_bar("torch.cos(u * math.pi / 2) ** 2"), "the offset-free cosine rule"),
        ("[1e-4] * (T - 1) + [0.9999]", "Its last tenth"),
        ("[1e-4] * (T // 2) + [0.5] * (T - T // 2)", "One step is too large"),
        ("[1e-4] * (T // 4) + [0.3] * (T - T // 4)", "Half of the steps are wasted"),
        ("torch.linspace(0.01, 1.2, T)", "between 0 and 1"),
        ("torch.linspace(0.001, 0.2, T + 1)", "should return 100 numbers"),
        ("from_betas(torch.linspace(1e-4, 20 / T, T))", "not a whole schedule"),
        ("torch.linspace(1, 0, T + 1)", "should return 100 numbers"),
        ("from tutorial_lib.schedule import cosine\nreturn cosine(T).beta[1:]", ""),
        ("torch.linspace(1e-4, 20 / T, T)[torch.randperm(T)]", ""),
    ],
    "02.6": [
        (bayes(over="weight.sum()"), "It sums to 1, but"),
        (bayes(over="1"), "It is not normalised"),
        (bayes(prior="1"), "Where is the prior?"),
        (bayes(variance="beta**2"), "beta is the variance of the step"),
        (bayes(mean="(1 - beta) * grid"), "lacks its root"),
        (bayes(mean="grid"), "shrinks x_0 before"),
        (bayes(two="1"), "the 2 is missing"),
        (bayes(over="weight.sum() / (grid[1] - grid[0])"), "multiplied by the spacing"),
        (bayes(variance="1 - beta"), "what is left of the variance"),
        (bayes(variance="beta**0.5"), "off by"),
        (bayes(over="weight.max()"), "not normalised"),
        (bayes(mean="grid / (1 - beta) ** 0.5"), "it does not divide"),
        ("density", "before anything was seen"),
        ("density[::2]", "should have shape"),
    ],
    "02.7": [
        ("side = min(photo.shape[1:]); return photo[:, :side, :side] / 127.5 - 1", "at the edge"),
        ("side = min(photo.shape[1:]); return photo[:, -side:, -side:] / 127.5 - 1", "other edge"),
        (SQUARE + "return x / 255", "That is [0, 1]"),
        (SQUARE + "return x", "These are still the bytes"),
        (SQUARE + "return x * 2 / 255 - 1", "wrapped around"),
        (SQUARE + "return x / 128 - 1", "White is not 1"),
        (SQUARE + "return x / 127.5", "not centred"),
        (SQUARE + "return x / 255 - 0.5", "half as wide"),
        (SQUARE + "return 1 - x / 127.5", "changed places"),
        (SQUARE + "return x / 255 - 1", "what becomes of white?"),
        (SQUARE + "return x - 127.5", "255 wide"),
        (SQUARE + "return (x / 127.5 - 1).flip(1)", "upside down"),
        (SQUARE + "return (x / 127.5 - 1).mT", "Rows and columns"),
        (SQUARE + "return x // 127.5 - 1", "off by"),
        (SQUARE + "return (x.float() / 255 * 2 - 1).mean(0)", "should become"),
        ("photo / 127.5 - 1", "should become"),
        (
            "side = min(photo.shape[1:])\n"
            "return F.interpolate(photo[None] / 127.5 - 1, size=(side, side))[0]",
            "off by",
        ),
    ],
}

RIGHT = {
    "02.1": [
        "math.sqrt(1 - beta) ** t",
        "np.sqrt((1 - beta) ** t)",
        "np.prod([np.sqrt(1 - beta)] * t)",
        "math.exp(t / 2 * math.log1p(-beta))",
        "torch.full((t,), 1 - beta, dtype=torch.float64).prod().sqrt()",
        "torch.tensor(1 - beta).sqrt().pow(t)",
        "from_betas([beta] * t + [0.9999] * 3).alpha_bar[t].sqrt()",
        """
        left = 1.0
        for _ in range(t):
            left *= (1 - beta) ** 0.5
        return left
        """,
        "[(1 - beta) ** (0.5 * t)]",
    ],
    "02.2": [
        "(1 - beta).sqrt() * x_prev + beta.sqrt() * eps",
        "math.sqrt(1 - beta) * x_prev + math.sqrt(beta) * eps",
        "np.sqrt(1 - float(beta)) * np.array(x_prev) + np.sqrt(float(beta)) * np.array(eps)",
        "x_prev.mul_(math.sqrt(1 - beta)).add_(math.sqrt(beta) * eps)",
        "(x_prev.float() * (1 - beta) ** 0.5 + beta**0.5 * eps.float())",
        "((1 - beta) ** 0.5 * x_prev + beta**0.5 * eps).tolist()",
        "[(1 - beta) ** 0.5 * x + beta**0.5 * e for x, e in zip(x_prev, eps)]",
        "torch.einsum('i,ibchw->bchw', torch.stack([1 - beta, beta]) ** 0.5,"
        " torch.stack([x_prev, eps]))",
    ],
    "02.3": [
        TABLES + "a.sqrt() * x_0 + (1 - a).sqrt() * eps",
        "a = schedule.alpha_bar[t][:, None, None, None]\n"
        "return a**0.5 * x_0 + (1 - a) ** 0.5 * eps",
        """
        out = []
        for x, step, e in zip(x_0, t, eps):
            a = float(schedule.alpha_bar[step])
            out.append(math.sqrt(a) * x + math.sqrt(1 - a) * e)
        return torch.stack(out)
        """,
        "[schedule.alpha_bar[k].sqrt() * x + (1 - schedule.alpha_bar[k]).sqrt() * e"
        " for k, x, e in zip(t.tolist(), x_0, eps)]",
        """
        a = schedule.alpha.cumprod(0)[t].reshape(len(t), 1, 1, 1)
        return torch.sqrt(a) * x_0 + torch.sqrt(1 - a) * eps
        """,
        """
        a = np.array(schedule.alpha_bar)[np.array(t)].reshape(-1, 1, 1, 1)
        return np.sqrt(a) * np.array(x_0) + np.sqrt(1 - a) * np.array(eps)
        """,
        "a = schedule.alpha_bar[t]\n"
        "return (torch.einsum('b,bchw->bchw', a.sqrt(), x_0)"
        " + torch.einsum('b,bchw->bchw', (1 - a).sqrt(), eps))",
        "a = schedule.alpha_bar.float().gather(0, t).view(-1, 1, 1, 1)\n"
        "return x_0.float().mul_(a.sqrt()).add_((1 - a).sqrt() * eps.float())",
        # the chain of variances, step by step
        """
        out = torch.empty_like(x_0)
        for i, steps in enumerate(t.tolist()):
            signal, variance = 1.0, 0.0
            for s in range(1, steps + 1):
                b = float(schedule.beta[s])
                signal, variance = signal * (1 - b) ** 0.5, variance * (1 - b) + b
            out[i] = signal * x_0[i] + variance**0.5 * eps[i]
        return out
        """,
        "snr = schedule.snr[t].view(-1, 1, 1, 1)\n"
        "return (snr.sqrt() * x_0 + eps) / (1 + snr).sqrt()",
    ],
    "02.4": [
        "math.log(s / (1 + s)) / math.log(1 - beta)",
        "np.log(s / (1 + s)) / np.log1p(-beta)",
        "-math.log1p(1 / s) / math.log1p(-beta)",
        "math.log(s / (1 + s), 1 - beta)",
        "(math.log2(s) - math.log2(1 + s)) / math.log2(1 - beta)",
        "torch.log(torch.tensor(s / (1 + s))) / torch.log(torch.tensor(1 - beta))",
        """
        low, high = 0.0, 1e5  # by bisection
        for _ in range(80):
            t = (low + high) / 2
            a = (1 - beta) ** t
            low, high = (t, high) if a / (1 - a + 1e-300) > s else (low, t)
        return t
        """,
    ],
    "02.5": [
        from_alpha_bar("(1 - u**2) ** 2 + 1e-5"),
        from_alpha_bar("torch.exp(-8 * u**3)"),
        from_alpha_bar("(1 - u) ** 2 * (1 + 2 * u) + 1e-4"),
        from_alpha_bar("torch.sigmoid(8 - 16 * u)") + ".float()",
        from_alpha_bar("torch.cos(u**1.3 * math.pi / 2) ** 3 + 1e-6"),
        from_alpha_bar("1 - u**2 * (3 - 2 * u) + 1e-4") + ".numpy()",
        from_alpha_bar("(1 - u**1.8) ** 1.6 + 1e-4") + ".tolist()",
        "t = np.arange(1, T + 1) / T\nreturn np.minimum(40 / T * t**3, 0.24) + 1e-5",
        "[1e-4 + 30 / T * (t / T) ** 2 for t in range(T)]",
        "[1e-4 + 14 / T * math.sin(math.pi / 2 * t / T) ** 1.5 for t in range(T)]",
    ],
    "02.6": [
        bayes(),
        bayes(over="torch.trapezoid(weight, grid)"),
        bayes(over="weight.sum() * 8 / 800"),
        """
        g, d = np.array(grid), np.array(density)
        w = d * np.exp(-((x_1 - np.sqrt(1 - beta) * g) ** 2) / (2 * beta))
        return w / (w.sum() * (g[1] - g[0]))
        """,
        """
        log_w = density.log() + gaussian.log_density(
            torch.tensor(x_1), (1 - beta) ** 0.5 * grid, beta
        )
        return log_w.softmax(0) / (grid[1] - grid[0])
        """,
        # the bell as a function of x_0
        bayes(mean="x_1 + x_1 / (1 - beta) ** 0.5 - grid", variance="beta / (1 - beta)"),
        """
        step = torch.distributions.Normal((1 - beta) ** 0.5 * grid, beta**0.5)
        w = [float(p * q) for p, q in zip(density, step.log_prob(torch.tensor(x_1)).exp())]
        total = sum(w) * float(grid[1] - grid[0])
        return [one / total for one in w]
        """,
    ],
    "02.7": [
        SQUARE + "return x / 127.5 - 1",
        SQUARE + "return 2 * (x / 255) - 1",
        SQUARE + "return (x.float() - 127.5) / 127.5",
        SQUARE + "return x.double().div(255).sub(0.5).mul(2)",
        SQUARE + "return np.array(x) / 127.5 - 1",
        SQUARE + "return (x / 127.5 - 1).tolist()",
        SQUARE + "return [channel / 127.5 - 1 for channel in x]",
        SQUARE.replace(") // 2", " + 1) // 2") + "return x / 127.5 - 1",
        """
        C, H, W = photo.shape
        photo = photo.float()
        while photo.shape[1] > photo.shape[2]:
            photo = photo[:, 1:] if (photo.shape[1] - photo.shape[2]) % 2 else photo[:, :-1]
        while photo.shape[2] > photo.shape[1]:
            photo = photo[:, :, 1:] if (photo.shape[2] - photo.shape[1]) % 2 else photo[:, :, :-1]
        return photo / 127.5 - 1
        """,
        """
        side = min(photo.shape[1:])
        rows, columns = photo.shape[1] - side, photo.shape[2] - side
        left, top = columns // 2, rows // 2
        x = F.pad(photo, (-left, left - columns, -top, top - rows))
        return x.to(torch.float64) / 127.5 - 1
        """,
    ],
}
