"""The logistic function, safe for large arguments."""

import numpy as np


def sigmoid(t):
    """1 / (1 + exp(-t)); exp may overflow to inf, which gives the right 0."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-t))


def minus_log_sigmoid(t):
    """-ln sigmoid(t), without forming the sigmoid."""
    return np.logaddexp(0, -t)
