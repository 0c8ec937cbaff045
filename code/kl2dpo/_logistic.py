"""The logistic function and the softmax, safe for large arguments."""

import numpy as np


def sigmoid(t):
    """1 / (1 + exp(-t)); exp may overflow to inf, which gives the right 0."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-t))


def minus_log_sigmoid(t):
    """-ln sigmoid(t), without forming the sigmoid."""
    return np.logaddexp(0, -t)


def log_softmax(logits):
    """ln softmax over the last axis; the shift by the largest logit keeps exp from overflowing."""
    with np.errstate(over="ignore"):
        shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
