"""Answers to the exercises of notebook 05b, wrong and right."""

PIECES = """
{before}
for part, wanted in zip(x.chunk(pieces), y.chunk(pieces)):
    share = len(part) / len(x)
    {does}
{after}
"""
POLISH = """
X = {start}
for _ in range({rounds}):
    {again}
    X = {p}
return X
"""
RATE = """
if step <= warmup:
    return {rise}
done = {done}
return {then}
"""


def pieces(does: str, before: str = "pass", after: str = "pass") -> str:
    """The loop of 05b.2, with this done to each piece, and lines before and after it."""
    return PIECES.format(does=does, before=before, after=after)


def polish(
    p: str = "1.5 * X - 0.5 * X @ X.T @ X",
    start: str = "G / G.norm()",
    rounds: str = "rounds",
    again: str = "pass",
) -> str:
    """The rounds of 05b.3, with one thing done differently."""
    return POLISH.format(p=p, start=start, rounds=rounds, again=again)


def rate(
    then: str = "lr * (1 - math.cos(math.pi * done)) / 2",
    done: str = "(step - warmup) / (steps - warmup)",
    rise: str = "lr * step / warmup",
) -> str:
    """The rate of 05b.4, with one thing done differently."""
    return RATE.format(then=then, done=done, rise=rise)


WRONG = {
    "05b.1": [
        ("1 / (1 - d)", "how far the average reaches back"),
        ("-1 / math.log(d)", "fallen to 1 / e"),
        ("math.log(2) / (1 - d)", "only for d near 1"),
        ("math.log(2) / math.log(d)", "a sign is lost"),
        ("math.log(d) / math.log(0.5)", "upside down"),
        ("-math.log2(d)", "upside down"),
        ("math.ceil(math.log(0.5) / math.log(d))", "rounded up"),
        ("int(math.log(0.5) / math.log(d))", "rounded down"),
        ("0.5 / math.log(d)", "A logarithm is missing above the line"),
        ("math.log(0.5) / math.log(1 - d)", "by d, not by 1 - d"),
        ("0.5 / (1 - d)", "by a factor"),
        ("d**0.5", "off by"),
        ("0.5 / d", "off by"),
        ("math.log(0.5 / d)", "off by"),
        ("346", "off by"),
    ],
    "05b.2": [
        (pieces("loss(network, part, wanted).mean().backward()"), "counts in full"),
        (
            pieces("(loss(network, part, wanted).mean() / pieces).backward()"),
            "counts as much as one of three",
        ),
        (pieces("loss(network, part, wanted).sum().backward()"), "The sum over the images, not"),
        (pieces("(loss(network, part, wanted).sum() / pieces).backward()"), "number of pieces"),
        (
            pieces("network.zero_grad(); (loss(network, part, wanted).mean() * share).backward()"),
            "Only the last piece is left",
        ),
        (
            pieces("network.zero_grad(); loss(network, part, wanted).mean().backward()"),
            "the last piece alone",
        ),
        (
            pieces("network.zero_grad(); (loss(network, part, wanted).mean() / pieces).backward()"),
            "counts as one of several",
        ),
        (
            pieces("(loss(network, part, wanted).mean() * share).backward(); break"),
            "Only the first piece is there",
        ),
        (
            pieces("(loss(network, part, wanted).mean() * share).backward()").replace(
                "y.chunk(pieces)", "y.chunk(pieces)[:-1]"
            ),
            "The last piece is missing",
        ),
        (pieces("(loss(network, part, wanted).mean() * share**2).backward()"), "counts twice"),
        (pieces("(-loss(network, part, wanted).mean() * share).backward()"), "turned round"),
        (pieces("loss(network, part, wanted).mean() * share"), "No gradient is there"),
        (
            pieces("total += loss(network, part, wanted).mean() * share", "total = 0.0"),
            "No gradient is there",
        ),
        (
            pieces(
                "(loss(network, part, wanted).mean() * share).backward()",
                after="network.zero_grad()",
            ),
            "No gradient is there",
        ),
        ("loss(network, x, y).mean().backward()", "10 images were shown at once"),
        (
            """
            for part, wanted in zip(x.split(pieces), y.split(pieces)):
                (loss(network, part, wanted).sum() / len(x)).backward()
            """,
            "4 images were shown at once",
        ),
        (pieces("loss(network, part, wanted).backward()"), "It stops with RuntimeError"),
        (
            pieces("(loss(network, part, wanted).mean() * share).backward()").replace(
                "y.chunk", "y.flip(0).chunk"
            ),
            "",
        ),
    ],
    "05b.3": [
        (polish(start="G"), "not scaled before the first round"),
        (polish(start="G / torch.linalg.matrix_norm(G, 2)"), "largest singular value"),
        (polish(rounds="rounds - 1"), "One round is missing"),
        (polish(rounds="rounds + 1"), "One round too many"),
        (polish(rounds="30"), "so few rounds do not get that far"),
        (polish(again="X = X / X.norm()"), "once is enough"),
        (polish("1.5 * X - 0.5 * X**3"), "Cubed number by number"),
        (polish("1.5 * X + 0.5 * X @ X.T @ X"), "1.5 minus 0.5"),
        (polish("0.5 * X - 1.5 * X @ X.T @ X"), "have changed places"),
        (polish("3.4445 * X - 4.775 * X @ X.T @ X"), "Muon's numbers"),
        (polish("1.5 * X - 0.5 * X.T @ X @ X"), "It stops with"),
        (polish("1.5 * X - 0.5 * X @ X @ X"), "It stops with"),
        (polish("1.5 * X - 0.5 * X @ X.T"), "It stops with"),
        (polish("X - 0.5 * X @ X.T @ X"), "off by"),
        (polish("1.5 * X - X @ X.T @ X"), "off by"),
        (polish().replace("    return", "    ").replace("return X", "X"), "nothing came back"),
        (
            "U, S, V = torch.linalg.svd(G, full_matrices=False); S = S / S.norm()\n"
            "for _ in range(rounds): S = 1.5 * S - 0.5 * S**3\nreturn U @ S.diag() @ V",
            "It calls `svd`",
        ),
    ],
    "05b.4": [
        (rate("lr * (1 + math.cos(math.pi * done)) / 2"), "no slip in it"),
        (
            "lr * (1 - math.cos(math.pi * step / steps)) / 2",
            "The suspect learns during the warm-up",
        ),
        (rate("lr"), "would not stand still"),
        (rate("lr * done"), "A straight line up"),
        (rate("lr * (1 - done)"), "A straight line down"),
        (
            rate("(1 - math.cos(math.pi * done)) / 2", rise="step / warmup"),
            "`lr` itself is missing",
        ),
        (rate("lr * (1 - math.cos(math.pi * done))"), "Twice as high"),
        (rate("lr * -math.cos(math.pi * done)"), "is never negative"),
        (rate("lr * (1 - math.cos(2 * math.pi * done)) / 2"), "yours comes back"),
        (rate("lr * (1 - math.cos(math.pi * done / 2))"), "A quarter of a turn"),
        (rate(done="(step - warmup) / steps"), "fills the steps after"),
        (rate(done="step / steps"), "begins after the warm-up"),
        (rate(rise="lr"), "at its height at once"),
        (rate(rise="0.0"), "above 0 from the first step on"),
        (rate(rise="lr * (step - 1) / warmup"), "above 0 from the first step on"),
        (rate("lr * math.sin(math.pi * done)"), ""),
    ],
}

RIGHT = {
    "05b.1": [
        "math.log(0.5) / math.log(d)",
        "-1 / math.log2(d)",
        "math.log(0.5, d)",
        "math.log(2) / -math.log(d)",
        "np.log(2) / np.log(1 / d)",
        "torch.tensor(0.5).double().log() / torch.tensor(d).double().log()",
        "[math.log10(0.5) / math.log10(d)]",
        """
        low, high = 0.0, 1e5  # by halving
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if d**middle > 0.5 else (low, middle)
        return low
        """,
    ],
    "05b.2": [
        pieces("(loss(network, part, wanted).mean() * share).backward()"),
        pieces("(loss(network, part, wanted).sum() / len(x)).backward()", "network.zero_grad()"),
        pieces("loss(network, part, wanted).mean().mul(share).backward()", after="return network"),
        pieces(
            "loss(network, part, wanted).sum().backward()",
            after="for p in network.parameters(): p.grad /= len(x)",
        ),
        pieces(
            "loss(network, part, wanted).backward(torch.full((len(part),), 1 / len(x)).double())"
        ),
        """
        for p in network.parameters():
            p.grad = torch.zeros_like(p)
        for part in torch.arange(len(x)).chunk(pieces):
            mean = loss(network, x[part], y[part]).sum() / x.shape[0]
            for p, g in zip(network.parameters(), torch.autograd.grad(mean, network.parameters())):
                p.grad += g
        """,
        """
        size = math.ceil(len(x) / pieces)
        for start in range(0, len(x), size):
            stop = min(start + size, len(x))
            one = loss(network, x[start:stop], y[start:stop]).mean()
            (one * (stop - start) / len(x)).backward()
        """,
        """
        for part, wanted in zip(x.split(1), y.split(1)):  # one at a time
            (loss(network, part, wanted).mean() / len(x)).backward()
        """,
        """
        for part, wanted in zip(x.tensor_split(pieces), y.tensor_split(pieces)):
            (loss(network, part, wanted).sum() / len(x)).backward()
        """,
    ],
    "05b.3": [
        polish(),
        polish("0.5 * (3 * X - X @ (X.T @ X))"),
        polish("0.5 * (3 * torch.eye(len(X)) - X @ X.T) @ X"),
        polish("X @ (1.5 * torch.eye(X.shape[1]) - 0.5 * X.T @ X)"),
        polish("torch.addmm(X, X @ X.T, X, beta=1.5, alpha=-0.5)"),
        polish("X + (X - X @ X.T @ X) / 2", "G / G.square().sum().sqrt()"),
        polish("1.5 * X - 0.5 * torch.einsum('ij,kj,kl->il', X, X, X)", "G / torch.linalg.norm(G)"),
        polish("1.5 * X - 0.5 * X @ X.T @ X", "G.float() / G.float().norm()"),
        polish("(1.5 * X.T - 0.5 * X.T @ X @ X.T).T"),
        """
        X = G.numpy() / np.linalg.norm(G.numpy())
        for _ in range(rounds):
            X = 1.5 * X - 0.5 * X @ X.T @ X
        return X
        """,
    ],
    "05b.4": [
        rate(),
        rate("lr * math.sin(math.pi / 2 * done) ** 2"),
        rate("lr * (0.5 + 0.5 * math.cos(math.pi * (1 - done)))"),
        rate("lr - lr * (1 + math.cos(math.pi * done)) / 2"),
        rate("lr * 0.5 * (1 - np.cos(np.pi * done))"),
        rate("torch.tensor(lr * (1 - math.cos(math.pi * done)) / 2, dtype=torch.float64)"),
        """
        rise = min(1, step / warmup)
        done = max(0, step - warmup) / (steps - warmup)
        return lr * (rise if done == 0 else (1 - math.cos(math.pi * done)) / 2)
        """,
    ],
}
