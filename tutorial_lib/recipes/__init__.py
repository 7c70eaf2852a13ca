"""How everything in `assets/` was made: `python -m tutorial_lib.recipes NAME`.

`make retrain` runs them in the order in which one needs the other: `labelled` goes on from `unet`,
`distilled` learns from `labelled`, `ways` compares it with `weak`.  Most need the full
Fashion-MNIST as IDX files (see `data.IDX_FOLDERS`); `memory` and `networks` learn from the
embedded images, and `walks`, which takes a minute, needs no data.
"""
