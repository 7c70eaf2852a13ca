"""How everything in `assets/` was made: `python -m tutorial_lib.recipes data|classifier|...`.

`make retrain` runs `classifier`, which ends with `reference`, `unet`, which ends with `nearest`,
and `replay`.  These need the full Fashion-MNIST as IDX files (see `data.IDX_FOLDERS`); `memory` and
`networks` learn from the embedded images, and `walks`, which takes a minute, needs no data.  What
notebook 10 uses is made by `labelled`, `weak` and `noisy_classifier`, and then `ways`.
"""
