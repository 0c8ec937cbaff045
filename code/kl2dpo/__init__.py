"""The formulas of the course *From KL to DPO*, one function a formula.

All functions can be imported from here: ``from kl2dpo import kl_divergence, fit, dpo_loss``.

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
chain
    A policy that writes word by word, with an exact optimum for rewards of words.
pairs
    What preference pairs say before training.
diagnosis
    What the log of a run says: symptoms, and identities that no log escapes.
figures
    The look of the course's figures, and figures that a reader moves. It needs
    matplotlib and SymPy, so it is imported only by name: ``import kl2dpo.figures``.
"""

from kl2dpo import bradley_terry, chain, datasets, diagnosis, dpo, kl, pairs, policy, rlhf
from kl2dpo.bradley_terry import *  # noqa: F403
from kl2dpo.chain import *  # noqa: F403
from kl2dpo.datasets import *  # noqa: F403
from kl2dpo.diagnosis import *  # noqa: F403
from kl2dpo.dpo import *  # noqa: F403
from kl2dpo.kl import *  # noqa: F403
from kl2dpo.pairs import *  # noqa: F403
from kl2dpo.policy import *  # noqa: F403
from kl2dpo.rlhf import *  # noqa: F403

_MODULES = (kl, bradley_terry, datasets, rlhf, dpo, policy, chain, pairs, diagnosis)
__all__ = [name for module in _MODULES for name in module.__all__]
__all__ += ["bradley_terry", "chain", "datasets", "diagnosis", "dpo", "kl", "pairs"]
__all__ += ["policy", "rlhf"]
