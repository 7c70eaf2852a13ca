"""Answers to the exercises of notebook 06, wrong and right."""

LEAP = """
now, before = alpha_bar_t, alpha_bar_prev
x_0 = {x_0}
alpha = {alpha}
return {mean}
"""
SAMPLER = """
x = x_T
for t in {steps}:
    beta, alpha, alpha_bar = schedule.beta[t], schedule.alpha[t], schedule.alpha_bar[t]
    eps_hat = network(x, {asked})
    x = {mean}
    {step}
return x
"""
NOISE = "torch.randn(x.shape, generator=generator, dtype=x.dtype)"
FRESH = """
eps = (x - alpha_bar_t**0.5 * x_0_hat) / (1 - alpha_bar_t) ** 0.5
now, before = alpha_bar_t, alpha_bar_prev
return {result}
"""


def leap(
    mean: str = "before**0.5 * (1 - alpha) / (1 - now) * x_0"
    " + alpha**0.5 * (1 - before) / (1 - now) * x_t",
    x_0: str = "now**0.5 * x_t - (1 - now) ** 0.5 * v",
    alpha: str = "now / before",
) -> str:
    """The mean of 06.2, with one thing done differently."""
    return LEAP.format(mean=mean, x_0=x_0, alpha=alpha)


def sampler(
    step: str = f"if t > 1: x = x + schedule.beta_tilde[t].sqrt() * {NOISE}",
    mean: str = "(x - beta / (1 - alpha_bar).sqrt() * eps_hat) / alpha.sqrt()",
    steps: str = "range(schedule.T, 0, -1)",
    asked: str = "torch.full((len(x),), t)",
) -> str:
    """Algorithm 2 of 06.3, with one thing done differently."""
    return SAMPLER.format(step=step, mean=mean, steps=steps, asked=asked)


def fresh(
    old: str = "(1 - before - sigma**2) ** 0.5 * eps",
    picture: str = "before**0.5 * x_0_hat",
    new: str = "sigma * z",
) -> str:
    """The step of 06.6, with one of its three terms changed."""
    return FRESH.format(result=f"{picture} + {old} + {new}")


WRONG = {
    "06.1": [
        ("alpha_bar_t / alpha_bar_prev", "alpha of the step"),
        ("alpha_bar_prev - alpha_bar_t", "A difference of alpha_bars"),
        ("1 - alpha_bar_t", "all noise at t"),
        ("1 - alpha_bar_prev", "all noise before the step"),
        ("1 - alpha_bar_prev / alpha_bar_t", "the earlier one that divides"),
        ("1 - alpha_bar_t * alpha_bar_prev", "which quotient"),
        ("1 - (alpha_bar_t / alpha_bar_prev) ** 0.5", "the factor of the image"),
        ("(1 - alpha_bar_t / alpha_bar_prev) ** 0.5", "its root"),
        ("(1 - alpha_bar_t) / (1 - alpha_bar_prev)", "A quotient of variances"),
        (
            "(1 - alpha_bar_prev) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_prev)",
            "beta_tilde of the step",
        ),
        ("alpha_bar_t / alpha_bar_prev - 1", "wrong sign"),
        ("10 * (1 - alpha_bar_t) / alpha_bar_prev", "off by"),
        ("alpha_bar_t, alpha_bar_prev", "a single number"),
    ],
    "06.2": [
        (
            leap("(x_t - (1 - alpha) / (1 - now) ** 0.5 * v) / alpha**0.5"),
            "v is taken for the noise",
        ),
        (leap(x_0="v"), "v is taken for the picture"),
        (leap("x_0"), "the guess of x_0"),
        (
            leap("before**0.5 * x_0 + (1 - before) ** 0.5 * ((1 - now) ** 0.5 * x_t + now**0.5*v)"),
            "keeps all of the noise",
        ),
        (
            leap("(x_t - (1 - now) ** 0.5 * ((1 - now) ** 0.5 * x_t + now**0.5 * v)) / now**0.5"),
            "the guess of x_0",
        ),
        (leap("(1 - now) ** 0.5 * x_t + now**0.5 * v"), "the guess of the noise"),
        (leap(x_0="now**0.5 * x_t + (1 - now) ** 0.5 * v"), "with a wrong sign"),
        (leap(x_0="(1 - now) ** 0.5 * x_t - now**0.5 * v"), "two roots exchanged"),
        (leap(x_0="now * x_t - (1 - now) * v"), "without roots"),
        (
            leap(
                "before**0.5 * (1 - alpha) / (1 - now) * x_t"
                " + alpha**0.5 * (1 - before) / (1 - now) * x_0"
            ),
            "two weights of Eq. 7",
        ),
        (leap("before**0.5 * (1 - alpha) / (1 - now) * x_0"), "The part of x_t is missing"),
        (leap("alpha**0.5 * (1 - before) / (1 - now) * x_t"), "The part of x_0_hat is missing"),
        (
            leap(
                "before * (1 - alpha) / (1 - now) * x_0"
                " + alpha**0.5 * (1 - before) / (1 - now) * x_t"
            ),
            "x_0_hat has sqrt(alpha_bar_prev)",
        ),
        (
            leap(
                "before**0.5 * (1 - alpha) / (1 - now) * x_0"
                " + alpha * (1 - before) / (1 - now) * x_t"
            ),
            "x_t has sqrt(alpha)",
        ),
        (
            leap(
                "now**0.5 * (1 - alpha) / (1 - now) * x_0"
                " + alpha**0.5 * (1 - before) / (1 - now) * x_t"
            ),
            "is less shrunk",
        ),
        (leap(alpha="now"), "off by"),
        (leap(alpha="before / now"), ""),
        ("x_t", "off by"),
        (leap().replace("return ", "return (").rstrip() + ")[0]", "should have shape"),
    ],
    "06.3": [
        (
            sampler(f"x = x + schedule.beta_tilde[t].sqrt() * {NOISE}").replace(
                "beta_tilde", "beta"
            ),
            "too wide",
        ),
        (sampler("pass"), "too narrow"),
        (sampler(f"if t > 1: x = x + schedule.beta_tilde[t] * {NOISE}"), "too narrow"),
        (sampler(f"if t > 1: x = x + schedule.beta_tilde[t] ** 0.25 * {NOISE}"), "too wide"),
        (sampler(steps="range(1, schedule.T + 1)"), "first question should be about t = T"),
        (sampler(steps="range(schedule.T - 1, 0, -1)"), "first question should be about t = T"),
        (sampler(steps="range(schedule.T, 1, -1)"), "last question should be about t = 1"),
        (sampler(steps="range(schedule.T, -1, -1)"), "asked about t = 0"),
        (sampler(asked="torch.full((len(x),), t - 1)"), "asked about t = 0"),
        (
            sampler("if t > 1: x = x + schedule.beta_tilde[t].sqrt() * torch.randn_like(x)"),
            "not drawn from `generator`",
        ),
        (sampler().replace("randn(x.shape", "randn(x[:1].shape"), ""),
        (sampler(asked="torch.full((len(x),), t + 1)"), "asked about t = 31"),
        (sampler(asked="t"), "one whole t for each image"),
        (sampler(asked="torch.full((len(x),), t / schedule.T)"), "one whole t for each image"),
        (sampler(asked="torch.tensor([t])"), "one whole t for each image"),
        (sampler(mean="(x - beta / (1 - alpha_bar).sqrt() * eps_hat)"), ""),
        (sampler(mean="(x - beta / (1 - alpha_bar) * eps_hat) / alpha.sqrt()"), ""),
        (sampler(mean="(x + beta / (1 - alpha_bar).sqrt() * eps_hat) / alpha.sqrt()"), ""),
        (sampler(mean="(x - (1 - alpha_bar).sqrt() * eps_hat) / alpha_bar.sqrt()"), ""),
        (sampler().replace("return x", "x"), "Nothing came back"),
        (sampler().replace("return x", "return x.mean(0)"), "the shape of x_T"),
        (sampler().replace("x = x_T", f"x = x_T\nz = {NOISE}").replace(f"* {NOISE}", "* z"), ""),
    ],
    "06.4": [
        ("mean + variance * noise", "still ends too narrow"),
        ("mean", "every start ends at the same picture"),
        ("mean + variance**0.25 * noise", "Now it ends too wide"),
        ("mean + noise", "much too wide"),
        ("variance**0.5 * (mean + noise)", "shrinks with the noise"),
        ("variance**0.5 * mean + noise", "the picture shrinks"),
        ("(1 - variance) ** 0.5 * mean + variance**0.5 * noise", "blended"),
        ("mean + variance**2 * noise", "narrower still"),
        ("mean - variance * noise", "has no sign"),
        ("mean + math.exp(0.5 * variance) * noise", "something else"),
        ("mean + variance**0.5", "off by"),
        ("mean + variance**0.5 * torch.randn_like(noise)", "off by"),
        ("mean + 2 * variance * noise", "off by"),
        ("(mean + variance**0.5 * noise).mean()", "should have shape"),
    ],
    "06.5": [
        ("sampler(x_T)", "A batch has 1 to 3 starts here"),
        ("x_T", "was given 0 of 7 starts"),
        ("torch.cat([sampler(x) for x in x_T])", "takes x_T, (B, C, H, W)"),
        ("torch.cat([sampler(x[None]) for x in x_T])", "it made 7"),
        ("torch.stack([sampler(x) for x in x_T.split(size)])", "It stops with RuntimeError"),
        ("[sampler(x) for x in x_T.split(size)]", "one tensor, all pictures together"),
        ("torch.cat([sampler(x) for x in x_T.chunk(size)])", ""),
        (
            "torch.cat([sampler(x_T[i : i + size]) for i in range(0, len(x_T) - size, size)])",
            "given 6 of 7 starts",
        ),
        (
            "torch.cat([sampler(x_T[i * size : (i + 1) * size]) for i in range(len(x_T) // size)])",
            "given 6 of 7 starts",
        ),
        (
            "torch.cat([sampler(x_T[i : i + size]) for i in range(len(x_T))])",
            "of 7 starts",
        ),
        ("for x in x_T.split(size): out = sampler(x)\nreturn out", "7 pictures should come back"),
        ("for x in x_T.split(size): return sampler(x)", "given 3 of 7 starts"),
        ("torch.cat([sampler(x) for x in x_T.split(size)][::-1])", "Their order changed"),
        ("torch.cat([sampler(x) for x in x_T.split(size)]).flip(0)", "Their order changed"),
        ("torch.cat([sampler(x) for x in x_T.split(size)], dim=1)", "It stops with"),
        ("for x in x_T.split(size): sampler(x)\nreturn x_T", "The starts themselves"),
        ("out = torch.cat([sampler(x) for x in x_T.split(size)]); out.sum()", "Nothing came back"),
        ("torch.cat([sampler(x_T[i::size]) for i in range(size)])", "Their order changed"),
    ],
    "06.6": [
        (fresh("(1 - before) ** 0.5 * eps"), "kept in full"),
        (fresh("((1 - before) ** 0.5 - sigma) * eps"), "do not add up; variances do"),
        (fresh("(1 - before) ** 0.5 * eps", new="0"), "No fresh noise"),
        (fresh(new="sigma**2 * z"), "sigma is a standard deviation"),
        (fresh("(1 - now - sigma**2) ** 0.5 * eps"), "still that of alpha_bar_t"),
        (fresh("(1 - before - sigma**2) * eps"), "The old noise has no root"),
        (fresh("(1 - before - sigma) ** 0.5 * eps"), "subtracted from a variance"),
        (fresh("(1 - before + sigma**2) ** 0.5 * eps"), "The variances are added"),
        (fresh(picture="now**0.5 * x_0_hat"), "still shrunk as at alpha_bar_t"),
        (fresh(picture="x_0_hat"), "not shrunk at all"),
        (fresh(picture="before * x_0_hat"), "A root is missing in front of x_0_hat"),
        (fresh("(1 - before - sigma**2) ** 0.5 * x"), "the picture is still in it"),
        (fresh("0"), "The old noise is missing"),
        (fresh("0", new="(1 - before) ** 0.5 * z"), "All noise is fresh"),
        (fresh().replace("(x - alpha_bar_t**0.5 * x_0_hat)", "(x - x_0_hat)"), "off by"),
        (fresh(new="sigma * torch.randn_like(z)"), "off by"),
        (fresh(new="sigma"), "off by"),
        (fresh().replace("return ", "return (").rstrip() + ")[0]", "should have shape"),
    ],
}
RIGHT = {
    "06.1": [
        "1 - alpha_bar_t / alpha_bar_prev",
        "(alpha_bar_prev - alpha_bar_t) / alpha_bar_prev",
        "1 - alpha_bar_t * alpha_bar_prev**-1",
        "1 - torch.exp(torch.log(alpha_bar_t) - torch.log(alpha_bar_prev))",
        "1 - (alpha_bar_t**0.5 / alpha_bar_prev**0.5) ** 2",
        "np.float64(1) - float(alpha_bar_t) / float(alpha_bar_prev)",
        "((1 - alpha_bar_t) - (1 - alpha_bar_prev)) / alpha_bar_prev",
        "[1 - alpha_bar_t / alpha_bar_prev]",
        "from_betas([1 - alpha_bar_prev, 1 - alpha_bar_t / alpha_bar_prev]).beta[2]",
    ],
    "06.2": [
        leap(),
        """
        now, before = alpha_bar_t, alpha_bar_prev
        eps = (1 - now) ** 0.5 * x_t + now**0.5 * v
        alpha = now / before
        return (x_t - (1 - alpha) / (1 - now) ** 0.5 * eps) / alpha**0.5
        """,
        """
        now, before = alpha_bar_t, alpha_bar_prev
        x_0, eps = now**0.5 * x_t - (1 - now) ** 0.5 * v, (1 - now) ** 0.5 * x_t + now**0.5 * v
        beta_tilde = (1 - before) / (1 - now) * (1 - now / before)
        return before**0.5 * x_0 + (1 - before - beta_tilde) ** 0.5 * eps
        """,
        leap(x_0="(x_t - (1 - now) ** 0.5 * ((1 - now) ** 0.5 * x_t + now**0.5*v)) / now**0.5"),
        # by precisions
        """
        a = alpha_bar_t / alpha_bar_prev
        x_0 = math.sqrt(alpha_bar_t) * x_t - math.sqrt(1 - alpha_bar_t) * v
        p, q = 1 / (1 - alpha_bar_prev), a / (1 - a)
        return (p * math.sqrt(alpha_bar_prev) * x_0 + q * x_t / math.sqrt(a)) / (p + q)
        """,
        """
        s = from_betas([1 - alpha_bar_prev, 1 - alpha_bar_t / alpha_bar_prev])
        w, u = (1 - alpha_bar_prev) / (1 - alpha_bar_t), s.alpha[2]
        x_0 = alpha_bar_t**0.5 * x_t - (1 - alpha_bar_t) ** 0.5 * v
        return u.sqrt() * w * x_t + alpha_bar_prev**0.5 * s.beta[2] / (1 - alpha_bar_t) * x_0
        """,
        leap().replace("now, before", "x_t, v = np.array(x_t), np.array(v); now, before"),
    ],
    "06.3": [
        sampler(),
        sampler(f"x = x + (t > 1) * schedule.beta_tilde[t].sqrt() * {NOISE}"),
        sampler(f"x = x + schedule.beta_tilde[t].sqrt() * {NOISE}"),
        sampler(
            steps="reversed(range(1, schedule.T + 1))",
            asked="t * torch.ones(len(x), dtype=torch.long)",
        ),
        sampler(
            mean="(lambda x_0: (schedule.alpha_bar[t - 1].sqrt() * beta * x_0"
            " + alpha.sqrt() * (1 - schedule.alpha_bar[t - 1]) * x) / (1 - alpha_bar))"
            "((x - (1 - alpha_bar).sqrt() * eps_hat) / alpha_bar.sqrt())"
        ),
        """
        x, T = x_T.clone(), schedule.T
        z = torch.randn((T + 1, *x.shape), generator=generator, dtype=x.dtype)
        z[1] = 0
        while T:
            a, b = float(schedule.alpha[T]), float(schedule.alpha_bar[T])
            sigma = ((1 - b / a) / (1 - b) * (1 - a)) ** 0.5
            x -= (1 - a) / (1 - b) ** 0.5 * network(x, same_t(T, len(x)))
            x /= a**0.5
            x += sigma * z[T]
            T -= 1
        return x
        """,
        """
        def back(x, t):
            if t == 0:
                return x
            eps_hat = network(x, torch.full((len(x),), t))
            mean = (x - schedule.beta[t] / (1 - schedule.alpha_bar[t]) ** 0.5 * eps_hat)
            mean = mean / schedule.alpha[t] ** 0.5
            z = torch.randn(x.shape, generator=generator, dtype=x.dtype) if t > 1 else 0.0
            return back(mean + schedule.beta_tilde[t] ** 0.5 * z, t - 1)
        return back(x_T, schedule.T)
        """,
    ],
    "06.4": [
        "mean + variance**0.5 * noise",
        "mean + noise * variance.sqrt()",
        "torch.addcmul(mean, torch.as_tensor(variance).sqrt(), noise)",
        "mean.add_(noise, alpha=math.sqrt(variance))",
        "mean + torch.exp(0.5 * torch.log(torch.as_tensor(variance))) * noise",
        "np.array(mean) + np.sqrt(float(variance)) * np.array(noise)",
        "mean + variance * noise / math.sqrt(variance)",
        "torch.lerp(mean, mean + noise, torch.sqrt(variance)).tolist()",
    ],
    "06.5": [
        "torch.cat([sampler(x) for x in x_T.split(size)])",
        "torch.cat(tuple(map(sampler, torch.split(x_T, size, dim=0))), dim=0)",
        "torch.cat([sampler(x_T[i : i + size]) for i in range(0, len(x_T), size)])",
        "torch.vstack([sampler(x) for x in x_T.chunk(-(-len(x_T) // size))])",
        """
        out = torch.empty_like(x_T)
        for start in range(0, len(x_T), size):
            out[start : start + size] = sampler(x_T[start : start + size])
        return out
        """,
        """
        done, rest = x_T[:0], x_T
        while len(rest):
            done, rest = torch.cat([done, sampler(rest[:size])]), rest[size:]
        return done
        """,
        """
        pictures = []
        for indices in torch.arange(len(x_T)).split(size):
            pictures.extend(sampler(x_T[indices]).unbind())
        return torch.stack(pictures)
        """,
    ],
    "06.6": [
        fresh(),
        fresh("math.sqrt(1 - before - sigma * sigma) * eps", "math.sqrt(before) * x_0_hat"),
        """
        a, b = (1 - alpha_bar_prev - sigma**2) ** 0.5, (1 - alpha_bar_t) ** 0.5
        of_x_0 = alpha_bar_prev**0.5 - a / b * alpha_bar_t**0.5
        return of_x_0 * x_0_hat + a / b * x + sigma * z
        """,
        """
        share = sigma**2 / (1 - alpha_bar_prev)  # of the noise that is fresh
        eps = (x - alpha_bar_t**0.5 * x_0_hat).div_((1 - alpha_bar_t) ** 0.5)
        noise = (1 - share) ** 0.5 * eps + share**0.5 * z
        return alpha_bar_prev**0.5 * x_0_hat + (1 - alpha_bar_prev) ** 0.5 * noise
        """,
        fresh().replace("\neps", "x, x_0_hat, z = (np.array(y) for y in (x, x_0_hat, z))\neps", 1),
        fresh("((1 - before) ** 0.5 + sigma) ** 0.5 * ((1 - before) ** 0.5 - sigma) ** 0.5 * eps"),
    ],
}
