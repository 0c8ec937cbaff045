import numpy as np
import pytest
from numpy.testing import assert_allclose

from kl2dpo.bradley_terry import win_probability
from kl2dpo.datasets import (
    arena,
    baseball,
    citations,
    football,
    forest,
    public_logs,
    trl_football,
)


def test_football():
    names, wins = football()
    assert names == ("A", "B", "C")
    assert wins.tolist() == [[0, 8, 3], [4, 0, 0], [5, 0, 0]]


def test_trl_logs_the_metrics_of_its_own_answers():
    runs = trl_football()
    assert runs.history["step"].tolist() == list(range(1, 201))
    assert_allclose(runs.lowest[0], runs.history["logps/chosen"].min())
    assert_allclose(runs.history["loss"][0], np.log(2), atol=1e-6)
    # The last record is from before the last step, which is tiny.
    chosen, rejected = np.array([11, 4, 5]) / 20, np.array([9, 8, 3]) / 20
    for name, shares in [("chosen", chosen), ("rejected", rejected)]:
        logp, ref_logp = runs.policy[0, :3] @ shares, runs.reference[0, :3] @ shares
        assert_allclose(runs.history[f"logps/{name}"][-1], logp, atol=1e-5)
        reward = runs.beta * (logp - ref_logp)
        assert_allclose(runs.history[f"rewards/{name}"][-1], reward, atol=1e-5)


def test_runs_of_trl_are_log_probabilities_of_known_settings():
    runs = trl_football()
    assert runs.seeds.tolist() == [*range(30), *2 * [0, 2, 10, 11, 18]]
    assert runs.nll.tolist() == 30 * [0] + 5 * [0.01] + 5 * [0.1]
    for logps in (runs.reference, runs.policy):
        assert logps.shape == (40, 4) and np.all(np.exp(logps).sum(axis=1) < 1)
    same = runs.reference[runs.seeds == 2]
    assert_allclose(same, same[[0, 0, 0]])  # the likelihood term comes after fine-tuning
    assert np.all(runs.lowest < runs.policy[:, :3] @ np.array([11, 4, 5]) / 20 + 1e-4)


def test_citations_without_self_citations():
    names, wins = citations()
    assert names == ("Biometrika", "Comm Statist", "JASA", "JRSS-B")
    assert wins.tolist() == [
        [0, 730, 498, 221],
        [33, 0, 68, 17],
        [320, 813, 0, 142],
        [284, 276, 325, 0],
    ]


def test_public_logs_have_what_was_printed():
    logs = public_logs()
    last = logs["zephyr-7b-beta"][-1]
    assert (last["step"], last["loss"], last["eval_loss"]) == (5800, 0.0054, 0.752)
    assert "loss" not in logs["dpo-36"][0] and "step" not in logs["eto-14"][0]
    for name, records in logs.items():
        for record in records:
            for side in ("", "eval_"):
                if f"{side}rewards/margins" in record:
                    ends = [record[f"{side}rewards/{end}"] for end in ("chosen", "rejected")]
                    margin = record[f"{side}rewards/margins"]
                    assert_allclose(margin, ends[0] - ends[1], atol=1.1e-4, err_msg=name)


def test_baseball():
    table = baseball()
    assert len(table.names) == 7
    assert (table.home_wins + table.away_wins).sum() == table.wins.sum() == 273
    games = table.wins + table.wins.T
    assert np.array_equal(games, 13 * (1 - np.eye(7)))
    # Milwaukee against Detroit: 4:3 at home and 3:3 away.
    assert table.home_wins[0, 1] == 4 and table.away_wins[0, 1] == 3
    assert table.wins[0, 1] == 7 and table.wins[1, 0] == 6


def test_forest():
    words, sentences = corpus = forest()
    assert words[0] == "." and list(words[1:]) == sorted(set(words[1:])) and len(words) == 82
    assert len({tuple(row) for row in sentences}) == 320
    assert set(np.unique(sentences)) == set(range(82))
    lengths = np.argmin(sentences, axis=1)  # the place of the first 0
    assert set(lengths) == set(range(4, 10))
    assert not sentences[np.arange(10) >= lengths[:, None]].any()
    assert np.array_equal(corpus.tokens(corpus.texts(sentences), 10), sentences)
    last = np.pad(sentences[:, :-1], ((0, 0), (1, 0)))
    written = (last > 0) | (sentences > 0)
    assert len({(a, b) for a, b in zip(last[written], sentences[written])}) == 550


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: forest().tokens(["the cat"]), "a word is 'cat', expected one of the corpus"),
        (lambda: forest().tokens(["the ."]), "a word is '.', expected"),
        (lambda: forest().tokens(["the fox"], 2), "max_length is 2, expected more, for 'the fox'"),
        (lambda: forest().texts([[82, 0]]), r"responses\[0, 0\] is 82.0, expected a number < 82"),
        (lambda: forest().texts([1, 0]), "responses has shape"),
    ],
)
def test_bad_texts_are_refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


def test_arena_is_what_it_says():
    battles = arena(6, 200_000, spread=0.8, tie_rate=0.2, seed=5)
    assert battles.names[-1] == "model-5" and len(battles.outcome) == 200_000
    assert_allclose(battles.log_strengths.sum(), 0, atol=1e-12)
    assert not np.any(battles.model_a == battles.model_b)
    s = battles.log_strengths
    p = win_probability(s[battles.model_a], s[battles.model_b])
    four_errors = 4 / np.sqrt(200_000)
    tie = battles.outcome == 0.5
    assert abs(np.mean(tie - 0.8 * p * (1 - p))) < 0.5 * four_errors
    assert abs(np.mean(battles.outcome - p)) < 0.5 * four_errors
    # A tie lowers the variance by the factor 1 - tie_rate.
    variance = np.mean((battles.outcome - p) ** 2 / (p * (1 - p)))
    assert_allclose(variance, 0.8, atol=2 * four_errors)
    again = arena(6, 200_000, spread=0.8, tie_rate=0.2, seed=5)
    assert all(np.array_equal(x, y) for x, y in zip(battles[1:], again[1:]))
    other = arena(6, 200_000, spread=0.8, tie_rate=0.2, seed=6)
    assert not np.array_equal(battles.outcome, other.outcome)


def test_models_of_the_arena_differ_in_popularity():
    battles = arena(50, 100_000)
    games = np.bincount(battles.model_a, minlength=50) + np.bincount(battles.model_b, minlength=50)
    assert 4.2 < games.max() / games.min() < 5.2
    assert_allclose(np.mean(battles.model_a < battles.model_b), 0.5, atol=0.1)


@pytest.mark.parametrize("spread", [0.2, 3])
def test_spread_of_the_arena(spread):
    strengths = arena(2_000, 10, spread=spread).log_strengths
    assert_allclose(np.std(strengths), spread, rtol=4 / np.sqrt(4_000))


def test_comparisons_of_battles():
    battles = arena(5, 1_000)
    winners, losers, ties = battles.comparisons()
    assert np.array_equal(ties, battles.outcome == 0.5) and 0 < ties.sum() < 1_000
    decided = battles.outcome != 0.5
    assert np.array_equal(
        winners[decided] == battles.model_a[decided], battles.outcome[decided] == 1
    )
    pairs = np.sort([winners, losers], axis=0)
    assert np.array_equal(pairs, np.sort([battles.model_a, battles.model_b], axis=0))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_models": 1}, "n_models is 1, expected an integer >= 2"),
        ({"n_battles": 0}, "n_battles is 0, expected an integer >= 1"),
        ({"n_battles": 1e5}, "n_battles is 100000.0, expected an integer >= 1"),
        ({"tie_rate": 0.51}, "tie_rate is 0.51, expected a number <= 0.5"),
        ({"spread": -1}, "spread is -1.0, expected a number >= 0"),
        ({"spread": 101}, "spread is 101.0, expected a number <= 100"),
        ({"tie_rate": 0.6}, "tie_rate is 0.6, expected"),
        ({"tie_rate": -0.1}, "tie_rate is -0.1, expected a number >= 0"),
        ({"seed": -1}, "seed is -1, expected an integer >= 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        arena(**options)


def test_the_defaults_of_the_arena_are_the_documented_ones():
    default, given = arena(), arena(50, 100_000, spread=1, tie_rate=0.3, seed=0)
    assert default.names == given.names
    assert set(arena(3, 99, tie_rate=0.5, spread=100).outcome) <= {0, 0.5, 1}  # the bounds
    assert all(np.array_equal(x, y) for x, y in zip(default[1:], given[1:]))


def test_no_place_in_the_arena_is_favoured():
    shares = np.zeros(4)
    for seed in range(60):
        battles = arena(4, 500, seed=seed)
        shares += np.bincount(np.append(battles.model_a, battles.model_b), minlength=4) / 60_000
    assert_allclose(shares, 1 / 4, atol=0.035)
