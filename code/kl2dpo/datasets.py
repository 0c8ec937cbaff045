"""The data of the course: comparisons, a simulated arena, runs of TRL, sentences, public logs."""

import csv
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from kl2dpo._checks import as_count, as_indices, as_number, refuse
from kl2dpo.bradley_terry import win_probability

__all__ = ["Battles", "Corpus", "HomeTable", "TrlRuns", "WinTable"]
__all__ += ["arena", "baseball", "citations", "football", "forest", "public_logs", "trl_football"]


class WinTable(NamedTuple):
    """Names of n items, and a matrix: ``wins[i, j]`` is how often i beat j."""

    names: tuple
    wins: np.ndarray


class HomeTable(NamedTuple):
    """Names of n items, and two matrices of wins.

    At the home of i, i beat j ``home_wins[i, j]`` times, and j beat i ``away_wins[i, j]``
    times. The property `wins` adds both: ``wins[i, j]`` is how often i beat j.
    """

    names: tuple
    home_wins: np.ndarray
    away_wins: np.ndarray

    @property
    def wins(self):
        """``wins[i, j]`` is how often i beat j, at home or away."""
        return self.home_wins + self.away_wins.T


def _columns(file):
    """The columns of a file, as tuples of texts."""
    with (files("kl2dpo") / "data" / file).open(encoding="utf-8", newline="") as lines:
        header, *rows = csv.reader(lines)
    return dict(zip(header, zip(*rows)))


def _tables(file, row, column, *values):
    """The names in the order in which they appear, and a matrix of each of the values."""
    columns = _columns(file)
    names = tuple(dict.fromkeys(columns[row] + columns[column]))
    tables = np.zeros((len(values), len(names), len(names)))
    i, j = ([names.index(name) for name in columns[key]] for key in (row, column))
    tables[:, i, j] = np.array([columns[value] for value in values], dtype=float)
    return names, *tables


def football():
    """Three football teams: A and B met 12 times, A and C 8 times, B and C never.

    Returns
    -------
    WinTable

    References
    ----------
    The article from which this course started (2025, in Chinese), its example.

    Examples
    --------
    >>> names, wins = football()
    >>> names
    ('A', 'B', 'C')
    >>> wins
    array([[0., 8., 3.],
           [4., 0., 0.],
           [5., 0., 0.]])
    """
    return WinTable(*_tables("football.csv", "winner", "loser", "count"))


def citations():
    """Citations between four journals of statistics, 1987-88, from a larger table.

    A journal wins when it is cited by another one. Citations of a journal by itself are in
    the file, but are no comparisons, so the table leaves them out.

    Returns
    -------
    WinTable

    References
    ----------
    Stigler (1994), *Citation Patterns in the Journals of Statistics and
    Probability*; Agresti (2002), *Categorical Data Analysis*, 2nd ed., p. 448.

    Examples
    --------
    >>> names, wins = citations()
    >>> names
    ('Biometrika', 'Comm Statist', 'JASA', 'JRSS-B')
    >>> wins[0]
    array([  0., 730., 498., 221.])
    """
    names, wins = _tables("stigler_citations.csv", "cited", "citing", "count")
    np.fill_diagonal(wins, 0)
    return WinTable(names, wins)


def baseball():
    """The seven teams of the American League East in 1987, 13 games for each pair.

    Returns
    -------
    HomeTable

    References
    ----------
    Agresti (2002), *Categorical Data Analysis*, 2nd ed., tables 10.10 and 10.11.

    Examples
    --------
    >>> table = baseball()
    >>> table.names[0], table.names[-1]
    ('Milwaukee', 'Baltimore')
    >>> table.home_wins[0, 6], table.away_wins[0, 6], table.wins[0, 6]
    (np.float64(6.0), np.float64(0.0), np.float64(11.0))
    """
    return HomeTable(*_tables("baseball_1987.csv", "home", "away", "home_wins", "away_wins"))


class TrlRuns(NamedTuple):
    """Runs of DPO on the football counts with a small transformer, by the library TRL.

    `history` is what TRL logged in the first run: a dictionary of arrays with one entry a step.
    Of each run k there is the seed of its first weights, `seeds[k]`; the weight of its
    likelihood term, `nll[k]`; the smallest of its logged values of ``logps/chosen``,
    `lowest[k]`; and in `reference[k]` and `policy[k]` the log-probabilities of the answers A, B,
    C and of the empty answer, before and after.
    """

    beta: float
    history: dict
    seeds: np.ndarray
    nll: np.ndarray
    lowest: np.ndarray
    reference: np.ndarray
    policy: np.ndarray


def trl_football():
    """Forty runs of ``code/examples/dpo_with_trl.py``: a small transformer and TRL.

    Thirty with ``--seed`` 0 to 29, and ten with ``--nll 0.01`` and ``--nll 0.1``, for seed 0 and
    for the four that lost most without it.

    Returns
    -------
    TrlRuns

    References
    ----------
    von Werra et al. (2020), *TRL: Transformers Reinforcement Learning*, version 1.16.0.

    Examples
    --------
    >>> runs = trl_football()
    >>> runs.history["loss"][[0, -1]]
    array([0.693147, 0.646534])
    >>> runs.policy.shape
    (40, 4)
    """
    history = {name: np.array(x, float) for name, x in _columns("trl_football.csv").items()}
    runs = {name: np.array(x, float) for name, x in _columns("trl_football_runs.csv").items()}
    logps = [
        np.stack([runs[f"{m} {y}"] for y in ("A", "B", "C", "empty")], axis=1)
        for m in ("ref", "new")
    ]
    return TrlRuns(0.5, history, runs["seed"].astype(int), runs["nll"], runs["lowest"], *logps)


class Corpus(NamedTuple):
    """Sentences as rows of tokens: token k is ``words[k]``, and token 0, a full stop, is the end.

    `sentences` has shape (n, max_length); after its end a row has zeros only.
    """

    words: tuple
    sentences: np.ndarray

    def texts(self, responses):
        """The text of each row of tokens, as a list; one that has no end gets "..." in its place.

        Examples
        --------
        >>> forest().texts([[69, 25, 60, 0], [69, 75, 75, 75]])
        ['the fox sleeps', 'the very very very ...']
        """
        texts = []
        for row in as_indices("responses", responses, ("m", "n"), len(self.words)):
            end = np.append(np.flatnonzero(row == 0), len(row))[0]
            open_end = [] if end < len(row) else ["..."]
            texts.append(" ".join([self.words[k] for k in row[:end]] + open_end))
        return texts

    def tokens(self, texts, max_length=40):
        """The rows of tokens of some texts, shape (len(texts), max_length).

        Raises
        ------
        ValueError
            If a text has an unknown word, or no place for its end.

        Examples
        --------
        >>> forest().tokens(["the fox sleeps"], 5)
        array([[69, 25, 60,  0,  0]])
        """
        rows = np.zeros((len(texts), as_count("max_length", max_length)), dtype=np.int64)
        known = {word: k for k, word in enumerate(self.words) if k > 0}
        for row, text in zip(rows, texts):
            words = text.split()
            refuse(len(words) >= max_length, "max_length", max_length, f"more, for {text!r}")
            for word in words:
                refuse(word not in known, "a word", repr(word), "one of the corpus")
            row[: len(words)] = [known[word] for word in words]
        return rows


def forest():
    """Three hundred and twenty short sentences about the animals of a forest, made for this course.

    A small grammar wrote them. Its words are divided so that the last word tells where in the
    sentence one is (*the* and *one* begin, *her* and *every* come before somebody, *our* and
    *this* before a place), so a model that remembers one word writes sentences that can be read.

    Returns
    -------
    Corpus

    Examples
    --------
    >>> corpus = forest()
    >>> len(corpus.words), corpus.sentences.shape
    (82, (320, 10))
    >>> corpus.texts(corpus.sentences[:1])
    ['the crow scares her teacher tonight']
    """
    texts = _columns("forest.csv")["sentence"]
    words = (".", *sorted({word for text in texts for word in text.split()}))
    longest = max(len(text.split()) for text in texts)
    return Corpus(words, Corpus(words, np.empty(0)).tokens(texts, longest + 1))


def public_logs():
    """Logs of DPO that people have published, as they printed them.

    Returns
    -------
    dict
        From the name of a log to its records, each a dictionary with the names of TRL, as in
        ``trainer.state.log_history``. What was not printed is not there.

    Notes
    -----
    ``zephyr-7b-beta`` and ``zephyr-7b-alpha`` are the tables of the model cards of two models,
    trained for three epochs and for one. The others were shown by people who asked what is wrong, in
    issues of these repositories: ``dpo-36`` (eric-mitchell/direct-preference-optimization),
    ``trl-1236`` and ``trl-1311`` (huggingface/trl), ``llms-tool-46`` (stanleylsx/llms_tool) and
    ``eto-14`` (Yifan-Song793/ETO); a few records of each. The steps of ``trl-1236`` follow from
    the learning rates in its records.

    References
    ----------
    Tunstall et al. (2023), *Zephyr: Direct Distillation of LM Alignment*.

    Examples
    --------
    >>> logs = public_logs()
    >>> len(logs["zephyr-7b-beta"]), len(logs["dpo-36"])
    (58, 2)
    >>> logs["dpo-36"][0]["eval_rewards/chosen"]
    -1.6413846015930176
    """
    columns = _columns("public_logs.csv")
    names = columns.pop("log")
    logs: dict[str, list] = {name: [] for name in names}
    for name, row in zip(names, zip(*columns.values())):
        logs[name].append({key: float(value) for key, value in zip(columns, row) if value})
    return logs


class Battles(NamedTuple):
    """Simulated comparisons of models, and the truth behind them.

    In battle k, `model_a[k]` meets `model_b[k]`, both indices into `names`; `outcome[k]` is
    1 if a wins, 0 if b wins and 1/2 for a tie. `log_strengths` are the true ones.
    """

    names: tuple
    model_a: np.ndarray
    model_b: np.ndarray
    outcome: np.ndarray
    log_strengths: np.ndarray

    def comparisons(self):
        """Winners and losers of all battles, and where they tied instead.

        Returns
        -------
        tuple of three ndarrays
            For `kl2dpo.bradley_terry.fit_comparisons`, the last as `ties`.

        Examples
        --------
        >>> battles = Battles(("x", "y"), *np.array([[0, 1, 0], [1, 0, 1]]),
        ...                   np.array([1, 0, 0.5]), np.zeros(2))
        >>> for array in battles.comparisons():
        ...     print(array)
        [0 0 0]
        [1 1 1]
        [False False  True]
        """
        a, b = self.model_a, self.model_b
        return *np.where(self.outcome == 0, [b, a], [a, b]), self.outcome == 0.5


def arena(n_models=50, n_battles=100_000, *, spread=1.0, tie_rate=0.3, seed=0):
    r"""Battles of language models, as in a public arena, with known strengths.

    Log-strengths are drawn from :math:`N(0, \text{spread}^2)` and shifted to sum zero.
    Some models fight up to five times as many battles as others. With
    :math:`p = \sigma(s_a - s_b)`, the results have the probabilities

    .. math:: P(\text{tie}) = 4 t\, p (1 - p), \qquad P(a \text{ wins}) = p - \tfrac12 P(\text{tie})

    where t is the `tie_rate`: the probability of a tie between equal models. A tie
    counted as half a win leaves the mean of the outcome at p, and lowers its variance from
    p (1 - p) to (1 - t) p (1 - p).

    Parameters
    ----------
    n_models : int, default 50
        At least 2.
    n_battles : int, default 100000
        At least 1.
    spread : float, default 1
        Standard deviation of the log-strengths, from 0 to 100.
    tie_rate : float, default 0.3
        From 0 to 1/2.
    seed : int, default 0
        The same seed gives the same battles.

    Returns
    -------
    Battles

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Chiang et al. (2024), *Chatbot Arena*, for the setting; the data are simulated.

    Examples
    --------
    >>> battles = arena(4, 1000)
    >>> battles.names
    ('model-0', 'model-1', 'model-2', 'model-3')
    >>> np.unique(battles.outcome)
    array([0. , 0.5, 1. ])
    """
    n_models = as_count("n_models", n_models, at_least=2)
    n_battles = as_count("n_battles", n_battles, at_least=1)
    spread = as_number("spread", spread, (">=", 0), ("<=", 100))
    tie_rate = as_number("tie_rate", tie_rate, (">=", 0), ("<=", 0.5))
    rng = np.random.default_rng(as_count("seed", seed, at_least=0))
    s = rng.normal(0, spread, n_models)
    s -= s.mean()

    popularity = np.cumsum(rng.uniform(1, 5, n_models))
    pairs = np.empty((0, 2), dtype=np.int64)
    while len(pairs) < n_battles:
        drawn = np.searchsorted(popularity, rng.uniform(0, popularity[-1], (n_battles, 2)))
        pairs = np.concatenate([pairs, drawn[drawn[:, 0] != drawn[:, 1]]])
    a, b = pairs[:n_battles].T

    p = win_probability(s[a], s[b])
    tie = 4 * tie_rate * p * (1 - p)
    u = rng.random(n_battles)
    outcome = np.select([u < tie, u < p + tie / 2], [0.5, 1.0], 0.0)
    return Battles(tuple(f"model-{k}" for k in range(n_models)), a, b, outcome, s)
