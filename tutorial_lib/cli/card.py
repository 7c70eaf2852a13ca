"""The model card: what one should know about weights, as Markdown that Hugging Face's hub reads."""

import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

from tutorial_lib import hub
from tutorial_lib.config import EARLIER, DiffusionConfig
from tutorial_lib.nets.unet import UNetConfig

SIZES = ("widths", "blocks", "patch")  # of a network, that the command line lets one choose
SHOWN = ("report_every", "save_every")  # change nothing in the weights
BY = {  # objective: what the weights were trained by
    "simple": "Algorithm 1 of Ho, Jain & Abbeel 2020 "
    "([arXiv 2006.11239](https://arxiv.org/abs/2006.11239))",
    "flow": "flow matching, as in Lipman et al. 2023 "
    "([arXiv 2210.02747](https://arxiv.org/abs/2210.02747)),",
    "distilled": "distillation, to be drawn from in a few steps,",
    "hybrid": "the hybrid objective of Nichol & Dhariwal 2021 "
    "([arXiv 2102.09672](https://arxiv.org/abs/2102.09672))",
}
FASHION_MNIST = "zalando-datasets/fashion_mnist"
OURS = ("auto", "embedded", "hub")  # sources that are Fashion-MNIST wherever they are found


def card(configuration: dict[str, Any], *, figures: dict[str, Any] | None = None) -> str:
    """The model card of a U-Net, as Markdown behind a head of YAML.

    configuration: of its weights, as `checkpoint.load` returns it; what it lacks is left out.
    figures: what else is known of the weights, a name and a value each, such as the final loss.
    Folders are called by their last name alone: a card is for publishing.
    """
    sections = [
        _head(configuration),
        _title(configuration),
        _list("Data", _data(configuration)),
        _list("Network", configuration.get("model", {})),
        _list("Training", _training(configuration)),
        _again(configuration),
        _list("Figures", _metrics(configuration) | (figures or {})),
        _list("Made with", configuration.get("record", {})),
        _use(),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def is_fashion_mnist(configuration: dict[str, Any]) -> bool:
    """Whether weights have learnt from Fashion-MNIST, by what their record says."""
    known = configuration.get("images", {}).get("source") in OURS
    line = configuration.get("data", "").lower().replace("_", "-")
    return known or "fashion-mnist" in line


def _head(configuration: dict[str, Any]) -> str:
    ours = is_fashion_mnist(configuration)
    lines = [
        "---",
        f"license: {'mit' if ours else 'unknown'}",
        "library_name: tutorial_lib",
        "pipeline_tag: unconditional-image-generation",
        *(["datasets:", f"- {FASHION_MNIST}"] if ours else []),
        "tags:",
        "- diffusion",
        "- ddpm",
        "- unconditional-image-generation",
        "---",
    ]
    return "\n".join(lines)


def _title(configuration: dict[str, Any]) -> str:
    model = configuration.get("model", {})
    size, kind = model.get("image_size", "?"), "grey" if model.get("channels") == 1 else "colour"
    objective = "distilled" if "evaluations" in configuration else configuration.get("objective")
    by = BY.get(objective or "simple", "an objective of its own")
    what = "pictures of clothes" if is_fashion_mnist(configuration) else "pictures"
    return (
        f"# A diffusion model of {kind} {what}, {size} x {size} pixels\n\n"
        f"A U-Net that draws images out of noise, trained by {by} with the Python package "
        "`tutorial_lib`."
    )


def _list(title: str, values: dict[str, Any]) -> str:
    """A section with a line for each value; empty where there is none."""
    if not values:
        return ""
    lines = [f"- {name}: {_said(value)}" for name, value in values.items()]
    return "\n".join([f"## {title}", "", *lines])


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def _data(configuration: dict[str, Any]) -> dict[str, Any]:
    images, line = configuration.get("images", {}), configuration.get("data", "")
    place, colon, what = line.partition(": ")
    said = {"images": f"{Path(place).name}{colon}{what}"} if line else {}
    if "sha256" in images:
        said["SHA-256 of the pixels"] = f"`{images['sha256']}`"
    began = configuration.get("from", {}).get("weights")
    return said | ({"began from the weights": _last_name(began)} if began else {})


def _last_name(weights: str) -> str:
    """What weights are called without the folders of this machine; of the hub by all of it."""
    return weights if weights.startswith(hub.PREFIX) else Path(weights).name


def _training(configuration: dict[str, Any]) -> dict[str, Any]:
    """The settings that matter to the weights, with the step that was reached."""
    settings = {k: v for k, v in configuration.get("train", {}).items() if k not in SHOWN}
    reached = {"step": configuration["step"]} if "step" in configuration else {}
    return reached | settings


def _again(configuration: dict[str, Any]) -> str:
    """The command that trains such a network: whatever differs from the defaults."""
    settings, images = configuration.get("train"), configuration.get("images")
    if not settings or not images:
        return ""
    settings, source = EARLIER | settings, images["source"]
    words = ["--data", source if source in OURS else Path(source).name]
    words += ["--size", images["size"]] if images["size"] else []
    words += _network_words(configuration)
    objective = configuration.get("objective", "simple")
    words += ["--objective", objective] if objective != "simple" else []
    for field in fields(DiffusionConfig):
        value = settings.get(field.name, field.default)
        name = "--" + field.name.replace("_", "-")
        if value == field.default or field.name in SHOWN:
            continue
        words += [name] if field.type is bool else [name, value]
    command = shlex.join(["python", "-m", "tutorial_lib", "train", "--out", "my_run"])
    return f"The same again:\n\n```sh\n{command} {shlex.join(map(str, words))}\n```"


def _network_words(configuration: dict[str, Any]) -> list[Any]:
    """Options that say which network: the weights that it began from, or its own sizes."""
    if "from" in configuration:
        return ["--from", _last_name(configuration["from"]["weights"])]
    usual, words = UNetConfig(), []
    for name in SIZES:
        value = configuration["model"].get(name, getattr(usual, name))
        if name == "widths" and tuple(value) != usual.widths:
            words += ["--widths", ",".join(map(str, value))]
        elif name != "widths" and value != getattr(usual, name):
            words += [f"--{name}", value]
    return words


def _metrics(configuration: dict[str, Any]) -> dict[str, str]:
    """What shipped weights were measured to be."""
    found = configuration.get("metrics", {})
    if "feature_distance" not in found:
        return {}
    said = {}
    for judge, one in (("first", found), ("second", found.get("second"))):
        if one:
            low, high = one["interval"]
            said[f"Frechet distance of the samples, to the {judge} of our two judges (not FID)"] = (
                f"{one['feature_distance']:.2f} (95 %: {low:.2f} to {high:.2f}), "
                f"{found['count']:,} samples; {one['floor']:.2f} for as many real images"
            )
    bound = found.get("bits_per_dimension")
    return said | ({"bits per dimension, at most": f"{bound['bpd']:.2f}"} if bound else {})


def _use() -> str:
    return """## Sample from it

With the file `checkpoint.safetensors` in the folder `my_run`:

```sh
python -m tutorial_lib sample --weights my_run --out samples.png
```"""
