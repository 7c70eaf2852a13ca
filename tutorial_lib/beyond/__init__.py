"""Beyond DDPM: what Part II builds on the core, which knows nothing of it.

solvers, inversion, distillation                  few evaluations, or one     07
likelihood, variance, variational, fine, exact,
  compression                                     bits                        08
score, langevin, paths, flow, edm                 the same in other words     09
guidance, milder, editing                         asking for something        10
"""
