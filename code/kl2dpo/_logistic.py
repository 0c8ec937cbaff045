"""The logistic function and the softmax, safe for large arguments."""

import numpy as np


def sigmoid(t):
    """1 / (1 + exp(-t)); exp may overflow to inf, which gives the right 0."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-t))


def minus_log_sigmoid(t):
    """-ln sigmoid(t), without forming the sigmoid."""
    return np.logaddexp(0, -t)


@np.errstate(over="ignore")
def logsumexp(logits):
    """ln sum(exp(logits)) over the last axis; the shift by the largest keeps exp from overflowing."""
    largest = logits.max(axis=-1, keepdims=True)
    return largest + np.log(np.exp(logits - largest).sum(axis=-1, keepdims=True))


@np.errstate(over="ignore")
def log_softmax(logits):
    """ln softmax over the last axis, shifted first: far from 0, logits have few digits to spare."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - logsumexp(shifted)
