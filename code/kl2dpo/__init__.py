"""The formulas of the course *From KL to DPO*, one function a formula.

Modules
-------
kl
    Entropy, cross-entropy, Kullback-Leibler divergence and its estimators.
figures
    The look of the course's figures, and a slider for static pages. It needs
    matplotlib, so it is imported only by name: ``import kl2dpo.figures``.
"""

from kl2dpo import bradley_terry, datasets, kl

__all__ = ["bradley_terry", "datasets", "kl"]
