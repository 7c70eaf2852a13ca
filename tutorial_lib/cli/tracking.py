"""TensorBoard, Weights & Biases and others, through accelerate, which knows them all."""

from pathlib import Path
from typing import Any

FOLDER = "tracking"  # in the run's own, for those that write files


def checked(names: str | None) -> list[str]:
    """The trackers that a list with commas names.

    Raises ValueError for one that accelerate does not know, or that is not installed here.
    """
    if names is None:
        return []
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    asked = [name.strip() for name in names.split(",")]
    here = [str(name) for name in get_available_trackers()]
    for name in asked:
        if name not in LOGGER_TYPE_TO_CLASS:
            known = ", ".join(LOGGER_TYPE_TO_CLASS)
            raise ValueError(f"unknown tracker {name!r}; choose some of {known}")
        if name not in here:
            package = name.replace("_", "-")
            raise ValueError(
                f"{name} is not installed here; run `pip install {package}`, or leave it out "
                f"(here: {', '.join(here) or 'none'})"
            )
    return asked


def start(names: list[str], out: Path, settings: dict[str, Any]) -> list:
    """Begin a run in each tracker, with its settings; what `log` and `finish` are called on.

    Raises ValueError, naming the tracker, when one cannot begin.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    trackers = []
    for name in names:
        make = LOGGER_TYPE_TO_CLASS[name]
        folder = [str(out / FOLDER)] if make.requires_logging_directory else []
        try:
            tracker = make(out.resolve().name, *folder)
            if hasattr(tracker, "start"):  # since accelerate 1.8; before, making was beginning
                tracker.start()
            tracker.store_init_configuration(settings)
        except Exception as error:  # each tracker has its own
            raise ValueError(f"the tracker {name} could not begin: {error}") from error
        trackers.append(tracker)
    return trackers
