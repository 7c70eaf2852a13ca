"""Weights on Hugging Face's hub: fetched and pushed as safetensors, which holds no code."""

from pathlib import Path

PREFIX = "hub:"  # hub:USER/NAME, or hub:USER/NAME@REVISION, in place of a path
WEIGHTS = ("*.safetensors", "*.json")  # all that is ever fetched
CARD = "README.md"


def resolve(name: Path | str) -> Path:
    """The place on this machine that a name means: `hub:USER/NAME` is fetched, all else is a path.

    Raises FileNotFoundError or ValueError as `fetch` does.
    """
    if not str(name).startswith(PREFIX):
        return Path(name)
    repo_id, _, revision = str(name).removeprefix(PREFIX).partition("@")
    return fetch(repo_id, revision or None)


def fetch(repo_id: str, revision: str | None = None) -> Path:
    """Fetch a repository's weights, or find them in the cache; the folder that holds them.

    repo_id: USER/NAME.  revision: a branch, a tag or a commit (default: the newest).
    Raises FileNotFoundError where there is none, or no way to it; ValueError for an illegal name.
    """
    import huggingface_hub
    from huggingface_hub.utils import HFValidationError

    try:
        folder = huggingface_hub.snapshot_download(
            repo_id, revision=revision, allow_patterns=list(WEIGHTS)
        )
    except HFValidationError:  # a ValueError with words of its own
        raise
    except Exception as error:  # of the hub, of the disk, and of an HTTP client
        at = f" at {revision}" if revision else ""
        raise FileNotFoundError(
            f"could not fetch {PREFIX}{repo_id}{at} ({type(error).__name__}); check its name, the "
            "network, and `hf auth login` if it is private"
        ) from error
    return Path(folder)


def push(folder: Path | str, repo_id: str) -> str:
    """Upload a folder of exported weights with its card; the name by which they can be fetched.

    repo_id: USER/NAME.  A new repository is private, until its owner decides otherwise.
    Raises FileNotFoundError for a folder without weights, ValueError for an illegal name, OSError
    when the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import HFValidationError

    if not any(Path(folder).glob(WEIGHTS[0])):
        raise FileNotFoundError(f"no weights in {folder}; push a folder that `export` wrote")
    api = HfApi()
    try:
        api.create_repo(repo_id, private=True, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=str(folder), allow_patterns=[*WEIGHTS, CARD])
    except HFValidationError:  # a ValueError with words of its own
        raise
    except Exception as error:  # of the hub, of the disk, and of an HTTP client
        raise OSError(
            f"could not push to {PREFIX}{repo_id} ({type(error).__name__}); check its name, the "
            "network, and `hf auth login`"
        ) from error
    return f"{PREFIX}{repo_id}"
