"""Two small policies with exact probabilities, and their training on preference pairs.

A policy answers a prompt, a number from 0, with a response. `TabularPolicy` has one logit
for each response. `BigramPolicy` writes a response token by token, as a language model
does. Both have the same methods, and gradients written by hand; `train` needs nothing else.
"""

import sys
import time
from typing import NamedTuple

import numpy as np

from kl2dpo import dpo
from kl2dpo._checks import as_count, as_finite, as_positive_number, refuse
from kl2dpo._logistic import log_softmax
from kl2dpo.kl import kl_from_logits

__all__ = ["BigramPolicy", "PreferencePairs", "TabularPolicy", "Training", "TrainingError", "train"]


class PreferencePairs(NamedTuple):
    """Preference data: for each pair a prompt, the chosen and the rejected response.

    `prompts` has shape (m,), and `chosen` and `rejected` have the shape that the policy gives
    to m responses. `counts`, shape (m,), says how often each pair occurs; None for once.
    """

    prompts: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray
    counts: np.ndarray | None = None


class TabularPolicy:
    r"""A softmax over the responses to each prompt, with nothing shared.

    .. math:: \pi(y \mid x) = \frac{e^{\theta_{xy}}}{\sum_{y'} e^{\theta_{xy'}}}

    Parameters
    ----------
    logits : array_like, shape (n_prompts, n_responses)
        Finite logits; the log-probabilities themselves will do.

    Attributes
    ----------
    parameters : ndarray, shape (n_prompts, n_responses)
        The logits.

    Examples
    --------
    >>> policy = TabularPolicy(np.log([[0.5, 0.3, 0.2]]))
    >>> policy.probabilities().round(6)
    array([[0.5, 0.3, 0.2]])
    >>> policy.log_prob([0, 0], [0, 2]).round(6)
    array([-0.693147, -1.609438])
    """

    def __init__(self, logits):
        self.parameters = _as_logits("logits", logits, 2)

    def copy(self):
        """A policy of its own with the same parameters."""
        return TabularPolicy(self.parameters.copy())

    def probabilities(self):
        """Probability of each response, shape (n_prompts, n_responses)."""
        return np.exp(log_softmax(self.parameters))

    def log_prob(self, prompts, responses):
        """Log-probability of each response (an index) to its prompt, shape (m,)."""
        prompts, responses = self._as_rows(prompts, responses)
        return log_softmax(self.parameters)[prompts, responses]

    def sample(self, prompts, rng):
        """A response to each prompt, drawn with the generator `rng`, shape (m,)."""
        prompts = _as_indices("prompts", prompts, len(self.parameters))
        return _draw(self.probabilities()[prompts], rng)

    def gradient(self, prompts, responses, weights):
        r"""The sum of weights[k] times the gradient of ln pi(responses[k] | prompts[k]).

        .. math:: \frac{\partial \ln \pi(y \mid x)}{\partial \theta_{xy'}} = [y = y'] - \pi(y' \mid x)
        """
        prompts, responses = self._as_rows(prompts, responses)
        total = np.zeros_like(self.parameters)
        np.add.at(total, (prompts, responses), weights)
        return total - total.sum(axis=1, keepdims=True) * self.probabilities()

    def lengths(self, responses):
        """Number of tokens of each response: one."""
        return np.ones(np.shape(responses))

    def kl_from(self, reference):
        """KL(policy || reference) for each prompt, exact, in nats, shape (n_prompts,)."""
        return kl_from_logits(self.parameters, reference.parameters)

    def _as_rows(self, prompts, responses):
        n_prompts, n_responses = self.parameters.shape
        prompts = _as_indices("prompts", prompts, n_prompts)
        responses = _as_indices("responses", responses, n_responses)
        _check_rows(prompts, responses)
        return prompts, responses


class BigramPolicy:
    r"""An autoregressive policy: the next token depends on the prompt and the last token.

    .. math:: \ln \pi(y \mid x) = \sum_t \ln \pi(y_t \mid x, y_{t-1})

    Token 0 ends a response, and stands for the last token before the first one. A response is a
    row of `max_length` tokens; after the first 0 only zeros follow. One that reaches
    `max_length` without a 0 ends there.

    Parameters
    ----------
    logits : array_like, shape (n_prompts, n_tokens, n_tokens)
        ``logits[x, last, next]``, finite.
    max_length : int
        Largest number of tokens (>= 1).

    Attributes
    ----------
    parameters : ndarray, shape (n_prompts, n_tokens, n_tokens)
        The logits.
    max_length : int

    Examples
    --------
    Three tokens, all equally probable; the response 1, 2, end:

    >>> policy = BigramPolicy(np.zeros((1, 3, 3)), max_length=4)
    >>> (27 * np.exp(policy.log_prob([0], [[1, 2, 0, 0]]))).round(6)
    array([1.])
    >>> len(policy.all_responses())
    31
    """

    def __init__(self, logits, max_length):
        self.parameters = _as_logits("logits", logits, 3)
        if self.parameters.shape[1] != self.parameters.shape[2]:
            raise ValueError(
                f"logits has shape {self.parameters.shape}, expected (n_prompts, n_tokens, n_tokens)"
            )
        self.max_length = as_count("max_length", max_length, at_least=1)

    def copy(self):
        """A policy of its own with the same parameters."""
        return BigramPolicy(self.parameters.copy(), self.max_length)

    def log_prob(self, prompts, responses):
        """Log-probability of each response, the sum over its tokens, shape (m,)."""
        prompts, last, responses, written = self._as_rows(prompts, responses)
        steps = log_softmax(self.parameters)[prompts[:, None], last, responses]
        return np.sum(steps * written, axis=1)

    def sample(self, prompts, rng):
        """A response to each prompt, drawn with the generator `rng`, shape (m, max_length)."""
        prompts = _as_indices("prompts", prompts, len(self.parameters))
        probabilities = np.exp(log_softmax(self.parameters))
        responses = np.zeros((len(prompts), self.max_length), dtype=np.int64)
        last = np.zeros(len(prompts), dtype=np.int64)
        for t in range(self.max_length):
            drawn = _draw(probabilities[prompts, last], rng)
            last = drawn if t == 0 else np.where(last == 0, 0, drawn)
            responses[:, t] = last
        return responses

    def gradient(self, prompts, responses, weights):
        r"""The sum of weights[k] times the gradient of ln pi(responses[k] | prompts[k]).

        Each written token adds ``[next = y'] - pi(y' | x, last)`` in the row of its last token.
        """
        prompts, last, responses, written = self._as_rows(prompts, responses)
        total = np.zeros_like(self.parameters)
        each = np.asarray(weights)[..., None] * written
        np.add.at(total, (np.broadcast_to(prompts[:, None], last.shape), last, responses), each)
        row = total.sum(axis=2, keepdims=True)
        return total - row * np.exp(log_softmax(self.parameters))

    def lengths(self, responses):
        """Number of written tokens of each response, the end included, shape (m,)."""
        return _written(np.asarray(responses)).sum(axis=-1)

    def all_responses(self):
        """Every possible response, shape (n, max_length); n grows fast with the length."""
        n_tokens = self.parameters.shape[1]
        grid = np.indices((n_tokens,) * self.max_length).reshape(self.max_length, -1).T
        return grid[np.all((grid == 0) | _written(grid), axis=1)]

    def kl_from(self, reference):
        r"""KL(policy || reference) for each prompt, exact, in nats, shape (n_prompts,).

        By the chain rule: the divergence of each next token, weighted by the probability that
        the policy comes to write it.
        """
        steps = kl_from_logits(self.parameters, reference.parameters)
        move = np.exp(log_softmax(self.parameters))
        at = np.zeros(self.parameters.shape[:2])
        at[:, 0] = 1.0
        total = np.zeros(len(at))
        for _ in range(self.max_length):
            total += np.sum(at * steps, axis=1)
            at = np.einsum("xl,xln->xn", at, move)
            at[:, 0] = 0.0  # ended
        return total

    def _as_rows(self, prompts, responses):
        n_prompts, n_tokens, _ = self.parameters.shape
        prompts = _as_indices("prompts", prompts, n_prompts)
        responses = _as_indices("responses", responses, n_tokens, width=self.max_length)
        _check_rows(prompts, responses)
        written = _written(responses)
        refuse((responses != 0) & ~written, "responses", responses, "0 after the end")
        last = np.pad(responses[:, :-1], ((0, 0), (1, 0)))
        return prompts, last, responses, written


class TrainingError(ValueError):
    """Training has diverged: the loss or a parameter is no longer finite."""


class Training(NamedTuple):
    """The trained policy, and a history: a dictionary of arrays with one entry a record."""

    policy: object
    history: dict


_LOSSES = {
    "dpo": (dpo.dpo_loss, dpo.dpo_gradient),
    "robust": (dpo.robust_dpo_loss, dpo.robust_dpo_gradient),
    "ipo": (dpo.ipo_loss, dpo.ipo_gradient),
    "hinge": (dpo.hinge_loss, dpo.hinge_gradient),
    "kto": (dpo.kto_loss, dpo.kto_gradient),
    "simpo": (dpo.simpo_loss, dpo.simpo_gradient),
    "orpo": (dpo.orpo_loss, dpo.orpo_gradient),
}
_WITH_LENGTHS = ("simpo", "orpo")


def train(
    policy,
    pairs,
    loss="dpo",
    *,
    reference=None,
    optimizer="adam",
    learning_rate=0.1,
    steps=1_000,
    batch_size=None,
    seed=0,
    log_every=10,
    **options,
):
    r"""Train a policy on preference pairs by gradient descent on the mean loss.

    Parameters
    ----------
    policy : TabularPolicy or BigramPolicy
        Where training starts. It is left as it is.
    pairs : PreferencePairs
        The data.
    loss : str or tuple of two functions, default ``"dpo"``
        One of ``"dpo"``, ``"robust"``, ``"ipo"``, ``"hinge"``, ``"kto"``, ``"simpo"`` and
        ``"orpo"``; or a loss and its gradient, with the arguments of `kl2dpo.dpo.dpo_loss`
        and `kl2dpo.dpo.dpo_gradient`.
    reference : policy, optional
        The reference policy; by default the policy at the start.
    optimizer : ``{"adam", "gd"}``
        Adam (with its usual constants), or plain gradient descent.
    learning_rate : float, default 0.1
        Size of a step (> 0).
    steps : int, default 1000
        Number of steps.
    batch_size : int, optional
        Pairs of a step, drawn with replacement in proportion to their counts; by default
        all pairs are used in every step, with their counts as weights.
    seed : int, default 0
        For the batches.
    log_every : int, default 10
        The history has a record of every `log_every`-th step, of the start and of the end.
    **options
        Passed to the loss, for example ``beta=0.1``.

    Returns
    -------
    Training
        Named tuple ``(policy, history)``. The history has arrays under the names that the
        library TRL logs: ``loss``, ``rewards/chosen``, ``rewards/rejected``, ``rewards/margins``,
        ``rewards/accuracies``, ``logps/chosen``, ``logps/rejected``; further ``step`` and
        ``kl``, the exact divergence from the reference, averaged over the prompts. All are means
        over *all* pairs, before the step. Rewards are beta times the log-ratio; where the loss
        has no option `beta`, beta is 1.

    Raises
    ------
    TrainingError
        If the loss or a parameter is no longer finite: the step and the last loss are named.
    ValueError
        If an argument is out of range, or a pair does not fit the policy.

    References
    ----------
    Kingma and Ba (2015), *Adam: A Method for Stochastic Optimization*.

    Examples
    --------
    The thread of the course, in 19ths:

    >>> pairs = PreferencePairs(np.zeros(4, int), np.array([0, 1, 0, 2]), np.array([1, 0, 2, 0]),
    ...                         np.array([8, 4, 3, 5]))
    >>> start = TabularPolicy(np.zeros((1, 3)))
    >>> trained, history = train(start, pairs, beta=1.0, optimizer="gd", learning_rate=2.0)
    >>> (19 * trained.probabilities()).round(6)
    array([[ 6.,  3., 10.]])
    >>> history["loss"][[0, -1]].round(6)
    array([0.693147, 0.646534])
    """
    loss_of, gradient_of, with_lengths = _as_loss(loss)
    if optimizer not in ("adam", "gd"):
        raise ValueError(f"optimizer is {optimizer!r}, expected 'adam' or 'gd'")
    learning_rate = as_positive_number("learning_rate", learning_rate)
    steps, log_every = (
        as_count("steps", steps, at_least=1),
        as_count("log_every", log_every, at_least=1),
    )
    if batch_size is not None:
        batch_size = as_count("batch_size", batch_size, at_least=1)
    rng = np.random.default_rng(as_count("seed", seed, at_least=0))
    reference = (policy if reference is None else reference).copy()
    policy = policy.copy()
    data = _Data(pairs, policy, reference, with_lengths)
    beta = options.get("beta", 1.0)

    history: dict[str, list[float]] = {}
    last_loss = np.nan
    mean = square = np.float64(0)
    progress = _Progress(steps)
    for step in range(steps + 1):
        if not np.all(np.isfinite(policy.parameters)):
            raise TrainingError(_diverged(step, last_loss))
        logps = data.log_probs(policy)
        if step % log_every == 0 or step == steps:
            loss_now = data.share @ loss_of(*logps, *data.others, **options)
            if not np.isfinite(loss_now):
                raise TrainingError(_diverged(step, last_loss))
            last_loss = loss_now
            record = data.record(step, last_loss, logps, beta, policy, reference)
            for name, value in record.items():
                history.setdefault(name, []).append(value)
            progress.show(step, last_loss)
        if step == steps:
            break
        weights = data.share
        if batch_size is not None:
            weights = rng.multinomial(batch_size, data.share) / batch_size
        slopes = gradient_of(*logps, *data.others, **options)
        gradient = policy.gradient(data.prompts, data.chosen, weights * slopes.chosen)
        gradient += policy.gradient(data.prompts, data.rejected, weights * slopes.rejected)
        if optimizer == "adam":
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            unbiased = mean / (1 - 0.9 ** (step + 1)), square / (1 - 0.999 ** (step + 1))
            gradient = unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
        policy.parameters = policy.parameters - learning_rate * gradient
    progress.end()
    return Training(policy, {name: np.array(values) for name, values in history.items()})


class _Data:
    """The pairs, checked once, with what the loss needs besides the policy."""

    def __init__(self, pairs, policy, reference, with_lengths):
        *indices, counts = pairs
        self.prompts, self.chosen, self.rejected = (np.asarray(part) for part in indices)
        ref_chosen = reference.log_prob(self.prompts, self.chosen)
        ref_rejected = reference.log_prob(self.prompts, self.rejected)
        self.reference = ref_chosen, ref_rejected
        self.others = self.reference
        if with_lengths:
            self.others = policy.lengths(self.chosen), policy.lengths(self.rejected)
        counts = np.ones(len(self.prompts)) if counts is None else as_finite("counts", counts)
        if counts.shape != self.prompts.shape:
            raise ValueError(
                f"counts has shape {counts.shape}, expected that of prompts, {self.prompts.shape}"
            )
        refuse(counts < 0, "counts", counts, "a number >= 0")
        if not counts.any():
            raise ValueError("counts are all zero, expected at least one pair")
        self.share = counts / counts.sum()

    def log_probs(self, policy):
        return policy.log_prob(self.prompts, self.chosen), policy.log_prob(
            self.prompts, self.rejected
        )

    def record(self, step, loss, logps, beta, policy, reference):
        chosen, rejected = logps
        rewards = dpo.implicit_rewards(chosen, rejected, *self.reference, beta=beta)
        return {
            "step": step,
            "loss": loss,
            "rewards/chosen": self.share @ rewards.chosen,
            "rewards/rejected": self.share @ rewards.rejected,
            "rewards/margins": self.share @ (rewards.chosen - rewards.rejected),
            "rewards/accuracies": self.share @ (rewards.chosen > rewards.rejected),
            "logps/chosen": self.share @ chosen,
            "logps/rejected": self.share @ rejected,
            "kl": policy.kl_from(reference).mean(),
        }


class _Progress:
    """A line on the terminal for a run of more than two seconds, if a person is watching."""

    def __init__(self, steps):
        self.steps, self.start, self.shown = steps, time.monotonic(), False

    def show(self, step, loss):
        if sys.stderr.isatty() and time.monotonic() - self.start > 2:
            print(f"\rstep {step} of {self.steps}, loss {loss:.6f}", end="", file=sys.stderr)
            self.shown = True

    def end(self):
        if self.shown:
            print(file=sys.stderr)


def _diverged(step, last_loss):
    return (
        f"training has diverged at step {step}: the last recorded loss was {last_loss:.6g}; "
        "try a smaller learning_rate"
    )


def _as_loss(loss):
    if isinstance(loss, str):
        if loss not in _LOSSES:
            raise ValueError(f"loss is {loss!r}, expected one of {', '.join(sorted(_LOSSES))}")
        return *_LOSSES[loss], loss in _WITH_LENGTHS
    try:
        loss_of, gradient_of = loss
    except (TypeError, ValueError):
        raise ValueError(f"loss is {loss!r}, expected a name, or a loss and its gradient") from None
    return loss_of, gradient_of, False


def _as_logits(name, value, ndim):
    logits = as_finite(name, value)
    if logits.ndim != ndim:
        raise ValueError(f"{name} has shape {logits.shape}, expected {ndim} dimensions")
    return logits


def _as_indices(name, value, below, width=None):
    """Return `value` as indices from 0 to below - 1: a row, or rows of the given width."""
    indices = np.asarray(value)
    if indices.dtype.kind not in "iu":
        raise ValueError(f"{name} has dtype {indices.dtype}, expected integers")
    expected = "(m,)" if width is None else f"(m, {width})"
    if indices.ndim != (1 if width is None else 2) or width not in (None, indices.shape[-1]):
        raise ValueError(f"{name} has shape {indices.shape}, expected {expected}")
    refuse((indices < 0) | (indices >= below), name, indices, f"an integer from 0 to {below - 1}")
    return indices


def _check_rows(prompts, responses):
    if len(prompts) != len(responses):
        raise ValueError(
            f"responses has {len(responses)} rows, expected one for each of {len(prompts)} prompts"
        )


def _written(responses):
    """Where a token has been written: up to the first 0, and that 0 itself."""
    before = np.cumsum(responses == 0, axis=-1) - (responses == 0)
    return before == 0


def _draw(probabilities, rng):
    """One outcome for each row of probabilities."""
    total = np.cumsum(probabilities, axis=-1)
    u = rng.random(len(probabilities)) * total[:, -1]
    return np.sum(total[:, :-1] <= u[:, None], axis=-1)
