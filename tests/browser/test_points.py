"""The page "Learn in your browser": its numbers are PyTorch's, it learns, and everybody can use it.

The page is opened as a file, as readers may do, and must ask for nothing beyond its own folder.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from chromium import watched
from playwright.sync_api import Browser, Page, expect
from test_browser import SHOTS
from torch import Tensor, nn
from torch.testing import assert_close

from tutorial_lib import sample, toys
from tutorial_lib.beyond import solvers
from tutorial_lib.schedule import NoiseSchedule, even_tau, from_betas

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "site" / "live" / "points"
T, B = 50, 256


@contextmanager
def opened(browser: Browser) -> Iterator[Page]:
    """The page; at the end it must have said nothing and have asked for no other address."""
    own, said = (FOLDER.as_uri(), "blob:null/", "data:"), []
    with watched(browser, own) as page:
        page.on("console", lambda message: said.append(message.text))
        page.goto((FOLDER / "index.html").as_uri())
        yield page
    assert said == []


@pytest.fixture(scope="module")
def numbers(browser) -> Iterator[Page]:
    """One page for all tests that only call its functions."""
    with opened(browser) as page:
        yield page


@pytest.fixture
def page(browser) -> Iterator[Page]:
    with opened(browser) as page:
        yield page


@pytest.fixture(scope="module")
def schedule() -> NoiseSchedule:
    """That of notebook 00."""
    return from_betas((torch.linspace(0, 0.9, T + 1, dtype=torch.float64) ** 3)[1:])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- the numbers ---------------------------------------------------------------------------------


def test_schedule(numbers, schedule):
    alpha_bar = numbers.evaluate("[...new Schedule().alpha_bar]")
    assert_close(torch.tensor(alpha_bar, dtype=torch.float64), schedule.alpha_bar)


def features(x: Tensor, t: Tensor) -> Tensor:
    """As in notebook 00, (B, 33)."""
    z = torch.cat([x, t.view(-1, 1) / T], dim=1)  # (B, 3)
    waves = [wave(k * z) for k in (1, 2, 4, 8, 16) for wave in (torch.sin, torch.cos)]
    return torch.cat([z, *waves], dim=1)


TRAIN = """([weights, biases, batches, plain]) => {
    const points = new Float32Array(2);
    const training = new Training({ points, plain });
    const { network } = training;
    const rows = (matrix, count) => Array.from({ length: count }, (_, i) =>
        [...matrix.data.subarray(i * matrix.stride, i * matrix.stride + matrix.columns)]);
    const fill = ({ data, stride }, W) => W.forEach((row, i) => data.set(row, i * stride));
    weights.forEach((W, l) => fill(network.W[l], W));
    biases.forEach((b, l) => network.b[l].data.set(b));
    const losses = [], gradients = [];
    for (const [x_0, t, eps] of batches) {
        const batch = [Float32Array.from(x_0), Uint8Array.from(t), Float32Array.from(eps)];
        losses.push(training.step(batch));
        gradients.push(Network.SIZES.slice(0, 4).map((inputs, l) =>
            [rows(network.dW[l], inputs), rows(network.db[l], 1)[0]]));
    }
    return [network.kernel.code === null, losses, gradients];
}"""


@pytest.mark.parametrize("plain", [False, True], ids=["webassembly", "plain"])
def test_first_training_steps_are_those_of_torch(numbers, schedule, plain):
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Linear(33, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(),
        nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 2),
    )  # fmt: skip
    linear, generator = layers[::2], seeded(1)
    batches = []
    for _ in range(4):
        t = torch.randint(1, T + 1, (B,), generator=generator)
        batches.append((toys.swiss_roll(B, generator), t, torch.randn(B, 2, generator=generator)))
    weights = [layer.weight.T.tolist() for layer in linear]
    biases = [layer.bias.tolist() for layer in linear]
    drawn = [[one.flatten().tolist() for one in batch] for batch in batches]
    is_plain, losses, gradients = numbers.evaluate(TRAIN, [weights, biases, drawn, plain])
    assert is_plain == plain

    optimiser = torch.optim.Adam(layers.parameters(), lr=3e-3)
    rate = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, 3000)
    for (x_0, t, eps), theirs, slopes in zip(batches, losses, gradients, strict=True):
        share = schedule.alpha_bar[t].float()[:, None]
        x_t = share.sqrt() * x_0 + (1 - share).sqrt() * eps
        loss = (layers(features(x_t, t)) - eps).square().mean()
        optimiser.zero_grad()
        loss.backward()
        assert_close(torch.tensor(theirs), loss.detach(), rtol=1e-4, atol=1e-4)
        for layer, (dW, db) in zip(linear, slopes, strict=True):
            assert_close(torch.tensor(dW).T, layer.weight.grad, rtol=1e-3, atol=1e-5)
            assert_close(torch.tensor(db), layer.bias.grad, rtol=1e-3, atol=1e-5)
        optimiser.step()
        rate.step()


WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
MEANS = torch.tensor([[-1.0, -0.7], [1.0, -0.7], [0.2, 1.0]], dtype=torch.float64)
THREE = toys.Mixture(WEIGHTS, MEANS, 0.2)  # that of notebook 09
IN_PAGE = f"new Mixture({WEIGHTS.tolist()}, {MEANS.tolist()}, 0.2)"


@pytest.mark.parametrize("t", [0, 1, 12, 30, 50])
def test_exact_score(numbers, schedule, t):
    share = float(schedule.alpha_bar[t])
    noised = toys.Mixture(WEIGHTS, share**0.5 * MEANS, 0.2 * share + 1 - share)
    x = 3 * torch.randn(300, 2, generator=seeded(t), dtype=torch.float64)
    code = f"""x => {{
        const mixture = {IN_PAGE}.noised(new Schedule().alpha_bar[{t}]);
        return x.map(([a, b]) => [...mixture.score(a, b), mixture.log_density(a, b)]);
    }}"""
    theirs = torch.tensor(numbers.evaluate(code, x.tolist()), dtype=torch.float64)
    assert_close(theirs[:, :2], noised.score(x), rtol=1e-5, atol=1e-5)
    assert_close(theirs[:, 2], noised.log_density(x), rtol=1e-5, atol=1e-5)


WALK = f"""([name, x, tau, draws]) => {{
    const schedule = new Schedule(), mixture = {IN_PAGE};
    const guess = (x, t) => {{
        const noised = mixture.noised(schedule.alpha_bar[t]), eps_hat = new Float32Array(x.length);
        for (let i = 0; i < x.length; i += 2) eps_hat.set(noised.score(x[i], x[i + 1]), i);
        return eps_hat.map(score => -schedule.noise(t) * score);
    }};
    const random = {{ normal: () => draws.shift() }};
    const walks = {{ ddpm, ddim, dpm_solver }};
    const walk = [...walks[name](guess, schedule, Float32Array.from(x), tau, random)];
    return walk.map(([t, x]) => [t, [...x]]);
}}"""


@pytest.mark.parametrize("S", [50, 10, 5])
@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpm_solver"])
def test_walks_are_those_of_the_library(numbers, schedule, name, S):
    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return THREE.x_0_hat(x, float(schedule.alpha_bar[t[0]]))

    x_T = torch.randn(40, 2, generator=seeded(S)).double()
    tau = even_tau(T, S)
    if name == "ddpm":
        frames = sample.ddpm(denoise, schedule, x_T, generator=seeded(9), steps=S, variance="beta")
    else:
        frames = {"ddim": sample.ddim, "dpm_solver": solvers.dpm_solver}[name](
            denoise, schedule, x_T, steps=tau
        )
    generator = seeded(9)
    draws = [torch.randn(x_T.shape, generator=generator, dtype=x_T.dtype) for _ in range(S)]
    given = [name, x_T.flatten().tolist(), tau.tolist(), [z.flatten().tolist() for z in draws]]
    theirs = numbers.evaluate(WALK, given)
    for frame, (t, x) in zip(frames, theirs, strict=True):
        assert frame.t == t
        assert_close(torch.tensor(x).double().view(-1, 2), frame.x, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("S", [1, 2, 5, 10, 25, 50])
def test_where_the_steps_lie(numbers, S):
    assert numbers.evaluate(f"even_tau({T}, {S})") == even_tau(T, S).tolist()


@pytest.mark.parametrize("shape", ["swiss roll", "two moons", "two rings", "checkerboard", "word"])
def test_shapes(numbers, shape):
    """As the library draws them; words come from the page's font."""
    code = "points_of_word('go', 3000, new Random(1))"
    if shape != "word":
        code = f"points_of('{shape}', 3000, new Random(1))"
    x = torch.tensor(numbers.evaluate(f"[...{code}]")).view(-1, 2)
    assert x.shape == (3000, 2) and x.abs().max() < 2.5
    if shape != "word":
        name = {"swiss roll": "spiral"}.get(shape, shape)
        reference = toys.SHAPES[name](3000, seeded(0))
        apart = torch.cdist(x, reference)
        assert apart.min(0).values.max() < 0.2 and apart.min(1).values.max() < 0.2
        assert_close(x.mean(0), reference.mean(0), rtol=0, atol=0.1)


def test_random_numbers(numbers):
    z = torch.tensor(numbers.evaluate("[...new Random(4).normal(20000)]"))
    assert_close(z.mean(), torch.tensor(0.0), rtol=0, atol=0.03)
    assert_close(z.var(), torch.tensor(1.0), rtol=0, atol=0.05)
    assert_close((z**4).mean(), torch.tensor(3.0), rtol=0, atol=0.3)


# ---- the page ------------------------------------------------------------------------------------


def trained(page: Page, steps: int) -> None:
    """Train by the page's own button, for as many steps as are wanted."""
    option = f"byId('steps').append(new Option('{steps}', '{steps}', true, true))"
    page.evaluate(option)
    page.locator("#train").click()
    page.wait_for_function("learn.phase === 'trained'", polling=200)


def distance(page: Page, which: int) -> float:
    said = page.locator(f"#result-{which}").inner_text()
    return float(re.search(r"median ([\d.]+)", said)[1])


def test_it_learns(page):
    """A thousand steps, a third of what the page proposes; paused and resumed on the way."""
    page.locator("#steps").select_option("1000")
    page.locator("#train").click()
    expect(page.locator("#train")).to_have_text("Pause")
    page.wait_for_function("learn.losses.length > 1", polling=100)
    page.locator("#train").click()
    expect(page.locator("#learn-status")).to_have_text("Training is paused.")
    page.locator("#train").click()
    page.wait_for_function("learn.phase === 'trained'", polling=200)
    expect(page.locator("#progress-text")).to_contain_text("1000 of 1000 steps")
    assert distance(page, 0) < 0.1 and distance(page, 1) < 0.06  # noise: 0.3
    for which in (0, 1):  # from the same noise
        assert page.evaluate(f"learn.walks[{which}].frames[0][1] === learn.x_T")
    page.locator("#back").focus()
    page.keyboard.press("Home")
    expect(page.locator("#back-t")).to_have_text("0")
    page.locator("#sampler-1").select_option("DPM-Solver++ (2M)")
    assert page.locator("#walk-1").get_attribute("aria-label").startswith("DPM-Solver++ (2M): 400")
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / "points.png", full_page=True)
    page.locator("#reset").click()
    expect(page.locator("#result-0")).to_have_text("Train first.")
    expect(page.locator("#play")).to_be_disabled()


def test_drawing_by_keyboard_and_pointer(page):
    page.locator("#clear").click()
    expect(page.locator("#train")).to_be_disabled()  # there is nothing to learn from
    canvas = page.locator("#data")
    canvas.focus()
    for _ in range(6):
        page.keyboard.press("Space")
        page.keyboard.press("ArrowRight")
    x = page.evaluate("[...learn.data]")
    assert len(x) == 2 * 6 * 4 and max(x[::2]) > 0.4
    expect(page.locator("#train")).to_be_enabled()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Backspace")
    assert page.evaluate("learn.data.length") < len(x)
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 20, box["y"] + 20, steps=5)
    page.mouse.up()
    x = torch.tensor(page.evaluate("[...learn.data]")).view(-1, 2)
    assert len(x) > 200 and x[:, 0].min() < -1.8 and x[:, 0].max() > 1.8 and x[-1, 1] > 1.8
    expect(page.locator("[name=shape][value=drawing]")).to_be_checked()


def test_nothing_moves_by_itself_where_that_is_not_wanted(page):
    page.emulate_media(reduced_motion="reduce")
    trained(page, 20)
    assert page.evaluate("learn.playing") is None
    expect(page.locator("#back-t")).to_have_text("0")
    page.locator("[name=points][value=walking]").check()
    assert page.evaluate("bumps.walking") is False
    before = page.evaluate("[...bumps.x]")
    page.locator("#one").click()
    assert page.evaluate("[...bumps.x]") != before


def test_it_plays_when_it_is_seen(page):
    trained(page, 20)
    page.locator("#walk-0").scroll_into_view_if_needed()
    page.wait_for_function("Number(byId('back').value) === 0 && !learn.playing", polling=100)


def test_bumps(page):
    handles = page.locator("#plane button")
    expect(handles).to_have_count(2)
    handles.first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowUp")
    assert_close(torch.tensor(page.evaluate("bumps.means[0]")), torch.tensor([-1.4, 0.0]))
    expect(page.locator("#exact-status")).to_contain_text("Bump 1 is at -1.4, 0.0")
    box = handles.nth(1).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"], box["y"] + 100, steps=4)
    page.mouse.up()
    assert page.evaluate("bumps.means[1][1]") < 0.2
    expect(page.locator("#weight-name")).to_have_text("Weight of bump 2")
    page.locator("#add").click()
    expect(handles).to_have_count(3)
    page.keyboard.press("Delete")  # the new bump has the focus
    expect(handles).to_have_count(2)
    page.locator("#walk").click()
    page.wait_for_function("bumps.walking", polling=50)
    page.locator("#walk").click()
    expect(page.locator("#exact-status")).to_have_text("The points stand.")
    page.locator("#bumps-reset").click()
    assert page.evaluate("bumps.means") == [[-1.5, -0.5], [1.5, 0.5]]


def test_points_stay_in_the_density(page):
    """Drawn from it, and after many Langevin steps: mean and covariance are the mixture's."""
    drawn = "[...bumps.x]"
    walked = """(() => {
        byId('level').value = 30;
        for (let i = 0; i < 60; i++) noised_mixture().langevin(bumps.x, 0.1, bumps.random);
        return [...bumps.x];
    })()"""
    for code, t in ((drawn, 8), (walked, 30)):
        x = torch.tensor(page.evaluate(code)).view(-1, 2)
        share = page.evaluate(f"bumps.schedule.alpha_bar[{t}]")
        mean = share**0.5 * torch.tensor([-0.9, -0.3])  # 0.8 (-1.5, -0.5) + 0.2 (1.5, 0.5)
        assert_close(x.mean(0), mean, rtol=0, atol=0.25)
        between = share * 0.16 * torch.tensor([9.0, 1.0])  # 0.8 x 0.2 x distance squared
        assert_close(x.var(0), between + 0.09 * share + 1 - share, rtol=0.25, atol=0.1)


def test_noise_settles_the_shares(page):
    """What the page says one should try: 80 % of the weight lies in bump 1."""
    walk = """levels => {
        byId('scatter').click();
        for (const t of levels) {
            byId('level').value = t;
            for (let i = 0; i < 30; i++) {
                const mixture = noised_mixture();
                mixture.langevin(bumps.x, 0.2 * mixture.variance, bumps.random);
            }
        }
        return bumps.x.filter((_, i) => i % 2 === 0).filter(x => x < 0).length / 500;
    }"""
    assert page.evaluate(walk, [0] * 20) < 0.65
    assert 0.7 < page.evaluate(walk, [*range(T, -1, -1)]) < 0.9


@pytest.mark.parametrize("width", [320, 768, 1920])
def test_it_fits(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_names_and_links(page):
    """Each control has a name, each picture a description; links lead to notebooks that exist."""
    unnamed = """[...document.querySelectorAll('input, select, button, canvas, progress')].filter(
        one => !one.labels?.length && !one.getAttribute('aria-label') && !one.textContent.trim()
    ).map(one => one.outerHTML)"""
    assert page.evaluate(unnamed) == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))
    links = page.evaluate("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
    assert links
    for link in links:
        assert (FOLDER / link).resolve().is_file(), link


def colours(text: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", text))


def contrast(a: str, b: str) -> float:
    """The ratio of WCAG 2.2, from 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        light = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast():
    """AA in both colour schemes: 4.5 for text, 3 for what is drawn and for the focus."""
    css = (FOLDER / "style.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[:2]
    for scheme in (colours(light), colours(dark)):
        for ground in ("page", "card"):
            for text in ("ink", "soft", "main"):
                assert contrast(scheme[text], scheme[ground]) >= 4.5, (text, ground)
            for drawn in ("data", "noise", "model", "quiet", "focus"):
                assert contrast(scheme[drawn], scheme[ground]) >= 3, (drawn, ground)
        assert contrast(scheme["ink"], scheme["button"]) >= 4.5
        assert contrast(scheme["soft"], scheme["button"]) >= 4.5
        assert contrast(scheme["on-main"], scheme["main"]) >= 4.5


def test_no_address_in_the_sources():
    """Nothing is fetched: no script, font or picture from elsewhere."""
    for path in FOLDER.iterdir():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"https?:|//[a-z0-9-]+\.[a-z]", text), path.name
        assert path.suffix in (".html", ".css", ".js"), path.name
