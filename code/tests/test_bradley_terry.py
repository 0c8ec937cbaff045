import pickle
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
    fit,
    fit_comparisons,
    fit_home_advantage,
    information,
    log_likelihood,
    negative_log_likelihood,
    score,
    win_probability,
)
from kl2dpo.bradley_terry._climb import climb
from kl2dpo.bradley_terry._comparisons import Table
from kl2dpo.datasets import baseball, citations, football

METHODS = ["newton", "newman", "zermelo"]
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
    p = win_probability(log_strengths[:, None], log_strengths)
    upper = np.triu(rng.binomial(games, p), 1)
    return upper + np.tril(games - upper.T, -1)


def log_strengths(n=5):
    return hnp.arrays(float, n, elements=st.floats(-3, 3))


def edges(wins):
    winners, losers = np.nonzero(wins)
    return winners, losers, wins[winners, losers]


# The formulas


def test_win_probability():
    assert_allclose(win_probability(np.log(2), np.log([1, 3])), [2 / 3, 0.4], rtol=1e-15)
    assert win_probability(700, -700) == 1 and win_probability(709, 709) == 0.5
    assert_allclose(win_probability(-700, 0), np.exp(-700), rtol=1e-12)
    assert win_probability(np.ones((3, 1)), np.ones(4)).shape == (3, 4)


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.floats(-50, 50))
def test_win_probability_depends_on_the_difference_only(a, b, shift):
    s_a, s_b = np.log(a), np.log(b)
    assert_allclose(win_probability(s_a, s_b), a / (a + b), rtol=1e-12)
    assert_allclose(win_probability(s_a + shift, s_b + shift), a / (a + b), rtol=1e-9)
    assert_allclose(win_probability(s_a, s_b) + win_probability(s_b, s_a), 1, rtol=1e-12)


def test_football_exactly():
    s = np.log([2, 1, 10 / 3])
    by_hand = 8 * np.log(2 / 3) + 4 * np.log(1 / 3) + 3 * np.log(3 / 8) + 5 * np.log(5 / 8)
    assert_allclose(log_likelihood(s, FOOTBALL), by_hand, rtol=1e-14)
    assert_allclose(negative_log_likelihood(s, FOOTBALL), -by_hand / 20, rtol=1e-14)
    assert_allclose(
        negative_log_likelihood(s, np.float16(4_000 * FOOTBALL)), -by_hand / 20, rtol=1e-14
    )
    assert_allclose(log_likelihood(np.log([2, 1, 3]), FOOTBALL), -12.941170, atol=5e-7)
    assert_allclose(score(s, FOOTBALL), 0, atol=1e-14)
    expected = 12 * 2 / 9, 8 * 15 / 64
    assert_allclose(-information(s, FOOTBALL)[0, 1:], expected, rtol=1e-14)


@given(tables(), log_strengths())
def test_likelihood_loss_and_choix(wins, s):
    assume(wins.any())
    data = [(i, j) for i, j, count in zip(*edges(wins)) for _ in range(int(count))]
    assert_allclose(log_likelihood(s, wins), choix.log_likelihood_pairwise(data, s), rtol=1e-12)
    assert_allclose(
        negative_log_likelihood(s, wins), -log_likelihood(s, wins) / len(data), rtol=1e-12
    )
    assert_allclose(log_likelihood(s + 7, wins), log_likelihood(s, wins), rtol=1e-9)


def test_likelihood_of_several_vectors_at_once():
    s = np.random.default_rng(0).normal(size=(2, 4, 3))
    several = log_likelihood(s, FOOTBALL)
    assert several.shape == negative_log_likelihood(s, FOOTBALL).shape == (2, 4)
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
    assert_allclose(sparse.covariance(), dense.covariance(), rtol=1e-5, atol=1e-7)
    assert_allclose(sparse.deviance, dense.deviance, rtol=1e-9, atol=1e-9)
    assert sparse.degrees_of_freedom == dense.degrees_of_freedom
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


@pytest.mark.parametrize(
    "winners, losers, items",
    [
        (["Cy", "Al", "Bo"], ["Al", "Bo", "Cy"], ("Al", "Bo", "Cy")),
        (np.array(["Cy", "Al"], dtype=object), ["Al", "Cy"], ("Al", "Cy")),
        ([7, 3, 9], [3, 9, 7], (3, 7, 9)),
        (np.array([200, 7], np.uint8), np.array([7, 200], np.int16), (7, 200)),
        ([1_700_000_000, 5], [5, 1_700_000_000], (5, 1_700_000_000)),
        (np.array([127, -128] * 99, np.int8), np.array([-128, 127] * 99, np.int8), (-128, 127)),
        (np.array([-(2**63), 2**63 - 1]), np.array([2**63 - 1, -(2**63)]), (-(2**63), 2**63 - 1)),
        ([(2, "b"), (1, "a")], [(1, "a"), (2, "b")], ((1, "a"), (2, "b"))),
        (["a", "a\0"], ["a\0", "a"], ("a", "a\0")),
        ([2j, 1j], [1j, 2j], (2j, 1j)),  # without an order: as they come
        ([-1.5, 2.0], [2.0, -1.5], (-1.5, 2.0)),
    ],
)
def test_a_label_is_anything_hashable(winners, losers, items):
    result = fit_comparisons(winners, losers)
    assert result.items == items and result.relative_to(items[0])[0] == 0


@pytest.mark.parametrize("strong, weak", [("Cy", "Al"), ("Al", "Cy"), (9, 3), (3, 9), (10**12, 7)])
@pytest.mark.parametrize("kind", [list, np.array])
def test_each_label_keeps_its_results(strong, weak, kind):
    winners, losers = kind([weak, strong, strong, strong]), kind([strong, weak, weak, weak])
    result = fit_comparisons(winners, losers)
    assert result.items == tuple(sorted([strong, weak])) and result.ranking() == [strong, weak]
    assert_allclose(result.difference(strong, weak).estimate, np.log(3), atol=1e-9)


def test_arrays_of_integers_are_lists_of_labels():
    ids = np.random.default_rng(0).integers(-40, 60, (2, 500)) // 3 * 3  # two of three are missing
    ids = ids[:, ids[0] != ids[1]]
    for winners, losers in (ids, ids.astype(np.int8), ids + 10**15, ids[:, :50], ids * 10**9):
        result, expected = (
            fit_comparisons(*pair, penalty=1)
            for pair in [(winners, losers), (winners.tolist(), losers.tolist())]
        )
        assert result.items == expected.items and type(result.items[0]) is int
        assert np.array_equal(result.log_strengths, expected.log_strengths)


class Frame:
    """What `fit` asks of a pandas DataFrame."""

    def __init__(self, values, index, columns):
        self.values, self.index, self.columns = np.array(values), index, columns
        self.axes = [index, columns]

    def __array__(self, dtype=None, copy=None):
        return self.values


def test_labels_of_a_table_are_used():
    frame = Frame([[0, 2], [1, 0]], ["Al", "Bo"], ["Al", "Bo"])
    assert fit(frame).items == ("Al", "Bo")
    assert fit(frame, names="XY").items == ("X", "Y")
    for names in ([7, 3], np.array([7, 3])):
        assert fit(Frame([[0, 2], [1, 0]], names, names)).ranking() == [7, 3]
        assert fit([[0, 2], [1, 0]], names=names).ranking() == [7, 3]
    assert fit_home_advantage(frame, frame).items == ("Al", "Bo")
    turned = Frame([[0, 2], [1, 0]], ["Al", "Bo"], ["Bo", "Al"])
    with pytest.raises(ValueError, match="^wins has rows Al, Bo and columns Bo, Al, expected"):
        fit(turned)
    other = Frame([[0, 2], [1, 0]], ["Bo", "Al"], ["Bo", "Al"])
    with pytest.raises(ValueError, match="^wins and ties have labels that differ"):
        fit(frame, ties=other)
    with pytest.raises(ValueError, match="^home_wins and away_wins have labels that differ"):
        fit_home_advantage(frame, other)


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
    listed = fit_comparisons([0, 1, 0, 1, 2, 0], [1, 0, 2, 2, 1, 2], weights=[3, 1, 0, 1, 2, 0])
    table = fit([[0, 3, 0], [1, 0, 1], [0, 2, 0]])
    assert_allclose(listed.deviance, table.deviance, atol=1e-12)
    assert listed.degrees_of_freedom == table.degrees_of_freedom == 0


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
    weak = fit(wins, method="newton")
    for errors in (weak.standard_errors, lambda: weak.difference(1, 2)):
        with pytest.raises(ValueError, match="^no standard errors: the information matrix is sing"):
            errors()


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
        result = fit(wins, method="newman", max_iter=3)
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
    for method, advice in [("newton", "a larger max_iter"), ("newman", "method='newton'")]:
        message = rf"^no convergence in max_iter=2 .* tol=1e-10; try {advice}"
        with pytest.warns(RuntimeWarning, match=message) as caught:
            result = fit(citations().wins, method=method, max_iter=2)
        assert caught[0].filename == __file__
        assert not result.converged and "NOT CONVERGED" in repr(result)


def test_repr():
    result = fit(citations().wins, names=citations().names)
    lines = repr(result).splitlines()
    assert lines[0] == "BradleyTerryFit of 4 items, log-likelihood -1622.889809"
    assert lines[1].startswith("by newton, converged in ")
    assert lines[2].split() == ["JRSS-B", "1.0589"] and lines[5].startswith("  Comm Statist")
    many = fit(np.ones((12, 12)) - np.eye(12))
    assert len(repr(many).splitlines()) == 13 and repr(many).endswith("... and 2 more")
    table = baseball()
    home = fit_home_advantage(table.home_wins, table.away_wins)
    assert repr(home).endswith("home: 0.3023 a unit")


# Published tables


def test_stigler_citations():
    names, wins = citations()
    result = fit(wins, names=names)
    assert_allclose(result.relative_to("Biometrika"), [0, -2.9491, -0.4796, 0.2690], atol=5e-5)
    assert_allclose(result.standard_errors("Biometrika"), [0, 0.1025, 0.0606, 0.0708], atol=5e-5)
    assert_allclose(result.deviance, 4.2934, atol=5e-5)
    assert result.degrees_of_freedom == 3


def test_agresti_baseball():
    table = baseball()
    result = fit(table.wins, names=table.names)
    published = [1.58, 1.44, 1.29, 1.25, 1.11, 0.68, 0]
    assert_allclose(result.relative_to("Baltimore"), published, atol=5e-3)
    assert_allclose(result.standard_errors("Baltimore")[:-1], 0.34, atol=0.03)

    home = fit_home_advantage(table.home_wins, table.away_wins, names=table.names)
    shares = home.strengths / home.strengths.sum()
    assert_allclose(shares, [0.220, 0.190, 0.164, 0.157, 0.137, 0.088, 0.044], atol=5e-4)
    assert_allclose(home.coefficients["home"], 0.302, atol=5e-4)
    assert home.converged and home.method == "newton" and home.ranking()[0] == "Milwaukee"
    assert_allclose(home.deviance, 38.64, atol=5e-3)
    assert home.degrees_of_freedom == 35


# Standard errors


@given(connected_tables())
def test_covariance_is_the_pseudo_inverse(wins):
    result = fit(wins, method="newton")
    expected = np.linalg.pinv(information(result.log_strengths, wins), rcond=1e-10, hermitian=True)
    scale = np.abs(expected).max()
    assert_allclose(result.covariance(), expected, atol=1e-7 * scale)
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
    parameters = np.append(result.log_strengths, result.coefficients["home"])
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
    assert_allclose(result.covariance(), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    error = result.coefficient_errors()["home"]
    assert_allclose(error, np.sqrt(result.covariance()[-1, -1]), rtol=1e-7)
    assert result.standard_errors().shape == (3,)


def test_ties_at_home():
    home, away = (
        np.array([[0, 5, 2], [3, 0, 4], [2, 2, 0]]),
        np.array([[0, 1, 2], [2, 0, 1], [1, 3, 0]]),
    )
    ties = np.array([[0, 2, 0], [1, 0, 3], [0, 1, 0]])
    result = fit_home_advantage(home, away, ties=ties)
    halves = fit_home_advantage(home + ties / 2, away + ties / 2)
    assert_allclose(result.log_strengths, halves.log_strengths, atol=1e-9)
    assert_allclose(result.coefficients["home"], halves.coefficients["home"], atol=1e-9)
    assert result.standard_errors()[0] < halves.standard_errors()[0]
    # Nobody won away: no estimate, but for a tie, or with a penalty.
    with pytest.raises(NoFiniteEstimateError, match="a penalty > 0"):
        fit_home_advantage([[0, 2], [1, 0]], np.zeros((2, 2)))
    assert fit_home_advantage([[0, 2], [1, 0]], np.zeros((2, 2)), penalty=1.0).converged
    tie = fit_home_advantage([[0, 2], [1, 0]], np.zeros((2, 2)), ties=[[0, 1], [1, 0]])
    assert tie.converged and tie.coefficients["home"] > 0
    assert_allclose(fit(FOOTBALL, ties=np.zeros((3, 3))).deviance, 0, atol=1e-9)


@pytest.mark.parametrize("counts", [(51, 36, 536, 1424, 22, 59, 2, 30, 6136, 103, 170, 266)])
def test_a_list_and_a_table_of_an_uneven_ring_agree(counts):
    i = np.arange(len(counts))
    wins = np.zeros((len(i), len(i)))
    wins[i, np.roll(i, -1)] = counts
    listed = fit_comparisons(i, np.roll(i, -1), weights=counts)
    assert listed.converged
    assert_allclose(listed.log_strengths, fit(wins).log_strengths, atol=1e-8)


def test_a_fit_can_be_stored():
    for result in (fit(FOOTBALL), fit_comparisons([0, 1], [1, 0])):
        again = pickle.loads(pickle.dumps(result))
        assert_allclose(again.standard_errors(kind="rows"), result.standard_errors(kind="rows"))


def test_home_advantage_turns_with_the_place():
    table = baseball()
    home = fit_home_advantage(table.home_wins, table.away_wins)
    turned = fit_home_advantage(table.away_wins.T, table.home_wins.T)
    assert_allclose(turned.coefficients["home"], -home.coefficients["home"])
    assert_allclose(turned.log_strengths, home.log_strengths, atol=1e-8)
    none = fit(table.wins)
    assert none.coefficients == {} == none.coefficient_errors()


@pytest.mark.parametrize("at_home, word", [(True, "large"), (False, "negative")])
def test_home_advantage_without_bound(at_home, word):
    # All three beat each other, always in the same place, but for one win of a strong guest.
    always, once = 2 * (np.ones((3, 3)) - np.eye(3)), np.zeros((3, 3))
    once[0, 1] = 1
    home, away = (always, once) if at_home else (once, always)
    with pytest.raises(NoFiniteEstimateError, match=f"a {word} enough one fits as well") as caught:
        fit_home_advantage(home, away)
    assert caught.value.groups == ()


# Ties, covariates, and the sandwich


def test_a_tie_is_half_a_win_in_the_estimate():
    half_wins = fit([[0, 1.5, 2], [2.5, 0, 1], [1, 3, 0]])
    tables = fit([[0, 1, 2], [2, 0, 1], [1, 3, 0]], ties=[[0, 1, 0], [0, 0, 0], [0, 0, 0]])
    winners, losers = [0, 0, 1, 1, 0, 0, 1, 2, 2, 2, 2], [1, 1, 0, 0, 2, 2, 2, 0, 1, 1, 1]
    listed = fit_comparisons(winners, losers, ties=[False, True] + 9 * [False])
    for result in (tables, listed):
        assert_allclose(result.log_strengths, half_wins.log_strengths, atol=1e-9)
        assert_allclose(result.log_likelihood, half_wins.log_likelihood, rtol=1e-9)
        assert_allclose(result.deviance, half_wins.deviance, rtol=1e-9)
        model, default = result.standard_errors(kind="model"), result.standard_errors()
        assert_allclose(model, half_wins.standard_errors(), rtol=1e-7)
        assert_allclose(default, result.standard_errors(kind="sandwich"))
        assert np.all(default != model)
    assert_allclose(listed.standard_errors(), tables.standard_errors(), rtol=1e-7)


def sandwich_by_hand(x, theta, outcome, weights, squared):
    """I^+ J I^+ from the definition, one row a comparison."""
    p = 1 / (1 + np.exp(-x @ theta))
    bread = np.linalg.pinv(x.T @ (x * (weights * p * (1 - p))[:, None]), rcond=1e-10)
    w = weights**2 if squared else weights
    return bread @ (x.T @ (x * (w * (outcome - p) ** 2)[:, None])) @ bread


def some_comparisons(rng, n=5, m=200):
    first = rng.integers(n, size=m)
    second = (first + rng.integers(1, n, size=m)) % n
    x = np.eye(n)[first] - np.eye(n)[second]
    return first, second, x, rng.choice([1.0, 0.5], size=m, p=[0.7, 0.3])


@pytest.mark.parametrize("with_covariate", [False, True])
@pytest.mark.parametrize("repeats", [1, 9])  # a matrix of wins for many, a list of pairs for few
def test_the_sandwich_is_its_definition(with_covariate, repeats):
    rng = np.random.default_rng(1)
    first, second, x, outcome = some_comparisons(
        rng, n=5 if repeats > 1 else 16, m=20 * repeats + 80
    )
    weights, options = rng.uniform(0.5, 3, len(first)), {}
    if with_covariate:
        length = rng.normal(size=len(first))
        x, options = np.column_stack([x, length]), {"covariates": {"length": length}}
    result = fit_comparisons(first, second, weights=weights, ties=outcome == 0.5, **options)
    theta = np.append(result.log_strengths, list(result.coefficients.values()))
    for kind, squared in [("sandwich", False), ("rows", True)]:
        expected = sandwich_by_hand(x, theta, outcome, weights, squared)
        assert_allclose(result.covariance(kind), expected, atol=1e-8)
        gap = result.difference(0, 1, kind=kind)
        contrast = np.eye(len(theta))[0] - np.eye(len(theta))[1]
        assert_allclose(gap.standard_error, np.sqrt(contrast @ expected @ contrast), rtol=1e-6)
        assert_allclose(gap.estimate, theta[0] - theta[1])


def test_importance_weights_have_no_unit():
    rng = np.random.default_rng(2)
    first, second, _, _ = some_comparisons(rng)
    weights = rng.exponential(size=len(first))
    errors = [
        fit_comparisons(first, second, weights=factor * weights).standard_errors(kind="rows")
        for factor in (1, 10)
    ]
    assert_allclose(errors[0], errors[1], rtol=1e-7)


def outcomes(rng, law, difference):
    """Results of comparisons under a law of ties: 1, 0, or 1/2."""
    win, tie = probabilities_of(law, difference)
    u = rng.random(len(difference))
    return np.select([u < win, u < win + tie], [1.0, 0.5], 0.0)


def probabilities_of(law, difference):
    """Of a win and of a tie, which comes 3 times in 10 between equals."""
    if law == "davidson":  # Davidson (1970), nu = 6/7
        weights = np.exp(difference / 2), 6 / 7, np.exp(-difference / 2)
        return weights[0] / sum(weights), weights[1] / sum(weights)
    p = 1 / (1 + np.exp(-difference))
    tie = 1.2 * p * (1 - p) if law == "course" else 0 * p
    return p - tie / 2, tie


@pytest.mark.parametrize("law, shrunk", [("course", 1.0), ("davidson", 0.7), ("none", 1.0)])
def test_intervals_keep_their_promise_under_each_law_of_ties(law, shrunk):
    rng = np.random.default_rng(1)
    s = np.linspace(-1.2, 1.2, 8)
    # What the estimates tend to: the fit to the exact shares.
    win, tie = probabilities_of(law, np.subtract.outer(s, s))
    limit = fit((win + tie / 2) * ~np.eye(8, dtype=bool)).log_strengths
    assert_allclose(np.ptp(limit) / np.ptp(s), shrunk, atol=0.01)
    hits = {"model": 0, None: 0, "sandwich": 0}
    for _ in range(400):
        a = rng.integers(8, size=2_000)
        b = (a + rng.integers(1, 8, size=2_000)) % 8
        y = outcomes(rng, law, s[a] - s[b])
        result = fit_comparisons(np.where(y > 0, a, b), np.where(y > 0, b, a), ties=y == 0.5)
        for kind in hits:
            z = np.abs(result.log_strengths - limit) / result.standard_errors(kind=kind)
            hits[kind] += np.mean(z < 1.96) / 400
    assert 0.93 < hits["sandwich"] < 0.97 and 0.93 < hits[None] < 0.97
    # The model takes a tie for two half wins, and so for more variable than it is.
    assert hits["model"] > 0.975 if law != "none" else 0.93 < hits["model"] < 0.97


def test_covariates_of_lists_and_of_tables_agree_with_logistic_regression():
    rng = np.random.default_rng(4)
    first, second, x, outcome = some_comparisons(rng, m=300)
    place, length = rng.choice([-1.0, 0.0, 1.0], 300), rng.normal(0, 100, 300)
    covariates = {"place": place, "length": length}
    result = fit_comparisons(first, second, ties=outcome == 0.5, covariates=covariates)
    x = np.column_stack([x, place, length / 100])

    def loss(theta):
        z = x @ theta
        return outcome @ np.logaddexp(0, -z) + (1 - outcome) @ np.logaddexp(0, z)

    best = scipy.optimize.minimize(loss, np.zeros(7), method="BFGS", options={"gtol": 1e-8}).x
    assert_allclose(result.log_strengths, best[:5] - best[:5].mean(), atol=1e-6)
    coefficients = [result.coefficients["place"], 100 * result.coefficients["length"]]
    assert_allclose(coefficients, best[5:], atol=1e-6)
    assert_allclose(result.log_likelihood, -loss(best), rtol=1e-9)
    log_odds = np.subtract(*result.log_strengths[:2]) - result.coefficients["place"]
    assert_allclose(result.win_probability(0, 1, place=-1), 1 / (1 + np.exp(-log_odds)))
    errors = np.sqrt(np.diag(result.covariance())[5:])
    assert_allclose(list(result.coefficient_errors().values()), errors, rtol=1e-6)
    # The same with the place in tables: one for each.
    tables = np.zeros((2, 3, 5, 5))
    np.add.at(tables, ((outcome == 0.5) * 1, place.astype(int) + 1, first, second), 1)
    stacked = fit(tables[0], ties=tables[1], covariates={"place": [[[-1]], [[0]], [[1]]]})
    listed = fit_comparisons(first, second, ties=outcome == 0.5, covariates={"place": place})
    assert_allclose(stacked.log_strengths, listed.log_strengths, atol=1e-9)
    assert_allclose(stacked.deviance, listed.deviance, rtol=1e-9)
    assert stacked.degrees_of_freedom == listed.degrees_of_freedom
    assert_allclose(stacked.covariance("sandwich"), listed.covariance("sandwich"), atol=1e-9)


@settings(max_examples=150)
@given(st.integers(0, 10**6))
def test_covariates_are_estimated_or_refused(seed):
    rng = np.random.default_rng(seed)
    n, m, k = rng.integers(2, 5), rng.integers(8, 24), rng.integers(1, 3)
    first = np.append(np.arange(n), rng.integers(n, size=m))
    second = (first + np.append(np.ones(n, int), rng.integers(1, n, size=m))) % n
    values = rng.choice([-1.0, 0.0, 1.0], (n + m, k)) * [1, 100][:k]
    x = np.column_stack([np.eye(n)[first] - np.eye(n)[second], values / [1, 100][:k]])
    unique = np.linalg.matrix_rank(x) == n + k - 1
    # The largest sum of the gains of a move, if none is negative.
    best = scipy.optimize.linprog(-x.sum(axis=0), -x, np.zeros(n + m), bounds=[(-1, 1)] * (n + k))
    covariates = {f"x{c}": values[:, c] for c in range(k)}
    if unique and best.fun > -1e-9:
        result = fit_comparisons(first, second, covariates=covariates)
        theta = np.append(result.log_strengths, list(result.coefficients.values()))
        theta[n:] *= [1, 100][:k]
        assert_allclose(x.T @ (1 / (1 + np.exp(x @ theta))), 0, atol=1e-6)
        return
    with pytest.raises(ValueError, match="covariates" if unique else "covariates|never"):
        fit_comparisons(first, second, covariates=covariates)
    assert fit_comparisons(first, second, covariates=covariates, penalty=0.1).converged


@pytest.mark.parametrize("units", [(1e8, 1e-8), (1e40, 1e-40), (1e-40, 1e40)])
def test_a_covariate_may_have_any_unit(units):
    rng = np.random.default_rng(6)
    first, second, _, _ = some_comparisons(rng)
    values = rng.normal(size=(2, 200))
    a, b = (
        fit_comparisons(first, second, covariates={"x": x, "y": y})
        for x, y in [values, values * np.reshape(units, (2, 1))]
    )
    assert_allclose(b.log_strengths, a.log_strengths, rtol=1e-9)
    assert_allclose(b.standard_errors(), a.standard_errors(), rtol=1e-9)
    for one, other in [
        (a.coefficients, b.coefficients),
        (a.coefficient_errors(), b.coefficient_errors()),
    ]:
        assert_allclose(np.multiply(list(other.values()), units), list(one.values()), rtol=1e-9)


def test_the_prior_of_a_coefficient_is_in_its_own_unit():
    rng = np.random.default_rng(6)
    first, second, x, _ = some_comparisons(rng)
    length = rng.normal(0, 30, 200)
    result = fit_comparisons(first, second, covariates={"length": length}, penalty=2.0)
    x, theta = (
        np.column_stack([x, length]),
        np.append(result.log_strengths, result.coefficients["length"]),
    )
    p = 1 / (1 + np.exp(-x @ theta))
    assert_allclose(x.T @ (1 - p), 2 * theta, atol=1e-8)
    posterior = x.T @ (x * (p * (1 - p))[:, None]) + 2 * np.eye(6)
    error = np.sqrt(np.linalg.inv(posterior)[5, 5])
    assert_allclose(result.coefficient_errors()["length"], error, rtol=1e-8)
    assert_allclose(np.sqrt(result.covariance()[5, 5]), error, rtol=1e-8)


def test_lengths_of_the_items_are_no_covariate():
    lengths = np.array([120.0, 80, 250])
    winners, losers = np.array([0, 1, 2, 0, 1, 2]), np.array([1, 2, 0, 2, 0, 1])
    covariates = {"place": [1, -1, 1, 1, -1, -1], "length": lengths[winners] - lengths[losers]}
    with pytest.raises(ValueError, match=r"covariates\['length'\] is a sum of differences"):
        fit_comparisons(winners, losers, covariates=covariates)


# Many items


def test_differences_of_many_items_need_no_matrix():
    n = 12_000
    ring = np.arange(n)
    winners, losers = np.append(ring, np.roll(ring, 1)), np.append(np.roll(ring, 1), ring)
    hub = np.zeros(n - 2, int), ring[1:-1]
    winners, losers = np.concatenate([winners, *hub]), np.concatenate([losers, *hub[::-1]])
    result = fit_comparisons(winners, losers)
    for matrix in (result.probabilities, result.covariance, result.standard_errors):
        with pytest.raises(
            ValueError, match="of 12000 items takes 1.1 GiB, expected at most 10000"
        ):
            matrix()
    estimate, error = result.difference(5, 9)
    assert abs(estimate) < 1e-9 and 0.5 < error < 2
    assert_allclose(result.win_probability(5, 9), 0.5)


def test_ford_is_asked_in_time_linear_in_the_comparisons():
    # Two chains that nothing connects: each edge is looked at once, however long they are.
    n = 50_000
    lower = np.delete(np.arange(n - 1), n // 2)
    winners, losers = np.append(lower, lower + 1), np.append(lower + 1, lower)
    with pytest.raises(NoFiniteEstimateError, match="never met") as caught:
        fit_comparisons(winners, losers)
    assert [len(group) for group in caught.value.groups] == [24_999, 25_001]
    assert len(caught.value.largest_group) == 25_001


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
    # Of the posterior, the part that is about differences from the mean.
    posterior = information(s, wins) + penalty * np.eye(5)
    centre = np.eye(5) - 1 / 5
    expected = centre @ np.linalg.inv(posterior) @ centre
    assert_allclose(result.covariance(), expected, rtol=1e-5, atol=1e-8 / penalty)
    winners, losers, counts = edges(wins)
    sparse = fit_comparisons(winners, losers, weights=counts, penalty=penalty)
    met = list(sparse.items)
    assert_allclose(sparse.log_strengths, s[met] - s[met].mean(), atol=1e-6)
    assert_allclose(s.sum(), 0, atol=1e-11)


@pytest.mark.parametrize("reference", [None, "Detroit"])
def test_a_weak_prior_leaves_the_errors_of_maximum_likelihood(reference):
    table = baseball()
    exact = fit(table.wins, names=table.names).standard_errors(reference)
    weak = fit(table.wins, names=table.names, penalty=1e-6).standard_errors(reference)
    assert_allclose(weak, exact, rtol=1e-6)


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
    alone = fit([[0, 1, 0], [1, 0, 0], [0, 0, 0]], penalty=2.0)
    assert_allclose(alone.log_strengths, 0, atol=1e-12)
    # The prior alone, less its part along (1, 1, 1).
    assert_allclose(alone.standard_errors()[2], np.sqrt((1 - 1 / 3) / 2))


# No finite estimate


@settings(max_examples=200)
@given(tables(5, 1))
def test_refused_exactly_without_strong_connection(wins):
    assume(wins.any())
    winners, losers, _ = edges(wins)
    if groups_of(wins) == 1:
        assert fit(wins).converged
        assert fit_comparisons(winners, losers).converged
        return
    with pytest.raises(NoFiniteEstimateError) as caught:
        fit(wins)
    upper, lower = map(list, caught.value.groups)
    assert upper and lower and sorted(upper + lower) == [0, 1, 2, 3, 4]
    assert not wins[np.ix_(lower, upper)].any()
    said = "never lost to" if wins[np.ix_(upper, lower)].any() else "never met"
    assert said in str(caught.value)
    labels = scipy.sparse.csgraph.connected_components(wins, connection="strong")[1]
    group = caught.value.largest_group
    assert len(group) == np.bincount(labels).max() and len(set(labels[list(group)])) == 1
    assert fit(wins, penalty=1.0).largest_group() == group
    seen = set(winners) | set(losers)
    if groups_of(wins[np.ix_(sorted(seen), sorted(seen))]) > 1:
        with pytest.raises(NoFiniteEstimateError):
            fit_comparisons(winners, losers)


def test_the_advice_of_a_refusal_works():
    wins = [[0, 2, 1], [0, 0, 1], [0, 1, 0]]
    with pytest.raises(NoFiniteEstimateError, match="Add comparisons, or a penalty > 0") as caught:
        fit(wins)
    assert fit(wins, penalty=1e-3).converged
    group = list(caught.value.largest_group)
    assert group == [1, 2] and fit(np.array(wins)[np.ix_(group, group)]).converged


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
    ([[0, 1, 2], [1, 0, 1]], r"has shape \(2, 3\), expected \(n, n\)"),
    ([0, 1], r"has shape \(2,\), expected"),
    ([[1]], r"has shape \(1, 1\), expected"),
    ([[0, -1], [1, 0]], r"\[0, 1\] is -1.0, expected a number >= 0"),
    ([[0, np.nan], [1, 0]], r"\[0, 1\] is nan, expected a finite number"),
    ([[0, 1], [1, 3]], r"\[1, 1\] is 3.0, expected 0 on the diagonal"),
    ([[0, 0], [0, 0]], " is all zero, expected at least one"),
    ([[0, 1], [1e100, 0]], r"\[1, 0\] is 1e\+100, expected a number < 1e"),
    ([[0, 1e-200], [1, 0]], r"\[0, 1\] is 1e-200, expected 0, or a number of at least 1e-100"),
    ([["0", "1"], ["1", "0"]], "is .*, expected real numbers"),
    ([], "is empty"),
    (None, "is None, expected real numbers"),
]


@pytest.mark.parametrize("wins, message", BAD_WINS)
def test_bad_tables_are_refused(wins, message):
    with pytest.raises(ValueError, match="^wins" + " ?" + message):
        fit(wins)
    for function in (log_likelihood, negative_log_likelihood, score, information):
        with pytest.raises(ValueError, match="^wins" + " ?" + message):
            function([0, 0], wins)
    if "all zero" in message:
        return  # nobody need win away, if there is a penalty
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
    for function in (log_likelihood, negative_log_likelihood, score, information):
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


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200, "1"])
def test_bad_arguments_of_win_probability_are_refused(bad):
    with pytest.raises(ValueError, match=r"^log_strength_i is .*, expected"):
        win_probability(bad, 1)
    with pytest.raises(ValueError, match=r"^log_strength_j.* is .*, expected"):
        win_probability(1, [1, bad])
    with pytest.raises(ValueError, match="do not broadcast: log_strength_i"):
        win_probability([1, 2], [1, 2, 3])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"method": "bfgs"}, "method is 'bfgs', expected one of newman, newton, zermelo"),
        ({"method": ["newton"]}, r"method is \['newton'\], expected"),
        ({"penalty": -1}, "penalty is -1.0, expected a number >= 0"),
        ({"penalty": np.nan}, "penalty is nan, expected"),
        ({"penalty": 1.0, "method": "newman"}, "method is 'newman', expected 'newton'"),
        ({"penalty": 1.0, "method": "zermelo"}, "method is 'zermelo', expected 'newton'"),
        ({"tol": [1, 2]}, r"tol has shape \(2,\), expected one number"),
        ({"tol": -1}, "tol is -1.0, expected"),
        ({"max_iter": 0}, "max_iter is 0, expected"),
        ({"max_iter": 10.0}, "max_iter is 10.0, expected"),
        ({"names": ["A", "B"]}, "names has 2 entries, of them 2 different, expected 3"),
        ({"names": ["A", "B", "A"]}, "names has 3 entries, of them 2 different, expected 3"),
        ({"names": ["A", "B", None]}, r"names\[2\] is None, expected a label"),
        ({"names": 5}, "names is 5, expected a list of labels"),
        (
            {"names": [[1], [2], [3]]},
            r"names is \[\[1\], \[2\], \[3\]\], expected a list of labels",
        ),
        ({"ties": [[0, 1], [0, 0]]}, r"ties is of shape \(2, 2\), expected that of wins, \(3, 3\)"),
        ({"ties": -np.ones((3, 3))}, r"ties\[0, 0\] is -1.0, expected a number >= 0"),
        ({"ties": np.eye(3)}, r"ties\[0, 0\] is 1.0, expected 0 on the diagonal"),
        ({"covariates": [1]}, r"covariates is \[1\], expected a dictionary"),
        ({"covariates": {"x": [1, 2]}}, r"covariates\['x'\] has shape \(2,\), expected \(3, 3\)"),
        ({"covariates": {"x": np.nan}}, r"covariates\['x'\] is nan, expected"),
        ({"covariates": {"x": 1}, "method": "newman"}, "method is 'newman', expected 'newton'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        fit(FOOTBALL, **options)
    if not {"names", "ties", "covariates"} & set(options):
        with pytest.raises(ValueError, match=f"^{message}"):
            fit_comparisons([0, 1], [1, 0], **options)


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        (([0, 1], [1]), {}, "winners has 2 entries and losers has 1, expected"),
        (([], []), {}, "winners has 0 entries"),
        (([[0]], [[1]]), {}, r"winners is \[\[0\]\], expected a list of labels"),
        ((5, [1]), {}, "winners is 5, expected a list of labels"),
        (("ann", "bob"), {}, "winners is 'ann', expected a list of labels"),
        (({"a", "b"}, ["b", "a"]), {}, "winners is {.*}, expected a list of labels"),
        (([0, 1], [1, 1]), {}, r"losers\[1\] is 1, expected another item than the winner"),
        ((["a", "b"], ["b", "b"]), {}, r"losers\[1\] is b, expected another item"),
        ((["a", None], ["b", "a"]), {}, r"winners\[1\] is None, expected a label"),
        ((["a", "b"], ["b", float("nan")]), {}, r"losers\[1\] is nan, expected a label"),
        (([0, 1], ["a", "b"]), {}, "winners and losers have labels of type int and str"),
        (([0.0, 1], [1, 0]), {}, "winners and losers have labels of type float and int"),
        (([0, 1], [1, 0]), {"weights": [1, 1e-200]}, r"weights\[1\] is 1e-200, expected 0, or"),
        (([0, 1, 1], [1, 0, 0]), {"weights": [1, 2]}, r"weights has shape \(2,\), expected \(3,\)"),
        (([0, 1], [1, 0]), {"weights": [1, -1]}, r"weights\[1\] is -1.0, expected a number >= 0"),
        (([0, 1], [1, 0]), {"weights": [0, 0]}, "weights is all zero, expected at least one"),
        (([0, 1], [1, 0]), {"weights": [1, np.nan]}, r"weights\[1\] is nan"),
        (([0, 1], [1, 0]), {"ties": [0, 0.5]}, r"ties\[1\] is 0.5, expected True or False"),
        (([0, 1, 1], [1, 0, 0]), {"ties": [0, 1]}, r"ties has shape \(2,\), expected \(3,\)"),
        (([0, 1], [1, 0]), {"covariates": {"x": [1, np.inf]}}, r"covariates\['x'\]\[1\] is inf"),
    ],
)
def test_bad_comparisons_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        fit_comparisons(*arguments, **options)


def test_other_bad_input():
    with pytest.raises(
        ValueError, match=r"away_wins is of shape \(2, 2\), expected that of home_wins"
    ):
        fit_home_advantage(FOOTBALL, [[0, 1], [1, 0]])
    result = fit(FOOTBALL, names="ABC")
    with pytest.raises(ValueError, match="item is 'D', expected one of the items: A, B, C"):
        result.relative_to("D")
    with pytest.raises(ValueError, match="reference is 0, expected one of the items"):
        result.standard_errors(0)
    with pytest.raises(ValueError, match="kind is 'robust', expected model, sandwich or rows"):
        result.standard_errors(kind="robust")
    with pytest.raises(ValueError, match="covariates has home, expected some of: none"):
        result.win_probability("A", "B", home=1)
    with pytest.raises(ValueError, match="other is 'D', expected one of the items"):
        result.difference("A", "D")


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

    climb(Table(wins, np.zeros((2, 2))), leap, 0.0, 1e-6, 200)
    assert len(seen) > 2 and np.all(np.diff(seen) > 0)
