"""Diffusion models from first principles: the tested code behind the notebooks.

In reading order; nothing imports what stands below it.

    markov, gaussian, toys          chains, Gaussians, data known exactly            01 to 03
    schedule, diffusion             the forward process, targets, the bound          02, 03
    files, readers, folders,
      pictures, arrays, data        what goes in: pictures, as numbers in [-1, 1]    05
    hub, checkpoint                 what stays: weights and their configuration      05
    nets/                           blocks, the U-Net, published networks            04
    denoise                         any network, as (x_t, t) -> x_0_hat              06
    config, engine/, record, train  one training loop for every model                05
    sample, evaluate                walking back from noise, and judging samples     06
    beyond/                         fast samplers, likelihood, score, guidance       07 to 10
    course/                         pictures, explorers, exercises of the notebooks
    recipes, cli                    how the shipped weights were made; the command line
"""

__version__ = "0.1.0"
