r"""What the log of a run says: symptoms with their evidence, and the arithmetic of the log.

A log is the history of `kl2dpo.policy.train`, a dictionary of arrays, or a list of records as
the library TRL keeps it in ``trainer.state.log_history``. Both use the same names, ``loss``,
``rewards/chosen`` and so on; those of held-out pairs begin with ``eval_``.
"""

import reprlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kl2dpo._checks import as_number, refuse
from kl2dpo._logistic import minus_log_sigmoid
from kl2dpo.datasets import _columns

__all__ = ["Diagnosis", "Finding", "Identity", "LogAudit", "Symptom"]
__all__ += ["audit_log", "diagnose", "symptoms"]

LN2 = np.log(2)
_REWARDS = ("rewards/chosen", "rewards/rejected")
_LOGPS = ("logps/chosen", "logps/rejected")
_PAIRS = ("loss", *_REWARDS, "rewards/margins", "rewards/accuracies", *_LOGPS)
_KNOWN = {"step", "epoch", *_PAIRS, *("eval_" + name for name in _PAIRS)}


class _NotEnough(Exception):
    """A rule has too little to go by; the text says what is missing."""


class _Log:
    """The records of a log; called with names, the columns of the records that have them all."""

    def __init__(self, history, sigmoid=True, ceiling=None):
        self.records, self.sigmoid, self.ceiling = _as_records(history), sigmoid, ceiling

    def __call__(self, *names, at_least=6):
        rows = [[record.get(name, np.nan) for name in names] for record in self.records]
        rows = [row for row in rows if np.isfinite(row).all()]
        if len(rows) < at_least:
            found = f"{len(rows)} records with {', '.join(names)}"
            raise _NotEnough(f"{found}, at least {at_least} needed")
        return np.array(rows).T

    def first(self, *names):
        """The first record, if it shows the policy before the first step (TRL calls that step 1)."""
        step, *columns = self("step", *names, at_least=1)
        if step[0] > 1:
            raise _NotEnough("no record of step 0 or 1 (TRL: logging_first_step=True)")
        return [column[0] for column in columns]

    def thirds(self, *names, at_least=6):
        """For each name the mean of the first, the middle and the last third of its records."""
        columns = self(*names, at_least=at_least)
        return [[part.mean() for part in np.array_split(column, 3)] for column in columns]


def _as_records(history):
    """The records of a log, each a dictionary of the names that are known here."""
    if isinstance(history, dict):
        columns = {name: column for name, column in history.items() if name in _KNOWN}
        shapes = {np.shape(column) for column in columns.values()}
        same = len(shapes) == 1 and len(*shapes) == 1
        refuse(not same, "history", reprlib.repr(history), "a dictionary of equally long columns")
        history = [dict(zip(columns, row)) for row in zip(*columns.values())]
    good = isinstance(history, list) and all(isinstance(record, dict) for record in history)
    refuse(not good, "history", reprlib.repr(history), "the history of train, or a list of records")
    records = []
    for k, record in enumerate(history):
        try:
            records.append({name: float(record[name]) for name in record if name in _KNOWN})
        except (TypeError, ValueError):
            raise ValueError(f"history[{k}] is {record!r}, expected numbers") from None
    return records


# The rules. Each returns its evidence, or "" where the symptom is absent.


def _not_a_number(log):
    for k, record in enumerate(log.records):
        for name, value in record.items():
            if not np.isfinite(value):
                return f"{name} is {value} in record {k + 1}, step {record.get('step', '?')}"
    return ""


def _stays_at_ln2(log):
    loss, margins = log("loss", "rewards/margins")
    accuracies = log("rewards/accuracies", at_least=1)[0]
    if np.abs(loss - LN2).max() > 0.002 or margins[-1] > 0.01:
        return ""
    found = f"loss {loss[0]:.6f} in the first and {loss[-1]:.6f} in the last of {len(loss)} records"
    return f"{found}, the last margin {margins[-1]:.4f}, the last accuracy {accuracies[-1]:.3f}"


def _no_token(log):
    sides = dict(zip(_LOGPS, log(*_LOGPS, at_least=1)))
    empty = [name for name, logps in sides.items() if not logps.any()]
    return f"{' and '.join(empty)} is exactly 0 in every record" if empty else ""


def _alike(log):
    chosen, rejected, accuracies = log(*_LOGPS, "rewards/accuracies", at_least=2)
    same = np.allclose(chosen, rejected, rtol=1e-6, atol=0) and not accuracies.any()
    return f"logps/chosen = logps/rejected = {chosen[-1]:.4f} to the last" if same else ""


def _rewards_stay_zero(log):
    rewards = log(*_REWARDS, at_least=3)
    if np.abs(rewards).max() > 1e-6:
        return ""
    found = f"no reward leaves 0 in {len(rewards[0])} records"
    chosen = log("logps/chosen", at_least=1)[0]
    return f"{found}, while logps/chosen goes from {chosen[0]:.4f} to {chosen[-1]:.4f}"


def _moves_at_ln2(log):
    sides = log(*_LOGPS, *_REWARDS, at_least=3)
    logps, rewards = sides[:2], sides[2:]
    beta, apart, _ = _slope(logps, rewards)
    moved = np.abs(logps - logps[:, :1]).max()
    far = moved > 1 and apart < 0.05 * moved  # a fixed reference, so the same pairs each time
    if not far or not 0 < beta < 0.005:
        return ""
    return f"logps move by {moved:.2f} nats, the rewards by {beta:.1e} of that: this is β"


def _first_loss(log):
    loss, chosen, rejected = log.first("loss", *_REWARDS)
    off = log.sigmoid and abs(loss - LN2) > 0.01
    if not off and max(abs(chosen), abs(rejected)) < 0.05:
        return ""
    return f"at the start the loss is {loss:.4f}, the rewards are {chosen:.3f} and {rejected:.3f}"


def _first_accuracy(log):
    accuracy, chosen, rejected = log.first("rewards/accuracies", *_REWARDS)
    if accuracy == 0 or _first_loss(log):
        return ""
    return f"accuracy {accuracy:.3f} before the first step, at rewards {chosen:.1e}, {rejected:.1e}"


def _all_learned(log):
    (*_, loss), (*_, accuracy) = log.thirds("loss", "rewards/accuracies")
    done = loss < 0.05 and accuracy > 0.99
    return f"loss {loss:.4f} and accuracy {accuracy:.3f} in the last third" if done else ""


def _zero_or_one(log):
    accuracies, margins = log("rewards/accuracies", "rewards/margins", at_least=10)
    seen = accuracies[margins != 0]  # at the start all margins are 0, and a tie is no success
    if set(seen) != {0, 1}:
        return ""
    return f"accuracy 1 in {np.sum(seen == 1)} records, 0 in {np.sum(seen == 0)}, nothing between"


def _level_falls(log):
    held_out = log("eval_loss", at_least=4)[0]
    fresh = any("eval_rewards/chosen" in record for record in log.records)
    chosen, rejected = np.array(log.thirds(*("eval_" * fresh + name for name in _REWARDS)))
    before, after = held_out[len(held_out) // 2], held_out[-1]
    level = (chosen + rejected) / 2
    falls = level[2] < level[1] - 0.25 and max(chosen[2], rejected[2]) < 0
    if not falls or after < before:
        return ""
    found = f"half the sum of the rewards goes on from {level[1]:.2f} to {level[2]:.2f}"
    return f"{found}, the held-out loss from {before:.3f} to {after:.3f}"


def _mass_leaves(log):
    (*_, chosen), (*_, rejected) = log.thirds(*_REWARDS)
    level, margin = (chosen + rejected) / 2, abs(chosen - rejected)
    if level > -0.5 or level > -5 * margin:
        return ""
    return f"rewards {chosen:.2f} and {rejected:.2f} for a margin of {chosen - rejected:.2f}"


def _stairs(log):
    epoch, loss = log("epoch", "loss", at_least=8)
    number = np.ceil(epoch - 1e-6)  # epoch 1.0 is the end of the first
    parts = [loss[number == k] for k in range(1, int(number[-1]) + 1)]
    parts = [part for part in parts if len(part) >= 4]
    if len(parts) < 2:
        raise _NotEnough("fewer than two epochs of at least 4 records")
    halves = [np.array_split(part, 2) for part in parts]
    within = [late.mean() - early.mean() for early, late in halves]
    jumps = [after[0].mean() - before[1].mean() for before, after in zip(halves, halves[1:])]
    size = len(loss) / len(parts) / 2
    noise = np.sqrt(np.mean([half.var() for pair in halves for half in pair]) / size)
    jump, slope = np.mean(jumps), np.mean(within)
    if jump > -0.02 or slope < jump / 3 or jump > -4 * noise / np.sqrt(len(jumps)):
        return ""
    return f"from epoch to epoch the loss falls by {-jump:.3f}, within an epoch by {-slope:z.3f}"


def _margin_grows(log):
    columns = log("rewards/margins", "loss", at_least=12)
    margins, loss = ([part.mean() for part in np.array_split(x, 6)[3:]] for x in columns)
    gain, grown = loss[0] - loss[-1], margins[-1] - margins[0]
    if not log.sigmoid or min(np.diff(margins)) < 0.03 or gain > 0.03 * grown:
        return ""
    return f"the margin goes on from {margins[0]:.2f} to {margins[-1]:.2f}, the loss falls by {gain:.4f}"


def _loss_rises(log):
    first, last = log("loss", at_least=6)[0][0], log.thirds("loss")[0][-1]
    rises = last > first + 0.1 * max(1, abs(first))
    return f"loss {first:.3f} in the first record, {last:.3f} in the last third" if rises else ""


def _held_out_rises(log):
    loss, last = log("eval_loss", at_least=4)[0], log.thirds("eval_loss", at_least=4)[0][-1]
    if last <= 1.03 * loss.min():
        return ""
    found = f"held-out loss {loss.min():.4f} at best, {last:.4f} in the last third"
    accuracies = [record.get("eval_rewards/accuracies", np.nan) for record in log.records]
    seen = [accuracy for accuracy in accuracies if np.isfinite(accuracy)]
    return found + (f", held-out accuracy {max(seen):.3f} at best, {seen[-1]:.3f}" if seen else "")


def _above_ceiling(log):
    ((*_, accuracy),) = log.thirds("rewards/accuracies")
    if log.ceiling is not None:
        limit, name, slack = log.ceiling, "ceiling", 0.03
    else:
        limit = log("eval_rewards/accuracies", at_least=2)[0][-1]
        name, slack = "held-out accuracy", 0.1
    high = accuracy > limit + slack and limit > 0.5
    return f"accuracy {accuracy:.3f} in training, {name} {limit:.3f}" if high else ""


def _held_out_above_ceiling(log):
    accuracy = log("eval_rewards/accuracies", at_least=2)[0][-1]
    if log.ceiling is None:
        raise _NotEnough("no ceiling given")
    high = accuracy > log.ceiling + 0.05
    return f"held-out accuracy {accuracy:.3f}, ceiling {log.ceiling:.3f}" if high else ""


def _held_out_wrong(log):
    accuracy, margins = log("eval_rewards/accuracies", "eval_rewards/margins", at_least=2)
    ((*_, training),) = log.thirds("rewards/margins")
    if accuracy[-1] > 0.4 or margins[-1] > 0 or training < 0:
        return ""
    return f"held-out accuracy {accuracy[-1]:.3f} and margin {margins[-1]:.3f}, in training {training:.3f}"


def _other_scale(log):
    columns = loss, chosen, rejected, margins, accuracies = log(*_PAIRS[:5], at_least=1)
    apart, *under = _violations(*columns)
    size = 1 + np.abs(chosen) + np.abs(rejected)  # in 16 bits, about three digits are right
    k = (apart / size).argmax()
    if apart[k] > 1e-2 * size[k]:
        return (
            f"margin {margins[k]:.4f} where the rewards are {chosen[k]:.4f} and {rejected[k]:.4f}"
        )
    if not log.sigmoid:
        return ""
    under = np.max(under, axis=0)
    k = under.argmax()
    if under[k] > 1e-2:
        found = f"loss {loss[k]:.4f} at margin {margins[k]:.4f} and accuracy {accuracies[k]:.3f}"
        return f"{found}, where no set of pairs has less than {loss[k] + under[k]:.4f}"
    # While all margins are small, the loss falls by half of their mean.
    early = (np.maximum.accumulate(np.abs(margins)) < 0.2) & (margins > 0.01)
    fall, margin = np.sum(LN2 - loss[early]), np.sum(margins[early])
    if early.sum() < 3 or fall > 0.1 * margin:
        return ""
    return f"at margins below 0.2 the loss has fallen by {fall / margin:.3f} of the margin, not by half"


def _violations(loss, chosen, rejected, margins, accuracies):
    """For each record, how far off the margin is, and how far below its two floors the loss is."""
    apart = np.abs(margins - (chosen - rejected))
    return apart, minus_log_sigmoid(margins) - loss, (1 - accuracies) * LN2 - loss


class Symptom(NamedTuple):
    """A row of the table of symptoms: what one sees, the likely causes, where it is explained.

    `rule` finds the symptom in a log. It is None where a log cannot show the symptom, and
    `causes` then says where to look.
    """

    name: str
    causes: str
    chapter: str
    rule: Callable[[_Log], str] | None


def symptoms():
    """The table of symptoms.

    Returns
    -------
    tuple of Symptom
        First those that `diagnose` looks for, then those that a log cannot show.

    Examples
    --------
    >>> print(symptoms()[1].name)
    the loss stays at ln 2
    >>> print(symptoms()[-1].causes)
    decode the tokens under the mask: what the prompt adds cancels in the margin
    """
    *texts, rules = _columns("symptoms.csv").values()
    return tuple(map(Symptom, *texts, [globals()[rule] if rule else None for rule in rules]))


class Finding(NamedTuple):
    """A symptom that a log shows, with its evidence."""

    symptom: Symptom
    evidence: str

    def __str__(self):
        name, causes, chapter, _ = self.symptom
        return f"{name}: {self.evidence}. Likely: {causes}. See {chapter}."


class Diagnosis(NamedTuple):
    """What `diagnose` has found, and for which symptoms the log does not suffice.

    `findings` are in the order of `symptoms`. `not_enough` is a dictionary from the name of a
    symptom to what is missing. Printed, each finding is a sentence.
    """

    findings: tuple
    not_enough: dict

    def __str__(self):
        lines = [str(finding) for finding in self.findings] or ["no symptom found"]
        if self.not_enough:
            lines.append(f"not enough records to look for: {'; '.join(self.not_enough)}")
        return "\n".join(lines)


def diagnose(history, *, sigmoid=True, ceiling=None):
    """Look for the symptoms of a table in the log of a run.

    Every finding has its evidence, numbers of the log. Where the log does not suffice, that is
    said, and nothing is guessed. Negative rewards alone are no symptom.

    Parameters
    ----------
    history : dict or list of dict
        The history of `kl2dpo.policy.train`, or ``trainer.state.log_history`` of TRL's
        `DPOTrainer`. Names that are missing, and names not known here, do no harm. A rule
        about held-out pairs needs names that begin with ``eval_``; `train` has them if
        `record` returns them.
    sigmoid : bool, default True
        Whether the loss is the sigmoid loss of DPO and nothing else: no smoothing, no second
        term. If not, the rules that follow from its formula are left out.
    ceiling : float, optional
        The accuracy that the best guess would have on fresh labels, if you know it (from 0 to 1).

    Returns
    -------
    Diagnosis

    Raises
    ------
    ValueError
        If `history` is no log, or `ceiling` is out of range.

    Notes
    -----
    The rules are in `symptoms`, each a small function with its thresholds. TRL's records of
    training are means over the batches since the last record, and every batch has other pairs;
    a rule that compares records therefore compares means of a third of them.

    Examples
    --------
    A pair whose two answers are the same, and a log with another reference:

    >>> from kl2dpo.policy import PreferencePairs, TabularPolicy, train
    >>> same = PreferencePairs([0], [1], [1])
    >>> history = train(TabularPolicy([[0.0, 0.0]]), same).history
    >>> for finding in diagnose(history).findings:
    ...     print(finding.symptom.name)
    the loss stays at ln 2
    both sides have the same answers
    the rewards stay 0
    >>> record = {"step": 1, "loss": 0.9, "rewards/chosen": 0.8, "rewards/rejected": 1.3}
    >>> print(diagnose([record]).findings[0].evidence)
    at the start the loss is 0.9000, the rewards are 0.800 and 1.300
    """
    if ceiling is not None:
        ceiling = as_number("ceiling", ceiling, (">=", 0), ("<=", 1))
    log = _Log(history, sigmoid, ceiling)
    findings, not_enough = [], {}
    for symptom in symptoms():
        if symptom.rule is not None:
            try:
                evidence = symptom.rule(log)
            except _NotEnough as missing:
                not_enough[symptom.name] = str(missing)
            else:
                findings += [Finding(symptom, evidence)] if evidence else []
    return Diagnosis(tuple(findings), not_enough)


class Identity(NamedTuple):
    """What the numbers of a log must obey: by how much they fail, and what rounding explains."""

    name: str
    off: float
    rounding: float

    @property
    def holds(self):
        """Whether rounding explains the difference."""
        return self.off <= self.rounding

    def __str__(self):
        verdict = "holds" if self.holds else "FAILS"
        return f"{self.name:<40} {verdict}: off by {self.off:.1e}, rounding explains {self.rounding:.1e}"


_UNEQUAL_WEIGHTS = (
    "if the loss is only a little too low: in TRL's records of held-out pairs it is a mean over "
    "pairs, and the other columns are means of batches, of which the last may be smaller"
)


class LogAudit(NamedTuple):
    """What a log reveals: β, the reference, the way of the answers, and whether it is possible.

    `beta` and its error by rounding, `beta_error`; `reference`, shape (2,), the mean
    log-probabilities of the chosen and of the rejected answers under the reference; `moved`, shape
    (2, n_records), their mean log-ratios, in nats. All four are None where the log does not
    determine them. `identities` are four of `Identity`, or three without a reference.
    """

    beta: float | None
    beta_error: float | None
    reference: np.ndarray | None
    moved: np.ndarray | None
    identities: tuple

    @property
    def possible(self):
        """Whether all identities hold."""
        return all(identity.holds for identity in self.identities)

    def __str__(self):
        if self.reference is None or self.moved is None:
            lines = ["β and the reference are not determined"]
        else:
            sure = f"within {self.beta_error:.1e}"
            if not self.identities[1].holds:
                sure = "by records that do not agree"
            lines = [f"β = {self.beta:.4f}, {sure}"]
            for side, ref, moved in zip(("chosen", "rejected"), self.reference, self.moved):
                way = f"log-ratio {moved[0]:.2f} in the first record, {moved[-1]:.2f} in the last"
                lines.append(f"{side}: reference {ref:.4f}, {way}")
        lines += map(str, self.identities)
        if not all(floor.holds for floor in self.identities[-2:]):
            lines.append(_UNEQUAL_WEIGHTS)
        return "\n".join(lines)


def audit_log(history, *, beta=None):
    r"""What was β, what was the reference, and is this log possible at all?

    For the sigmoid loss alone, with no smoothing, with means over the same pairs in all columns
    and records, and rewards that are β times sums of log-ratios:

    .. math:: \text{margins} = \text{chosen} - \text{rejected}, \qquad
              \text{logps} - \text{rewards} / \beta = \text{the same in all records}

    The second is the reference, which does not move, so two records give
    :math:`\beta = \Delta \text{rewards} / \Delta \text{logps}`. And since
    :math:`\ln(1 + e^{-t})` is convex, decreasing, and :math:`\ln 2` at 0,

    .. math:: \text{loss} \ge \ln (1 + e^{-\text{margins}}), \qquad
              \text{loss} \ge (1 - \text{accuracies}) \ln 2

    Parameters
    ----------
    history : dict or list of dict
        As for `diagnose`. Records of held-out pairs are used if there are any, else those of
        training: these are means over the same pairs in `train`, but not in TRL, unless a
        record covers the whole training set.
    beta : float, optional
        β (> 0), if you know it. Then one record gives the reference.

    Returns
    -------
    LogAudit

    Raises
    ------
    ValueError
        If `history` is no log, or no record has all seven names.

    Notes
    -----
    A number is taken to be rounded to the most decimals that its column shows, and to a
    32-bit float. Numbers that were computed in 16 bits may be off by more.

    TRL's ``eval_loss`` is a mean over pairs; its other columns of held-out pairs are means of
    batches, each with the same weight. If the last batch is smaller, the loss may lie a little
    below a floor. β and the reference do not mind. Choose a number of held-out pairs that the
    batch, times the devices, divides.

    β is the slope of the rewards on logps, both sides together. If the logps of the reference
    move by more than 5% of those of the policy, the records are not of the same pairs, and
    nothing is determined.

    Examples
    --------
    >>> from kl2dpo.policy import PreferencePairs, TabularPolicy, train
    >>> pairs = PreferencePairs([0, 0], [1, 2], [2, 0], [3, 1])
    >>> history = train(TabularPolicy(np.log([[0.2, 0.3, 0.5]])), pairs, beta=0.25).history
    >>> found = audit_log(history)
    >>> round(found.beta, 6), found.reference.round(4), found.possible
    (0.25, array([-1.0763, -0.9222]), True)
    """
    log = _Log(history)
    prefix = "eval_" if any("eval_loss" in record for record in log.records) else ""
    try:
        columns = log(*(prefix + name for name in _PAIRS), at_least=1)
    except _NotEnough as missing:
        raise ValueError(f"history has {missing}") from None
    by = dict(zip(_PAIRS, map(_rounding, columns)))
    apart, jensen, wrong = (max(off.max(), 0.0) for off in _violations(*columns[:5]))
    by_loss, by_margins = by["loss"], by["rewards/margins"]
    by_both = by["rewards/chosen"] + by["rewards/rejected"]
    identities = [
        Identity("margins = chosen - rejected", apart, by_both + by_margins),
        Identity("loss >= ln(1 + exp(-margins))", jensen, by_loss + by_margins),
        Identity("loss >= (1 - accuracies) ln 2", wrong, by_loss + by["rewards/accuracies"]),
    ]
    known = None if beta is None else as_number("beta", beta, (">", 0))
    beta, error, reference, moved, steady = _reference(columns[5:], columns[1:3], known)
    identities[1:1] = steady
    return LogAudit(beta, error, reference, moved, tuple(identities))


def _slope(logps, rewards):
    """β by least squares, how far the reference then moves, and what an error of 1 does to β."""
    x, y = (side - side.mean(axis=1, keepdims=True) for side in (logps, rewards))
    if np.sum(x * y) <= 0:
        return 0.0, np.inf, np.inf
    beta = np.sum(x * y) / np.sum(x * x)
    return beta, np.abs(x - y / beta).max(), 2 * np.abs(x).sum() / np.sum(x * x)


def _reference(logps, rewards, beta):
    """β, its error, the logps of the reference, the log-ratios, and whether the reference is steady."""
    by_logps, by_rewards = max(map(_rounding, logps)), max(map(_rounding, rewards))
    way, error = np.ptp(logps, axis=1).max(), 0.0
    if beta is None:
        beta, apart, leverage = _slope(logps, rewards)
        if way <= 4 * by_logps or apart > 0.05 * way:
            return None, None, None, None, []
        error = float(leverage * (by_rewards + beta * by_logps))
    ref = logps - rewards / beta
    off = np.abs(ref - ref.mean(axis=1, keepdims=True)).max()
    rounding = 2 * (by_logps + by_rewards / beta) + error * np.abs(rewards).max() / beta**2
    steady = Identity("logps - rewards / β is the same", off, rounding)
    return float(beta), error, ref.mean(axis=1), rewards / beta, [steady]


def _rounding(column):
    """How far the numbers of a column may be from what was rounded to them."""
    decimals = [np.format_float_positional(x).partition(".")[2] for x in column if x % 1]
    places = max(map(len, decimals), default=np.inf)  # whole numbers say nothing about it
    return 0.5 * 10.0**-places + 2.0**-23 * np.abs(column).max()
