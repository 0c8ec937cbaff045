"""The Bradley-Terry model: strengths from paired comparisons.

Item i beats item j with probability ``a_i / (a_i + a_j)``, where ``a_i > 0`` is its
strength. The estimates are log-strengths ``s_i = ln a_i``. Only their differences
matter, so they are given with sum zero; a difference is in natural-log odds.

Data are a table of wins (`fit`), a list of comparisons (`fit_comparisons`), or two
tables that say who was at home (`fit_home_advantage`).
"""

from kl2dpo.bradley_terry import fitting, model
from kl2dpo.bradley_terry.fitting import *  # noqa: F403
from kl2dpo.bradley_terry.model import *  # noqa: F403

__all__ = [*model.__all__, *fitting.__all__]
