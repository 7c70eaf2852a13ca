"""Answers to the exercises of notebook 05, wrong and right."""

THERE = "pixels.float() / 127.5 - 1"
BACK = "((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)"
SEEN = "x_t = diffusion.q_sample(schedule, x_0, t, eps); return "
EMA = """
average = {start}
for k, weight in enumerate(weights[1:], {first}):
    d = {d}
    average = {new}
return average
"""
DESCEND = """
for _ in range(steps):
    {clear}
    loss(w).backward()
    with torch.no_grad():
        {step}
return w
"""
THREE = """
rise, fall = {rise}, {fall}
return {rate}
"""
LOOP = """
losses = []
for _ in range(steps):
    x_0 = x[torch.randint(len(x), (batch,), generator=generator)]
    t = torch.randint(1, schedule.T + 1, (batch,), generator=generator)
    eps = torch.randn(x_0.shape, generator=generator)
    x_t = diffusion.q_sample(schedule, x_0, t, eps)
    loss = (network(x_t, t) - eps).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
return losses
"""


def both(there: str = THERE, back: str = BACK) -> str:
    """Both functions of 05.1."""
    return f"{there}\n---\n{back}"


def ema(
    d: str = "min(decay, (1 + k) / (10 + k))",
    new: str = "d * average + (1 - d) * weight",
    start: str = "weights[0]",
    first: str = "1",
) -> str:
    """The average of 05.3, with one thing done differently."""
    return EMA.format(d=d, new=new, start=start, first=first)


def descend(step: str = "w -= lr * w.grad", clear: str = "w.grad = None") -> str:
    """The descent of 05.4, with one thing done differently."""
    return DESCEND.format(step=step, clear=clear)


def plan(
    rise: str = "step / warmup",
    fall: str = "(steps - step) / cooldown",
    rate: str = "lr * min(rise, 1, fall)",
) -> str:
    """The plan of 05.5, with one thing done differently."""
    return THREE.format(rise=rise, fall=fall, rate=rate)


def loop(*changes: tuple[str, str]) -> str:
    """The loop of 05.7 with some of its words replaced."""
    text = LOOP
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


WRONG = {
    "05.1": [
        (both("pixels.float() / 255"), "That is [0, 1]"),
        (both("pixels.float() / 128 - 1"), "White is not 1"),
        (both("pixels.float() / 127 - 1"), "White is more than 1"),
        (both("pixels * 2 / 255 - 1"), "Bytes have wrapped around"),
        (both("pixels.float() / 255 - 0.5"), "Half of it is missing"),
        (both("pixels.float() / 127.5"), "a shift is missing"),
        (both("pixels.float() - 1 / 127.5"), "Brackets are missing"),
        (both("1 - pixels.float() / 127.5"), "have changed places"),
        (both("pixels.double() / 127.5 - 1"), "should be float32"),
        (both("np.array(pixels) / 127.5 - 1"), "should be float32"),
        (both("(pixels - 127.5) // 127.5"), ""),
        (both("(pixels.float() - pixels.float().mean()) / pixels.float().std()"), "off by"),
        (both(back="((x + 1) * 127.5).clamp(0, 255).to(torch.uint8)"), "round before you cut"),
        (both(back="((x + 1) * 127.5).round().to(torch.uint8)"), "wrapped around"),
        (both(back="((x + 1) * 127.5).round().to(torch.uint8).clamp(0, 255)"), "wrapped around"),
        (both(back="((x + 1) * 127.5).round().clamp(0, 255)"), "should be uint8"),
        (both(back="((x + 1) * 127.5).round().clamp(0, 255).int()"), "should be uint8"),
        (both(back="(x * 255).round().clamp(0, 255).to(torch.uint8)"), "back from [0, 1]"),
        (both(back="(x + 1 * 127.5).round().clamp(0, 255).to(torch.uint8)"), "Brackets"),
        (both(back="(x * 127.5).round().clamp(0, 255).to(torch.uint8)"), "Black should be 0"),
        (both(back="(x * 127.5 + 128).round().clamp(0, 255).to(torch.uint8)"), "off by"),
        (both(back="(((x + 1) / 2).round() * 255).clamp(0, 255).to(torch.uint8)"), "at the end"),
        (both(back="y = ((x + 1) * 127.5).round(); y.to(torch.uint8)"), "returns nothing yet"),
        (both("from tutorial_lib import data; return data.to_model(pixels)"), "It calls"),
    ],
    "05.2": [
        (SEEN + "(network(x_t, t) - eps).square().mean()", "for the whole batch"),
        (SEEN + "(network(x_t, t) - eps).square()", "a number for each pixel"),
        (SEEN + "(network(x_t, t) - eps).square().flatten(1).sum(1)", "The sum over pixels"),
        (SEEN + "(network(x_t, t) - eps).abs().flatten(1).mean(1)", "The absolute error"),
        (SEEN + "(network(x_t, t) - eps).square().flatten(1).mean(1).sqrt()", "the root"),
        (SEEN + "(network(x_t, t) - eps).square().flatten(1).mean(1) / 2", "half of the loss"),
        (SEEN + "(network(x_t, t) - eps).square().mean().expand(len(t))", "over the batch"),
        (SEEN + "(network(x_t, t) - eps).square().flatten(1).mean(0)", "should have shape"),
        (SEEN + "(network(x_0, t) - eps).square().flatten(1).mean(1)", "about x_0 itself"),
        (SEEN + "(network(eps, t) - eps).square().flatten(1).mean(1)", "the noise alone"),
        (SEEN + "(network(x_t, t) - x_0).square().flatten(1).mean(1)", "compared with x_0"),
        (SEEN + "(network(x_t, t) - x_t).square().flatten(1).mean(1)", "compared with x_t"),
        (SEEN + "(network(x_t, t - 1) - eps).square().flatten(1).mean(1)", "told t - 1"),
        ("(network(x_0 + eps, t) - eps).square().flatten(1).mean(1)", "Nothing is scaled"),
        (
            "a = schedule.alpha_bar[t].view(-1, 1, 1, 1)\n"
            "return (network(a * x_0 + (1 - a) * eps, t) - eps).square().flatten(1).mean(1)",
            "The roots of Eq. 4 are missing",
        ),
        (
            "x_t = diffusion.q_step(schedule, x_0, t, eps)\n"
            "return (network(x_t, t) - eps).square().flatten(1).mean(1)",
            "a single step of noise",
        ),
        ("eps = torch.randn_like(x_0); " + SEEN + "diffusion.regression_loss(x_t, eps)", "drawn"),
        (SEEN + "diffusion.regression_loss(network(x_t, t), eps)", "It calls `regression_loss`"),
        (SEEN + "(network(x_t) - eps).square().flatten(1).mean(1)", "It stops with"),
    ],
    "05.3": [
        (ema("decay"), "The warm-up of the decay is missing"),
        (ema(first="0"), "The first step is number 1"),
        (ema(new="(1 - d) * average + d * weight"), "d belongs to the average"),
        (ema("max(decay, (1 + k) / (10 + k))"), ""),
        (ema("(1 + k) / (10 + k)"), "the smaller of the two"),
        (ema(start="0.0"), "begins at weights[0]"),
        ("weights[-1]", "That is the last weight"),
        ("sum(weights) / len(weights)", "plain mean"),
        (ema("min(decay, len(weights) / (9 + len(weights)))"), ""),
        (ema().replace("weights[1:]", "weights[1:-1]"), "The last step is missing"),
        (ema(new="d * average + weight"), "off by"),
        (ema(new="average + d * weight"), "off by"),
        (ema("min(decay, 1 + k / 10 + k)"), "The warm-up of the decay is missing"),
        (ema().replace("    average =", "    averages ="), "off by"),
        (ema().replace("return average", "average"), "nothing came back"),
    ],
    "05.4": [
        (descend(clear="pass"), "Work out the first two by hand"),
        (descend("w = w - lr * w.grad"), ""),
        (descend("w += lr * w.grad"), "It walks uphill"),
        (descend("w - lr * w.grad"), "It has not moved"),
        (descend("w -= 0.1 * w.grad"), "`lr` is given"),
        (descend().replace("range(steps)", "range(1, steps)"), "A step is missing"),
        (descend().replace("range(steps)", "range(steps + 1)"), "One step too many"),
        (descend().replace("return w", "return w.grad"), "That is the gradient"),
        (descend("w.grad.zero_()") + "\n", "It has not moved"),
        ("w.grad = None\n" + descend(clear="pass"), "Work out the first two by hand"),
        (descend(clear="w.grad.zero_()"), "It stops with AttributeError"),
        (descend().replace("return w", "w"), "nothing came back"),
        (descend().replace("return w", "    return w"), "Only one step is left"),
        (descend("w -= lr * w.grad / steps"), "off by"),
        (descend("w -= lr * w.grad.sign()"), "off by"),
        (descend("w -= w.grad"), "off by"),
    ],
    "05.5": [
        (plan("(step - 1) / warmup"), "The first step has a rate above 0"),
        (plan(fall="(steps - step + 1) / cooldown"), "The last step has a rate of exactly 0"),
        (plan(rate="lr * min(1, fall)"), "The rise is missing"),
        (plan(rate="lr * min(1, rise)"), "The fall is missing"),
        (plan(rate="lr * min(rise, fall)"), "never be above lr"),
        (plan(rate="min(rise, 1, fall)"), "`lr` is missing"),
        (plan("step / steps"), "not all of them"),
        (plan(fall="(steps - step) / (steps - warmup)"), "not all that are left"),
        (plan(fall="(step - (steps - cooldown)) / cooldown"), ""),
        (
            plan(rate="lr * rise if step < warmup else lr if fall >= 1 else lr * (1 - fall)"),
            "it should fall, not rise",
        ),
        (plan("step / cooldown", "(steps - step) / warmup"), "have changed places"),
        (plan(rate="lr * (1 - math.cos(math.pi * min(rise, 1, fall))) / 2"), "A straight line"),
        (plan(rate="lr * rise if step < warmup else lr if step < cooldown else lr * fall"), ""),
        (plan(fall="1 - step / cooldown"), "off by"),
        (plan(rate="lr"), "The rise is missing"),
        (plan("warmup / step"), ""),
        (plan(rate="rise, lr, fall"), "should be a single number"),
    ],
    "05.6": [
        ("alpha_bar * mean_square + 1 - alpha_bar", "have changed places"),
        ("1.0", "That is for eps"),
        ("mean_square", "That is for x_0"),
        ("alpha_bar", "the part of eps alone"),
        ("(1 - alpha_bar) * mean_square", "the part of x_0 alone"),
        ("alpha_bar - (1 - alpha_bar) * mean_square", "has no sign"),
        ("alpha_bar**0.5 + (1 - alpha_bar) ** 0.5 * mean_square", "so are its two roots"),
        ("alpha_bar**0.5 - (1 - alpha_bar) ** 0.5 * mean_square", "off by"),
        ("alpha_bar + (1 - alpha_bar) * mean_square**2", "a square already"),
        ("alpha_bar + (1 - alpha_bar) * mean_square**0.5", "no root here"),
        ("(alpha_bar + (1 - alpha_bar) * mean_square) ** 0.5", "The loss has no root"),
        ("alpha_bar**2 + (1 - alpha_bar) ** 2 * mean_square", "once more"),
        ("(alpha_bar**0.5 - ((1 - alpha_bar) * mean_square) ** 0.5) ** 2", "are independent"),
        ("0", ""),
        ("alpha_bar, (1 - alpha_bar) * mean_square", "a single number"),
        ("alpha_bar + 1 - alpha_bar * mean_square", "off by"),
    ],
    "05.7": [
        (loop(("    optimizer.zero_grad()\n", "")), "earlier steps still add up"),
        (loop(("    optimizer.step()\n", "")), "They have not moved"),
        (loop(("    loss.backward()\n", "")), "They have not moved"),
        (loop(("loss.backward()\n    optimizer.step", "optimizer.step()\n    loss.backward")), ""),
        (
            loop(
                ("    optimizer.step()\n", ""),
                ("    optimizer.zero", "    optimizer.step()\n    optimizer.zero"),
            ),
            "the batch before",
        ),
        (loop(("loss.item()", "loss")), "hold on to the graph"),
        (loop(("randint(1, schedule.T + 1", "randint(0, schedule.T")), "It stops with"),
        (loop(("schedule.T + 1", "schedule.T")), "an end never came"),
        (
            loop(
                (
                    "(batch,), generator=generator)\n    eps",
                    "(1,), generator=generator).expand(batch)\n    eps",
                )
            ),
            "All images of a batch have the same t",
        ),
        (loop(("torch.randn(", "torch.rand(")), "with standard normal noise"),
        (loop(("x_t = diffusion.q_sample(schedule, x_0, t, eps)", "x_t = x_0")), "not shown x_t"),
        (loop(("x_t = diffusion.q_sample(schedule, x_0, t, eps)", "x_t = eps")), "not shown x_t"),
        (loop(("randn(x_0.shape, generator=generator)", "randn(x_0.shape)")), "another run"),
        (loop(("range(steps)", "range(steps - 1)")), "a list of 60 losses"),
        (loop(("    losses.append", "losses.append")), "a list of 60 losses"),
        (loop(("return losses", "return loss.item()")), "a list of 60 losses"),
        (loop(("return losses", "losses")), "Nothing came back"),
        (loop(("x[torch.randint(len(x), (batch,), generator=generator)]", "x[:batch]")), "never"),
        (loop(("len(x), (batch", "len(x) - 1, (batch")), "Some images are never shown"),
        (
            loop(
                ("(x_0.shape, g", "(x_0[:1].shape, g"),
                (" x_t = ", " eps = eps.expand(x_0.shape);x_t = "),
            ),
            "each image has noise of its own",
        ),
        (
            loop(
                (
                    "losses = []",
                    "losses = []\neps = torch.randn((batch, *x.shape[1:]), generator=generator)",
                ),
                ("    eps = torch.randn(x_0.shape, generator=generator)\n", ""),
            ),
            "each step has noise of its own",
        ),
        (loop((".square().mean()", ".square().sum()")), "The sum over images and pixels"),
        (loop((".square().mean()", ".abs().mean()")), "Absolute errors"),
        (loop(("(network(x_t, t) - eps)", "(network(x_t, t) - x_0)")), "compared with x_0"),
        (loop(("(network(x_t, t) - eps)", "(network(x_t, t) - x_t)")), "compared with x_t"),
        (loop(("(x_t, t) - eps", "(x_t, t / schedule.T) - eps")), "whole numbers"),
    ],
    "05.8": [
        (SEEN + "(network(x_t, t) - eps).square().flatten(1).mean(1)", "no slip in it"),
        (SEEN + "(network(x_t, t) - x_0).square().flatten(1).sum(1)", "the mean over its pixels"),
        ("(network(x_0, t) - x_0).square().flatten(1).mean(1)", "would be zero"),
        ("(network(x_0, t) - eps).square().flatten(1).mean(1)", "cannot learn at all"),
        (SEEN + "(network(x_t, t - 1) - eps).square().flatten(1).mean(1)", "A wrong t"),
        (SEEN + "(network(x_t, t - 1) - x_0).square().flatten(1).mean(1)", "With a wrong t on top"),
        (SEEN + "(network(x_t, t) - x_t).square().flatten(1).mean(1)", "what went in"),
        (
            "v = diffusion.target_from(schedule, 'v', x_0, eps, t)\n"
            + SEEN
            + "(network(x_t, t) - v).square().flatten(1).mean(1)",
            "high at both ends",
        ),
        (SEEN + "(network(x_t, t) - x_0).abs().flatten(1).mean(1)", "takes squares"),
        (SEEN + "(network(x_t, t) - x_0).square().flatten(1).mean(1).sqrt()", "takes no root"),
        (SEEN + "(network(x_t, t) - x_0).square().mean()", "for the whole batch"),
        (SEEN + "(network(x_t, t) - x_0).square()", "a number for each pixel"),
        (SEEN + "(network(x_t, t) - x_0).square().mean().expand(len(t))", "over the batch"),
        (SEEN + "(network(x_t, t) + x_0).square().flatten(1).mean(1)", "off by"),
        (SEEN + "(network(x_t, t) - x_0 + eps).square().flatten(1).mean(1)", "not with two"),
    ],
}

RIGHT = {
    "05.1": [
        both("(pixels.float() - 127.5) / 127.5"),
        both("pixels / 255 * 2 - 1"),
        both("(pixels.to(torch.float32) / 255 - 0.5) / 0.5"),
        both("np.float32(pixels) / np.float32(127.5) - 1"),
        both("torch.lerp(torch.tensor(-1.0), torch.tensor(1.0), pixels / 255)"),
        both("torch.stack([torch.tensor(int(p) / 127.5 - 1) for p in pixels])"),
        both(back="(x.clamp(-1, 1) * 127.5 + 127.5).round().byte()"),
        both(back="((x + 1) * 127.5 + 0.5).clamp(0, 255).to(torch.uint8)"),
        both(back="((x / 2 + 0.5) * 255).clamp(min=0, max=255).round().type(torch.uint8)"),
        both(back="np.clip(np.rint((np.array(x) + 1) * 127.5), 0, 255).astype(np.uint8)"),
        both(back="((x + 1) / 2 * 255).round().int().clamp(0, 255).to(torch.uint8)"),
        both("x = pixels.float(); x /= 127.5; x -= 1; return x"),
    ],
    "05.2": [
        SEEN + "((eps - network(x_t, t)) ** 2).mean(dim=(1, 2, 3))",
        SEEN + "F.mse_loss(network(x_t, t), eps, reduction='none').flatten(1).mean(1)",
        SEEN + "((network(x_t, t) - eps) ** 2).reshape(len(x_0), -1).mean(-1)",
        SEEN + "[float(e.square().mean()) for e in network(x_t, t) - eps]",
        SEEN + "torch.einsum('bchw,bchw->b', *2 * [network(x_t, t) - eps]) / eps[0].numel()",
        SEEN + "(np.array(network(x_t, t) - eps) ** 2).mean((1, 2, 3))",
        """
        a = schedule.alpha_bar[t][:, None, None, None]
        x_0.mul_(a.sqrt()).add_((1 - a).sqrt() * eps)
        return torch.linalg.vector_norm(network(x_0, t) - eps, dim=(1, 2, 3)) ** 2 / 16
        """,
        """
        losses = []
        for i in range(len(t)):
            x_t = diffusion.q_sample(schedule, x_0[i : i + 1], t[i : i + 1], eps[i : i + 1])
            losses.append(((network(x_t, t[i : i + 1]) - eps[i]) ** 2).mean())
        return torch.stack(losses)
        """,
        SEEN + "rearrange((network(x_t, t) - eps) ** 2, 'b c h w -> b (c h w)').mean(1).float()",
    ],
    "05.3": [
        ema(new="average + (1 - d) * (weight - average)"),
        ema(new="average - (1 - d) * (average - weight)"),
        ema(start="torch.tensor(weights[0])", new="torch.lerp(average, torch.tensor(weight), 1-d)"),
        """
        average = 0.0
        for k, weight in enumerate(weights):
            d = min(decay, (1 + k) / (10 + k)) if k else 0.0
            average = d * average + (1 - d) * weight
        return average
        """,
        """
        from functools import reduce
        def step(average, pair):
            k, weight = pair
            d = min(decay, (1 + k) / (10 + k))
            return d * average + (1 - d) * weight
        return reduce(step, enumerate(weights[1:], 1), weights[0])
        """,
        """
        share, total = 1.0, 0.0  # backward: what is left for the earlier weights
        for k in range(len(weights) - 1, 0, -1):
            d = min(decay, (1 + k) / (10 + k))
            total, share = total + share * (1 - d) * weights[k], share * d
        return total + share * weights[0]
        """,
        """
        if len(weights) == 1:
            return weights[0]
        k = len(weights) - 1
        d = decay if decay < (1 + k) / (10 + k) else (1 + k) / (10 + k)

        def before(weights):
            average = np.float64(weights[0])
            for j in range(1, len(weights)):
                e = np.minimum(decay, (1 + j) / (10 + j))
                average = e * average + (1 - e) * weights[j]
            return average

        return [d * before(weights[:-1]) + (1 - d) * weights[-1]]
        """,
        # weights[0] counts once more at k = 0, and nothing changes
        ema(first="0").replace("weights[1:]", "weights"),
    ],
    "05.4": [
        descend(),
        descend("w.sub_(lr * w.grad)", "w.grad = torch.zeros_like(w)"),
        descend("w -= lr * w.grad; w.grad.zero_()", "pass"),
        descend("w -= lr * w.grad; w.grad = None", "pass"),
        descend().replace("loss(w).backward()", "w.grad = torch.autograd.grad(loss(w), w)[0]"),
        """
        for _ in range(steps):
            (g,) = torch.autograd.grad(loss(w), w)
            w = (w - lr * g).detach().requires_grad_()
        return w
        """,
        """
        optimizer = torch.optim.SGD([w], lr=lr)
        for _ in range(steps):
            optimizer.zero_grad()
            loss(w).backward()
            optimizer.step()
        return w.detach()
        """,
        """
        before = torch.zeros_like(w)
        for _ in range(steps):
            loss(w).backward()
            w.data -= lr * (w.grad - before)
            before = w.grad.clone()
        return w
        """,
        """
        w = w.detach()
        for _ in range(steps):
            w = w - lr * torch.func.grad(loss)(w)
        return w.numpy()
        """,
    ],
    "05.5": [
        plan(),
        plan(rate="lr * min(1, rise) * min(1, fall)"),
        plan(rate="torch.tensor([rise, 1.0, fall], dtype=torch.float64).amin() * lr"),
        plan(rate="np.clip(min(rise, fall), 0, 1) * lr"),
        """
        if step <= warmup:
            return lr * step / warmup
        if step <= steps - cooldown:
            return lr
        return lr * (steps - step) / cooldown
        """,
        """
        if step > steps - cooldown:
            return lr * (1 - (step - (steps - cooldown)) / cooldown)
        return lr if step > warmup else lr / warmup * step
        """,
        "np.interp(step, [0, warmup, steps - cooldown, steps], [0, lr, lr, 0])",
        """
        rate = 0.0
        for s in range(1, step + 1):
            rate += lr / warmup if s <= warmup else -lr / cooldown * (s > steps - cooldown)
        return rate
        """,
    ],
    "05.6": [
        "mean_square + alpha_bar * (1 - mean_square)",
        "1 - (1 - alpha_bar) * (1 - mean_square)",
        "alpha_bar.sqrt() ** 2 + ((1 - alpha_bar) ** 0.5) ** 2 * mean_square",
        "float(alpha_bar + mean_square - alpha_bar * mean_square)",
        "np.dot([float(alpha_bar), 1 - float(alpha_bar)], [1.0, float(mean_square)])",
        "torch.lerp(mean_square, torch.ones_like(mean_square), alpha_bar)",
        "torch.stack([alpha_bar, (1 - alpha_bar) * mean_square]).sum(0, keepdim=True)",
    ],
    "05.7": [
        loop(),
        loop(("loss.item()", "float(loss)"), (".square().mean()", ".pow(2).mean()")),
        loop(("torch.randint(len(x), (b", "torch.randint(0, x.shape[0], (b")),
        loop(
            (
                "torch.randint(len(x), (batch,), generator=generator)",
                "torch.randperm(len(x), generator=generator)[:batch]",
            )
        ),
        loop(
            ("    optimizer.zero_grad()\n", ""),
            ("optimizer.step()\n", "optimizer.step()\n    network.zero_grad()\n"),
        ),
        loop(("(network(x_t, t) - eps).square().mean()", "F.mse_loss(eps, network(x_t, t))")),
        loop(
            (
                "torch.randn(x_0.shape, generator=generator)",
                "torch.empty_like(x_0).normal_(generator=generator)",
            )
        ),
        loop(
            (
                "diffusion.q_sample(schedule, x_0, t, eps)",
                "schedule.alpha_bar[t].view(-1, 1, 1, 1) ** 0.5 * x_0"
                " + (1 - schedule.alpha_bar[t]).view(-1, 1, 1, 1) ** 0.5 * eps",
            ),
            ("return losses", "return torch.tensor(losses, dtype=torch.float64)"),
        ),
        loop(
            (
                "losses = []\nfor",
                "t = torch.randint(1, schedule.T + 1, (steps, batch), "
                "generator=generator)\nrows, losses = iter(t), []\nfor",
            ),
            (
                "    t = torch.randint(1, schedule.T + 1, (batch,), generator=generator)",
                "    t = next(rows)",
            ),
        ),
        loop(("loss.item()", "loss.detach()")),
    ],
    "05.8": [
        SEEN + "((network(x_t, t) - x_0) ** 2).mean((1, 2, 3))",
        SEEN + "diffusion.regression_loss(network(x_t, t), x_0)",
        SEEN + "F.mse_loss(network(x_t, t), x_0, reduction='none').flatten(1).mean(1)",
        SEEN + "[((a - b) ** 2).mean() for a, b in zip(network(x_t, t), x_0)]",
        SEEN + "(np.array(x_0 - network(x_t, t)) ** 2).mean((1, 2, 3))",
        """
        a = schedule.alpha_bar[t].view(-1, 1, 1, 1)
        eps_hat = network(a.sqrt() * x_0 + (1 - a).sqrt() * eps, t)
        return (eps_hat - x_0).square().sum((1, 2, 3)) / x_0[0].numel()
        """,
        SEEN + "(network(x_t, t) - x_0).flatten(1).float().norm(dim=1) ** 2 / 16",
    ],
}
