"""The climb to the maximum of the likelihood, and the question whether there is one."""

import numpy as np

from kl2dpo.bradley_terry._comparisons import Comparisons, Gram, some

# A probability too small for a float is not zero.
TINY = np.finfo(float).tiny


class NoFiniteEstimateError(ValueError):
    """The likelihood has no unique maximum: in some direction it grows, or stays, for ever.

    Attributes
    ----------
    groups : tuple of two tuples
        A split of the items in which nobody of the first group ever lost to anybody of the
        second one. Empty if no such split is the reason, but a covariate.
    largest_group : tuple
        The largest group of items among whom each has beaten each other one, if only through
        others: with the comparisons inside it there is an estimate.

    References
    ----------
    Ford (1957), *Solution of a Ranking Problem from Binary Comparisons*.
    """

    def __init__(self, message, groups=(), largest_group=()):
        super().__init__(message)
        self.groups, self.largest_group = groups, largest_group


def climb(data, find_step, penalty, tol, max_iter, check=lambda s: None):
    """Climb the concave log-likelihood by steps that never lower it.

    The slope is that of the log-likelihood along a step. At the start it is positive. If
    it still is at the end, the likelihood has risen, because it is concave. If not, the
    step went beyond the top, and half of it is tried, unless both the step and the
    overshoot are small: over the part t of a step of which no log-odds are above 2, the
    logarithm of the curvature changes by at most 2t, and then the likelihood has risen
    if the slope at the end is at least minus half of the first one. (Without halving,
    Newman's iteration would jump for ever between two points on a graph like A - B.)

    On the way, and at the end, `check` is called with where the climb is.
    """
    terms = 2 + max(len(data.units) - data.n_items, 1)  # of the log-odds of a row
    s = trial = step = np.zeros(len(data.units))
    slope, error = 0.0, np.inf
    for iteration in range(1, max_iter + 1):
        ups, downs = data.ups_and_downs(trial)
        pull = penalty * trial
        score = ups - downs - pull
        pushes = np.maximum(ups + downs + np.abs(pull), TINY)
        allowed = slope / 2 if terms * np.max(np.abs(step)) <= 2 else 0.0
        if dot(score, step) < -allowed:
            step, slope = step / 2, slope / 2
        else:
            s, error = trial, np.max(np.abs(score) / pushes)
            if error <= tol or iteration % 5 == 0:
                check(s)
            if error <= tol:
                return s, iteration, error
            step = find_step(data, s, ups, downs, penalty)
            slope = dot(score, step)
            if not 0 < slope < np.inf:
                # Rounding has spoilt the step: go up each slope on its own.
                step = score / pushes
                slope = dot(score, step)
        trial = s + step
    return s, max_iter, error


def _zermelo_step(data, s, ups, downs, penalty):
    """From s to ln(wins / sum of n_ij / (a_i + a_j)): the log of observed over expected wins."""
    wins = data.rows.sums(data.rows.wins, data.rows.losses)
    return np.log(wins) - np.log(wins - (ups - downs))


def _newman_step(data, s, ups, downs, penalty):
    """From s to ln(sum of w_ij a_j / (a_i + a_j)) - ln(sum of w_ji / (a_i + a_j))."""
    return np.log(np.maximum(ups, TINY)) - np.log(np.maximum(downs, TINY))


def _newton_step(data, s, ups, downs, penalty):
    """Solve (information + penalty) step = score."""
    return solve(data.information(s), ups - downs - penalty * s, penalty)


STEPS = {"newton": _newton_step, "newman": _newman_step, "zermelo": _zermelo_step}


def dot(x, y):
    """x'y without the threads of a BLAS: on a busy machine they wait for each other."""
    return np.einsum("i,i", x, y)


def solve(matrix, right, penalty=0.0, tol=1e-4):
    """Solve (matrix + penalty) x = right by preconditioned conjugate gradients.

    They need products with the matrix only, and find a solution although, without a penalty,
    the matrix is singular along (1, ..., 1).
    """
    diagonal = np.maximum(matrix.diagonal, 1e-15 * matrix.diagonal.max()) + penalty
    residual = right
    x, direction, size = np.zeros(len(right)), 0.0, np.inf
    target = tol**2 * dot(right, right)
    for _ in range(2 * len(right)):
        scaled = residual / diagonal
        size, previous = dot(residual, scaled), size
        direction = scaled + size / previous * direction
        image = matrix @ direction + penalty * direction
        curvature = dot(direction, image)
        # What is left of a singular system at the limit of rounding lies along (1, ..., 1).
        if curvature <= 1e-15 * dot(direction**2, diagonal):
            break
        x = x + size / curvature * direction
        residual = residual - size / curvature * image
        if dot(residual, residual) <= target:
            break
    return x


# When there is an estimate


def check_connected(data, items):
    """Ford's condition, or a NoFiniteEstimateError that shows a split against it."""
    n, (beaten, beaten_by) = len(items), data.neighbours()
    below, above = _flood(beaten, 0, n), _flood(beaten_by, 0, n)
    if len(below) == len(above) == n:
        return
    # Whom item 0 has not beaten, not even through others, never lost to those whom it has.
    # If there is nobody of this kind, it never lost to those who have not beaten it.
    upper = np.isin(np.arange(n), list(below if len(below) < n else above), invert=len(below) < n)
    winners, losers = data.rows.edges()
    met = (upper[winners] & ~upper[losers]).any()
    groups = tuple(tuple(items[k] for k in np.flatnonzero(g)) for g in (upper, ~upper))
    first, second = map(some, groups)
    raise NoFiniteEstimateError(
        f"no finite maximum-likelihood estimate: {first} never {'lost to' if met else 'met'} "
        f"{second}, so any larger distance between them fits as well or better. "
        "Add comparisons, or a penalty > 0",
        groups,
        tuple(items[k] for k in largest_group(data)),
    )


def _flood(neighbours, start, n_items, dry=frozenset()):
    """The items that can be reached from `start`, but for the dry ones; each edge is seen once."""
    reached, todo = {start}, [start]
    while todo and len(reached) < n_items:
        new = set(neighbours(todo.pop()).tolist()) - reached - dry
        reached |= new
        todo += new
    return reached


def largest_group(data):
    """Indices of the largest strongly connected group, by the two searches of Kosaraju."""
    beaten, beaten_by = data.neighbours()
    seen, finished, todo = set(), [], list(range(data.n_items))
    while todo:
        item = todo.pop()
        if item < 0:  # all that can be reached from ~item has been seen
            finished.append(~item)
        elif item not in seen:
            seen.add(item)
            todo += [~item, *beaten(item).tolist()]
    groups, dry = list[set[int]](), set[int]()
    for start in reversed(finished):
        if start not in dry:
            groups.append(_flood(beaten_by, start, data.n_items, dry))
            dry |= groups[-1]
    largest = max(groups, key=len)
    return sorted(largest)


def check_covariates(rows, names):
    """A NoFiniteEstimateError if a covariate cannot be told from the strengths and the covariates before it."""
    weights = rows.wins + rows.losses
    for k, (name, x) in enumerate(zip(names, rows.covariates.T)):
        rest = Comparisons(rows.first, rows.second, rows.n_items, rows.covariates[:, :k])
        fitted = solve(Gram(rest, weights), rest.sums(weights * x, -weights * x), tol=1e-12)
        if weights @ (x - rest.log_odds(fitted)) ** 2 <= 1e-9 * (weights @ x**2):
            raise NoFiniteEstimateError(
                f"covariates[{name!r}] is a sum of differences of the items and of covariates "
                "before it, so no data can tell it from them. Leave it out, or add a penalty > 0"
            )


def check_bounded(rows, names, theta):
    """A NoFiniteEstimateError if some move makes no result less probable, and some more.

    If there is such a move, the steps of Newton tend to it.
    """
    move = solve(rows.information(theta), np.subtract(*rows.ups_and_downs(theta)), tol=1e-10)
    change = rows.log_odds(move)
    gains = np.append(change[rows.wins > 0], -change[rows.losses > 0])
    if gains.max() > 0.1 and gains.min() > -1e-6 * gains.max():
        k = np.argmax(np.abs(move)[rows.n_items :])
        word = "large" if move[rows.n_items + k] > 0 else "negative"
        raise NoFiniteEstimateError(
            f"no finite estimate of the coefficient of covariates[{names[k]!r}]: with strengths "
            f"that balance it, a {word} enough one fits as well or better. "
            "Add comparisons, or a penalty > 0"
        )
