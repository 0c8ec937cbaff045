r"""A policy that writes word by word, as a Markov chain with an end, in exact numbers.

A chain is a matrix of probabilities, ``transitions[last, next]``. Token 0 is the start and the
end: a response starts from it, and is over when it comes again, as in a `BigramPolicy`, but it
may become as long as it likes. Then everything that is a sum over the tokens has an exact mean,
and a reward of that kind has an exact optimum, which is a chain again: linear equations, no
sample. Divergences are in nats, and `beta` is in units of reward per nat.
"""

import numpy as np

from kl2dpo._checks import (
    as_array,
    as_count,
    as_indices,
    as_number,
    as_probabilities,
    as_shaped,
    refuse,
)
from kl2dpo.bradley_terry import win_probability
from kl2dpo.kl import kl_divergence
from kl2dpo.policy import BigramPolicy, PreferencePairs, as_bigrams

__all__ = ["bigram_policy", "bigram_probabilities", "chain_divergence", "count_features"]
__all__ += ["expected_total", "expected_visits", "labelled_pairs", "optimal_transitions"]
__all__ += ["response_totals", "smallest_beta", "soft_values", "win_rate"]


def count_features(responses, labels):
    r"""How often each response has each feature, where every bigram has at most one.

    .. math:: c_k(y) = \sum_t [\,\text{labels}(y_{t-1}, y_t) = k\,]

    A reward that pays :math:`w_k` for feature k is ``w[labels]``, token by token, and
    ``count_features(responses, labels) @ w`` for a whole response (`response_totals`).

    Parameters
    ----------
    responses : array_like of int, shape (m, max_length)
        Tokens; the first 0 ends a response, and only zeros follow.
    labels : array_like of int, shape (n_tokens, n_tokens)
        ``labels[last, next]`` is the feature of that bigram, a number from 0.
        For the features "word k" every row is 0, 1, ..., n_tokens - 1.

    Returns
    -------
    ndarray, shape (m, n_features)
        The largest label is the last feature.

    Raises
    ------
    ValueError
        If a label or a token is out of range.

    Examples
    --------
    Which words, and which bigrams, are in "1 2 2 end":

    >>> count_features([[1, 2, 2, 0, 0]], np.tile(np.arange(3), (3, 1)))
    array([[1., 1., 2.]])
    >>> count_features([[1, 2, 2, 0, 0]], np.arange(9).reshape(3, 3)).reshape(3, 3)
    array([[0., 1., 0.],
           [0., 0., 1.],
           [1., 0., 1.]])
    """
    labels = as_indices("labels", labels, ("n_tokens", "n_tokens"), np.inf)
    tokens = as_bigrams("responses", responses, ("m", "max_length"), len(labels))
    m, n_features = len(tokens.lengths), int(labels.max()) + 1
    cells = labels.ravel()[tokens.cells] + n_features * np.repeat(np.arange(m), tokens.lengths)
    return np.bincount(cells, minlength=m * n_features).reshape(m, n_features).astype(float)


def response_totals(responses, table):
    r"""A sum over the tokens of each response: its reward, its length, ...

    .. math:: r(y) = \sum_t r_{y_{t-1} y_t}

    Parameters
    ----------
    responses : array_like of int, shape (m, max_length)
        Tokens; the first 0 ends a response, and only zeros follow.
    table : array_like, shape (n_tokens, n_tokens)
        ``table[last, next]``, finite.

    Returns
    -------
    ndarray, shape (m,)

    Raises
    ------
    ValueError
        If a token is out of range, or a number of the table is not finite.

    Examples
    --------
    >>> response_totals([[1, 1, 0], [1, 0, 0]], [[0, 1], [-5, 2]])
    array([-2., -4.])
    """
    table = as_array("table", table, shape=("n_tokens", "n_tokens"))
    return as_bigrams("responses", responses, ("m", "max_length"), len(table)).total(table)


def labelled_pairs(first, second, reward, rng):
    r"""Pairs of responses to one prompt, labelled as Bradley and Terry say.

    .. math:: P(\text{first is chosen}) = \sigma(r(\text{first}) - r(\text{second}))

    Parameters
    ----------
    first, second : array_like of int, shape (m, max_length)
        Responses, by whoever wrote them.
    reward : array_like, shape (n_tokens, n_tokens)
        ``reward[last, next]``: what people like.
    rng : numpy.random.Generator
        For the labels.

    Returns
    -------
    PreferencePairs
        For `train`, in the order given.

    Raises
    ------
    ValueError
        As `response_totals`, or if the shapes differ.

    Examples
    --------
    >>> pairs = labelled_pairs([[0, 0]], [[1, 0]], [[0, 90], [0, 0]], np.random.default_rng(0))
    >>> pairs.chosen, pairs.rejected
    (array([[1, 0]]), array([[0, 0]]))
    """
    rewards = [response_totals(side, reward) for side in (first, second)]
    first, second = np.asarray(first), np.asarray(second)
    refuse(first.shape != second.shape, "the shape of second", second.shape, first.shape)
    wins = (rng.random(len(first)) < win_probability(*rewards))[:, None]
    chosen, rejected = np.where(wins, first, second), np.where(wins, second, first)
    return PreferencePairs(np.zeros(len(first), int), chosen, rejected)


def bigram_probabilities(responses, n_tokens, smoothing=0.0):
    r"""The chain of largest likelihood: the share of each next token after each token.

    .. math:: P_{ab} = \frac{n_{ab} + k}{\sum_{b'} (n_{ab'} + k)}

    where n counts the bigrams. The smoothing k goes to every bigram but "start, end": a
    response is not empty unless some are.

    Parameters
    ----------
    responses : array_like of int, shape (m, max_length)
        Tokens; the first 0 ends a response, and only zeros follow.
    n_tokens : int
        Number of tokens, the end included (>= 2).
    smoothing : float, default 0
        What is added to each count (>= 0).

    Returns
    -------
    ndarray, shape (n_tokens, n_tokens)

    Raises
    ------
    ValueError
        If a token never occurs and nothing smooths, so that its row is not determined; or if
        an argument is out of range.

    Examples
    --------
    >>> bigram_probabilities([[1, 2, 0], [1, 1, 0], [2, 0, 0]], 3)
    array([[0.        , 0.66666667, 0.33333333],
           [0.33333333, 0.33333333, 0.33333333],
           [1.        , 0.        , 0.        ]])
    """
    n = as_count("n_tokens", n_tokens, at_least=2)
    smoothing = as_number("smoothing", smoothing, (">=", 0))
    counts = count_features(responses, np.arange(n * n).reshape(n, n)).sum(axis=0).reshape(n, n)
    counts = counts + smoothing * (np.arange(n * n).reshape(n, n) > 0)
    total = counts.sum(axis=1, keepdims=True)
    refuse(total[:, 0] == 0, "the count of token ", total[:, 0], "at least 1, or smoothing > 0")
    return counts / total


def bigram_policy(transitions, max_length=40):
    """A `BigramPolicy` with one prompt that writes as the chain does, up to `max_length` tokens.

    Parameters
    ----------
    transitions : array_like, shape (n_tokens, n_tokens)
        A chain.
    max_length : int, default 40
        Where a response is cut off (>= 1).

    Returns
    -------
    BigramPolicy
        Its logits are the logarithms, -inf where the chain never goes.
        ``policy.probabilities()[0]`` is the chain again.

    Raises
    ------
    ValueError
        If `transitions` is no chain.

    Examples
    --------
    >>> policy = bigram_policy([[0, 1], [0.25, 0.75]], max_length=3)
    >>> policy.probabilities()[0].round(9)
    array([[0.  , 1.  ],
           [0.25, 0.75]])
    """
    with np.errstate(divide="ignore"):
        logits = np.log(_as_chain("transitions", transitions))
    return BigramPolicy(logits[None], max_length)


def expected_visits(transitions):
    r"""How often a response comes through each token, on average; 1 for the start.

    .. math:: n_b = [b = 0] + \sum_{a} n_a P_{ab} \quad (b \ne 0), \qquad n_0 = 1

    Parameters
    ----------
    transitions : array_like, shape (n_tokens, n_tokens)
        A chain.

    Returns
    -------
    ndarray, shape (n_tokens,)

    Raises
    ------
    ValueError
        If `transitions` is no chain, or does not come to an end with probability 1.

    References
    ----------
    Kemeny and Snell (1960), *Finite Markov Chains*.

    Examples
    --------
    One word, repeated with probability 3/4:

    >>> expected_visits([[0, 1], [0.25, 0.75]])
    array([1., 4.])
    """
    return _visits(_as_chain("transitions", transitions))


def expected_total(transitions, table):
    r"""The mean of a sum over the tokens of a response: its reward, its length, ...

    .. math:: \mathrm{E} \sum_t g(y_{t-1}, y_t) = \sum_{ab} n_a P_{ab}\, g_{ab}

    with n from `expected_visits`.

    Parameters
    ----------
    transitions : array_like, shape (n_tokens, n_tokens)
        A chain.
    table : array_like, shape (n_tokens, n_tokens) or broadcasting to it
        ``table[last, next]``, finite. The number 1 counts the tokens, the end included.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As `expected_visits`, or if a number of the table is not finite.

    Examples
    --------
    >>> expected_total([[0, 1], [0.25, 0.75]], 1)
    5.0
    """
    transitions = _as_chain("transitions", transitions)
    table = as_shaped("table", table, transitions.shape)
    return float(_visits(transitions) @ np.sum(transitions * table, axis=1))


def chain_divergence(transitions, reference):
    r"""KL(chain || reference) of whole responses, exact.

    .. math:: \mathrm{KL}(\pi \| \pi_{\mathrm{ref}}) = \sum_a n_a
        \sum_b P_{ab} \ln \frac{P_{ab}}{P^{\mathrm{ref}}_{ab}}

    Parameters
    ----------
    transitions, reference : array_like, shape (n_tokens, n_tokens)
        Chains.

    Returns
    -------
    float
        In nats; inf where the chain writes what the reference excludes.

    Raises
    ------
    ValueError
        As `expected_visits`, or if the shapes differ.

    References
    ----------
    Cover and Thomas (2006), *Elements of Information Theory*, theorem 2.5.3.

    Examples
    --------
    >>> round(chain_divergence([[0, 1], [0.25, 0.75]], [[0, 1], [0.5, 0.5]]), 6)
    0.523248
    """
    transitions, reference = (
        _as_chain("transitions", transitions),
        _as_chain("reference", reference),
    )
    refuse(len(transitions) != len(reference), "reference", reference.shape, transitions.shape)
    visits = _visits(transitions)
    steps = kl_divergence(transitions, reference)
    return float(np.sum(visits[visits > 0] * steps[visits > 0]))


def soft_values(transitions, reward, beta):
    r"""The value of each last token: beta times the logarithm of what may still come.

    .. math:: V_a = \beta \ln \sum_b P_{ab}\, e^{(r_{ab} + V_b) / \beta} , \qquad
        V_{\mathrm{end}} = 0

    The value of the start is :math:`\beta \ln Z`, the largest mean reward minus beta times
    divergence. In v = e^{V / beta} the equations are linear.

    Parameters
    ----------
    transitions : array_like, shape (n_tokens, n_tokens)
        The reference, a chain.
    reward : array_like, shape (n_tokens, n_tokens) or broadcasting to it
        ``reward[last, next]``, finite; a row of rewards pays for each next token.
    beta : float
        Tightness of the leash (> 0).

    Returns
    -------
    ndarray, shape (n_tokens,)
        In units of reward. The first is the value of the start.

    Raises
    ------
    ValueError
        If the sum over responses diverges, so that there is no optimum: a loop pays more
        than it costs. The message names the smallest beta.

    References
    ----------
    Todorov (2009), *Efficient computation of optimal actions*.

    Examples
    --------
    One word w of probability p = 1/2, then 1/2 again: Z = (1 - p) w / (1 - p w), w = e^{r / beta}.

    >>> values = soft_values([[0, 1], [0.5, 0.5]], [0, 0.5], 1.0)
    >>> values.round(6)
    array([1.546175, 1.046175])
    >>> w = np.exp(0.5)
    >>> round(float(np.log(0.5 * w / (1 - 0.5 * w))), 6)
    1.546175
    """
    return beta * np.log(_tilt(transitions, reward, beta)[1])


def optimal_transitions(transitions, reward, beta):
    r"""The chain that maximises mean reward minus beta times divergence from the reference.

    .. math:: P^*_{ab} = P_{ab}\, e^{(r_{ab} + V_b - V_a) / \beta}

    with V from `soft_values`: the optimum of a reward that is a sum over the tokens is a chain
    again, and the best of all policies, not of chains only.

    Parameters
    ----------
    transitions, reward, beta
        As in `soft_values`.

    Returns
    -------
    ndarray, shape (n_tokens, n_tokens)
        Exactly 0 where the reference is 0.

    Raises
    ------
    ValueError
        As `soft_values`.

    References
    ----------
    As `soft_values`.

    Examples
    --------
    The word of `soft_values` comes again with probability p w:

    >>> optimal_transitions([[0, 1], [0.5, 0.5]], [0, 0.5], 1.0).round(6)
    array([[0.      , 1.      ],
           [0.175639, 0.824361]])
    >>> round(float(0.5 * np.exp(0.5)), 6)
    0.824361
    """
    tilted, v = _tilt(transitions, reward, beta)
    best = tilted * np.append(1.0, v[1:]) / v[:, None]
    return best / best.sum(axis=1, keepdims=True)  # 1 but for rounding


def smallest_beta(transitions, reward):
    r"""The beta at which the sum over responses bursts; above it there is an optimum.

    The sum converges exactly if the largest eigenvalue of :math:`P_{ab}\, e^{r_{ab} / \beta}`,
    start and end left out, is below 1. One loop of probability p that pays r bursts at
    :math:`r / \ln \frac1p`.

    Parameters
    ----------
    transitions, reward
        As in `soft_values`.

    Returns
    -------
    float
        0 if no loop pays, so that there is an optimum for every beta.

    Raises
    ------
    ValueError
        If `transitions` is no chain, or a reward is not finite.

    Examples
    --------
    >>> round(smallest_beta([[0, 1], [0.5, 0.5]], [0, 0.5]), 6)
    0.721348
    >>> round(float(0.5 / np.log(2)), 6)
    0.721348
    >>> smallest_beta([[0, 1], [0.5, 0.5]], [0, -0.5])
    0.0
    """
    transitions = _as_chain("transitions", transitions)
    reward = as_shaped("reward", reward, transitions.shape)
    size = np.abs(reward).max() or 1.0
    low, high = 0.0, 1 / size  # of 1 / beta
    while _log_growth(transitions, reward, high) < 0:
        low, high = high, 2 * high
        if high * size > 700:
            return 0.0
    for _ in range(60):
        middle = (low + high) / 2
        small = _log_growth(transitions, reward, middle) < 0
        low, high = (middle, high) if small else (low, middle)
    return float(1 / high)


def win_rate(rewards, rivals, lengths=None, rival_lengths=None):
    r"""The share of pairs in which the first has the higher reward; a tie counts one half.

    All pairs of a response with a rival are compared. With lengths, only those of equal length,
    and each response that finds a rival counts the same.

    Parameters
    ----------
    rewards : array_like, shape (m,)
        The rewards of samples of one policy.
    rivals : array_like, shape (n,)
        Those of another one.
    lengths, rival_lengths : array_like of int, shape (m,) and (n,), optional
        Both or none.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If shapes do not fit, or no two lengths are equal.

    Examples
    --------
    >>> win_rate([1, 2, 3], [0, 2])
    0.75
    >>> win_rate([1, 2, 3], [0, 2], lengths=[4, 5, 6], rival_lengths=[5, 9])
    1.0
    """
    rewards = as_array("rewards", rewards, shape=("m",))
    rivals = as_array("rivals", rivals, shape=("n",))
    refuse((lengths is None) != (rival_lengths is None), "lengths", "alone", "both lengths or none")
    if lengths is None:
        lengths, rival_lengths = np.zeros(len(rewards)), np.zeros(len(rivals))
    lengths = as_array("lengths", lengths, shape=rewards.shape)
    rival_lengths = as_array("rival_lengths", rival_lengths, shape=rivals.shape)
    wins = []
    for length in np.intersect1d(lengths, rival_lengths):
        mine = rewards[lengths == length]
        others = np.sort(rivals[rival_lengths == length])
        below = [np.searchsorted(others, mine + gap) for gap in (-1e-9, 1e-9)]  # rounding is a tie
        wins.append(np.sum(below, axis=0) / (2 * len(others)))
    refuse(not wins, "lengths", "without an equal", "a length that both have")
    return float(np.concatenate(wins).mean())


def _as_chain(name, value):
    """Return `value` as a square matrix of transitions from which the end can be reached."""
    chain = as_probabilities(name, as_array(name, value, shape=("n_tokens", "n_tokens")), -1)
    before, ends = np.ones(len(chain)), np.zeros(len(chain))
    while not np.array_equal(before, ends):  # one more step back each time
        before, ends = ends, (chain[:, 0] + chain @ ends > 0) * 1.0
    refuse(ends == 0, f"the way of {name} to the end from token ", ends, "a probability > 0")
    return chain


def _visits(chain):
    inner = np.eye(len(chain) - 1) - chain[1:, 1:].T
    return np.append(1.0, np.linalg.solve(inner, chain[0, 1:]))


def _log_growth(chain, reward, t):
    """The log-factor by which the sum over responses grows with every token, for beta = 1 / t."""
    top = reward[1:, 1:].max()  # taken out, so that nothing overflows
    inner = chain[1:, 1:] * np.exp(t * (reward[1:, 1:] - top))
    with np.errstate(divide="ignore"):
        return t * top + np.log(np.abs(np.linalg.eigvals(inner)).max())


def _tilt(transitions, reward, beta):
    """The transitions times e^{reward / beta}, and v: the sum of what may follow each token."""
    chain, beta = _as_chain("transitions", transitions), as_number("beta", beta, (">", 0))
    reward = as_shaped("reward", reward, chain.shape)
    if _log_growth(chain, reward, 1 / beta) >= 0:
        raise ValueError(
            f"no optimum at beta = {beta:g}: the sum over responses diverges, since a loop pays "
            f"too much; expected a beta above {smallest_beta(chain, reward):.6g}"
        )
    with np.errstate(over="ignore"):
        factor = as_array("e^(reward / beta)", np.exp(reward / beta))
    tilted = chain * factor
    v = np.linalg.solve(np.eye(len(chain) - 1) - tilted[1:, 1:], tilted[1:, 0])
    v = np.append(tilted[0, 0] + tilted[0, 1:] @ v, v)
    refuse(v <= 0, "the sum after token ", v, "a number > 0 (beta is too small for it)")
    return tilted, v
