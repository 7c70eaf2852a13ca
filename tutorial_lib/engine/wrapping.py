"""What PyTorch and accelerate put around a network, and how it comes off again."""

from torch import nn

PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
SET_BY_ACCELERATE = ("forward", "_original_forward", "_is_accelerate_prepared")


def unwrapped(network: nn.Module) -> list[nn.Module]:
    """The network as it is given, what is inside it, and so on; the last is the network itself.

    `torch.compile` wraps networks, and so does `nn.DataParallel`.
    """
    inside = [network]
    while True:
        if isinstance(inside[-1], PARALLEL):
            inside.append(inside[-1].module)
        elif hasattr(inside[-1], "_orig_mod"):  # compiled
            inside.append(inside[-1].get_submodule("_orig_mod"))
        else:
            return inside


def attributes(network: nn.Module) -> list[tuple[nn.Module, dict]]:
    """What a network has, before accelerate prepares it, of all that accelerate sets."""
    return [
        (module, {name: vars(module)[name] for name in SET_BY_ACCELERATE if name in vars(module)})
        for module in unwrapped(network)
    ]


def put_back(before: list[tuple[nn.Module, dict]]) -> None:
    """Make it so again, as `attributes` has found it."""
    for module, had in before:
        for name in SET_BY_ACCELERATE:
            vars(module).pop(name, None)
        vars(module).update(had)
