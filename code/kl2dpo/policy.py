"""Two small policies with exact probabilities, and their training on preference pairs.

A policy answers a prompt, a number from 0, with a response. `TabularPolicy` has one logit
for each response. `BigramPolicy` writes a response token by token, as a language model
does. Both have the same methods, and gradients written by hand.
"""

import contextlib
import copy
import inspect
import itertools
import reprlib
from typing import Any, NamedTuple

import numpy as np

from kl2dpo import dpo
from kl2dpo._checks import as_array, as_count, as_indices, as_logits, as_number, refuse
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


class _Tokens(NamedTuple):
    """The written tokens of responses, one after the other."""

    cells: np.ndarray  # the flat index of each token's logit
    lengths: np.ndarray  # of the responses

    @property
    def starts(self):
        """Where each response begins."""
        return np.cumsum(self.lengths) - self.lengths

    def take(self, rows):
        """The tokens of some of the responses."""
        taken = self._replace(lengths=self.lengths[rows])
        shift = np.repeat(self.starts[rows] - taken.starts, taken.lengths)
        return taken._replace(cells=self.cells[np.arange(len(shift)) + shift])

    def total(self, table):
        """The sum of a table over the tokens of each response; of ln pi, that is ln pi(response)."""
        return np.add.reduceat(table.take(self.cells), self.starts)

    def gradient(self, log_policy, weights):
        """The sum of weights[k] times the gradient of ln pi(response k) by the logits."""
        weights = np.repeat(weights, self.lengths)
        written = np.bincount(self.cells, weights, log_policy.size).reshape(log_policy.shape)
        return written - written.sum(axis=-1, keepdims=True) * np.exp(log_policy)


class _SoftmaxPolicy:
    """What the two policies share: logits with a softmax over the last axis."""

    parameters: np.ndarray
    _answers: Any  # the tokens of responses, as if all were to prompt 0

    def copy(self):
        """A policy of its own with the same parameters."""
        return copy.deepcopy(self)

    def probabilities(self):
        """The softmax of the logits: of each response, or of each next token after the last one."""
        return np.exp(log_softmax(self.parameters))

    def log_prob(self, prompts, responses):
        """Log-probability of each response to its prompt, the sum over its tokens, shape (m,)."""
        return self._tokens(prompts, responses).total(log_softmax(self.parameters))

    def gradient(self, prompts, responses, weights):
        r"""The sum of weights[k] times the gradient of ln pi(responses[k] | prompts[k]).

        .. math:: \frac{\partial \ln \pi(y \mid x)}{\partial \theta_{xy'}} = [y = y'] - \pi(y' \mid x)

        In a `BigramPolicy` every written token y adds this in the row of its last token.
        """
        tokens = self._tokens(prompts, responses)
        weights = as_array("weights", weights, shape=tokens.lengths.shape)
        return tokens.gradient(log_softmax(self.parameters), weights)

    def lengths(self, responses):
        """Number of written tokens of each response, an end token included, shape (m,)."""
        return self._answers("responses", responses, "m").lengths

    def kl_from(self, reference):
        """KL(policy || reference) for each prompt, exact, in nats, shape (n_prompts,)."""
        self._check_like(reference)
        return kl_from_logits(self.parameters, reference.parameters)

    def __repr__(self):
        return f"{type(self).__name__} of shape {self.parameters.shape}"

    def _check_like(self, reference):
        refuse(repr(reference) != repr(self), "reference", repr(reference), repr(self))

    def _tokens(self, prompts, responses, name="responses"):
        prompts = self._as_prompts(prompts)
        tokens = self._answers(name, responses, len(prompts))
        shift = self.parameters[0].size * np.repeat(prompts, tokens.lengths)
        return tokens._replace(cells=tokens.cells + shift)

    def _as_prompts(self, prompts):
        return as_indices("prompts", prompts, ("m",), len(self.parameters))


class TabularPolicy(_SoftmaxPolicy):
    r"""A softmax over the responses to each prompt, with nothing shared.

    .. math:: \pi(y \mid x) = \frac{e^{\theta_{xy}}}{\sum_{y'} e^{\theta_{xy'}}}

    A response is an index, and one token long.

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
        self.parameters = as_array("logits", logits, shape=("n_prompts", "n_responses"))

    def sample(self, prompts, rng):
        """A response to each prompt, drawn with the generator `rng`, shape (m,)."""
        prompts = self._as_prompts(prompts)
        return _draw(_ends(self.probabilities()), prompts, rng.random(len(prompts)))

    def _answers(self, name, responses, m):
        cells = as_indices(name, responses, (m,), self.parameters.shape[1])
        return _Tokens(cells, np.ones_like(cells))


class BigramPolicy(_SoftmaxPolicy):
    r"""An autoregressive policy: the next token depends on the prompt and the last token.

    .. math:: \ln \pi(y \mid x) = \sum_t \ln \pi(y_t \mid x, y_{t-1})

    Token 0 ends a response, and stands for the last token before the first one. A response is a
    row of `max_length` tokens; after the first 0 only zeros follow. One that reaches
    `max_length` without a 0 ends there.

    Parameters
    ----------
    logits : array_like, shape (n_prompts, n_tokens, n_tokens)
        ``logits[x, last, next]``; -inf for a token that is never written there, which
        training leaves at -inf.
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
        shape = ("n_prompts", "n_tokens", "n_tokens")
        self.parameters = as_logits(
            "logits", as_array("logits", logits, shape=shape, masked=True), -1
        )
        self.max_length = as_count("max_length", max_length)

    def __repr__(self):
        return f"{super().__repr__()} and max_length {self.max_length}"

    def sample(self, prompts, rng):
        """A response to each prompt, drawn with the generator `rng`, shape (m, max_length)."""
        prompts = self._as_prompts(prompts)
        n_tokens = self.parameters.shape[1]
        ends = _ends(self.probabilities().reshape(-1, n_tokens))
        responses = np.zeros((len(prompts), self.max_length), dtype=np.int64)
        going = np.arange(len(prompts))
        for t in range(self.max_length):  # the column before the first is the last, still all 0
            u = rng.random(len(prompts))  # one for each response, so that equal seeds stay in step
            rows = n_tokens * prompts[going] + responses[going, t - 1]
            responses[going, t] = _draw(ends, rows, u[going])
            going = going[responses[going, t] != 0]
        return responses

    def all_responses(self):
        """Every possible response, shape (n, max_length); n grows fast with the length."""
        n_tokens = self.parameters.shape[1]
        grid = np.indices((n_tokens,) * self.max_length).reshape(self.max_length, -1).T
        return grid[np.all((grid == 0) | _written(grid), axis=1)]

    def _answers(self, name, responses, m):
        return as_bigrams(name, responses, (m, self.max_length), self.parameters.shape[1])

    def kl_from(self, reference):
        """KL(policy || reference) for each prompt, exact, in nats, shape (n_prompts,).

        By the chain rule: the divergence of each next token, weighted by the probability that
        the policy comes to write it.
        """
        steps, move = super().kl_from(reference), np.exp(log_softmax(self.parameters))
        at, visits = np.zeros_like(steps), np.zeros_like(steps)
        at[:, 0] = 1.0
        for _ in range(self.max_length):
            visits += at
            at = np.einsum("xl,xln->xn", at, move)
            at[:, 0] = 0.0  # ended
        return np.sum(visits * steps, axis=1)


class TrainingError(ValueError):
    """Training has diverged: the loss or a parameter is no longer finite."""


class Training(NamedTuple):
    """The trained policy, and a history: a dictionary of arrays with one entry a record."""

    policy: object
    history: dict


def train(
    policy,
    pairs,
    loss="dpo",
    *,
    reference=None,
    optimizer="adam",
    learning_rate=0.1,
    steps=1_000,
    epochs=None,
    batch_size=None,
    seed=0,
    log_every=10,
    nll_weight=0.0,
    ridge=0.0,
    record=None,
    **options,
):
    r"""Train a policy on preference pairs by gradient descent on the mean loss.

    Parameters
    ----------
    policy : TabularPolicy or BigramPolicy
        Where training starts. It is left as it is.
    pairs : PreferencePairs
        The data.
    loss : str or callable, default ``"dpo"``
        One of ``"dpo"``, ``"robust"``, ``"ipo"``, ``"hinge"``, ``"kto"``, ``"sigmoid_norm"``,
        ``"simpo"`` and ``"orpo"``; or a loss of `kl2dpo.dpo`, or your own by
        `kl2dpo.dpo.define_loss`.
    reference : policy, optional
        The reference policy; by default the policy at the start.
    optimizer : ``{"adam", "gd"}``
        Adam (with its usual constants), or plain gradient descent.
    learning_rate : float, default 0.1
        Size of a step (> 0).
    steps : int, default 1000
        Number of steps.
    epochs : int, optional
        In place of `steps`: how often training goes through the data.
    batch_size : int, optional
        Number of comparisons in a step: each epoch shuffles all comparisons, and takes them
        batch by batch. A pair with count 3 is three comparisons, so `counts` must be integers.
        By default every step takes all pairs, with their counts, which may then be any
        numbers >= 0, as weights.
    seed : int, default 0
        For the shuffles.
    log_every : int, default 10
        The history has a record of every `log_every`-th step, of the start and of the end.
    nll_weight : float or array_like, default 0
        Weight of the chosen response's negative log-likelihood (>= 0), the sum over its
        tokens: one number, or one for each pair. For the mean over a response's tokens,
        divide it by ``policy.lengths(pairs.chosen)``.
    ridge : float, default 0
        Strength (>= 0) of a pull of the logits :math:`\theta` to those of the reference: adds
        :math:`\frac{1}{2} \mathrm{ridge}\, \lVert \theta - \theta_{\mathrm{ref}} \rVert^2`
        to what is minimised, though not to the loss in the history.
    record : callable, optional
        A function that takes the policy and returns a dictionary of numbers, under names of
        its own; each record of the history has them, too.
    **options
        Options of the loss, for example ``beta=0.1``.

    Returns
    -------
    Training
        Named tuple ``(policy, history)``. The history has arrays under the names that the
        library TRL logs: ``loss``, ``rewards/chosen``, ``rewards/rejected``, ``rewards/margins``,
        ``rewards/accuracies``, ``logps/chosen``, ``logps/rejected``; further ``step`` and
        ``kl``, the exact divergence from the reference, averaged over the prompts. All are means
        over *all* pairs, by their counts, after so many steps. Rewards are beta times the log-ratio; where the loss
        has no option `beta`, beta is 1.

    Raises
    ------
    TrainingError
        If the loss or a parameter is no longer finite: the step, the last loss and the cause
        are named. The cause may be a ValueError of your own loss.
    ValueError
        If an argument is out of range, or a pair does not fit the policy.

    References
    ----------
    Kingma and Ba (2015), *Adam: A Method for Stochastic Optimization*. Pang et al. (2024),
    *Iterative Reasoning Preference Optimization*, for the weight of the likelihood.

    Examples
    --------
    The thread of the course, in 19ths:

    >>> pairs = PreferencePairs(np.zeros(4, int), np.array([0, 1, 0, 2]), np.array([1, 0, 2, 0]),
    ...                         np.array([8, 4, 3, 5]))
    >>> start = TabularPolicy(np.zeros((1, 3)))
    >>> gently = {"beta": 1.0, "optimizer": "gd", "learning_rate": 2.0}
    >>> trained, history = train(start, pairs, **gently)
    >>> (19 * trained.probabilities()).round(6)
    array([[ 6.,  3., 10.]])
    >>> history["loss"][[0, -1]].round(6)
    array([0.693147, 0.646534])

    With the likelihood of the chosen answers, A is level with C:

    >>> trained, history = train(start, pairs, nll_weight=1 / 3, **gently)
    >>> (5 * trained.probabilities()).round(6)
    array([[2., 1., 2.]])
    """
    refuse(not isinstance(policy, _SoftmaxPolicy), "policy", repr(policy), "one of kl2dpo.policy")
    reference = policy.copy() if reference is None else reference
    policy._check_like(reference)
    refuse(optimizer not in ("adam", "gd"), "optimizer", repr(optimizer), "'adam' or 'gd'")
    learning_rate = as_number("learning_rate", learning_rate, (">", 0))
    ridge = as_number("ridge", ridge, (">=", 0))
    rng = np.random.default_rng(as_count("seed", seed, at_least=0))
    data, counts = _prepare(policy, reference, pairs, loss, nll_weight, options)
    steps, batches = _schedule(data, counts, steps, epochs, batch_size, rng)
    as_count("log_every", log_every)

    policy, history = policy.copy(), dict[str, list]()
    free = np.isfinite(policy.parameters) & np.isfinite(reference.parameters)
    direction = _Adam() if optimizer == "adam" else lambda gradient, step: gradient
    for step in range(steps + 1):
        with _divergence_at(step, history):
            if step > 0:
                pull = np.zeros(free.shape)  # where both are -inf
                np.subtract(policy.parameters, reference.parameters, out=pull, where=free)
                downhill = direction(next(batches).gradient(policy) + ridge * pull, step)
                policy.parameters = policy.parameters - learning_rate * downhill
            due = step % log_every == 0 or step == steps
            now = {"step": step, **data.record(policy, reference)} if due else {}
        more = record(policy.copy()) if due and record is not None else {}
        if not isinstance(more, dict) or more.keys() & now.keys():
            raise ValueError(f"record returned {more!r}, expected a dictionary without {list(now)}")
        for name, value in (now | more).items():
            history.setdefault(name, []).append(value)
    return Training(policy, {name: np.array(values) for name, values in history.items()})


class _Data(NamedTuple):
    """The pairs as the loss needs them."""

    loss: Any
    given: dict  # arguments of the loss
    share: np.ndarray  # of each pair in the mean
    tokens: _Tokens  # of the chosen responses, then of the rejected ones
    ref: np.ndarray  # their log-probabilities under the reference, in two rows

    def take(self, rows):
        """Some of the pairs, with equal shares."""
        m, share = len(self.share), np.full(len(rows), 1 / len(rows))
        given = {k: v[rows] if np.shape(v) == (m,) else v for k, v in self.given.items()}
        tokens = self.tokens.take(np.concatenate([rows, rows + m]))
        return self._replace(given=given, share=share, tokens=tokens, ref=self.ref[:, rows])

    def evaluate(self, log_policy):
        """Log-probabilities under a policy, losses and slopes."""
        logps = as_array("log_prob", self.tokens.total(log_policy)).reshape(2, -1)
        given = self.given | {"policy_chosen": logps[0], "policy_rejected": logps[1]}
        return logps, *dpo.loss_and_gradient(self.loss, **given)

    def gradient(self, policy):
        """The gradient of the mean loss by the logits."""
        log_policy = log_softmax(policy.parameters)
        weights = np.concatenate([self.share * slope for slope in self.evaluate(log_policy)[2]])
        return self.tokens.gradient(log_policy, weights)

    def record(self, policy, reference):
        """What the history says about a policy."""
        logps, loss, _ = self.evaluate(log_softmax(policy.parameters))
        chosen, rejected = self.given.get("beta", 1.0) * (logps - self.ref)
        means = {"loss": loss, "rewards/chosen": chosen, "rewards/rejected": rejected}
        means |= {"rewards/margins": chosen - rejected, "rewards/accuracies": chosen > rejected}
        means |= {"logps/chosen": logps[0], "logps/rejected": logps[1]}
        now = {name: self.share @ values for name, values in means.items()}
        now["kl"] = policy.kl_from(reference).mean()
        return {name: as_number(name, value) for name, value in now.items()}


class _Adam:
    """The direction of a step, from the gradients so far."""

    mean = square = 0

    def __call__(self, gradient, step):
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.999 * self.square + 0.001 * gradient**2
        return self.mean / (1 - 0.9**step) / (np.sqrt(self.square / (1 - 0.999**step)) + 1e-8)


@contextlib.contextmanager
def _divergence_at(step, history):
    """Where something is no longer finite, a TrainingError."""
    try:
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            yield
    except (FloatingPointError, ValueError) as error:
        last = history["loss"][-1] if history else np.nan
        found = f"training has diverged at step {step}: the last recorded loss was {last:.6g}"
        raise TrainingError(f"{found}; try a smaller learning_rate ({error})") from error


def _prepare(policy, reference, pairs, loss, nll_weight, options):
    """The data, all checked, and the counts of the pairs."""
    # A list of three pairs would pass for its own transpose.
    if not (isinstance(pairs, tuple) and len(pairs) in (3, 4)):
        refuse(True, "pairs", reprlib.repr(pairs), "PreferencePairs")
    prompts, *responses, counts = PreferencePairs(*pairs)
    sides = [policy._tokens(prompts, *side) for side in zip(responses, ("chosen", "rejected"))]
    tokens = _Tokens(*map(np.concatenate, zip(*sides)))
    models = [log_softmax(model.parameters) for model in (policy, reference)]
    now, ref = (tokens.total(model).reshape(2, -1) for model in models)
    m = len(now[0])
    counts = np.ones(m) if counts is None else as_array("counts", counts, (">=", 0), shape=(m,))
    with np.errstate(over="ignore"):
        share = counts / as_number("(sum of counts)", counts.sum(), (">", 0))

    loss = dpo.as_loss(loss)
    known = dict(zip(dpo.ARGUMENTS, (*now, *ref, *(side.lengths for side in sides))))
    needed = {name: known[name] for name in inspect.signature(loss).parameters if name in known}
    try:
        given = dpo.checked_arguments(loss, **needed, nll_weight=nll_weight, **options)
    except TypeError as error:
        raise ValueError(f"train has no such option, and neither has {error}") from None
    as_array("nll_weight", nll_weight, shape=(m,) if given["nll_weight"].ndim else ())
    loss(**given)  # refuses what cannot be right from the start
    return _Data(loss, given, share, tokens, ref), counts


def _schedule(data, counts, steps, epochs, batch_size, rng):
    """The number of steps, and what each of them looks at: all the data, or a batch."""
    as_count("steps", steps)
    for name, value in [("epochs", epochs), ("batch_size", batch_size)]:
        as_count(name, 1 if value is None else value)
    if batch_size is None:
        return epochs or steps, itertools.repeat(data)
    refuse(counts % 1 != 0, "counts", counts, "an integer, because batch_size is given")
    as_number("(sum of counts)", counts.sum(), ("<=", 1e8))  # each takes its place in an epoch
    comparisons = np.repeat(np.arange(len(counts)), counts.astype(int))
    as_number("batch_size", batch_size, ("<=", len(comparisons)))

    def batches():
        while True:
            order = rng.permutation(comparisons)
            for start in range(0, len(order), batch_size):
                yield data.take(order[start : start + batch_size])

    return epochs * -(-len(comparisons) // batch_size) if epochs else steps, batches()


def as_bigrams(name, value, shape, n_tokens):
    """The written tokens of the responses: of each one, n_tokens times the last one, plus it."""
    responses = as_indices(name, value, shape, n_tokens)
    written = _written(responses)
    refuse((responses != 0) & ~written, name, responses, "0 after the end")
    tokens = _Tokens(responses[written], written.sum(axis=1))
    last = np.roll(tokens.cells, 1)
    last[tokens.starts] = 0
    return tokens._replace(cells=n_tokens * last + tokens.cells)


def _written(responses):
    """Where a token is written: at the start, and after every token but 0."""
    return np.pad(responses[:, :-1] != 0, ((0, 0), (1, 0)), constant_values=True)


def _ends(probabilities):
    """Where each outcome ends, if all rows are laid end to end, row k from k to k + 1."""
    totals = np.cumsum(probabilities, axis=-1)
    return totals / totals[:, -1:] + np.arange(len(totals))[:, None]


def _draw(ends, rows, u):
    """One outcome of each of the rows, by a number u from 0 to 1: the one at k + u."""
    outcomes = np.searchsorted(ends.ravel(), rows + u, side="right") - rows * ends.shape[1]
    return np.minimum(outcomes, ends.shape[1] - 1)  # where rounding made u a 1
