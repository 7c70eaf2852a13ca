"""Answers to the exercises of notebook 07, wrong and right."""

FRESH = "r, k = (1 - alpha_bar_prev) / (1 - alpha_bar_t), 1 - alpha_bar_t / alpha_bar_prev; return "
PATH = """
a, r2 = alpha_bar_t**0.5, (1 - alpha_bar_t) / alpha_bar_t
y, k = x_t / a, s**2 / (s**2 + r2)
return {end}
"""
AHEAD = "h, k, d = lam_next - lam, lam - lam_before, x_0_hat - before; return "
STATE = "a = alpha_bar_prev; return a**0.5 * x_0_hat + "
ARC = """
theta = torch.acos({cosine})
return {end}
"""
COSINE = "(z_1 @ z_2) / (z_1.norm() * z_2.norm())"
POINT = "(torch.sin((1 - s) * theta) * z_1 + torch.sin(s * theta) * z_2) / torch.sin(theta)"
UP = """
a, b = schedule.alpha_bar[t], schedule.alpha_bar[t_next]
guess = denoise(x, same_t({asked}, len(x)))
noise = (x - a.sqrt() * guess) / (1 - a).sqrt()
return {end}
"""
SOLVER = """
ab = schedule.alpha_bar[tau]
a, b = ab.sqrt(), (1 - ab).sqrt()
lam = (a / b).log()
old = None
for i in range(len(tau) - 1, 0, -1):
    D = new = denoise(x, same_t(tau[i], len(x)))
    if {when}:
        D = new + {ahead} * (new - old)
    old = new
    x = b[i - 1] / b[i] * x + (a[i - 1] - b[i - 1] / b[i] * a[i]) * D
return x
"""
INSIDE = "old is not None and i > 1"
HALF = "(lam[i - 1] - lam[i]) / (lam[i] - lam[i + 1]) / 2"
AGAIN = """
x = x_T
for i in range(len(tau) - 1, 0, -1):
    answer = student(x, same_t(tau[i], len(x)))
    ab = schedule.alpha_bar[tau[i - 1]]
    z = {noise}
    x = ab.sqrt() * answer + (1 - ab).sqrt() * z
return {end}
"""
NOISE = "torch.randn(x.shape, generator=generator, dtype=x.dtype) if i > 1 else 0"


def path(end: str) -> str:
    """The end of 07.2, from y and k, the share of the noised variance that is the data's."""
    return PATH.format(end=end)


def arc(end: str = POINT, cosine: str = COSINE) -> str:
    """The point of 07.5."""
    return ARC.format(cosine=cosine, end=end)


def up(end: str = "b.sqrt() * guess + (1 - b).sqrt() * noise", asked: str = "t") -> str:
    """The step of 07.6, with one thing done differently."""
    return UP.format(asked=asked, end=end)


def solver(when: str = INSIDE, ahead: str = HALF) -> str:
    """The sampler of 07.7, with one thing done differently."""
    return SOLVER.format(when=when, ahead=ahead)


def again(noise: str = NOISE, end: str = "x") -> str:
    """The walk of 07.8, with one thing done differently."""
    return AGAIN.format(noise=noise, end=end)


WRONG = {
    "07.1": [
        (FRESH + "eta**2 * r * k", "That is the variance"),
        (FRESH + "(r * k) ** 0.5", "That is for eta = 1"),
        (FRESH + "eta * (k / r) ** 0.5", "upside down"),
        (FRESH + "eta * (r * (1 - alpha_bar_t)) ** 0.5", "The second root is of"),
        (FRESH + "(eta * r * k) ** 0.5", "outside the roots"),
    ],
    "07.2": [
        (path("m + k * (y - m)"), "one step of Euler's rule"),
        (path("m + k**0.5 * (x_t - m)"), "not of x"),
        (path("m + (y - m) / k**0.5"), "the other way"),
        (path("k**0.5 * (y - m)"), "where does it end"),
        (path("m + k / s * (y - m)"), "a root is to be taken"),
        (path("y"), "off by"),
    ],
    "07.3": [
        (AHEAD + "x_0_hat + h / k * d", "its middle is wanted"),
        (AHEAD + "x_0_hat + d / 2", "by the ratio of"),
        (AHEAD + "x_0_hat - h / k / 2 * d", "It looks back"),
        (AHEAD + "before + h / k / 2 * d", "begins at the present estimate"),
        (AHEAD + "x_0_hat + k / h / 2 * d", "changed places"),
        (AHEAD + "x_0_hat", "off by"),
    ],
    "07.4": [
        (STATE + "(1 - a) ** 0.5 * eps_hat + sigma * z", "still grainy"),
        (STATE + "(1 - a) ** 0.5 * eps_hat", "so is the walk"),
        (STATE + "((1 - a) ** 0.5 - sigma) * eps_hat + sigma * z", "variances do"),
        (STATE + "(1 - a - sigma**2) ** 0.5 * eps_hat + sigma**0.5 * z", "a standard deviation"),
        (STATE + "max(1 - a - sigma, 0) ** 0.5 * eps_hat + sigma * z", "its square is taken"),
        (STATE + "(1 - a) ** 0.5 * z", "off by"),
    ],
    "07.5": [
        ("(1 - s) * z_1 + s * z_2", "the straight line"),
        (arc(POINT.replace("z_1", "z_0").replace("z_2", "z_1").replace("z_0", "z_2")), "changed"),
        (arc(POINT.replace(" / torch.sin(theta)", "")), "division by sin theta"),
        (arc(cosine="(z_1 @ z_2).clamp(-1, 1)"), ""),
        ("z_1", "off by"),
    ],
    "07.6": [
        (up(asked="t_next"), "the walk stands at t = 6"),
        (up("b.sqrt() * x + (1 - b).sqrt() * noise"), "That is the forward process"),
        (up("x + 0 * guess"), "stands already"),
        (up("b.sqrt() * guess + (1 - a).sqrt() * noise"), "belongs to t_next"),
        (up("a.sqrt() * guess + (1 - b).sqrt() * noise"), "shrunk as at t_next"),
        ("x", "never asked"),
    ],
    "07.7": [
        (solver("False"), "That is DDIM"),
        (solver(ahead="(lam[i - 1] - lam[i]) / (lam[i] - lam[i + 1])"), "the middle is wanted"),
        (solver(ahead="(lam[i] - lam[i + 1]) / (lam[i - 1] - lam[i]) / 2"), "upside down"),
        (solver(ahead="0.5"), "off by"),
        (solver("old is not None"), ""),
        ("return denoise(x, same_t(tau[-1], len(x)))", "should be asked at t ="),
    ],
    "07.8": [
        (again("0"), "Without fresh noise"),
        (
            again(
                "(x - schedule.alpha_bar[tau[i]].sqrt() * answer) "
                "/ (1 - schedule.alpha_bar[tau[i]]).sqrt()"
            ),
            "DDIM's way",
        ),
        (again(end="student(x, same_t(1, len(x)))"), "should be asked at"),
        ("return student(x_T, same_t(tau[-1], len(x_T)))", "should be asked at"),
        (again(NOISE.replace("i > 1", "i > 2")), ""),
    ],
}

RIGHT = {
    "07.1": [
        "b = 1 - alpha_bar_t / alpha_bar_prev\n"
        "return eta * np.sqrt((1 - alpha_bar_prev) / (1 - alpha_bar_t) * b)",
        FRESH + "eta * (r * k) ** 0.5",
    ],
    "07.2": [
        path("m + k**0.5 * (y - m)"),
        "z = (x_t - alpha_bar_t**0.5 * m) / np.sqrt(alpha_bar_t * s**2 + 1 - alpha_bar_t)\n"
        "return m + s * z",
    ],
    "07.3": [
        AHEAD + "(1 + h / k / 2) * x_0_hat - h / k / 2 * before",
        "middle = (lam + lam_next) / 2\n"
        "w = (middle - lam_before) / (lam - lam_before)\n"
        "return w * x_0_hat + (1 - w) * before",
    ],
    "07.4": [
        STATE + "math.sqrt(1 - a - sigma**2) * eps_hat + sigma * z",
        (
            "a, s = torch.tensor(alpha_bar_prev), torch.tensor(sigma)\n"
            "return (a**0.5 * x_0_hat + (1 - a - s**2) ** 0.5 * eps_hat + s * z).float()"
        ),
        "old = (1 - alpha_bar_prev - sigma * sigma) ** 0.5 * eps_hat\n"
        "return sigma * z + old + alpha_bar_prev**0.5 * x_0_hat",
    ],
    "07.5": [
        arc(),
        "u = z_1 / z_1.norm()\nv = z_2 / z_2.norm()\ntheta = math.acos(float(u @ v))\n"
        "return (math.sin(theta - s * theta) * z_1 + math.sin(s * theta) * z_2) / math.sin(theta)",
    ],
    "07.6": [
        up(),
        "a, b = schedule.alpha_bar[t], schedule.alpha_bar[t_next]\n"
        "g = denoise(x, torch.full((len(x),), t))\n"
        "k = ((1 - b) / (1 - a)) ** 0.5\n"
        "return k * x + (b**0.5 - k * a**0.5) * g",
    ],
    "07.7": [
        solver(),
        solver("1 < i < len(tau) - 1"),
    ],
    "07.8": [
        again(),
        "x = student(x_T, same_t(tau[-1], len(x_T)))\n"
        "for t in reversed(tau[1:-1]):\n"
        "    ab = schedule.alpha_bar[t]\n"
        "    z = torch.randn(x.shape, generator=generator, dtype=x.dtype)\n"
        "    x = student(ab**0.5 * x + (1 - ab) ** 0.5 * z, same_t(t, len(x)))\n"
        "return x",
    ],
}
