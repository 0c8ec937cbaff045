"""What preference pairs say before anyone trains on them."""

import collections
import reprlib
from typing import NamedTuple

import numpy as np

from kl2dpo._checks import as_array, refuse

__all__ = ["PairsAudit", "audit"]

_FIELDS = ("prompt", "chosen", "rejected")


class PairsAudit(NamedTuple):
    """What `audit` has counted. Printed, it is a table.

    Comparisons: `comparisons`, their number; `identical`, how many have the same answer twice;
    `empty`, how many have an empty answer; `repeated`, how many occur before with the same
    label, be it a copy or a second opinion.

    Pairs, that is, prompts with two different answers in either order: `pairs`, their number;
    `both_orders`, how many have been labelled both ways; `ties`, how many as often one way as
    the other; `agreement`, for pairs with several labels, the mean share of agreeing labels
    among all two of a pair, or None.

    Prompts: `prompts`, their number; `most_pairs`, the pairs of the prompt that has most.

    Lengths: `chosen_longer` and `chosen_shorter`, shares of the comparisons; `length_ratio`, the
    mean length of the chosen answers by that of the rejected ones, or None.

    Order: `shown_first`, the share of comparisons whose chosen answer was shown first, or None.

    Held-out set: `held_out_pairs` and `held_out_prompts`, the shares of its comparisons whose
    pair, and whose prompt, is in the training set; or None.
    """

    comparisons: int
    identical: int
    empty: int
    repeated: int
    pairs: int
    both_orders: int
    ties: int
    agreement: float | None
    prompts: int
    most_pairs: int
    chosen_longer: float
    chosen_shorter: float
    length_ratio: float | None
    shown_first: float | None
    held_out_pairs: float | None
    held_out_prompts: float | None

    def __str__(self):
        shown = {name: value for name, value in self._asdict().items() if value is not None}
        texts = {k: f"{v:.3f}" if isinstance(v, float) else f"{v:,}" for k, v in shown.items()}
        return "\n".join(f"{name:<16} {text:>9}" for name, text in texts.items())


def audit(pairs, held_out=None, *, shown_first=None, length=None):
    r"""Count what may go wrong with preference pairs, before training.

    Parameters
    ----------
    pairs : PreferencePairs or list of dict
        The training set. A dictionary has the fields ``prompt``, ``chosen`` and ``rejected``:
        texts, lists of token numbers, or lists of messages, of which the texts (``content``)
        count. `counts` of `PreferencePairs` must be integers.
    held_out : PreferencePairs or list of dict, optional
        The set that is held out.
    shown_first : array_like of bool, shape (m,), optional
        For each comparison whether its chosen answer was shown first.
    length : callable, optional
        A function that measures an answer. By default the number of characters of a text, or
        of tokens of a list; for rows of a `BigramPolicy`, give ``np.count_nonzero``.

    Returns
    -------
    PairsAudit

    Raises
    ------
    ValueError
        If a field is missing, or an argument does not fit the pairs.

    Notes
    -----
    Two labels of a pair agree with probability :math:`p^2 + (1 - p)^2`; `agreement` estimates
    its mean, which bounds the floor of the loss and the ceiling of the accuracy (chapter 12 of this
    course, *A run, and how to read it*). In a pair of equally good answers in random order, the
    chosen one was shown first in half of the comparisons, with a standard error of
    :math:`1 / (2 \sqrt m)`, if nobody minds the order.

    A ranking of K answers gives :math:`K (K - 1) / 2` pairs, but no more than K answers were
    judged: its pairs are not independent. Standard errors that count pairs are too small; count
    prompts (chapter 9 of this course, *Ranking real things*). `most_pairs` shows it: 6 for a
    ranking of four.

    Examples
    --------
    >>> pairs = [{"prompt": "Who wins?", "chosen": "Albion", "rejected": "Borough"},
    ...          {"prompt": "Who wins?", "chosen": "Albion", "rejected": "Borough"},
    ...          {"prompt": "Who wins?", "chosen": "Borough", "rejected": "Albion"},
    ...          {"prompt": "Who lost?", "chosen": "City", "rejected": "City"}]
    >>> print(audit(pairs))
    comparisons              4
    identical                1
    empty                    0
    repeated                 1
    pairs                    1
    both_orders              1
    ties                     0
    agreement            0.333
    prompts                  2
    most_pairs               1
    chosen_longer        0.250
    chosen_shorter       0.500
    length_ratio         0.958
    """
    rows, counts = _as_rows("pairs", pairs)
    length = _length if length is None else length
    sizes = np.array([[length(answer) for answer in row[1:]] for row in rows], dtype=float)
    as_array("length", sizes, (">=", 0))
    chosen, rejected = sizes.T
    means = counts @ sizes / counts.sum()

    labels: collections.Counter = collections.Counter()
    for row, count in zip(rows, counts):
        labels[row] += int(count)
    ways: dict = {}  # of a pair: how often each of its two orders was labelled
    labels = +labels  # without what has no count
    for (prompt, *answers), count in labels.items():
        if answers[0] != answers[1]:
            ways.setdefault((prompt, frozenset(answers)), []).append(count)
    several = [[*way, 0][:2] for way in ways.values() if sum(way) > 1]
    agree = [(k * (k - 1) + n * (n - 1)) / ((k + n) * (k + n - 1)) for k, n in several]
    by_prompt = collections.Counter(prompt for prompt, _ in ways)

    if shown_first is not None:
        shown_first = as_array("shown_first", shown_first, (">=", 0), ("<=", 1), shape=(len(rows),))
    outside = None if held_out is None else _as_rows("held_out", held_out)
    prompts = {prompt for prompt, *_ in labels}
    return PairsAudit(
        comparisons=int(counts.sum()),
        identical=int(counts @ [row[1] == row[2] for row in rows]),
        empty=int(counts @ np.any(sizes == 0, axis=1)),
        repeated=int(counts.sum()) - len(labels),
        pairs=len(ways),
        both_orders=sum(len(way) == 2 for way in ways.values()),
        ties=sum(k == n for k, n in several),
        agreement=float(np.mean(agree)) if agree else None,
        prompts=len(prompts),
        most_pairs=max(by_prompt.values(), default=0),
        chosen_longer=_share(counts, chosen > rejected),
        chosen_shorter=_share(counts, chosen < rejected),
        length_ratio=float(means[0] / means[1]) if means[1] > 0 else None,
        shown_first=None if shown_first is None else _share(counts, shown_first),
        held_out_pairs=outside
        and _share(outside[1], [(x, frozenset(answers)) in ways for x, *answers in outside[0]]),
        held_out_prompts=outside and _share(outside[1], [row[0] in prompts for row in outside[0]]),
    )


def _share(counts, where):
    return float(counts @ np.asarray(where, dtype=float) / counts.sum())


def _as_rows(name, pairs):
    """Prompt, chosen and rejected of each comparison, hashable; and the counts."""
    counts = None
    if isinstance(pairs, tuple) and len(pairs) in (3, 4):
        *columns, counts = pairs if len(pairs) == 4 else (*pairs, None)
        sizes = {len(column) for column in columns}
        refuse(len(sizes) > 1, f"the number of {name}", sorted(sizes), "the same in all columns")
        rows = list(zip(*columns))
    else:
        good = isinstance(pairs, list) and all(isinstance(row, dict) for row in pairs)
        refuse(not good, name, reprlib.repr(pairs), "PreferencePairs, or a list of dictionaries")
        for k, row in enumerate(pairs):
            missing = [field for field in _FIELDS if row.get(field) is None]
            refuse(bool(missing), f"{name}[{k}]", f"without {missing}", f"the fields {_FIELDS}")
        rows = [tuple(row[field] for field in _FIELDS) for row in pairs]
    refuse(not rows, name, "empty", "at least one comparison")
    counts = np.ones(len(rows)) if counts is None else counts
    counts = as_array("counts", counts, (">=", 0), shape=(len(rows),))
    refuse(counts % 1 != 0, "counts", counts, "an integer")
    refuse(not counts.any(), "counts", "0 everywhere", "at least one comparison")
    return [tuple(map(_plain, row)) for row in rows], counts


def _plain(value):
    """A prompt or an answer as a text, a number or a tuple."""
    value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(message, dict) for message in value):
            return "\n".join(str(message.get("content")) for message in value)
        return tuple(map(_plain, value))
    return value


def _length(answer):
    """Characters of a text without the blanks around it; tokens of a list; 1 for a number."""
    if isinstance(answer, str):
        return len(answer.strip())
    return len(answer) if isinstance(answer, tuple) else 1
