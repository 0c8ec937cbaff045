"""The formulas of the course *From KL to DPO*, one function a formula.

Modules
-------
kl
    Entropy, cross-entropy, Kullback-Leibler divergence and its estimators.
bradley_terry
    Strengths from paired comparisons, with standard errors.
datasets
    The tables of the course, and a simulated arena of models.
rlhf
    The regularised objective and its exact solution.
dpo
    The losses of DPO and its relatives, with their gradients.
policy
    A tabular and an autoregressive policy, and their training on pairs.
figures
    The look of the course's figures, and a slider for static pages. It needs
    matplotlib, so it is imported only by name: ``import kl2dpo.figures``.
"""

from kl2dpo import bradley_terry, datasets, dpo, kl, policy, rlhf

__all__ = ["bradley_terry", "datasets", "dpo", "kl", "policy", "rlhf"]
