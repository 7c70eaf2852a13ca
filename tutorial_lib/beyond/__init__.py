"""Beyond DDPM: fast solvers and the likelihood, built on the core, which knows nothing of them."""
