"""What `train --objective` trains, what distilled weights draw, and what `evaluate` measures."""

import json
import math
import shlex
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_cli_train import SMALL, changed, cli, pictures, record, refused
from torch.testing import assert_close

from tutorial_lib import checkpoint, data, evaluate, sample
from tutorial_lib.beyond import flow
from tutorial_lib.beyond.distillation import EVALUATIONS, multistep
from tutorial_lib.beyond.likelihood import bits_per_dimension
from tutorial_lib.beyond.solvers import dpm_solver
from tutorial_lib.beyond.variance import bits_of_steps, halves, learned_ddpm, sure, widened
from tutorial_lib.beyond.variational import signal_and_noise
from tutorial_lib.cli import _parser, likelihood, main, objectives, sampling, trained
from tutorial_lib.cli.card import card
from tutorial_lib.config import DiffusionConfig, schedule_of
from tutorial_lib.denoise import denoiser
from tutorial_lib.nets.unet import UNet, UNetConfig, restore
from tutorial_lib.schedule import cosine

FEW = f"{SMALL} --T 50 --precision no --warmup 0"


def random_network(**shape) -> UNet:
    """One that was never trained; no part of it is silent, as new ones are."""
    torch.manual_seed(3)
    network = UNet(UNetConfig(**{"image_size": 8, "widths": (8,)} | shape))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return network


def stored(path: Path, network: UNet, **more) -> Path:
    about = {"model": asdict(network.config), "train": asdict(DiffusionConfig())}
    checkpoint.save(path, checkpoint.prefixed("ema", network.state_dict()), about | more)
    return path


@pytest.fixture(scope="module")
def grey(tmp_path_factory) -> Path:
    """Pictures with both splits, so that few are enough to be judged by."""
    folder = tmp_path_factory.mktemp("images")
    for seed, split in enumerate(data.SPLITS):
        pictures(folder / split, seed=seed)
    return folder


def drawn(weights: Path, out: Path, options: str) -> np.ndarray:
    assert cli(f"sample {options}", weights=weights, out=out / "drawn.npy") == 0
    return np.load(out / "drawn.npy")


def noise(count: int, generator: torch.Generator) -> torch.Tensor:
    return sample.start(count, (1, 8, 8), generator=generator)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(frames) -> np.ndarray:
    return data.to_pixels(sample.final(frames))[:, 0].numpy()


# --- distilled weights


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("student") / "student.safetensors"
    return stored(path, random_network(), evaluations=list(EVALUATIONS))


@pytest.fixture(scope="module")
def asked_student(tmp_path_factory) -> Path:
    """Of garments, by a record that does not name them, as those of recipes do not."""
    path = tmp_path_factory.mktemp("student") / "asked.safetensors"
    network, line = random_network(labels=10), "fashion-mnist: 60,000 train images (IDX)"
    return stored(path, network, evaluations=list(EVALUATIONS), data=line)


@pytest.mark.parametrize("steps", EVALUATIONS)
def test_a_student_draws_in_the_steps_it_has_learnt(student, tmp_path, monkeypatch, steps):
    monkeypatch.setattr(sampling, "CHUNK", 3)
    found = drawn(student, tmp_path, f"--count 5 --steps {steps}")
    generator, network = seeded(), restore(*checkpoint.load(student))
    answer = denoiser(network, cosine(1000), target="v", clip=True)
    walk = partial(multistep, answer, cosine(1000), generator=generator, steps=steps)
    expected = [pixels(walk(x_T)) for x_T in noise(5, generator).split(3)]
    np.testing.assert_array_equal(found, np.concatenate(expected))
    if steps == max(EVALUATIONS):
        np.testing.assert_array_equal(drawn(student, tmp_path, "--count 5"), found)


def test_a_student_is_asked_for_a_label_and_never_guided(asked_student, tmp_path, monkeypatch):
    """By the name of a garment, by its number, or at random."""
    monkeypatch.setattr(sampling, "guided_within", lambda *_, **__: pytest.fail("guided"))
    network = restore(*checkpoint.load(asked_student))

    def expected(y: torch.Tensor) -> np.ndarray:
        generator = seeded()
        x_T = noise(6, generator)
        answer = partial(denoiser(network, cosine(1000), target="v", clip=True), y=y)
        return pixels(multistep(answer, cosine(1000), x_T, generator=generator, steps=2))

    bags = expected(torch.full((6,), data.CLASSES.index("bag")))
    at_random = torch.randint(10, (6,), generator=seeded())
    for options, images in {
        "--label Bag": bags,
        "--label 8": bags,
        "": expected(at_random),
    }.items():
        found = drawn(asked_student, tmp_path, f"--count 6 --steps 2 {options}")
        np.testing.assert_array_equal(found, images)
    assert (bags != expected(at_random)).any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--steps 3", ["1, 2, 4 steps", "got 3", "--steps"]),
        ("--steps 0", ["1, 2, 4 steps", "got 0"]),
        ("--sampler heun", ["distilled", "1, 2, 4", "--sampler heun", "leave it out"]),
        ("--sampler dpm++", ["distilled", "--sampler dpm++"]),
        ("--eta 0.5", ["distilled", "--eta 0.5", "leave it out"]),
        ("--guidance 2", ["distilled", "--guidance 2", "leave it out"]),
        ("--guidance-interval 1 9", ["distilled", "--guidance-interval 1 9", "leave it out"]),
        ("--label 10", ["unknown label '10'", "0..9", "bag"]),
    ],
)
def test_what_a_student_refuses(asked_student, tmp_path, capsys, options, said):
    out = tmp_path / "a.png"
    message = refused(capsys, f"sample {options}", weights=asked_student, out=out)
    assert all(words in message for words in said), message
    assert not out.exists()


def test_an_exported_student_is_still_one(student, tmp_path):
    assert main(["export", str(student), "--out", str(tmp_path / "shared")]) == 0
    found = drawn(tmp_path / "shared", tmp_path, "--count 2 --steps 1")
    np.testing.assert_array_equal(found, drawn(student, tmp_path, "--count 2 --steps 1"))
    assert "trained by distillation" in (tmp_path / "shared" / "README.md").read_text()


@pytest.mark.parametrize("metric", ["bpd", "nll"])
def test_a_student_has_no_price(student, grey, capsys, metric):
    message = refused(capsys, f"evaluate --metrics {metric}", weights=student, data=grey)
    assert f"{metric}: these weights are distilled" in message and "teacher" in message


# --- objectives


def test_the_cost_of_a_flow_is_that_of_its_velocity(generator):
    """Of any network that predicts v: with x on the line, x_t = x / length, and u from both."""
    T, network = 100, random_network()
    config = DiffusionConfig(T=T)
    images = data.Images(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(2).long(), "two")
    _, loss, schedule = objectives.flow(images, config)
    x_0, eps = torch.randn(2, 6, 1, 8, 8, generator=generator)
    t = torch.tensor([1, 20, 40, 60, 99, 100])

    def velocity(x, time):
        length = ((1 - time) ** 2 + time**2).sqrt().view(-1, 1, 1, 1)
        a, b = ((1 - time).view(-1, 1, 1, 1) / length, time.view(-1, 1, 1, 1) / length)
        v = network(x / length, (T * time).round().long())
        return (b - a) * x / length + (a + b) * v

    y, u = torch.zeros(6).long(), torch.rand(6, generator=generator)
    expected = flow.flow_loss(velocity, x_0, t / T, eps)
    assert_close(loss(network, x_0, t, eps, y, u), expected, rtol=1e-4, atol=1e-5)
    # ... and what is drawn from is the flow of notebook 09 along that velocity
    ours = denoiser(network, schedule, target="v", clip=False)(eps, t)
    assert_close(ours, flow.as_denoiser(velocity, T, clip=False)(eps, t), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def runs(grey, tmp_path_factory) -> Path:
    """A short run of each objective, with pictures on the way."""
    folder = tmp_path_factory.mktemp("runs")
    for name in objectives.OBJECTIVES:
        command = f"train {FEW} --steps 4 --preview-every 2 --objective {name}"
        assert cli(command, data=grey, out=folder / name) == 0
    return folder


@pytest.mark.parametrize("name", objectives.OBJECTIVES)
def test_a_run_remembers_its_objective_and_goes_on(runs, grey, tmp_path, capsys, name):
    """In two parts it leaves what it leaves in one; another objective is refused."""
    assert record(runs / name)["objective"] == name
    assert len(list((runs / name).glob("preview_*.png"))) == 2
    a, b = tmp_path / "a", tmp_path / "b"
    command = f"train {FEW} --lr 0.001 --lr-end 0.001 --objective {name}"
    assert cli(f"{command} --steps 2", data=grey, out=a) == 0
    assert cli(f"{command} --steps 4", data=grey, out=b) == 0
    other = "hybrid" if name == "flow" else "flow"
    message = refused(capsys, f"train --resume --objective {other}", out=a)
    assert f"objective = {name}, not {other}; leave --objective out" in message
    assert cli("train --resume --steps 4 --probe", out=a) == 0
    assert cli(f"train --resume --steps 4 --objective {name}", out=a) == 0
    assert (a / checkpoint.FILE).read_bytes() == (b / checkpoint.FILE).read_bytes()


@pytest.mark.parametrize("name", objectives.OBJECTIVES)
def test_every_objective_is_sampled_priced_shown_and_exported(runs, grey, tmp_path, capsys, name):
    run, out = runs / name, tmp_path / "exported"
    assert main(["export", str(run), "--half", "--out", str(out)]) == 0
    for weights in (run, out):
        assert drawn(weights, tmp_path, "--count 3 --steps 4").shape == (3, 8, 8)
    capsys.readouterr()
    assert main(["info", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sample"] == {"possible": True}
    command = "evaluate --metrics copies,bpd,nll --count 4 --steps 2 --nll-count 3 --json"
    assert cli(command, weights=run, data=grey) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bpd"]["count"] == 4 and found["nll"]["count"] == 3
    for metric in ("bpd", "nll"):
        assert 2 < found[metric]["bpd"] < 50 and found[metric]["error"] > 0
    in_bits = found["nll"]["nats"] / (64 * math.log(2))
    assert found["nll"]["bpd"] == pytest.approx(in_bits)
    assert found["nll"]["walk"] + found["nll"]["decoder"] == pytest.approx(in_bits)
    page = card(record(run))
    words = shlex.split(next(line for line in page.splitlines() if "tutorial_lib train" in line))
    assert (_parser().parse_args(words[3:]).objective or "simple") == name


def test_a_flow_is_drawn_on_its_own_schedule(runs, tmp_path):
    tensors, configuration = checkpoint.load(runs / "flow")
    schedule = schedule_of(configuration)
    assert_close(schedule.alpha_bar, flow.as_schedule(50).alpha_bar)
    denoise = denoiser(restore(tensors, configuration), schedule, target="v", clip=True)
    expected = pixels(dpm_solver(denoise, schedule, noise(3, seeded()), steps=5))
    found = drawn(runs / "flow", tmp_path, "--count 3 --steps 5")
    np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> Path:
    """Weights with a learned variance that differs from pixel to pixel."""
    network = widened(random_network())
    torch.nn.init.normal_(network.out.weight, std=0.1)
    path = tmp_path_factory.mktemp("wide") / "wide.safetensors"
    return stored(path, network, objective="hybrid")


def test_a_learned_variance_is_used_by_ddpm_and_left_out_by_others(wide, grey, tmp_path, capsys):
    model, schedule = trained.read(*checkpoint.load(wide)).model, cosine(1000)
    estimate = sure(model, schedule, target="v", clip=True)
    x_T, generator = noise(3, seeded()), seeded()
    noise(3, generator)
    expected = pixels(learned_ddpm(estimate, schedule, x_T, generator=generator, steps=6))
    found = drawn(wide, tmp_path, "--count 3 --sampler ddpm --steps 6")
    np.testing.assert_array_equal(found, expected)
    denoise = denoiser(lambda x_t, t: halves(model(x_t, t))[0], schedule, target="v", clip=True)
    expected = pixels(dpm_solver(denoise, schedule, x_T, steps=6))
    np.testing.assert_array_equal(drawn(wide, tmp_path, "--count 3 --steps 6"), expected)
    capsys.readouterr()
    assert cli("evaluate --metrics bpd --count 4 --json", weights=wide, data=grey) == 0
    bound = json.loads(capsys.readouterr().out)["bpd"]
    test = data.load(str(grey), "test", size=8).pixels[:4]
    bits = bits_of_steps(estimate, schedule, test, generator=seeded(), steps=1000)
    assert bound["bpd"] == pytest.approx(bits["bpd"])
    fixed = bits_per_dimension(denoise, schedule, test, generator=seeded())
    assert abs(fixed["bpd"] - bound["bpd"]) > 1e-3
    # as the recipe `variance` stores them
    tensors, configuration = checkpoint.load(wide)
    del configuration["objective"]
    shipped = {name.replace("ema.", "wide."): tensor for name, tensor in tensors.items()}
    checkpoint.save(tmp_path / "shipped.safetensors", shipped, configuration)
    again = drawn(tmp_path / "shipped.safetensors", tmp_path, "--count 3 --sampler ddpm --steps 6")
    np.testing.assert_array_equal(again, found)


def test_a_learned_variance_begins_with_weights_that_have_none(runs, grey, tmp_path):
    """At a rate that moves nothing the predictions are theirs, and the share is in the middle."""
    still = "--lr 1e-30 --lr-muon 1e-30 --warmup 0 --precision no --batch 2 --steps 1"
    where = {"data": grey, "out": tmp_path / "run", "from": runs / "simple"}
    assert cli(f"train {still} --objective hybrid", **where) == 0
    before = restore(*checkpoint.load(runs / "simple"))
    after = trained.read(*checkpoint.load(tmp_path / "run"))
    x, t = noise(2, seeded()), torch.tensor([3, 40])
    prediction, share = halves(after.model(x, t))
    assert_close(prediction, before(x, t))
    assert_close(share, torch.full_like(share, 0.5))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            "--objective score",
            ["unknown objective 'score'", "simple, flow, hybrid", "recipes NAME: distilled"],
        ),
        ("--objective flow --target eps", ["no choice of target", "eps", "leave --target out"]),
        ("--objective flow --schedule linear", ["no choice of schedule", "leave --schedule out"]),
        ("--objective flow --loss l1", ["no choice of loss", "l1", "leave --loss out"]),
        ("--objective hybrid --labels", ["no choice of labels", "leave --labels out"]),
        ("--objective hybrid --self-conditioning", ["leave --self-conditioning out"]),
        ("--objective flow --from {runs}/simple", ["a network of its own", "leave one of them"]),
        ("--from {runs}/flow", ["--objective flow", "--resume"]),
        ("--from {runs}/hybrid", ["--objective hybrid", "--resume"]),
    ],
)
def test_what_objectives_refuse(runs, grey, tmp_path, capsys, options, said):
    options = options.format(runs=shlex.quote(str(runs)))
    message = refused(capsys, f"train --steps 1 {options}", data=grey, out=tmp_path / "run")
    assert all(words in message for words in said), message
    assert not (tmp_path / "run" / checkpoint.FILE).exists()


def test_an_objective_of_another_program_is_named(runs, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / checkpoint.FILE).write_bytes((runs / "simple" / checkpoint.FILE).read_bytes())
    changed(run, {"objective": "rectified"})
    message = refused(capsys, "sample --out a.png", weights=run)
    assert "the objective 'rectified'" in message and "simple, flow, hybrid" in message
    changed(run, {"objective": "hybrid"})  # which these tensors do not fit
    assert "do not fit" in refused(capsys, "sample --out a.png", weights=run)


def test_an_earlier_run_without_an_objective_is_one_of_algorithm_1(runs, grey, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / checkpoint.FILE).write_bytes((runs / "simple" / checkpoint.FILE).read_bytes())
    changed(run, {"objective": None})
    assert "objective = simple, not flow" in refused(
        capsys, "train --resume --objective flow", out=run
    )
    assert cli("train --resume --steps 5", out=run) == 0
    assert record(run)["objective"] == "simple"


# --- what is measured


@pytest.fixture(scope="module")
def garments(tmp_path_factory) -> Path:
    """A network with labels that draws noise of the size of garments."""
    path = tmp_path_factory.mktemp("garments") / "weights.safetensors"
    return stored(path, random_network(image_size=28, labels=10), images={"source": "embedded"})


def test_precision_recall_and_accuracy(garments, tmp_path, capsys):
    options = "--count 12 --steps 2 --guidance 2"
    capsys.readouterr()
    assert cli(f"evaluate {options} --metrics pr,accuracy --json", weights=garments) == 0
    found = json.loads(capsys.readouterr().out)
    samples = torch.from_numpy(drawn(garments, tmp_path, options))[:, None]
    y = torch.randint(10, (12,), generator=seeded())
    assert found["accuracy"] == evaluate.obedience(samples, y)
    judge, known = evaluate.load_classifier(), data.load("embedded").pixels[:12]
    sets = [evaluate.predictions(judge, one)[0] for one in (samples, known)]
    expected = evaluate.precision_recall(*sets)
    assert (found["pr"]["precision"], found["pr"]["recall"]) == expected
    capsys.readouterr()
    assert cli(f"evaluate {options} --metrics pr,accuracy", weights=garments) == 0
    said = capsys.readouterr().out
    assert f"precision {expected[0]:.3f}, recall {expected[1]:.3f}" in said
    assert "look like their label" in said and "distance" not in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--metrics fd,is", ["unknown metric 'is'", "fd, pr, accuracy, copies, bpd, nll"]),
        ("--metrics accuracy --weights fashion_mnist", ["accuracy", "no labels", "leave accuracy"]),
        ("--metrics accuracy --weights {small}", ["accuracy", "(1, 28, 28)", "leave accuracy"]),
        ("--metrics pr --weights {small}", ["pr", "(1, 28, 28)", "leave pr out"]),
        ("--metrics pr --count 3", ["pr needs a count above 3, got 3"]),
        ("--metrics nll --nll-count 1", ["nll_count must be at least 2", "got 1"]),
        ("--metrics nll --weights {mu}", ["nll", "predict mu", "leave nll out"]),
    ],
)
def test_what_cannot_be_measured(garments, student, tmp_path, capsys, options, said):
    options += "" if "--weights" in options else f" --weights {shlex.quote(str(garments))}"
    network = random_network()
    mu = stored(tmp_path / "mu.safetensors", network, train=asdict(DiffusionConfig(target="mu")))
    options = options.format(small=shlex.quote(str(student)), mu=shlex.quote(str(mu)))
    message = refused(capsys, f"evaluate --steps 1 {options}")
    assert all(words in message for words in said), message


def test_what_exact_likelihood_costs_is_what_the_data_cost(monkeypatch):
    """Pixels of a bell, and the best denoiser for it: the price is the one of the bell itself."""
    V, generator = 0.04, seeded(1)
    x = (0.2 * torch.randn(300, 1, 6, 6, generator=generator)).clamp(-1, 1)
    images = data.to_pixels(x)

    def best(z, gamma):
        a, b = signal_and_noise(gamma, like=z)
        return a * V / (a**2 * V + b**2) * z

    monkeypatch.setattr(likelihood, "continuous", lambda *_, **__: best)
    monkeypatch.setattr(likelihood, "prediction", lambda model: model)
    weights = SimpleNamespace(model=None, schedule=cosine(1000), target="v")
    found = likelihood.exact(weights, images[:100], images[100:], seed=0, device="cpu", quiet=True)
    x_0 = data.to_model(images[:100]).double()
    density = torch.distributions.Normal(0.0, V**0.5).log_prob(x_0) + math.log(2 / 255)
    assert found["bpd"] == pytest.approx(-float(density.mean()) / math.log(2), abs=0.05)
    assert found["count"] == 100 and 0 < found["error"] < 0.1


def test_how_long_exact_likelihood_takes_is_said_beforehand(runs, grey, capsys, monkeypatch):
    monkeypatch.delenv("TUTORIAL_LIB_QUIET", raising=False)
    monkeypatch.setenv("CI", "1")  # no bar
    capsys.readouterr()
    command = "evaluate --metrics nll --nll-count 3"
    assert cli(command, weights=runs / "simple", data=grey) == 0
    out = capsys.readouterr().out
    assert out.startswith("nll: about ") and "measured on 8 steps" in out
    assert "exact likelihood of 3 test images" in out and "nats an image" in out
    assert "samples" not in out
    assert cli(f"{command} --json", weights=runs / "simple", data=grey) == 0
    assert json.loads(capsys.readouterr().out)["nll"]["count"] == 3


def test_help_says_what_guidance_means(capsys):
    with pytest.raises(SystemExit):
        main(["sample", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    for word in ("0 not at all (unconditional)", "1 as in the data (conditional", "(guided"):
        assert word in out
