"""Garments in a real browser: the page draws what Python draws, and can be used without a mouse.

It is built from the shipped weights and from networks with random weights, which have labels,
other shapes or are students.  This is Chromium, as in chromium.py; test_firefox.py has the other.
"""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import live
import pytest
import torch
from chromium import SECONDS
from playwright.sync_api import Browser, Page, expect
from test_browser import LOCAL, SHOTS, free_port
from torch import Tensor

from tutorial_lib import checkpoint, sample, schedule
from tutorial_lib.beyond import distillation, editing, inversion, solvers
from tutorial_lib.beyond.guidance import guided
from tutorial_lib.config import schedule_of
from tutorial_lib.denoise import denoiser
from tutorial_lib.nets.unet import UNet, UNetConfig, restore

TOLERANCE = 1e-3  # of pixels in [-1, 1]
FEW = "#count=1&steps=2"  # where it does not matter what is drawn
DRAWN = "1 garment, 2 evaluations"
CLANG = "14.0.6"  # the version that made the committed kernels
SHAPES = {
    "labelled": UNetConfig(widths=(16, 32), labels=10),
    "student": UNetConfig(widths=(8, 16), heads=2, labels=10),
    # no patches, three levels, two blocks each
    "other": UNetConfig(widths=(8, 16, 24), patch=1, blocks=2, heads=3, groups=4),
}
DIFFUSION = {"target": "v", "schedule": "cosine", "T": 1000}
TRAINED = {"labelled": DIFFUSION, "student": DIFFUSION, "other": DIFFUSION | {"target": "eps"}}


# --- the networks, and what Python draws with them


def random_network(config: UNetConfig) -> UNet:
    """A U-Net in which no layer is idle, as some of a new one are."""
    network, generator = UNet(config), torch.Generator().manual_seed(1)
    for name, weights in network.named_parameters():
        deviation = weights[0].numel() ** -0.5 if weights.ndim > 1 else 0.1
        noise = torch.randn(weights.shape, generator=generator)
        weights.data = deviation * noise + (1.0 if "norm" in name and "weight" in name else 0.0)
    return network


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """The page as `tools/live.py` builds it, with the shipped network and those of SHAPES."""
    made = tmp_path_factory.mktemp("weights")
    for name, config in SHAPES.items():
        tensors = checkpoint.prefixed("ema", random_network(config).state_dict())
        about = {"model": vars(config), "train": TRAINED[name]}
        about |= {"evaluations": [1, 2, 4]} if name == "student" else {}
        checkpoint.save(made / f"{name}.safetensors", tensors, about)
    out = tmp_path_factory.mktemp("live")
    live.build(out, ("fashion_mnist", *(str(made / f"{name}.safetensors") for name in SHAPES)))
    return out


def asked(**changes) -> dict:
    """A request, as page.js makes it."""
    usual = {"network": "fashion_mnist", "sampler": "dpm++", "steps": 5, "seed": 3, "count": 2}
    usual |= {"y": None, "w": 1, "t": 600}
    return usual | dict.fromkeys(("known", "mask", "sketch", "between")) | changes


PICTURE = torch.linspace(-1, 1, 784).tolist()
HALF = [1.0] * 392 + [0.0] * 392
CASES = {
    "DPM-Solver++": asked(),
    "DDIM": asked(sampler="ddim"),
    "DDPM": asked(sampler="ddpm", steps=8),
    "another shape": asked(network="other", sampler="ddim", steps=3),
    "a label": asked(network="labelled", y=3),
    "no label": asked(network="labelled", y=3, w=0),
    "guided": asked(network="labelled", y=3, w=1.5, count=3),
    "guided, any label": asked(network="labelled", w=1.5, count=3),
    "student": asked(network="student", sampler="multistep", steps=4, y=8),
    "student, once": asked(network="student", sampler="multistep", steps=1),
    "inpainting": asked(sampler="ddpm", known=PICTURE, mask=HALF),
    "inpainting, fast": asked(known=PICTURE, mask=HALF, count=1),
    "sketch": asked(sampler="ddpm", sketch=PICTURE, count=1),
    "between": asked(between=[0.3, 0.8], count=1),
}


def expected(folder: Path, request: dict) -> sample.Frame:
    """The last frame that Python draws."""
    tensors, about = checkpoint.load(folder / "weights" / f"{request['network']}.safetensors")
    network, tables = restore(tensors, about), schedule_of(about)
    generator, count = torch.Generator().manual_seed(request["seed"]), request["count"]
    denoise = partial(denoiser, network, tables, target=about["train"]["target"])
    if network.config.labels:
        y = torch.randint(10, (count,), generator=torch.Generator().manual_seed(request["seed"]))
        y = y if request["y"] is None else torch.full_like(y, request["y"])
        if "evaluations" in about:
            walk = partial(denoise(clip=True), y=y)
        else:
            walk = guided(denoise(clip=False), y, request["w"], clip=True)
    else:
        walk = denoise(clip=True)
    if request["mask"]:
        known, mask = (torch.tensor(request[key]).view(28, 28) for key in ("known", "mask"))
        walk = editing.replaced(walk, known, mask)
    *_, last = frames(request, walk, tables, generator)
    return last


def frames(request: dict, walk: Callable, tables, generator) -> Iterator[sample.Frame]:
    """Python's walk for a request."""
    shape, steps = (request["count"], 1, 28, 28), request["steps"]
    if request["sketch"]:
        x_0 = torch.tensor(request["sketch"]).view(1, 1, 28, 28).expand(shape)
        options = {"generator": generator, "steps": steps}
        return editing.redrawn(walk, tables, x_0, request["t"], **options)
    if request["between"]:
        a, b, c, d = torch.randn(4, 1, 28, 28, generator=generator)
        u, v = (torch.tensor([share]) for share in request["between"])
        x_T = inversion.slerp(inversion.slerp(a, b, u)[0], inversion.slerp(c, d, u)[0], v)
    else:
        x_T = sample.start(shape[0], shape[1:], generator=generator)
    if request["sampler"] == "ddpm":
        return sample.ddpm(walk, tables, x_T, generator=generator, steps=steps)
    if request["sampler"] == "multistep":
        return distillation.multistep(walk, tables, x_T, generator=generator, steps=steps)
    sampler = {"ddim": sample.ddim, "dpm++": solvers.dpm_solver}[request["sampler"]]
    return sampler(walk, tables, x_T, steps=steps)


# --- browsers


@pytest.fixture(scope="session")
def server(folder) -> Iterator[str]:
    """A plain web server, which sends no special headers."""
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/index.html{FEW}"
    try:
        for _ in range(10 * SECONDS):
            try:
                LOCAL.open(address, timeout=SECONDS).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()


def opened(browser: Browser, address: str, before: str = "", **context) -> tuple[Page, list[str]]:
    """The page, and what goes wrong on it."""
    context = {"viewport": {"width": 1100, "height": 900}} | context
    page, errors = browser.new_context(**context).new_page(), []
    page.set_default_timeout(1000 * SECONDS)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    if before:
        page.add_init_script(before)
    page.goto(address)
    return page, errors


@pytest.fixture(scope="module")
def page(browser, server) -> Iterator[Page]:
    page, errors = opened(browser, server)
    expect(page.locator("#status")).to_contain_text(DRAWN)
    yield page
    page.context.close()
    assert errors == []


# --- the numbers


LAST = """async request => {
    for (const name of ['known', 'mask', 'sketch'])
        if (request[name]) request[name] = Float32Array.from(request[name]);
    await client.open(request.network);
    let last = null;
    await client.draw(request, frame => { last = frame; });
    return {t: last.t, x: [...last.x], x_0_hat: [...last.x_0_hat]};
}"""


@pytest.mark.parametrize("name", CASES)
def test_the_page_draws_what_python_draws(page, folder, name):
    request = CASES[name]
    drawn, last = page.evaluate(LAST, request), expected(folder, request)
    assert drawn["t"] == last.t == 0
    for there, here in ((drawn["x"], last.x), (drawn["x_0_hat"], last.x_0_hat)):
        gap = (torch.tensor(there).view_as(here) - here).abs().max()
        assert gap < TOLERANCE, f"{name}: {gap:.2e}"


@pytest.mark.parametrize("n", [16, 784, 3 * 784, 21])
def test_the_generator_is_torchs(page, n):
    said = """([seed, n]) => {
        const generator = new Generator(seed);
        return [...generator.randn(n), ...generator.randn(16)];
    }"""
    for seed in (0, 4294967295):
        generator = torch.Generator().manual_seed(seed)
        here = [torch.randn(count, generator=generator) for count in (n, 16)]
        there = torch.tensor(page.evaluate(said, [seed, n]))
        assert torch.allclose(there, torch.cat(here), atol=1e-5)
    labels = page.evaluate("() => [...new Generator(5).randint(10, 40)]")
    assert labels == torch.randint(10, (40,), generator=torch.Generator().manual_seed(5)).tolist()


@pytest.mark.filterwarnings("ignore:alpha_bar_T")
def test_the_tables_are_pythons(page):
    for name in schedule.NAMED:
        there = page.evaluate(f"() => new NoiseSchedule(SCHEDULES['{name}'](1000)).alpha_bar")
        here = schedule.named(name, 1000).alpha_bar
        assert torch.allclose(torch.tensor(there, dtype=here.dtype), here, rtol=1e-9, atol=0)


def test_the_steps_are_placed_as_python_places_them(page):
    counts, tables = [*range(1, 130), 250, 500, 999, 1000], schedule.cosine(1000)
    there = page.evaluate("counts => counts.map(S => even_tau(1000, S))", counts)
    assert there == [schedule.even_tau(1000, S).tolist() for S in counts]
    said = "counts => { const s = new NoiseSchedule(SCHEDULES.cosine(1000));"
    there = page.evaluate(said + " return counts.map(S => karras_tau(s, S)); }", counts)
    assert there == [solvers.karras_tau(tables, S, **solvers.CHOSEN).tolist() for S in counts]


def test_one_call_is_that_of_torch(page, folder):
    """Of each network, with a label for each image where it takes them."""
    call = """async ([name, x, t, y]) => {
        const network = new UNet(from_base64($('wasm').text.trim()), ...await (async () => {
            const found = read_checkpoint(await load_weights(name));
            return [found.tensors, found.configuration.model];
        })());
        return [...network.run(Float32Array.from(x), t, y)];
    }"""
    x_t = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for name in ("fashion_mnist", *SHAPES):
        tensors, about = checkpoint.load(folder / "weights" / f"{name}.safetensors")
        network = restore(tensors, about)
        y = torch.tensor([-1, 0, 9]) if network.config.labels else None
        here = network(x_t, schedule.same_t(700, 3), y=y)
        flat = [name, x_t.flatten().tolist(), 700, None if y is None else y.tolist()]
        there = torch.tensor(page.evaluate(call, flat)).view_as(here)
        assert (there - here).abs().max() < 5e-5, name


# --- the page


def draws_from_a_file(page: Page) -> None:
    """With the keyboard: another seed, back on the way from noise, a sketch, a place, a hole."""
    status, moment = page.locator("#status"), page.locator("#moment-says")
    expect(status).to_contain_text(DRAWN)
    page.focus("#seed")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page.locator("#code")).to_contain_text("--seed 1 ")
    expect(page.locator("#code")).to_contain_text("--steps 2 ")
    page.focus("#moment")
    page.keyboard.press("Home")
    expect(moment).to_contain_text("after 0 of 2")
    page.check("[value=sketch]")
    expect(page.locator("#speed")).to_contain_text(DRAWN)
    page.focus("#desk")
    before = page.locator("#x_t").evaluate("canvas => canvas.toDataURL()")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    changed = "before => document.getElementById('x_t').toDataURL() !== before"
    page.wait_for_function(changed, arg=before)
    expect(page.locator("#where")).to_contain_text("column 14, row 15: 100 % white")
    page.check("[value=between]")
    page.focus("#u")
    before = page.locator("#x_t").evaluate("canvas => canvas.toDataURL()")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(changed, arg=before)
    page.check("[value=noise]")
    page.check("[value=hole]")
    page.focus("#desk")
    page.keyboard.press("Space")
    page.wait_for_function("() => desk.mask().includes(0)")


def test_from_a_file(browser, folder):
    page, errors = opened(browser, (folder / "index.html").as_uri() + FEW)
    draws_from_a_file(page)
    page.context.close()
    assert errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100])
def test_it_fits(browser, server, scheme, width):
    """On a phone and beside a book; screenshots are in build/browser."""
    size = {"width": width, "height": 800}
    page, errors = opened(browser, server, viewport=size, color_scheme=scheme)
    expect(page.locator("#status")).to_contain_text(DRAWN)
    SHOTS.mkdir(parents=True, exist_ok=True)
    for start in ("noise", "sketch"):
        page.check(f"[value={start}]")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.screenshot(path=SHOTS / f"live_{start}_{scheme}_{width}.png", full_page=True)
    page.context.close()
    assert errors == []


def test_every_control_has_a_name(page):
    nameless = page.evaluate("""() => {
        const named = it => it.labels?.length || it.textContent.trim() || it.ariaLabel;
        const controls = [...document.querySelectorAll('input, select, button, canvas')];
        return controls.filter(it => !named(it)).map(it => it.id);
    }""")
    assert nameless == []


@pytest.mark.parametrize("what", ["undefined", "{validate: () => false}"])
def test_without_webassembly_it_says_so(browser, server, what):
    hidden = f"Object.defineProperty(window, 'WebAssembly', {{value: {what}}})"
    page, errors = opened(browser, server, before=hidden)
    expect(page.locator("#trouble")).to_contain_text("no WebAssembly with SIMD")
    page.context.close()
    assert errors == []


def test_what_cannot_be_loaded_is_said(browser, server):
    page, _ = opened(browser, server)
    expect(page.locator("#status")).to_contain_text(DRAWN)
    page.route("**/*.safetensors", lambda route: route.fulfill(body="<html>not found</html>"))
    page.select_option("#network", "other")
    expect(page.locator("#trouble")).to_contain_text("no safetensors file")
    page.context.close()


# --- the files


def test_a_visitor_loads_little(folder):
    for weights in (folder / "weights").iterdir():
        assert weights.stat().st_size + (folder / "index.html").stat().st_size < 8e6


def test_the_kernels_ask_for_nothing():
    """No import section (2), so no libc and nothing of the page's."""
    wasm, sections, at = (live.SOURCES / "unet.wasm").read_bytes(), [], 8
    while at < len(wasm):
        sections.append(wasm[at])
        at, shift, size = at + 1, 0, 0
        while True:
            byte, at = wasm[at], at + 1
            size, shift = size | (byte & 127) << shift, shift + 7
            if byte < 128:
                break
        at += size
    assert 2 not in sections


def test_the_kernels_are_those_of_the_source(tmp_path):
    clang = shutil.which("clang")
    if not clang or not shutil.which("wasm-ld"):
        pytest.skip("no compiler: `apt-get install clang lld`")
    version = subprocess.run([clang, "--version"], capture_output=True, text=True).stdout
    if f"version {CLANG}" not in version:
        pytest.skip(f"the committed kernels are of clang {CLANG}, not of {version.splitlines()[0]}")
    made = tmp_path / "unet.wasm"
    subprocess.run(["sh", live.SOURCES / "build.sh", made], check=True)
    assert made.read_bytes() == (live.SOURCES / "unet.wasm").read_bytes()


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_words_stand_out_from_their_ground(scheme):
    """By the contrast that WCAG 2.2 asks for at level AA: 4.5 for text, 3 for lines of controls."""
    style = (live.SOURCES / "style.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{([^}]*)\}", style)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", blocks[scheme]))
    grounds = ("ground", "panel")
    pairs = [(word, ground) for word in ("text", "soft", "trouble") for ground in grounds]
    for word, ground in [*pairs, ("on-accent", "accent")]:
        assert contrast(colours[word], colours[ground]) >= 4.5, (word, ground)
    for line, ground in ((a, b) for a in ("line", "accent") for b in grounds):
        assert contrast(colours[line], colours[ground]) >= 3, (line, ground)


def contrast(a: str, b: str) -> float:
    """(L1 + 0.05) / (L2 + 0.05) of two colours' luminances, the lighter one first."""

    def luminance(colour: str) -> Tensor:
        channels = torch.tensor([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = torch.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return linear @ torch.tensor([0.2126, 0.7152, 0.0722])

    light, dark = sorted((float(luminance(colour)) for colour in (a, b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
