"""The embedded subset of Fashion-MNIST."""

import json
from pathlib import Path
from typing import Any

import torch

from tutorial_lib.data import CLASSES
from tutorial_lib.files import ASSETS
from tutorial_lib.recipes.sources import full, sha256


def data(folder: Path = ASSETS) -> None:
    """Write the embedded subset: the first 1,000 training and 200 test images of each class.

    They stay in their order.  Parquet that `datasets` reads: image (784 bytes, row by row) and
    label (a ClassLabel).
    """
    import datasets
    import pyarrow.parquet as pq

    about: dict[str, Any] = {
        "what": "A subset of Fashion-MNIST, balanced by class: "
        "10,000 training and 2,000 test images",
        "source": "https://github.com/zalandoresearch/fashion-mnist",
        "licence": "MIT licence, copyright 2017 Zalando SE",
        "citation": "Xiao, Rasul & Vollgraf 2017, arXiv 1708.07747",
        "sha256": {},
    }
    for split, each in (("train", 1000), ("test", 200)):
        images = full(split)
        of_each_class = [(images.labels == c).nonzero()[:each, 0] for c in range(10)]
        rows = torch.cat(of_each_class).sort().values
        columns = {
            "image": [images.pixels[i].numpy().tobytes() for i in rows],
            "label": images.labels[rows].tolist(),
        }
        features = datasets.Features(
            image=datasets.Value("binary"), label=datasets.ClassLabel(names=list(CLASSES))
        )
        path = folder / f"fashion_mnist_{split}.parquet"
        pq.write_table(
            datasets.Dataset.from_dict(columns, features=features).data.table,
            path,
            compression="zstd",
        )
        about["sha256"][path.name] = sha256(path)
    (folder / "fashion_mnist_data.json").write_text(json.dumps(about, indent=2) + "\n")
