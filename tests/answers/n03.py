"""Answers to the exercises of notebook 03, wrong and right."""

BACK = """
kept = schedule.alpha_bar[t] / schedule.alpha_bar[s]
first, v_0 = schedule.alpha_bar[s].sqrt() * x_0, 1 - schedule.alpha_bar[s]
last, v_t = x_t / kept.sqrt(), (1 - kept) / kept
mean = (first / v_0 + last / v_t) / (1 / v_0 + 1 / v_t)
variance = 1 / (1 / v_0 + 1 / v_t)
"""
TABLE = """
b = torch.tensor(beta, dtype=torch.float64)
alpha_bar = (1 - b).cumprod(0)
before = torch.cat([{first}, alpha_bar[:-1]])
"""
WEIGHT = "b, a, ab, bt = (x[t] for x in (schedule.beta, schedule.alpha, schedule.alpha_bar, "
WEIGHT += "schedule.beta_tilde)); return "
BUCKET = """
cdf = torch.distributions.Normal(0.0, 1.0).cdf
c = k / 127.5 - 1
low, high = {low}, {high}
return {result}
"""
V = "a, b = alpha_bar**0.5, (1 - alpha_bar) ** 0.5; return "
CHAIN = """
q = torch.eye(len(p_T), dtype=p_T.dtype)[x_0]
L = {start}
for forward, back in zip(Q, P):
    pairs = q[:, None] * forward
    L = L + (pairs * {term}).sum()
    q = pairs.sum(0)
return {end}
"""


def table(first: str = "torch.ones(1)") -> str:
    """The table of 03.4, in which `first` stands for alpha_bar_0."""
    return TABLE.format(first=first)


def of_bucket(
    low: str = "(c - 1 / 255 - mean) / sigma if k > 0 else -math.inf",
    high: str = "(c + 1 / 255 - mean) / sigma if k < 255 else math.inf",
    result: str = "cdf(torch.tensor(high).double()) - cdf(torch.tensor(low).double())",
) -> str:
    """The bucket of 03.6, with one thing done differently."""
    return BUCKET.format(low=low, high=high, result=result)


def chain(
    term: str = "(forward / back.T).log()",
    end: str = "L - (q * p_T.log()).sum()",
    start: str = "0",
) -> str:
    """The bound of 03.8, with one thing done differently."""
    return CHAIN.format(term=term, end=end, start=start)


WRONG = {
    "03.1": [
        ("(m_q - m_p) ** 2 / variance", "Twice too much"),
        ("(m_q - m_p) ** 2 / (2 * variance**2)", "Is that the standard deviation?"),
        ("abs(m_q - m_p) / (2 * variance)", "not by an absolute value"),
        ("(m_q - m_p) ** 2 / (2 * variance) / math.log(2)", "It is in bits"),
        ("(m_q - m_p) ** 2 / 2", "in units of the spread"),
        ("(m_q - m_p) ** 2 / (2 * variance**0.5)", "not its root"),
        ("-((m_q - m_p) ** 2) / (2 * variance)", "never negative"),
        ("(m_q - m_p) ** 2 / (2 * variance) - 0.5", "they are equal here"),
        ("0.5 * (1 + (m_q - m_p) ** 2 / variance)", "leave nothing behind"),
        ("(m_q - m_p) ** 2 / 2 * variance", "it should divide"),
        ("(m_q + m_p) ** 2 / (2 * variance)", "are added"),
        ("m_q - m_p", "off by"),
    ],
    "03.2": [
        ("(p * (p / q).log()).sum()", "have changed places"),
        ("(q * (q / p).log2()).sum()", "It is in bits"),
        ("(q * (p / q).log()).sum()", "never negative"),
        ("(q * (q / p).log()).mean()", "that is a mean"),
        ("(q / p).log().sum()", "Which distribution is the average over?"),
        ("-(q * p.log()).sum()", "the cross-entropy"),
        ("(q * q.log()).sum()", "entropy of q"),
        ("(q * (q / p).log().abs()).sum()", "Absolute values"),
        ("q * (q / p).log()", "should be a single number, got 5 of them"),
        ("(q * (q / p).log()).sum()", "it becomes nan"),
        ("torch.xlogy(q, q / p).sum()", "it becomes nan"),
        ("(q * (q / p).log()).nan_to_num().sum()", "it should be infinite"),
        ("(q * ((q + 1e-12) / (p + 1e-12)).log()).sum()", "it should be infinite"),
        ("(q * (q / p.clamp(min=1e-9)).log().nan_to_num(0, 0, 0)).sum()", "should be infinite"),
        ("u = (q > 0) & (p > 0); return (q[u] * (q[u] / p[u]).log()).sum()", "should be infinite"),
        (
            "u = q > 0; return math.inf if (p == 0).any() else (q[u] * (q[u] / p[u]).log()).sum()",
            "",
        ),
        ("F.kl_div(p.log(), q, reduction='sum')", ""),
    ],
    "03.3": [
        (BACK + "return mean, variance**0.5", "That is its root"),
        (BACK + "return mean, 1 / variance", "That is the precision"),
        (BACK + "return mean, v_0", "what x_0 alone says"),
        (BACK + "return mean, v_t", "what x_t alone says"),
        (BACK + "return mean, v_0 + v_t", "Precisions add up"),
        (BACK + "return mean, 1 - kept", "the jump forward"),
        (BACK + "return first, variance", "what x_0 alone says"),
        (BACK + "return last, variance", "what x_t alone says"),
        (BACK + "return (first + last) / 2, variance", "count the same"),
        (BACK + "return (first * v_0 + last * v_t) / (v_0 + v_t), variance", "of the other"),
        (BACK + "return mean", ""),
        (
            BACK.replace("x_0,", "x_t,").replace("x_t /", "x_0 /") + "return mean, variance",
            "changed",
        ),
        ("s = t - 1\n" + BACK + "return mean, variance", "s is earlier"),
        ("s = s - 1\n" + BACK + "return mean, variance", ""),
        (
            "a, b = diffusion.q_posterior(schedule, x_0, x_t, torch.full((3,), t))\nreturn a, b",
            "",
        ),
        (BACK.replace("alpha_bar", "alpha") + "return mean, variance", ""),
        (BACK.replace("kept.sqrt()", "kept") + "return mean, variance", "off by"),
    ],
    "03.4": [
        (table("alpha_bar[:1]") + "return (1 - before) / (1 - alpha_bar) * b", "One entry"),
        (table("torch.zeros(1)") + "return (1 - before) / (1 - alpha_bar) * b", "One entry"),
        (table("b[:1]") + "return (1 - before) / (1 - alpha_bar) * b", "One entry"),
        (table() + "return b", "That is beta itself"),
        (table() + "return ((1 - before) / (1 - alpha_bar) * b) ** 0.5", "That is its root"),
        (table() + "return (1 - alpha_bar) / (1 - before) * b", "no finite numbers"),
        (table() + "return ((1 - before) / (1 - alpha_bar) * b)[1:]", "should have shape"),
        (table() + "return before / alpha_bar * b", "off by"),
        (table() + "return (1 - before) / (1 - alpha_bar) * (1 - b)", "off by"),
        (table() + "return (1 - before) * b", "off by"),
        (table("torch.ones(1)") + "return ((1 - before) / (1 - alpha_bar) * b)[0]", "one row"),
    ],
    "03.5": [
        (WEIGHT + "b**2 / (bt * a * (1 - ab))", "The 2 is missing"),
        (WEIGHT + "b / (2 * a * (1 - ab))", "That is for sigma_t^2 = beta_t"),
        (WEIGHT + "b**2 / (2 * bt**2 * a * (1 - ab))", "not its square"),
        (WEIGHT + "b**2 / (2 * bt**0.5 * a * (1 - ab))", "not its root"),
        (WEIGHT + "b / (2 * bt * a * (1 - ab))", "beta_t counts squared"),
        (WEIGHT + "b**2 / (2 * bt * (1 - ab))", "A factor is missing below the line: alpha_t"),
        (WEIGHT + "b**2 / (2 * bt * a)", "the variance of the noise in x_t?"),
        (WEIGHT + "b**2 / (2 * bt * a * ab)", "what is left of the picture"),
        (WEIGHT + "b**2 / (2 * bt * ab * (1 - ab))", "Is it alpha_t or alpha_bar_t?"),
        (WEIGHT + "b**2 / (2 * bt * a * (1 - ab) ** 0.5)", "The noise in x_t has a root"),
        (WEIGHT + "b**2 / (2 * bt * a**0.5 * (1 - ab))", "alpha_t has a root"),
        (WEIGHT + "2 * bt * a * (1 - ab) / b**2", "upside down"),
        ("t = t - 1; " + WEIGHT + "b**2 / (2 * bt * a * (1 - ab))", ""),
        (WEIGHT + "1", ""),
        (WEIGHT + "b**2 / 2 * bt * a * (1 - ab)", "off by"),
    ],
    "03.6": [
        (
            of_bucket(result="math.exp(-(((c - mean) / sigma) ** 2) / 2) / sigma / math.tau**0.5"),
            "That is a density",
        ),
        (
            of_bucket(
                result="torch.exp(-torch.tensor((c - mean) / sigma) ** 2 / 2)"
                " / sigma / (2 * math.pi) ** 0.5 * 2 / 255"
            ),
            "good for wide Gaussians only",
        ),
        (
            of_bucket("(c - 1 / 510 - mean) / sigma", "(c + 1 / 510 - mean) / sigma"),
            "half as wide",
        ),
        (
            of_bucket("(c - 2 / 255 - mean) / sigma", "(c + 2 / 255 - mean) / sigma"),
            "twice as wide",
        ),
        ("sigma = sigma**0.5" + of_bucket(), "or a variance"),
        ("sigma = sigma**2" + of_bucket(), "its square"),
        (of_bucket("(c - mean) / sigma", "(c + 2 / 255 - mean) / sigma"), "begins at its"),
        (of_bucket("(c - 2 / 255 - mean) / sigma", "(c - mean) / sigma"), "ends at its"),
        (
            of_bucket(result="cdf(torch.tensor(low).double()) - cdf(torch.tensor(high).double())"),
            "changed places",
        ),
        (of_bucket("(c - 1 / 255 - mean) / sigma"), "How far does the outermost"),
        (of_bucket(high="(c + 1 / 255 - mean) / sigma"), "How far does the outermost"),
        ("k = k + 1" + of_bucket(), ""),
        (of_bucket("(c - 1 / 255) / sigma", "(c + 1 / 255) / sigma"), ""),
        (of_bucket(result="cdf(torch.tensor(high).double())"), ""),
        (of_bucket().replace("127.5", "128"), ""),
    ],
    "03.7": [
        (V + "(b * x_t + a * v, a * x_t - b * v)", "x_0 and eps have changed places"),
        (V + "(a * x_t + b * v, b * x_t + a * v)", "The signs do not fit"),
        (V + "(a * x_t - b * v, b * x_t - a * v)", "The signs do not fit"),
        (V + "(b * x_t - a * v, a * x_t + b * v)", "The two roots have changed places"),
        (V + "(a * x_t - b * v, a * x_t + b * v)", "The two roots have changed places"),
        (V + "(a * a * x_t - b * b * v, b * x_t + a * v)", "Both roots are missing"),
        (V + "(a * x_t - b * v, b * b * x_t + a * a * v)", "Both roots are missing"),
        (V + "((x_t - b * v) / a, v)", "predicts eps"),
        (V + "(a * x_t - b * v, v)", "That is v itself"),
        (V + "(b * v - a * x_t, b * x_t + a * v)", "Its sign is wrong"),
        (V + "(a * x_t - b * v, -b * x_t - a * v)", "Its sign is wrong"),
        (V + "a * x_t - b * v", "It should return two things"),
        (V + "((a * x_t - b * v).mean(), b * x_t + a * v)", "should have shape"),
    ],
    "03.8": [
        (chain("(back.T / forward).log()", "L + (q * p_T.log()).sum()"), "That is the ELBO"),
        (
            "p = p_T\nfor back in reversed(P):\n    p = p @ back\nreturn -p[x_0].log()",
            "-log p(x_0) itself",
        ),
        (chain("(forward / back).log()"), "In P the rows are x_t"),
        (chain(end="(L - (q * p_T.log()).sum()) / math.log(2)"), "It is in bits"),
        (chain(end="L"), "The prior p_T is missing"),
        (chain("0 * back"), "the prior's part alone"),
        (chain(end="L + (q * (q / p_T).log()).sum()"), "off by"),
        (chain("(-back.T).abs().log().neg()"), "off by"),
        ("Q, P = Q[:1], P[:1]" + chain(), "the first step alone"),
        ("P = P[::-1]" + chain(), "P[0] leads to x_0"),
        (chain().replace(")[x_0]", ").mean(0)"), "over all x_0"),
        (chain(end="(L - (q * p_T.log()).sum()) / len(Q)"), "a mean over the steps"),
        (chain("(forward / back.T).log() / len(q)"), "off by"),
        (chain().replace(".sum()\n    q", ".mean()\n    q"), "off by"),
    ],
}

RIGHT = {
    "03.1": [
        "0.5 * ((m_q - m_p) / variance**0.5) ** 2",
        "float(gaussian.log_density(torch.tensor(m_q), m_q, variance)"
        " - gaussian.log_density(torch.tensor(m_q), m_p, variance))",
        "0.5 * (math.log(variance / variance) + (variance + (m_q - m_p) ** 2) / variance - 1)",
        "np.square(m_q - m_p) / 2 / variance",
        "torch.tensor([(m_p - m_q) ** 2 / 2 / variance])",
        "from fractions import Fraction\n"
        "return Fraction((m_q - m_p) ** 2) / 2 / Fraction(variance)",
    ],
    "03.2": [
        "(torch.xlogy(q, q) - torch.xlogy(q, p)).sum()",
        "u = q > 0; return (q[u] * (q[u] / p[u]).log()).sum()",
        "torch.where(q > 0, q * (q / p).log(), 0.0).sum()",
        "(q * (q / p).log()).nansum()",
        "pairs = zip(q.tolist(), p.tolist())\n"
        "return sum((a * math.log(a / b) if b > 0 else math.inf) for a, b in pairs if a > 0)",
        "a, b = np.array(q), np.array(p)\nwith np.errstate(all='ignore'):\n"
        "    return np.nansum(np.where(a > 0, a * np.log(a / b), 0))",
        "-torch.special.entr(q).sum() - torch.xlogy(q, p).sum()",
        "q, p = q.float(), p.float()\nreturn torch.xlogy(q, q).sum() - torch.xlogy(q, p).sum()",
    ],
    "03.3": [
        BACK + "return mean, variance",
        BACK + "return [mean.float(), float(variance)]",
        BACK + "return mean.numpy(), variance.numpy()",
        BACK + "return mean.tolist(), [variance]",
        """
        now, before = float(schedule.alpha_bar[t]), float(schedule.alpha_bar[s])
        r = now / before
        mean = (before**0.5 * (1 - r) * x_0 + r**0.5 * (1 - before) * x_t) / (1 - now)
        return mean, (1 - before) / (1 - now) * (1 - r)
        """,
        # one step back after the other, each given x_0
        """
        slope, shift, variance = 1.0, torch.zeros_like(x_0), 0.0
        for k in range(t, s, -1):
            below = 1 - schedule.alpha_bar[k]
            of_0 = schedule.alpha_bar[k - 1].sqrt() * schedule.beta[k] / below
            of_k = schedule.alpha[k].sqrt() * (1 - schedule.alpha_bar[k - 1]) / below
            noise = (1 - schedule.alpha_bar[k - 1]) / below * schedule.beta[k]
            slope, shift = of_k * slope, of_k * shift + of_0 * x_0
            variance = of_k**2 * variance + noise
        return slope * x_t + shift, variance
        """,
        # regression of x_s on x_t, given x_0
        """
        r = schedule.alpha_bar[t] / schedule.alpha_bar[s]
        V = 1 - schedule.alpha_bar[s]
        gain = r.sqrt() * V / (r * V + 1 - r)
        expected = schedule.alpha_bar[t].sqrt() * x_0
        return schedule.alpha_bar[s].sqrt() * x_0 + gain * (x_t - expected), V - gain * r.sqrt() * V
        """,
    ],
    "03.4": [
        table() + "return (1 - before) / (1 - alpha_bar) * b",
        table() + "return ((1 - before) / (1 - alpha_bar) * b).tolist()",
        """
        out, alpha_bar = [], 1.0
        for b in beta:
            before, alpha_bar = alpha_bar, alpha_bar * (1 - b)
            out.append((1 - before) / (1 - alpha_bar) * b)
        return out
        """,
        """
        alpha_bar = np.cumprod([1.0] + [1 - b for b in beta])
        return (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:]) * np.array(beta)
        """,
        "b = torch.tensor(beta); a = F.pad((1 - b).cumprod(0), (1, 0), value=1.0)\n"
        "return (1 - a[:-1]) / (1 - a[1:]) * b",
        "alpha_bar = [math.prod(1 - b for b in beta[:t]) for t in range(len(beta) + 1)]\n"
        "return [(1 - a) / (1 - c) * b for a, c, b in zip(alpha_bar, alpha_bar[1:], beta)]",
    ],
    "03.5": [
        WEIGHT + "b**2 / (2 * bt * a * (1 - ab))",
        WEIGHT + "float(b / (2 * a * (1 - schedule.alpha_bar[t - 1])))",
        WEIGHT + "[b**2 / (2 * bt * a * (1 - ab))]",
        WEIGHT + "np.float64(b) ** 2 / (2 * np.float64(bt) * np.float64(a) * (1 - np.float64(ab)))",
        WEIGHT + "0.5 * (b / (a * (1 - ab)).sqrt()) ** 2 / bt",
        WEIGHT + "(schedule.snr[t - 1] - schedule.snr[t]) / 2 * (1 - ab) / ab",
    ],
    "03.6": [
        of_bucket(),
        of_bucket(result="0.5 * (math.erf(high / 2**0.5) - math.erf(low / 2**0.5))"),
        of_bucket(
            result="float(cdf(torch.tensor(high).double()) - cdf(torch.tensor(low).double()))"
        ),
        of_bucket(
            "(c - 1 / 255 - mean) / sigma if k else -99",
            "(c + 1 / 255 - mean) / sigma if k != 255 else 99",
        ),
        of_bucket("(2 * k - 256 - 255 * mean) / 255 / sigma if k > 0 else -math.inf"),
        """
        from statistics import NormalDist
        F = NormalDist(mean, sigma).cdf
        if k == 0:
            return F(-254 / 255)
        if k == 255:
            return 1 - F(254 / 255)
        return F((2 * k - 254) / 255) - F((2 * k - 256) / 255)
        """,
        """
        low, high = max(k, 0.5) * 2 / 255 - 1 - 1 / 255, k * 2 / 255 - 1 + 1 / 255
        low, high = (-9.0 if k == 0 else low), (9.0 if k == 255 else high)
        x = torch.linspace(low, high, 400_001, dtype=torch.float64)  # an integral
        return torch.trapezoid(gaussian.log_density(x, mean, sigma**2).exp(), x)
        """,
    ],
    "03.7": [
        V + "(a * x_t - b * v, b * x_t + a * v)",
        V + "[a * x_t - b * v, b * x_t + a * v]",
        V + "torch.stack([a * x_t - b * v, b * x_t + a * v])",
        "a, b = np.sqrt(float(alpha_bar)), np.sqrt(1 - float(alpha_bar))\n"
        "return a * np.array(x_t) - b * np.array(v), b * np.array(x_t) + a * np.array(v)",
        V.replace("return ", "x_0 = a * x_t - b * v\nreturn ") + "(x_0, (x_t - a * x_0) / b)",
        V.replace("return ", "eps = b * x_t + a * v\nreturn ") + "((x_t - b * eps) / a, eps)",
        """
        phi = torch.arccos(torch.sqrt(alpha_bar))
        turn = torch.stack([phi.cos(), -phi.sin(), phi.sin(), phi.cos()]).view(2, 2)
        return torch.einsum("ij,jbchw->ibchw", turn, torch.stack([x_t, v]))
        """,
        """
        a, b = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        M = torch.stack([a, b, -b, a]).view(2, 2)
        found = torch.linalg.solve(M, torch.stack([x_t.flatten(), v.flatten()]))
        return found[0].view_as(x_t), found[1].view_as(x_t)
        """,
        V + "((a * x_t - b * v).float(), (b * x_t + a * v).tolist())",
    ],
    "03.8": [
        chain(),
        """
        import itertools
        L = 0.0
        for path in itertools.product(range(len(p_T)), repeat=len(Q)):
            states, q, p = [x_0, *path], 1.0, float(p_T[path[-1]])
            for t in range(len(Q)):
                q *= float(Q[t][states[t], states[t + 1]])
                p *= float(P[t][states[t + 1], states[t]])
            L -= q * math.log(p / q)
        return L
        """,
        """
        before, L = Q[0][x_0], -(Q[0][x_0] * P[0][:, x_0].log()).sum()
        for forward, back in zip(Q[1:], P[1:]):
            pairs = before[:, None] * forward
            L = L + (pairs * (pairs / pairs.sum(0) / back.T).log()).sum()
            before = pairs.sum(0)
        return L + (before * (before / p_T).log()).sum()
        """,
        """
        q, L = np.zeros(len(p_T)), 0.0
        q[x_0] = 1
        for forward, back in zip(map(np.array, Q), map(np.array, P)):
            L += (q[:, None] * forward * np.log(forward / back.T)).sum()
            q = q @ forward
        return L - (q * np.log(np.array(p_T))).sum()
        """,
        """
        # backward: the cost to go from each state
        cost = -p_T.log()
        for forward, back in zip(reversed(Q), reversed(P)):
            cost = (forward * ((forward / back.T).log() + cost[None])).sum(1)
        return [float(cost[x_0])]
        """,
    ],
}
