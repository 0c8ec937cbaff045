"""The Bradley-Terry fits of this course beside those of three other libraries, in one run.

From the root of the repository, in an environment of its own:

    python3 -m venv /somewhere/peers
    /somewhere/peers/bin/python -m pip install -r code/benchmarks/requirements.txt
    /somewhere/peers/bin/python code/benchmarks/bradley_terry.py

All start from the same data: a matrix of wins, or two lists, of names or of indices, of who
won and who lost; what a library makes of them is in its time. Every time is a median, and the
libraries take turns. Every error is the largest one of a log-strength, against Newton's
method at the limit of rounding; each fit has the loosest tolerance that brings it below 1e-8,
or the tightest that it can have.
"""

import resource
import subprocess
import sys
import time
from functools import partial

import numpy as np

from kl2dpo.bradley_terry import fit, fit_comparisons
from kl2dpo.datasets import arena

TARGET = 1e-8
TOLERANCES = 10.0 ** -np.arange(5, 15, 0.5)


def median_seconds(*functions, repeats=5):
    """Median times and last results; the functions take turns, so that a busy moment hits all."""
    seconds, results = np.empty((repeats, len(functions))), None
    for row in seconds:
        results = []
        for k, function in enumerate(functions):
            start = time.perf_counter()
            results.append(function())
            row[k] = time.perf_counter() - start
    return np.median(seconds, axis=0), results


def error(log_strengths, exact):
    return np.abs(log_strengths - log_strengths.mean() - exact).max()


def loosest(estimate, exact):
    """`estimate` with the largest tolerance that meets the target, or with the smallest of all."""
    met = (tol for tol in TOLERANCES if error(estimate(tol), exact) <= TARGET)
    tol = next(met, TOLERANCES[-1])
    return lambda: estimate(tol)


def compare(title, ours, exact, **theirs):
    """Print the times of all, and the ratios to ours."""
    seconds, results = median_seconds(ours, *theirs.values())
    print(title)
    for name, time_, result in zip(["kl2dpo", *theirs], seconds, results):
        ratio = f"{time_ / seconds[0]:8.1f} times as long" if name != "kl2dpo" else ""
        print(f"  {name:11} {1e3 * time_:9.1f} ms   error {error(result, exact):.0e} {ratio}")
    sys.stdout.flush()


def dense():
    import choix

    battles = arena(1_000, 1_000_000, tie_rate=0)
    winners, losers, _ = battles.comparisons()
    wins = np.bincount(winners * 1_000 + losers, minlength=1_000_000).reshape(1_000, 1_000) * 1.0
    exact = fit(wins, tol=1e-14).log_strengths
    compare(
        "A matrix of 1,000,000 wins of 1,000 items",
        loosest(lambda tol: fit(wins, tol=tol).log_strengths, exact),
        exact,
        choix=loosest(lambda tol: choix.ilsr_pairwise_dense(wins, tol=tol), exact),
    )


def lists(n_models, n_battles, named):
    import evalica
    import jax
    import pandas as pd
    from arena_rank.models.bradley_terry import BradleyTerry
    from arena_rank.utils.data_utils import PairDataset

    battles = arena(n_models, n_battles, tie_rate=0)
    winners, losers, _ = battles.comparisons()
    # In the order in which names are sorted, so that all results are in one order.
    order = np.argsort(np.argsort(battles.names))
    labels = sorted(battles.names) if named else list(range(n_models))
    winners, losers = ([labels[k] for k in order[side]] for side in (winners, losers))
    exact = fit_comparisons(winners, losers, tol=1e-14).log_strengths

    def ours(tol):
        return fit_comparisons(winners, losers, tol=tol).log_strengths

    def by_evalica(tol):
        won = [evalica.Winner.X] * len(winners)
        scores = evalica.bradley_terry(winners, losers, won, tolerance=tol, limit=1_000).scores
        return np.log(scores.loc[labels].to_numpy())

    def by_arena_rank():
        table = pd.DataFrame({"model_a": winners, "model_b": losers, "winner": "model_a"})
        dataset = PairDataset.from_pandas(table)
        ratings = np.asarray(BradleyTerry(n_models).fit(dataset).params["ratings"])
        return ratings[[dataset.competitors.index(label) for label in labels]]

    # arena-rank compiles its fit on every call. JAX says how long each compilation took.
    compiling = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiling.append(seconds if "/compile/" in event else 0)
    )
    kind = "names" if named else "indices"
    compare(
        f"Lists of {kind}, {n_battles:,} battles of {n_models:,} models",
        loosest(ours, exact),
        exact,
        evalica=loosest(by_evalica, exact),
        **{"arena-rank": by_arena_rank},
    )
    print(f"  (of arena-rank's, {1e3 * np.sum(compiling) / 5:.0f} ms a run compile)", flush=True)
    jax.monitoring.clear_event_listeners()


def growth():
    print("Lists of indices as the graph grows, each size in a process of its own")
    for n in (1_000, 10_000, 100_000):
        subprocess.run([sys.executable, __file__, "one-size", str(n)], check=True)


def one_size(n_items):
    battles = arena(n_items, 10 * n_items, spread=0.5)
    winners, losers, ties = battles.comparisons()
    # A ring of ties keeps the graph connected.
    ring = np.arange(n_items)
    winners, losers = np.append(winners, ring), np.append(losers, np.roll(ring, 1))
    ties = np.append(ties, np.ones(n_items, bool))
    exact = fit_comparisons(winners, losers, ties=ties, tol=1e-13).log_strengths
    estimate = loosest(
        lambda tol: fit_comparisons(winners, losers, ties=ties, tol=tol).log_strengths, exact
    )
    (seconds,), (result,) = median_seconds(estimate)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"  {n_items:7,} items {len(winners):9,} battles {seconds:7.3f} s   "
        f"{megabytes:5.0f} MiB at most   error {error(result, exact):.0e}",
        flush=True,
    )


def shapes():
    print("Graphs that news crosses slowly: each pair met three times, 2:1")
    for n in (1_000, 10_000):
        for shape, (first, second) in graphs(n).items():
            winners, losers = np.append(first, second), np.append(second, first)
            weights = np.repeat([2.0, 1.0], len(first))
            estimate = partial(fit_comparisons, winners, losers, weights=weights)
            (seconds,), _ = median_seconds(estimate, repeats=3)
            print(f"  {n:7,} items in a {shape:12} {seconds:8.3f} s", flush=True)


def graphs(n):
    """Pairs of items that met, each in a random direction."""
    items, rng = np.arange(n), np.random.default_rng(0)
    square = items[: int(n**0.5) ** 2].reshape(int(n**0.5), -1)
    drawn = rng.integers(n, size=(2, 5 * n))
    pairs = {
        "chain": (items[:-1], items[1:]),
        "ring": (items, np.roll(items, -1)),
        "star": (np.zeros(n - 1, int), items[1:]),
        "grid": (
            np.append(square[:, :-1], square[:-1]),
            np.append(square[:, 1:], square[1:]),
        ),
        "random graph": np.append(
            drawn[:, drawn[0] != drawn[1]], [items, np.roll(items, 1)], axis=1
        ),
    }
    for shape, (first, second) in pairs.items():
        turned = rng.random(len(first)) < 0.5
        pairs[shape] = np.where(turned, second, first), np.where(turned, first, second)
    return pairs


if __name__ == "__main__":
    if sys.argv[1:2] == ["one-size"]:
        one_size(int(sys.argv[2]))
    else:
        growth()  # first: a process inherits the peak memory of the one that starts it
        shapes()
        dense()
        for named in (True, False):
            lists(50, 100_000, named)
            lists(1_000, 1_000_000, named)
