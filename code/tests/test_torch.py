"""Our losses and gradients against PyTorch's own functions, where PyTorch is installed."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kl2dpo import dpo

torch = pytest.importorskip("torch", reason="PyTorch is not installed: an optional check")
F = torch.nn.functional

ARRAYS = [-np.random.default_rng(k).exponential(8, 200) - 0.01 for k in range(4)]
LENGTHS = [np.random.default_rng(k).integers(1, 20, 200) for k in (4, 5)]
BETA, EPS, TAU, GAMMA, LAMBDA, KL = 0.4, 0.1, 0.3, 1.2, 0.5, 0.6


def margin(pc, pr, rc, rr):
    return (pc - rc) - (pr - rr)


def log_odds(mean):
    return mean - torch.log1p(-torch.exp(mean))


def dpo_in_torch(*x):
    return -F.logsigmoid(BETA * margin(*x))


def conservative_in_torch(*x):
    z = BETA * margin(*x)
    return -(1 - EPS) * F.logsigmoid(z) - EPS * F.logsigmoid(-z)


def robust_in_torch(*x):
    z = BETA * margin(*x)
    return (-(1 - EPS) * F.logsigmoid(z) + EPS * F.logsigmoid(-z)) / (1 - 2 * EPS)


def kto_in_torch(pc, pr, rc, rr):
    chosen, rejected = pc - rc, pr - rr
    return 2 - torch.sigmoid(BETA * (chosen - KL)) - torch.sigmoid(BETA * (KL - rejected))


def sigmoid_norm_in_torch(pc, pr, rc, rr, n_c, n_r):
    return -F.logsigmoid(BETA * ((pc - rc) / n_c - (pr - rr) / n_r))


def simpo_in_torch(pc, pr, n_c, n_r):
    return -F.logsigmoid(BETA * pc / n_c - BETA * pr / n_r - GAMMA)


def orpo_in_torch(pc, pr, n_c, n_r):
    return -pc / n_c - LAMBDA * F.logsigmoid(log_odds(pc / n_c) - log_odds(pr / n_r))


CASES = {
    "dpo": (dpo.dpo_loss, {"beta": BETA}, dpo_in_torch),
    "cdpo": (
        dpo.dpo_loss,
        {"beta": BETA, "label_smoothing": EPS},
        conservative_in_torch,
    ),
    "robust": (
        dpo.robust_dpo_loss,
        {"beta": BETA, "label_smoothing": EPS},
        robust_in_torch,
    ),
    "ipo": (
        dpo.ipo_loss,
        {"tau": TAU},
        lambda *x: (margin(*x) - 1 / (2 * TAU)) ** 2,
    ),
    "hinge": (
        dpo.hinge_loss,
        {"beta": BETA},
        lambda *x: F.relu(1 - BETA * margin(*x)),
    ),
    "kto": (dpo.kto_loss, {"beta": BETA, "kl": KL}, kto_in_torch),
    "sigmoid_norm": (dpo.sigmoid_norm_loss, {"beta": BETA}, sigmoid_norm_in_torch),
    "simpo": (dpo.simpo_loss, {"beta": BETA, "gamma": GAMMA}, simpo_in_torch),
    "orpo": (dpo.orpo_loss, {"lambda_": LAMBDA}, orpo_in_torch),
}


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_agree_with_torch(name):
    loss, options, in_torch = CASES[name]
    rest = {"simpo": LENGTHS, "orpo": LENGTHS, "sigmoid_norm": [*ARRAYS[2:], *LENGTHS]}
    rest = rest.get(name, ARRAYS[2:])
    ours = loss(*ARRAYS[:2], *rest, **options)
    slopes = dpo.gradient(loss, *ARRAYS[:2], *rest, **options)
    policy = [torch.tensor(array, requires_grad=True) for array in ARRAYS[:2]]
    theirs = in_torch(*policy, *(torch.tensor(array) for array in rest))
    theirs.sum().backward()
    assert_allclose(ours, theirs.detach().numpy(), rtol=1e-10, atol=1e-12)
    assert_allclose(slopes.chosen, policy[0].grad.numpy(), rtol=1e-9, atol=1e-12)
    assert_allclose(slopes.rejected, policy[1].grad.numpy(), rtol=1e-9, atol=1e-12)
