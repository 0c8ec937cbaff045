"""The Bradley-Terry fits of this course beside those of two other libraries, in one run.

    python3 -m venv /somewhere/peers
    /somewhere/peers/bin/python -m pip install -r code/benchmarks/requirements.txt
    /somewhere/peers/bin/python code/benchmarks/bradley_terry.py

Every time is a median. Every error is the largest one of a log-strength, against Newton's
method at the limit of rounding.
"""

import resource
import subprocess
import sys
import time

import numpy as np

from kl2dpo.bradley_terry import fit, fit_comparisons
from kl2dpo.datasets import arena

TARGET = 1e-8


def median_seconds(*functions, repeats=9):
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
    """The largest of the tolerances 1e-5, 3e-6, 1e-6, ... with which `estimate` meets the target."""
    tols = 10.0 ** -np.arange(5, 15, 0.5)
    return next(tol for tol in tols if error(estimate(tol), exact) <= TARGET)


def dense():
    import choix

    battles = arena(1_000, 1_000_000, tie_rate=0)
    winners, losers, _ = battles.comparisons()
    wins = np.bincount(winners * 1_000 + losers, minlength=1_000_000).reshape(1_000, 1_000) * 1.0
    exact = fit(wins, method="newton", tol=1e-14).log_strengths

    def ours(tol):
        return fit(wins, tol=tol).log_strengths

    def theirs(tol):
        return choix.ilsr_pairwise_dense(wins, tol=tol)

    tols = loosest(ours, exact), loosest(theirs, exact)
    times, results = median_seconds(lambda: ours(tols[0]), lambda: theirs(tols[1]))
    print("1,000 items, a win matrix of 1,000,000 comparisons, both to 1e-8")
    for name, tol, seconds, result in zip(["fit", "choix ILSR"], tols, times, results):
        print(
            f"  {name:16} {1e3 * seconds:8.1f} ms   tol {tol:.0e}   error {error(result, exact):.1e}"
        )
    print(f"  ratio            {times[1] / times[0]:8.1f}")


def battles_of_an_arena(n_models, n_battles):
    import jax
    import pandas as pd
    from arena_rank.models.bradley_terry import BradleyTerry
    from arena_rank.utils.data_utils import PairDataset

    battles = arena(n_models, n_battles)
    winners, losers, weights = battles.comparisons()
    exact = fit_comparisons(winners, losers, weights=weights, method="newton", tol=1e-14)
    exact = exact.log_strengths
    table = pd.DataFrame(
        {
            "model_a": battles.model_a,
            "model_b": battles.model_b,
            "winner": np.select(
                [battles.outcome == 1, battles.outcome == 0], ["model_a", "model_b"], "tie"
            ),
        }
    )
    # arena-rank compiles its fit on every call. JAX says how long each compilation took.
    compiling = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiling.append(seconds if "/compile/" in event else 0)
    )
    theirs = []
    for _ in range(4):
        compiling.clear()
        start = time.perf_counter()
        dataset = PairDataset.from_pandas(table)
        jax.block_until_ready((dataset.pairs, dataset.opt_weights))
        read = time.perf_counter() - start - sum(compiling)
        compiling.clear()
        start = time.perf_counter()
        ratings = np.asarray(BradleyTerry(n_models).fit(dataset).params["ratings"])
        theirs.append([read, time.perf_counter() - start - sum(compiling)])
    # The first round compiles what the later ones find ready.
    read, fitted = np.median(theirs[1:], axis=0)

    def estimate(tol):
        return fit_comparisons(winners, losers, weights=weights, tol=tol).log_strengths

    tol = loosest(estimate, exact)
    (ours,), (result,) = median_seconds(lambda: estimate(tol))
    print(f"{n_models:,} models, {n_battles:,} battles, from lists of results to log-strengths")
    print(f"  fit_comparisons  {1e3 * ours:8.1f} ms   error {error(result, exact):.1e}")
    print(f"  arena-rank       {1e3 * (read + fitted):8.1f} ms   error {error(ratings, exact):.1e}")
    print(f"  ratio            {(read + fitted) / ours:8.1f}   (compilation excluded)")
    print(
        f"  its optimiser alone, on data prepared before: {1e3 * fitted:.1f} ms, ratio {fitted / ours:.1f}"
    )


def growth():
    print("fit_comparisons to 1e-8 as the graph grows, each size in a process of its own")
    for n in (1_000, 10_000, 100_000):
        subprocess.run([sys.executable, __file__, "one-size", str(n)], check=True)


def one_size(n_items):
    battles = arena(n_items, 10 * n_items, spread=0.5)
    winners, losers, weights = battles.comparisons()
    # A ring of ties keeps the graph connected.
    ring = np.arange(n_items)
    winners = np.concatenate([winners, ring, np.roll(ring, 1)])
    losers = np.concatenate([losers, np.roll(ring, 1), ring])
    weights = np.append(weights, np.full(2 * n_items, 0.5))
    exact = fit_comparisons(winners, losers, weights=weights, method="newton", tol=1e-13)

    def estimate(tol):
        return fit_comparisons(winners, losers, weights=weights, tol=tol).log_strengths

    tol = loosest(estimate, exact.log_strengths)
    (seconds,), (result,) = median_seconds(lambda: estimate(tol), repeats=5)
    pairs = len(np.unique(np.minimum(winners, losers) * n_items + np.maximum(winners, losers)))
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"  {n_items:7,} items {pairs:9,} pairs {seconds:7.3f} s   {megabytes:5.0f} MiB at most   "
        f"error {error(result, exact.log_strengths):.1e}",
        flush=True,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["one-size"]:
        one_size(int(sys.argv[2]))
    else:
        growth()  # first: a process inherits the peak memory of the one that starts it
        dense()
        battles_of_an_arena(50, 100_000)
        battles_of_an_arena(1_000, 1_000_000)
