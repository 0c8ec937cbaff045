import tracemalloc
import warnings
from dataclasses import replace

import choix
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse.csgraph
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose

from kl2dpo.bradley_terry import (
    NoFiniteEstimateError,
    _climb,
    _Table,
    fit,
    fit_comparisons,
    fit_home_advantage,
    information,
    log_likelihood,
    loss,
    score,
    win_probability,
)
from kl2dpo.datasets import baseball, citations, football

METHODS = ["newman", "zermelo", "newton"]
FOOTBALL = football().wins


def tables(n=5, largest=9):
    """Tables of wins of n items, many of them with zeros."""
    counts = hnp.arrays(float, (n, n), elements=st.integers(0, largest).map(float))
    return counts.map(lambda w: w * ~np.eye(n, dtype=bool))


def groups_of(wins):
    return scipy.sparse.csgraph.connected_components(wins, connection="strong")[0]


def connected_tables(n=5, largest=9):
    return tables(n, largest).filter(lambda w: groups_of(w) == 1)


def simulated(rng, log_strengths, games):
    """A table in which every pair has met `games` times."""
    p = win_probability(*np.meshgrid(np.exp(log_strengths), np.exp(log_strengths), indexing="ij"))
    upper = np.triu(rng.binomial(games, p), 1)
    return upper + np.tril(games - upper.T, -1)


def log_strengths(n=5):
    return hnp.arrays(float, n, elements=st.floats(-3, 3))


def edges(wins):
    winners, losers = np.nonzero(wins)
    return winners, losers, wins[winners, losers]


# The formulas


def test_win_probability():
    assert_allclose(win_probability(2, [1, 3]), [2 / 3, 0.4], rtol=1e-15)
    assert win_probability(1e300, 1e-300) == 1
    assert win_probability(1e308, 1e308) == 0.5
    assert_allclose(win_probability(1e-300, 1e300), 0, atol=1e-300)
    assert win_probability(np.ones((3, 1)), np.ones(4)).shape == (3, 4)


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_win_probability_depends_on_the_ratio_only(a, b, factor):
    assert_allclose(win_probability(a, b), a / (a + b), rtol=1e-12)
    assert_allclose(win_probability(factor * a, factor * b), win_probability(a, b), rtol=1e-9)
    assert_allclose(win_probability(a, b) + win_probability(b, a), 1, rtol=1e-12)


def test_football_exactly():
    s = np.log([2, 1, 10 / 3])
    by_hand = 8 * np.log(2 / 3) + 4 * np.log(1 / 3) + 3 * np.log(3 / 8) + 5 * np.log(5 / 8)
    assert_allclose(log_likelihood(s, FOOTBALL), by_hand, rtol=1e-14)
    assert_allclose(loss(s, FOOTBALL), -by_hand / 20, rtol=1e-14)
    assert_allclose(loss(s, np.float16(4_000 * FOOTBALL)), -by_hand / 20, rtol=1e-14)
    assert_allclose(log_likelihood(np.log([2, 1, 3]), FOOTBALL), -12.941170, atol=5e-7)
    assert_allclose(score(s, FOOTBALL), 0, atol=1e-14)
    expected = 12 * 2 / 9, 8 * 15 / 64
    assert_allclose(-information(s, FOOTBALL)[0, 1:], expected, rtol=1e-14)


@given(tables(), log_strengths())
def test_likelihood_loss_and_choix(wins, s):
    assume(wins.any())
    data = [(i, j) for i, j, count in zip(*edges(wins)) for _ in range(int(count))]
    assert_allclose(log_likelihood(s, wins), choix.log_likelihood_pairwise(data, s), rtol=1e-12)
    assert_allclose(loss(s, wins), -log_likelihood(s, wins) / len(data), rtol=1e-12)
    assert_allclose(log_likelihood(s + 7, wins), log_likelihood(s, wins), rtol=1e-9)


def test_likelihood_of_several_vectors_at_once():
    s = np.random.default_rng(0).normal(size=(2, 4, 3))
    several = log_likelihood(s, FOOTBALL)
    assert several.shape == loss(s, FOOTBALL).shape == (2, 4)
    for index in np.ndindex(2, 4):
        assert_allclose(several[index], log_likelihood(s[index], FOOTBALL), rtol=1e-14)


def test_the_smallest_count_counts():
    assert_allclose(log_likelihood([0, 0], [[0, 1e-100], [0, 0]]), -1e-100 * np.log(2))


def test_likelihood_far_from_the_data():
    assert log_likelihood([0, 1e4], [[0, 1], [0, 0]]) == -1e4
    assert log_likelihood([1e4, 0], [[0, 1], [0, 0]]) == 0
    assert_allclose(score([0, 1e4], [[0, 1], [0, 0]]), [1, -1])
    assert_allclose(information([0, 1e4], [[0, 1], [0, 0]]), 0)


@given(tables(), log_strengths(), st.sampled_from([0.1, 1.0, 10.0]), st.sampled_from([1, 1000]))
def test_score_and_information_are_derivatives(wins, s, scale, factor):
    assume(wins.any())
    wins, s, h = factor * wins, scale * s, 1e-5
    steps = h * np.eye(5)
    slopes = (log_likelihood(s + steps, wins) - log_likelihood(s - steps, wins)) / (2 * h)
    size = wins.sum() * (1 + np.ptp(s))
    assert_allclose(score(s, wins), slopes, atol=1e-9 * size)
    bends = [(score(s + step, wins) - score(s - step, wins)) / (2 * h) for step in steps]
    assert_allclose(information(s, wins), -np.array(bends), atol=1e-9 * size)


@given(tables(), log_strengths())
def test_information_is_a_laplacian(wins, s):
    assume(wins.any())
    matrix = information(s, wins)
    assert_allclose(score(s, wins).sum(), 0, atol=1e-11)
    assert_allclose(matrix, matrix.T)
    assert_allclose(matrix.sum(axis=0), 0, atol=1e-11)
    assert np.linalg.eigvalsh(matrix).min() > -1e-11


# Estimates


@pytest.mark.parametrize("method", METHODS)
def test_fit_of_football(method):
    result = fit(FOOTBALL, method=method, names="ABC")
    assert result.converged and result.method == method and result.penalty == 0
    assert_allclose(result.relative_to("B"), np.log([2, 1, 10 / 3]), atol=1e-9)
    assert_allclose(result.log_strengths.sum(), 0, atol=1e-14)
    assert_allclose(np.prod(result.strengths), 1)
    assert_allclose(result.log_likelihood, -12.930676, atol=5e-7)
    assert result.ranking() == ["C", "A", "B"]
    p = result.probabilities()
    assert_allclose([p[0, 1], p[0, 2], p[1, 2]], [2 / 3, 3 / 8, 3 / 13], atol=1e-9)
    assert_allclose(p + p.T, 1)


@given(connected_tables(), st.permutations(range(5)), st.sampled_from([1e-6, 0.5, 1e6]))
def test_agreement_and_invariance(wins, order, factor):
    s = fit(wins, method="newton").log_strengths
    assert_allclose(score(s, wins), 0, atol=1e-9 * wins.sum())
    for method in METHODS:
        assert_allclose(fit(wins, method=method).log_strengths, s, atol=1e-7)
        scaled = fit(factor * wins, method=method)
        assert_allclose(scaled.log_strengths, s, atol=1e-7)
        winners, losers, counts = edges(wins)
        sparse = fit_comparisons(winners, losers, weights=counts, method=method)
        assert_allclose(sparse.log_strengths, s, atol=1e-7)
    permuted = fit(wins[np.ix_(order, order)]).log_strengths
    assert_allclose(permuted, s[order], atol=1e-7)
    reversed_ = fit(wins.T).log_strengths
    assert_allclose(reversed_, -s, atol=1e-7)
    assert_allclose(choix.ilsr_pairwise_dense(wins, max_iter=100_000, tol=1e-10), s, atol=1e-6)


@given(connected_tables())
def test_sparse_and_dense_results_agree(wins):
    winners, losers, counts = edges(wins)
    dense, sparse = fit(wins), fit_comparisons(winners, losers, weights=counts)
    assert_allclose(sparse.log_likelihood, dense.log_likelihood, rtol=1e-9)
    assert_allclose(sparse.covariance, dense.covariance, rtol=1e-5, atol=1e-7)
    assert sparse.items == dense.items == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("method", METHODS)
def test_half_wins_and_repeated_comparisons(method):
    tie_counts_half = fit([[0, 1.5, 2], [2.5, 0, 1], [1, 3, 0]], method=method)
    winners = [0, 0, 1, 1, 1, 0, 0, 1, 2, 2, 2, 2]
    losers = [1, 1, 0, 0, 0, 2, 2, 2, 0, 1, 1, 1]
    weights = [1, 0.5, 0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    listed = fit_comparisons(winners, losers, weights=weights, method=method)
    assert_allclose(listed.log_strengths, tie_counts_half.log_strengths, atol=1e-9)


@pytest.mark.parametrize("n", [30, 300])
def test_newton_on_a_long_chain(n):
    # Each item meets its neighbours only: news of a result travels one item in a step.
    lower = np.arange(n - 1)
    winners, losers = np.append(lower, lower + 1), np.append(lower + 1, lower)
    weights = np.repeat([10.0, 1.0], n - 1)
    result = fit_comparisons(winners, losers, weights=weights, method="newton")
    assert_allclose(np.diff(result.log_strengths), -np.log(10), atol=1e-8)
    assert result.n_iterations < 20
    table = np.diag(np.full(n - 1, 10.0), 1) + np.diag(np.ones(n - 1), -1)
    assert_allclose(fit(table, method="newton").log_strengths, result.log_strengths, atol=1e-8)


def test_names():
    winners, losers = ["Cy", "Al", "Bo"], ["Al", "Bo", "Cy"]
    assert fit_comparisons(winners, losers).items == ("Al", "Bo", "Cy")
    assert fit_comparisons(np.array(winners, dtype=object), losers).items == ("Al", "Bo", "Cy")
    named = fit_comparisons([2, 0, 1], [0, 1, 2], names=["Al", "Bo", "Cy"])
    assert named.items == ("Al", "Bo", "Cy")
    unsigned = fit_comparisons(np.array([2, 0, 1], dtype=np.uint8), [0, 1, 2], n_items=3)
    assert unsigned.items == (0, 1, 2)


def test_large_indices_do_not_overflow():
    # 200 * 300 + 250 does not fit in the type of the indices.
    ring = np.arange(300)
    winners, losers = np.append(ring, np.roll(ring, 1)), np.append(np.roll(ring, 1), ring)
    result = fit_comparisons(winners.astype(np.int16), losers.astype(np.uint16), method="newton")
    assert_allclose(result.log_strengths, 0, atol=1e-12)


def test_weights_of_zero_compare_nothing():
    winners, losers, weights = [0, 1, 2, 2], [1, 0, 1, 3], [1, 1, 0, 0]
    with pytest.raises(NoFiniteEstimateError, match="2, 3 never met 0, 1"):
        fit_comparisons(winners, losers, weights=weights)


def test_ranking_keeps_the_order_of_equal_items():
    equal = fit(np.ones((4, 4)) - np.eye(4), names="DBCA")
    assert equal.ranking() == ["D", "B", "C", "A"]
    # Enough of them that an unstable sort would mix them.
    many = replace(equal, items=tuple(range(20)), log_strengths=np.tile([0.0, 1.0], 10))
    assert many.ranking() == [*range(1, 20, 2), *range(0, 20, 2)]


@pytest.mark.parametrize("factor", [1e-8, 1e8])
def test_standard_errors_scale(factor):
    assert_allclose(
        fit(factor * citations().wins).standard_errors(),
        fit(citations().wins).standard_errors() / np.sqrt(factor),
        rtol=1e-8,
    )


def test_groups_that_hardly_met():
    wins = np.array([[0, 1e6, 0, 0], [1e6, 0, 1e-3, 0], [0, 1e-3, 0, 1e6], [0, 0, 1e6, 0]])
    assert_allclose(fit(wins, method="newton").standard_errors(1)[2], np.sqrt(2e3), rtol=1e-4)
    wins[1, 2] = wins[2, 1] = 1e-10
    message = "^no covariance: the information matrix is singular to the limit of rounding$"
    with pytest.raises(ValueError, match=message):
        fit(wins, method="newton").standard_errors()


def test_memory_grows_with_the_pairs_not_with_n_squared():
    n, rng = 20_000, np.random.default_rng(0)
    ring = np.arange(n)
    winners = np.concatenate([ring, rng.integers(n, size=5 * n)])
    losers = np.concatenate([np.roll(ring, 1), rng.integers(n, size=5 * n)])
    distinct = winners != losers
    tracemalloc.start()
    fit_comparisons(winners[distinct], losers[distinct], tol=1e-6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400 * len(winners)  # bytes; n^2 numbers would take 3.2 GB


@pytest.mark.parametrize("name", ["citations", "chain", "cycle"])
@pytest.mark.parametrize("method", METHODS)
def test_no_step_lowers_the_likelihood(name, method):
    cycle = np.zeros((5, 5))
    cycle[range(5), [1, 2, 3, 4, 0]] = [67, 3843076, 33, 2241, 12]
    chain = np.diag(np.full(5, 9.0), 1) + np.diag(np.ones(5), -1)
    wins = {"citations": citations().wins, "chain": chain, "cycle": cycle}[name]
    with pytest.warns(RuntimeWarning):
        reached = [fit(wins, method=method, max_iter=k).log_likelihood for k in range(1, 40)]
        fit(wins, method=method, max_iter=1)
    assert np.all(np.diff(reached) >= -1e-12 * abs(reached[0]))
    assert reached[-1] > reached[0]


@given(connected_tables(4, 30), st.integers(1, 12), st.sampled_from(METHODS))
def test_converged_means_what_the_documentation_says(wins, max_iter, method):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result = fit(wins, method=method, tol=1e-3, max_iter=max_iter)
    surprise = wins * result.probabilities().T
    ups, downs = surprise.sum(axis=1), surprise.sum(axis=0)
    error = np.max(np.abs(ups - downs) / (ups + downs))
    assert result.converged == (error <= 1e-3) or abs(error - 1e-3) < 1e-12
    assert result.n_iterations <= max_iter


def test_first_steps_are_their_formulas():
    wins, start = football().wins, np.zeros(3)
    games = wins + wins.T
    zermelo = np.log(wins.sum(axis=1) / (games / 2).sum(axis=1))
    newton = np.linalg.pinv(information(start, wins)) @ score(start, wins)
    for method, step in [("zermelo", zermelo), ("newton", newton)]:
        with pytest.warns(RuntimeWarning):
            result = fit(wins, method=method, max_iter=2)
        assert_allclose(result.log_strengths, step - step.mean(), atol=1e-12)
    # With a prior the second step of Newton starts where its pull is not zero.
    for _ in range(2):
        posterior = information(start, wins) + 2 * np.eye(3)
        start = start + np.linalg.solve(posterior, score(start, wins) - 2 * start)
    with pytest.warns(RuntimeWarning):
        result = fit(wins, method="newton", penalty=2.0, max_iter=3)
    assert_allclose(result.log_strengths, start, atol=1e-9)
    # All at once goes too far here, so Newman's step is halved, once.
    newman = np.log(wins.sum(axis=1) / wins.sum(axis=0)) / 2
    with pytest.warns(RuntimeWarning):
        result = fit(wins, max_iter=3)
    assert_allclose(result.log_strengths, newman - newman.mean(), atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("upset", [1e-4, 1e-10, 1e-12])
def test_rare_upsets(method, upset):
    result = fit([[0, 1], [upset, 0]], method=method)
    assert_allclose(np.subtract(*result.log_strengths), -np.log(upset), rtol=1e-8)
    assert_allclose(result.standard_errors(1)[0], np.sqrt(1 + 1 / upset), rtol=1e-5)


def test_a_cycle_of_very_unequal_wins():
    items = np.arange(5)
    weights = [67, 3843076, 33, 2241, 12]
    results = [
        fit_comparisons(items, (items + 1) % 5, weights=weights, method=method).log_strengths
        for method in ("newton", "newman")
    ]
    assert_allclose(results[0], results[1], atol=1e-6)
    assert np.ptp(results[0]) > 19


@pytest.mark.parametrize("seed", [329, 330])
def test_cycles_on_which_rounding_spoils_the_steps_of_newton(seed):
    rng = np.random.default_rng(seed)
    n = rng.integers(3, 9)
    wins = np.zeros((n, n))
    wins[np.arange(n), np.roll(np.arange(n), -1)] = 10 ** rng.uniform(-3, 7, n)
    result = fit(wins, method="newton")
    assert result.converged
    surprise = wins * result.probabilities().T
    assert_allclose(surprise.sum(axis=1), surprise.sum(axis=0), rtol=1e-9)


def test_no_convergence_is_said():
    message = (
        r"^no convergence in max_iter=2 iterations: the pushes on an item differ by \d\.\de-\d\d of "
        r"their sum, expected at most tol=1e-10; try method='newton', or a larger max_iter$"
    )
    with pytest.warns(RuntimeWarning, match=message) as caught:
        result = fit(citations().wins, max_iter=2)
    assert caught[0].filename == __file__
    assert result.converged is False and result.n_iterations == 2
    assert "NOT CONVERGED in 2 iterations" in repr(result)


def test_repr():
    result = fit(citations().wins, names=citations().names)
    lines = repr(result).splitlines()
    assert lines[0] == "BradleyTerryFit of 4 items, log-likelihood -1622.889809"
    assert lines[1].startswith("by newman, converged in ")
    assert lines[2].split() == ["JRSS-B", "1.0589"] and lines[5].startswith("  Comm Statist")
    many = fit(np.ones((12, 12)) - np.eye(12))
    assert len(repr(many).splitlines()) == 13 and repr(many).endswith("... and 2 more")
    table = baseball()
    home = fit_home_advantage(table.home_wins, table.away_wins)
    assert repr(home).endswith("home advantage 0.3023")


# Published tables


def test_stigler_citations():
    names, wins = citations()
    result = fit(wins, names=names)
    assert_allclose(result.relative_to("Biometrika"), [0, -2.9491, -0.4796, 0.2690], atol=5e-5)
    assert_allclose(result.standard_errors("Biometrika"), [0, 0.1025, 0.0606, 0.0708], atol=5e-5)
    played = wins + wins.T
    observed = np.where(played > 0, wins, np.nan) / np.where(played > 0, played, 1)
    deviance = 2 * np.nansum(wins * np.log(observed / result.probabilities()))
    assert_allclose(deviance, 4.2934, atol=5e-5)


def test_agresti_baseball():
    table = baseball()
    result = fit(table.wins, names=table.names)
    published = [1.58, 1.44, 1.29, 1.25, 1.11, 0.68, 0]
    assert_allclose(result.relative_to("Baltimore"), published, atol=5e-3)
    assert_allclose(result.standard_errors("Baltimore")[:-1], 0.34, atol=0.03)

    home = fit_home_advantage(table.home_wins, table.away_wins, names=table.names)
    shares = home.strengths / home.strengths.sum()
    assert_allclose(shares, [0.220, 0.190, 0.164, 0.157, 0.137, 0.088, 0.044], atol=5e-4)
    assert_allclose(home.home_advantage, 0.302, atol=5e-4)
    assert home.converged and home.method == "newton" and home.ranking()[0] == "Milwaukee"


# Standard errors


@given(connected_tables())
def test_covariance_is_the_pseudo_inverse(wins):
    result = fit(wins, method="newton")
    expected = np.linalg.pinv(information(result.log_strengths, wins), rcond=1e-10, hermitian=True)
    scale = np.abs(expected).max()
    assert_allclose(result.covariance, expected, atol=1e-7 * scale)
    assert_allclose(result.standard_errors(), np.sqrt(np.diag(expected)), rtol=1e-6)
    for k in range(5):
        contrast = np.eye(5) - np.eye(5)[k]
        variances = np.diag(contrast @ expected @ contrast.T)
        errors = result.standard_errors(k)
        assert errors[k] == 0
        assert_allclose(errors, np.sqrt(np.maximum(variances, 0)), rtol=1e-5, atol=1e-12)


def test_standard_errors_are_the_spread_of_estimates():
    rng = np.random.default_rng(3)
    truth = np.array([-1.0, -0.2, 0.3, 0.9])
    results = [fit(simulated(rng, truth, 60)) for _ in range(1_500)]
    z = np.array([(r.log_strengths - truth) / r.standard_errors() for r in results])
    # Mean 0, spread 1, and 95 percent within 1.96; 4 standard errors of 1500 draws.
    assert np.abs(z.mean(axis=0)).max() < 4 / np.sqrt(1_500) + 0.02
    assert_allclose(z.std(axis=0), 1, atol=4 / np.sqrt(3_000))
    assert_allclose((np.abs(z) < 1.96).mean(axis=0), 0.95, atol=4 * np.sqrt(0.0475 / 1_500))


# Home advantage


def home_log_likelihood(parameters, home, away):
    s, h = parameters[:-1], parameters[-1]
    log_odds = s[:, None] - s + h
    return -(home * np.logaddexp(0, -log_odds) + away * np.logaddexp(0, log_odds)).sum()


def home_is_finite(home, away):
    """By linear programming: no direction in which no result becomes less probable."""
    n = len(home)
    winners_first = [(i, j, 1.0) for i, j in np.argwhere(home)]
    winners_first += [(j, i, -1.0) for i, j in np.argwhere(away)]
    rows = np.zeros((len(winners_first), n + 1))
    for row, (winner, loser, place) in zip(rows, winners_first):
        row[winner], row[loser], row[n] = 1, -1, place
    # The largest sum of the gains, if none is negative.
    best = scipy.optimize.linprog(
        -rows.sum(axis=0), A_ub=-rows, b_ub=np.zeros(len(rows)), bounds=[(-1, 1)] * (n + 1)
    )
    return np.linalg.matrix_rank(rows) == n and best.fun > -1e-9


@settings(max_examples=150)
@given(tables(3, 2), tables(3, 2))
def test_home_estimate_is_the_maximum_or_refused(home, away):
    assume(home.any() and away.any())
    if not home_is_finite(home, away):
        with pytest.raises(NoFiniteEstimateError):
            fit_home_advantage(home, away)
        return
    result = fit_home_advantage(home, away)
    parameters = np.append(result.log_strengths, result.home_advantage)
    assert_allclose(result.log_likelihood, home_log_likelihood(parameters, home, away), rtol=1e-12)
    h = 1e-4
    steps = h * np.eye(4)

    def slope(at):
        return np.array(
            [
                home_log_likelihood(at + step, home, away)
                - home_log_likelihood(at - step, home, away)
                for step in steps
            ]
        ) / (2 * h)

    assert_allclose(slope(parameters), 0, atol=1e-6)
    bends = -np.array(
        [(slope(parameters + step) - slope(parameters - step)) / (2 * h) for step in steps]
    )
    expected = np.linalg.pinv(bends, rcond=1e-5, hermitian=True)
    assert_allclose(result.covariance, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    assert_allclose(result.home_standard_error, np.sqrt(result.covariance[-1, -1]), rtol=1e-12)
    assert result.standard_errors().shape == (3,)


def test_home_advantage_turns_with_the_place():
    table = baseball()
    home = fit_home_advantage(table.home_wins, table.away_wins)
    turned = fit_home_advantage(table.away_wins.T, table.home_wins.T)
    assert_allclose(turned.home_advantage, -home.home_advantage)
    assert_allclose(turned.log_strengths, home.log_strengths, atol=1e-8)
    none = fit(table.wins)
    assert none.home_advantage is None and none.home_standard_error is None


@pytest.mark.parametrize("at_home, word", [(True, "large"), (False, "negative")])
def test_home_advantage_without_bound(at_home, word):
    # All three beat each other, always in the same place, but for one win of a strong guest.
    always, once = 2 * (np.ones((3, 3)) - np.eye(3)), np.zeros((3, 3))
    once[0, 1] = 1
    home, away = (always, once) if at_home else (once, always)
    with pytest.raises(NoFiniteEstimateError, match=f"a {word} enough one fits as well") as caught:
        fit_home_advantage(home, away)
    assert caught.value.groups == ()


# Penalty


@pytest.mark.parametrize("penalty", [1e-3, 1.0, 50.0])
@given(wins=tables())
@settings(max_examples=30)
def test_penalty_is_a_gaussian_prior(penalty, wins):
    assume(wins.any())
    result = fit(wins, method="newton", penalty=penalty)
    s = result.log_strengths
    assert result.penalty == penalty
    # The maximum of the log-posterior: likelihood times N(0, 1 / penalty) for each item.
    assert_allclose(score(s, wins), penalty * s, atol=1e-8 * (1 + wins.sum()))
    posterior = information(s, wins) + penalty * np.eye(5)
    assert_allclose(result.covariance, np.linalg.inv(posterior), rtol=1e-5, atol=1e-8 / penalty)
    winners, losers, counts = edges(wins)
    sparse = fit_comparisons(
        winners, losers, weights=counts, n_items=5, method="newton", penalty=penalty
    )
    assert_allclose(sparse.log_strengths, s, atol=1e-6)
    assert_allclose(s.sum(), 0, atol=1e-11)


@pytest.mark.parametrize("penalty", [1e-3, 1e-12, 1e-100])
def test_a_weak_prior_holds_an_unbeaten_item(penalty):
    # s - (-s) with sigma(-2s) = penalty * s, and both shares solved by bisection.
    result = fit([[0, 1], [0, 0]], method="newton", penalty=penalty)
    s = scipy.optimize.brentq(
        lambda s: -np.logaddexp(0, 2 * s) - np.log(penalty * s), 1e-6, 1e3, xtol=1e-13
    )
    assert_allclose(result.log_strengths, [s, -s], rtol=1e-7)


def test_limits_of_the_penalty():
    assert_allclose(fit(FOOTBALL, method="newton", penalty=1e9).log_strengths, 0, atol=1e-8)
    weak = fit(FOOTBALL, method="newton", penalty=1e-9).log_strengths
    assert_allclose(weak, fit(FOOTBALL).log_strengths, atol=1e-8)
    alone = fit_comparisons([0, 1], [1, 0], n_items=3, method="newton", penalty=2.0)
    assert_allclose(alone.log_strengths, 0, atol=1e-12)
    assert_allclose(alone.standard_errors()[2], np.sqrt(1 / 2))


# No finite estimate


@settings(max_examples=200)
@given(tables(5, 1))
def test_refused_exactly_without_strong_connection(wins):
    assume(wins.any())
    winners, losers, _ = edges(wins)
    if groups_of(wins) == 1:
        assert fit(wins).converged
        assert fit_comparisons(winners, losers, n_items=5).converged
        return
    for call in (lambda: fit(wins), lambda: fit_comparisons(winners, losers, n_items=5)):
        with pytest.raises(NoFiniteEstimateError) as caught:
            call()
        upper, lower = map(list, caught.value.groups)
        assert upper and lower and sorted(upper + lower) == [0, 1, 2, 3, 4]
        assert not wins[np.ix_(lower, upper)].any()
        said = "never lost to" if wins[np.ix_(upper, lower)].any() else "never met"
        assert said in str(caught.value)


def test_refusal_names_the_groups():
    wins = [[0, 2, 1], [0, 0, 1], [0, 1, 0]]
    message = (
        "^no finite maximum-likelihood estimate: Ann never lost to Bob, Cid, so any larger distance "
        "between them fits as well or better. Add comparisons, or a penalty > 0$"
    )
    with pytest.raises(NoFiniteEstimateError, match=message) as caught:
        fit(wins, names=["Ann", "Bob", "Cid"])
    assert caught.value.groups == (("Ann",), ("Bob", "Cid"))
    assert issubclass(NoFiniteEstimateError, ValueError)
    with pytest.raises(NoFiniteEstimateError, match="m2, m3 never met m0, m1, so "):
        fit_comparisons(["m0", "m1", "m2", "m3"], ["m1", "m0", "m3", "m2"])
    ladder = np.triu(np.ones((9, 9)), 1)
    with pytest.raises(NoFiniteEstimateError, match="0 never lost to 1, 2, 3, 4, 5 and 3 more"):
        fit(ladder)
    for n, others in [(6, "1, 2, 3, 4, 5, so any"), (7, "1, 2, 3, 4, 5 and 1 more, so any")]:
        with pytest.raises(NoFiniteEstimateError, match=f"0 never lost to {others} larger dist"):
            fit(ladder[:n, :n])


# Bad input

BAD_WINS = [
    ([[0, 1, 2], [1, 0, 1]], r"has shape \(2, 3\), expected \(n, n\) with n >= 2"),
    ([[0]], r"has shape \(1, 1\), expected"),
    ([[0, -1], [1, 0]], r"\[0, 1\] is -1.0, expected a number >= 0"),
    ([[0, np.nan], [1, 0]], r"\[0, 1\] is nan, expected a finite number"),
    ([[0, 1], [1, 3]], r"\[1, 1\] is 3.0, expected 0 on the diagonal"),
    ([[0, 0], [0, 0]], r" has the sum 0.0, expected a number above 0 and below 1e100"),
    ([[0, 1e308], [1e308, 0]], r" has the sum inf, expected"),
    ([[0, 1e99], [1e100, 0]], r" has the sum 1.1e\+100, expected"),
    ([[0, 1e100], [0, 0]], r" has the sum 1e\+100, expected a number above 0 and below 1e100"),
    ([[0, 1e-200], [1, 0]], r"\[0, 1\] is 1e-200, expected 0, or a number of at least 1e-100"),
    (np.array([["0", "1"], ["1", "0"]], dtype=object), " must be an array of real numbers"),
    (np.ma.array([[0, 1], [1, 0]], mask=[[0, 1], [0, 0]]), " must be an array of real numbers"),
    ([["0", "1"], ["1", "0"]], " must be an array of real numbers"),
    ([], "is empty"),
]


@pytest.mark.parametrize("wins, message", BAD_WINS)
def test_bad_tables_are_refused(wins, message):
    with pytest.raises(ValueError, match="^wins" + " ?" + message):
        fit(wins)
    for function in (log_likelihood, loss, score, information):
        with pytest.raises(ValueError, match="^wins" + " ?" + message):
            function([0, 0], wins)
    with pytest.raises(ValueError, match="^home_wins" + " ?" + message):
        fit_home_advantage(wins, [[0, 1], [1, 0]])
    with pytest.raises(ValueError, match="^away_wins" + " ?" + message):
        fit_home_advantage([[0, 1], [1, 0]], wins)


@pytest.mark.parametrize(
    "s, message",
    [
        ([0, 0], r"has shape \(2,\), expected \(.*3.*\), as wins has 3 items"),
        (0, r"has shape \(\), expected"),
        ([0, np.inf, 0], r"\[1\] is inf, expected a finite number"),
    ],
)
def test_bad_log_strengths_are_refused(s, message):
    for function in (log_likelihood, loss, score, information):
        with pytest.raises(ValueError, match="^log_strengths ?" + message):
            function(s, FOOTBALL)


def test_the_expected_shape_is_named():
    for function, expected in [(log_likelihood, "(..., 3)"), (score, "(3,)")]:
        with pytest.raises(ValueError) as caught:
            function([0, 0], FOOTBALL)
        assert f"has shape (2,), expected {expected}, as wins has 3 items" in str(caught.value)


def test_one_vector_only():
    for function in (score, information):
        with pytest.raises(ValueError, match=r"log_strengths has shape \(2, 3\), expected \(3,\)"):
            function(np.zeros((2, 3)), FOOTBALL)


@pytest.mark.parametrize("bad", [0, -1, np.nan, np.inf])
def test_bad_strengths_are_refused(bad):
    with pytest.raises(ValueError, match=r"^strength_i is .*, expected a"):
        win_probability(bad, 1)
    with pytest.raises(ValueError, match=r"^strength_j\[1\] is .*, expected a"):
        win_probability(1, [1, bad])
    with pytest.raises(ValueError, match="do not broadcast: strength_i"):
        win_probability([1, 2], [1, 2, 3])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"method": "bfgs"}, "method is 'bfgs', expected one of newman, newton, zermelo"),
        ({"penalty": -1}, "penalty is -1, expected one number >= 0"),
        ({"penalty": np.nan}, "penalty is nan, expected a finite number"),
        (
            {"penalty": 1.0},
            "method is 'newman', expected 'newton' with a penalty: the other iterations have no "
            "closed form for it$",
        ),
        ({"penalty": 1.0, "method": "zermelo"}, "method is 'zermelo', expected 'newton'"),
        ({"tol": [1, 2]}, r"tol is \[1, 2\], expected one number >= 0"),
        ({"tol": True}, "tol is True, expected one number >= 0$"),
        ({"method": ["newton"]}, r"method is \['newton'\], expected one of"),
        ({"max_iter": 0}, "max_iter is 0, expected an integer >= 1"),
        ({"max_iter": 10.0}, "max_iter is 10.0, expected an integer >= 1"),
        ({"max_iter": True}, "max_iter is True, expected an integer >= 1"),
        ({"names": ["A", "B"]}, "names has 2 entries, expected one for each of 3 items"),
        ({"names": ["A", "B", "A"]}, "names are not distinct: A, B, A"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        fit(FOOTBALL, **options)
    if "names" not in options:
        with pytest.raises(ValueError, match=f"^{message}"):
            fit_comparisons([0, 1], [1, 0], **options)


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        (([0, 1], [1]), {}, r"winners has shape \(2,\) and losers \(1,\), expected the same"),
        (([], []), {}, r"winners has shape \(0,\)"),
        (([[0]], [[1]]), {}, r"winners has shape \(1, 1\)"),
        (([0], [[1]]), {}, r"losers has shape \(1, 1\), expected \(m,\) with m >= 1"),
        (([0, 1], [1, 1]), {}, r"losers\[1\] is 1, expected another item than the winner"),
        (([0, -1], [1, 0]), {}, r"winners\[1\] is -1, expected an index >= 0"),
        (([0, 1], [1, -7]), {}, r"losers\[1\] is -7, expected an index >= 0"),
        (([0], [0]), {}, r"losers\[0\] is 0, expected another item than the winner"),
        ((["a", "b"], ["b", "b"]), {}, r"losers\[1\] is b, expected another item"),
        (
            ([[0], [1, 2]], [1, 0]),
            {},
            r"winners must be one-dimensional, found \[\[0\], \[1, 2\]\]",
        ),
        (
            (np.array([2**63 + 5, 0], np.uint64), [0, 1]),
            {"n_items": 2},
            r"winners\[0\] is 9223372036",
        ),
        (([0, 1], [1, 0]), {"names": {"a", "b"}}, "names must be a sequence of names, found"),
        (([0, 1], [1, 0]), {"names": 5}, "names must be a sequence of names, found 5"),
        (([0, 1], [1, 0]), {"names": [[1], [2]]}, "names must be a sequence of names, found"),
        (([0, 1], [1, 0]), {"weights": [1, 1e-200]}, r"weights\[1\] is 1e-200, expected 0, or"),
        (([0, 1], [1, 5]), {"n_items": 3}, r"losers\[1\] is 5, expected an index from 0 to 2"),
        (([3, 1], [1, 0]), {"n_items": 3}, r"winners\[0\] is 3, expected an index from 0 to 2"),
        (([0, 1], [1, 0]), {"n_items": 1}, "n_items is 1, expected an integer >= 2"),
        (([0, 1], [1, 0]), {"n_items": 3, "names": "AB"}, "names has 2 entries, expected one for"),
        (([0.0, 1], [1, 0]), {}, "winners has dtype float64 and losers int64, expected integers"),
        (([0, 1], ["a", "b"]), {}, "winners has dtype int64 and losers <U1, expected integers"),
        ((["a"], ["b"]), {"n_items": 2}, "names and n_items are for items given by index"),
        (([0, 1], [1, 0]), {"weights": [1]}, r"weights has shape \(1,\), expected that of winners"),
        (([0, 1], [1, 0]), {"weights": [1, -1]}, r"weights\[1\] is -1.0, expected a number >= 0"),
        (([0, 1], [1, 0]), {"weights": [0, 0]}, "weights has the sum 0.0, expected a number above"),
        (([0, 1], [1, 0]), {"weights": [1, np.nan]}, r"weights\[1\] is nan"),
    ],
)
def test_bad_comparisons_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        fit_comparisons(*arguments, **options)


def test_other_bad_input():
    with pytest.raises(
        ValueError, match=r"away_wins has shape \(2, 2\), expected that of home_wins"
    ):
        fit_home_advantage(FOOTBALL, [[0, 1], [1, 0]])
    result = fit(FOOTBALL, names="ABC")
    with pytest.raises(ValueError, match="item is 'D', expected one of the items: A, B, C"):
        result.relative_to("D")
    with pytest.raises(ValueError, match="reference is 0, expected one of the items"):
        result.standard_errors(0)


def test_arguments_are_left_alone():
    table = FOOTBALL.copy()
    fit(table)
    fit_home_advantage(table + table.T, table + table.T)
    assert np.array_equal(table, FOOTBALL)
    s = np.zeros(3)
    score(s, table)
    assert not s.any()


def test_no_step_lowers_the_likelihood_however_long_it_is():
    # A step rule that always leaps over the top, so that every step has to be halved.
    wins = np.array([[0.0, 51.0], [49.0, 0.0]])
    seen = []

    def leap(data, s, ups, downs, penalty):
        seen.append(log_likelihood(s, wins))
        return 8 * np.sign(ups - downs)

    _climb(_Table(wins), leap, 0.0, 1e-6, 200)
    assert len(seen) > 2 and np.all(np.diff(seen) > 0)
