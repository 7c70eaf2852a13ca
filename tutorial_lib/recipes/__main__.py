"""`python -m tutorial_lib.recipes NAME`."""

import sys

from tutorial_lib.recipes import (
    bits,
    distilled,
    embedded,
    garments,
    judge,
    labels,
    memory,
    ncsn,
    networks,
    plane,
    sigma,
    targets,
    ways,
)

RECIPES = (
    embedded.data,
    judge.classifier,
    judge.reference,
    judge.second_classifier,
    judge.second_reference,
    judge.yardsticks,
    garments.unet,
    garments.judged,
    garments.nearest,
    garments.replay,
    plane.walks,
    memory.memory,
    networks.networks,
    distilled.distilled,
    distilled.distilled_briefly,
    bits.shipped_bits,
    bits.bits_tried,
    bits.fine_bits,
    sigma.variance,
    targets.flow,
    ncsn.ncsn,
    labels.labelled,
    labels.labelled_judged,
    labels.weak,
    labels.noisy_classifier,
    ways.ways,
)

if __name__ == "__main__":
    by_name = {recipe.__name__: recipe for recipe in RECIPES}
    if len(sys.argv) != 2 or sys.argv[1] not in by_name:
        sys.exit(f"name one recipe: {', '.join(by_name)}")
    by_name[sys.argv[1]]()
