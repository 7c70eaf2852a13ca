"""How everything in `assets/` was made: `python -m tutorial_lib.recipes NAME`.

`make retrain` runs those whose results ship, in the order in which one needs the other: `labelled`
goes on from `unet`, `distilled` learns from `labelled`, `ways` compares it with `weak`.  What was
interrupted goes on in build/; what was finished there is not trained again.  Most need the full
Fashion-MNIST as IDX files (see `data.IDX_FOLDERS`); `memory` and `networks` learn from the
embedded images, and `walks`, which takes a minute, needs no data.
"""
