import itertools
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kl2dpo import dpo
from kl2dpo.bradley_terry import fit
from kl2dpo.datasets import football
from kl2dpo.policy import BigramPolicy, PreferencePairs, TabularPolicy, TrainingError, train

RNG = np.random.default_rng(0)
TABLE = TabularPolicy(RNG.normal(size=(3, 4)))
BIGRAM = BigramPolicy(RNG.normal(size=(2, 3, 3)), max_length=4)
FOOTBALL = PreferencePairs(
    np.zeros(4, int), np.array([0, 1, 0, 2]), np.array([1, 0, 2, 0]), np.array([8, 4, 3, 5])
)


def bigram_by_hand(policy, prompt, response):
    """Token by token, from the definition."""
    total, last = 0.0, 0
    for token in response:
        row = policy.parameters[prompt, last]
        total += row[token] - np.log(np.exp(row).sum())
        last = token
        if token == 0:
            break
    return total


def everything(policy):
    """All prompts with all responses."""
    n_prompts = len(policy.parameters)
    if isinstance(policy, TabularPolicy):
        responses = np.arange(policy.parameters.shape[1])
    else:
        responses = policy.all_responses()
    prompts = np.repeat(np.arange(n_prompts), len(responses))
    return prompts, np.concatenate([responses] * n_prompts)


# The policies


def test_tabular_log_prob():
    weights = np.exp(TABLE.parameters)
    expected = weights / weights.sum(axis=1, keepdims=True)
    assert_allclose(TABLE.probabilities(), expected)
    assert_allclose(TABLE.log_prob([2, 0], [1, 3]), np.log([expected[2, 1], expected[0, 3]]))
    assert TABLE.lengths([1, 3]).tolist() == [1, 1]


def test_bigram_log_prob():
    prompts, responses = everything(BIGRAM)
    by_hand = [bigram_by_hand(BIGRAM, x, y) for x, y in zip(prompts, responses)]
    assert_allclose(BIGRAM.log_prob(prompts, responses), by_hand)
    # Lengths 0 to 3 with an end, and 4 without: 1 + 2 + 4 + 8 + 16 responses.
    assert len(responses) == 2 * 31 and len({tuple(y) for y in responses}) == 31
    assert BIGRAM.lengths([[0, 0, 0, 0], [1, 2, 0, 0], [1, 1, 1, 1]]).tolist() == [1, 3, 4]


@pytest.mark.parametrize("policy", [TABLE, BIGRAM])
def test_probabilities_sum_to_one(policy):
    prompts, responses = everything(policy)
    total = np.bincount(prompts, np.exp(policy.log_prob(prompts, responses)))
    assert_allclose(total, 1)


@pytest.mark.parametrize("policy", [TABLE, BIGRAM])
def test_samples_have_the_probabilities(policy):
    n = 60_000
    prompts, responses = everything(policy)
    drawn = policy.sample(np.ones(n, int), np.random.default_rng(1))
    mine = prompts == 1
    for response, p in zip(responses[mine], np.exp(policy.log_prob(prompts, responses))[mine]):
        share = np.mean(np.all(np.reshape(drawn == response, (n, -1)), axis=1))
        assert abs(share - p) < 5 * np.sqrt(p * (1 - p) / n) + 1e-4
    again = policy.sample(np.ones(9, int), np.random.default_rng(1))
    assert np.array_equal(again, policy.sample(np.ones(9, int), np.random.default_rng(1)))


def test_the_impossible_is_never_drawn():
    class Zeros:
        def random(self, n):
            return np.zeros(n)

    # A generator may return exactly 0, which lies on the border of an empty first part.
    policy = TabularPolicy([[-1e4, 0, 0]])
    assert policy.sample([0, 0], Zeros()).tolist() == [1, 1]


@pytest.mark.parametrize("policy", [TABLE, BIGRAM])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_gradient_against_finite_differences(policy, scale):
    policy = policy.copy()
    policy.parameters = scale * policy.parameters
    prompts, responses = everything(policy)
    weights = np.random.default_rng(2).normal(size=len(prompts))
    exact = policy.gradient(prompts, responses, weights)
    assert exact.shape == policy.parameters.shape
    moved, h = policy.copy(), 1e-6
    for index in np.ndindex(exact.shape):
        values = []
        for sign in (1, -1):
            moved.parameters = policy.parameters.copy()
            moved.parameters[index] += sign * h
            values.append(weights @ moved.log_prob(prompts, responses))
        assert_allclose(exact[index], (values[0] - values[1]) / (2 * h), atol=1e-6)


@pytest.mark.parametrize("policy", [TABLE, BIGRAM])
def test_exact_divergence(policy):
    other = policy.copy()
    other.parameters = np.random.default_rng(3).normal(size=policy.parameters.shape)
    prompts, responses = everything(policy)
    logp, logq = policy.log_prob(prompts, responses), other.log_prob(prompts, responses)
    expected = np.bincount(prompts, np.exp(logp) * (logp - logq))
    assert_allclose(policy.kl_from(other), expected)
    assert_allclose(policy.kl_from(policy), 0, atol=1e-15)


def test_copies_are_independent():
    for policy in (TABLE, BIGRAM):
        copy = policy.copy()
        copy.parameters[0] += 1
        assert not np.any(copy.parameters[0] == policy.parameters[0])


# Training


@pytest.mark.parametrize("optimizer, rate", [("gd", 2.0), ("adam", 0.05)])
def test_training_closes_the_thread(optimizer, rate):
    start = TabularPolicy(np.zeros((1, 3)))
    trained, history = train(
        start, FOOTBALL, beta=1.0, optimizer=optimizer, learning_rate=rate, steps=2_000
    )
    assert_allclose(19 * trained.probabilities()[0], [6, 3, 10], atol=1e-5)
    assert not start.parameters.any()
    assert_allclose(history["kl"][-1], 0.105344, atol=1e-6)
    assert history["step"].tolist() == list(range(0, 2_001, 10))


@pytest.mark.parametrize(
    "reference, beta",
    [([1 / 3, 1 / 3, 1 / 3], 1.0), ([0.5, 0.3, 0.2], 0.5), ([0.1, 0.8, 0.1], 2.0)],
)
def test_training_reaches_the_closed_form(reference, beta):
    start = TabularPolicy(np.log([reference]))
    options = {"optimizer": "gd", "learning_rate": 2 / beta**2, "steps": 3_000}
    trained, _ = train(start, FOOTBALL, beta=beta, **options)
    log_strengths = fit(football().wins).log_strengths
    exact = dpo.tabular_optimum(reference, log_strengths, beta)
    assert 0.5 * np.abs(trained.probabilities()[0] - exact).sum() < 1e-6


def test_history_by_hand():
    reference = TabularPolicy(np.log([[0.5, 0.3, 0.2]]))
    start = TabularPolicy(np.log([[0.2, 0.2, 0.6]]))
    _, history = train(start, FOOTBALL, reference=reference, beta=0.5, steps=1, log_every=1)
    share = np.array([8, 4, 3, 5]) / 20
    logp, logr = np.log([0.2, 0.2, 0.6]), np.log([0.5, 0.3, 0.2])
    rewards = 0.5 * (logp - logr)
    chosen, rejected = rewards[[0, 1, 0, 2]], rewards[[1, 0, 2, 0]]
    expected = {
        "step": 0,
        "loss": share @ np.log1p(np.exp(rejected - chosen)),
        "rewards/chosen": share @ chosen,
        "rewards/rejected": share @ rejected,
        "rewards/margins": share @ (chosen - rejected),
        "rewards/accuracies": share @ (chosen > rejected),
        "logps/chosen": share @ logp[[0, 1, 0, 2]],
        "logps/rejected": share @ logp[[1, 0, 2, 0]],
        "kl": np.exp(logp) @ (logp - logr),
    }
    assert set(history) == set(expected)
    for name, value in expected.items():
        assert_allclose(history[name][0], value, err_msg=name)
        assert len(history[name]) == 2


def test_equal_rewards_are_not_accurate():
    _, history = train(TabularPolicy(np.zeros((1, 3))), FOOTBALL, steps=1)
    assert history["rewards/accuracies"][0] == 0


def test_first_steps_of_both_optimizers():
    start = TabularPolicy(np.zeros((1, 3)))
    # At the start every weight is 1/2: 8 - 4 and 3 - 5 wins, halved, over 20.
    downhill = np.array([[4 - 2, -4, 2]]) / 2 / 20
    trained, _ = train(start, FOOTBALL, beta=1.0, optimizer="gd", learning_rate=0.5, steps=1)
    assert_allclose(trained.parameters, 0.5 * downhill)
    trained, _ = train(start, FOOTBALL, beta=1.0, learning_rate=0.5, steps=1)
    assert_allclose(trained.parameters, 0.5 * np.sign(downhill), rtol=1e-6)


def test_the_defaults_are_the_documented_ones():
    start = TabularPolicy(np.zeros((1, 3)))
    options = {"optimizer": "adam", "learning_rate": 0.1, "steps": 1_000, "log_every": 10}
    default = train(start, FOOTBALL)
    given = train(start, FOOTBALL, "dpo", reference=start, beta=0.1, **options)
    assert np.array_equal(default.policy.parameters, given.policy.parameters)
    assert np.array_equal(default.history["step"], given.history["step"])
    a, b = (train(start, FOOTBALL, batch_size=5, steps=9, **seed) for seed in ({}, {"seed": 0}))
    assert np.array_equal(a.policy.parameters, b.policy.parameters)


def test_rewards_of_a_loss_without_beta():
    reference = TabularPolicy(np.log([[0.5, 0.3, 0.2]]))
    start = TabularPolicy(np.log([[0.2, 0.2, 0.6]]))
    _, history = train(start, FOOTBALL, "ipo", reference=reference, steps=1)
    log_ratios = np.log([0.2, 0.2, 0.6]) - np.log([0.5, 0.3, 0.2])
    expected = np.array([8, 4, 3, 5]) / 20 @ log_ratios[[0, 1, 0, 2]]
    assert_allclose(history["rewards/chosen"][0], expected)


def test_adam_as_published():
    # In the form at the end of section 2 of the paper, with one step size for both corrections.
    policy = reference = TabularPolicy(np.zeros((1, 3)))
    mean = square = np.zeros((1, 3))
    for t in range(1, 21):
        logps, refs = (
            [p.log_prob(FOOTBALL.prompts, r) for r in FOOTBALL[1:3]] for p in (policy, reference)
        )
        slopes = dpo.dpo_gradient(*logps, *refs, beta=1.0)
        gradient = sum(
            policy.gradient(FOOTBALL.prompts, r, FOOTBALL.counts / 20 * slope)
            for r, slope in zip(FOOTBALL[1:3], slopes)
        )
        mean, square = mean + 0.1 * (gradient - mean), square + 0.001 * (gradient**2 - square)
        rate = 0.05 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        policy = TabularPolicy(policy.parameters - rate * mean / np.sqrt(square))
    trained, _ = train(reference, FOOTBALL, beta=1.0, learning_rate=0.05, steps=20)
    assert_allclose(trained.parameters, policy.parameters, rtol=1e-5, atol=1e-9)


def test_adam_makes_half_a_step_at_its_smallest_gradient():
    pair = PreferencePairs(np.array([0]), np.array([0]), np.array([1]))
    constant = (
        lambda *logps: np.zeros(1),
        lambda *logps: dpo.PairGradient(np.full(1, -1e-8), np.full(1, 1e-8)),
    )
    trained, _ = train(TabularPolicy([[0, 0]]), pair, constant, learning_rate=0.5, steps=1)
    assert_allclose(trained.parameters, [[0.25, -0.25]])


def test_a_batch_is_the_mean_of_its_pairs():
    start, options = TabularPolicy(np.zeros((1, 3))), {"optimizer": "gd", "learning_rate": 1.0}
    for seed in range(5):
        trained, _ = train(start, FOOTBALL, batch_size=1, steps=1, seed=seed, beta=1.0, **options)
        assert_allclose(np.sort(trained.parameters[0]), [-0.5, 0, 0.5], atol=1e-12)
        # A larger batch is the mean of its pairs.
        trained, _ = train(start, FOOTBALL, batch_size=8, steps=1, seed=seed, beta=1.0, **options)
        assert np.abs(trained.parameters).max() <= 0.5
        assert_allclose(trained.parameters * 16, np.round(trained.parameters * 16), atol=1e-12)


@pytest.mark.parametrize("loss", ["dpo", "robust", "ipo", "hinge", "kto", "simpo", "orpo"])
def test_every_loss_trains_a_sequence_policy(loss):
    rng = np.random.default_rng(4)
    start = BigramPolicy(rng.normal(size=(2, 3, 3)), max_length=4)
    prompts = rng.integers(2, size=40)
    chosen, rejected = start.sample(prompts, rng), start.sample(prompts, rng)
    differ = np.any(chosen != rejected, axis=1)
    pairs = PreferencePairs(prompts[differ], chosen[differ], rejected[differ])
    _, history = train(start, pairs, loss, learning_rate=0.02, steps=100)
    assert history["loss"][-1] < history["loss"][0]
    assert history["rewards/margins"][-1] > 0 and history["kl"][-1] > 0


def test_lengths_reach_the_losses_that_need_them():
    pairs = PreferencePairs(np.array([0]), np.array([[1, 2, 0, 0]]), np.array([[2, 0, 0, 0]]))
    logps = BIGRAM.log_prob(*pairs[:2]), BIGRAM.log_prob(pairs.prompts, pairs.rejected)
    _, history = train(BIGRAM, pairs, "simpo", steps=1, beta=1.5, gamma=0.3)
    assert_allclose(history["loss"][0], dpo.simpo_loss(*logps, [3], [2], beta=1.5, gamma=0.3)[0])


def test_counts_are_repetitions():
    repeated = PreferencePairs(*(np.repeat(part, FOOTBALL.counts) for part in FOOTBALL[:3]))
    start = TabularPolicy(np.zeros((1, 3)))
    a, b = (train(start, pairs, steps=50).policy for pairs in (FOOTBALL, repeated))
    assert_allclose(a.parameters, b.parameters, atol=1e-12)


def test_batches_are_seeded_and_unbiased():
    start = TabularPolicy(np.zeros((1, 3)))
    options = {"beta": 1.0, "optimizer": "gd", "learning_rate": 0.02, "batch_size": 5}
    a, b, c = (train(start, FOOTBALL, seed=k, steps=3_000, **options).policy for k in (1, 1, 2))
    assert np.array_equal(a.parameters, b.parameters)
    assert not np.array_equal(a.parameters, c.parameters)
    assert_allclose(19 * a.probabilities()[0], [6, 3, 10], atol=1.5)


def test_own_loss():
    start = TabularPolicy(np.zeros((1, 3)))
    own = dpo.ipo_loss, dpo.ipo_gradient
    a, b = (train(start, FOOTBALL, loss, tau=0.5, steps=20).policy for loss in (own, "ipo"))
    assert np.array_equal(a.parameters, b.parameters)


def test_divergence_is_an_error():
    start = TabularPolicy(np.zeros((1, 3)))
    with pytest.raises(
        TrainingError, match=r"diverged at step \d+: .* try a smaller learning_rate"
    ):
        with np.errstate(all="ignore"):
            train(start, FOOTBALL, "ipo", tau=0.1, optimizer="gd", learning_rate=1e3)
    # Between two records, too: the parameters overflow in the first step.
    with pytest.raises(TrainingError, match="diverged at step 1: the last recorded loss was 2"):
        with np.errstate(all="ignore"):
            train(start, FOOTBALL, "ipo", tau=1e-3, optimizer="gd", learning_rate=1e307)
    assert issubclass(TrainingError, ValueError)


def test_progress_is_shown_to_people_only(monkeypatch, capsys):
    start = TabularPolicy(np.zeros((1, 3)))
    clock = itertools.count(0, 3)
    monkeypatch.setattr("kl2dpo.policy.time.monotonic", lambda: next(clock))
    train(start, FOOTBALL, steps=20)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    train(start, FOOTBALL, steps=20)
    shown = capsys.readouterr().err
    assert re.fullmatch(
        r"(\rstep \d+ of 20, loss 0\.\d{6})*\rstep 20 of 20, loss 0\.\d{6}\n", shown
    )


@pytest.mark.parametrize("tick, lines", [(0.1, 0), (1, 1)])
def test_progress_is_shown_after_two_seconds(monkeypatch, capsys, tick, lines):
    # The clock does not begin at 0. At one second a record, only the third one comes late enough.
    clock = itertools.count(1_000, tick)
    monkeypatch.setattr("kl2dpo.policy.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    train(TabularPolicy(np.zeros((1, 3))), FOOTBALL, steps=20)
    assert capsys.readouterr().err.count("\r") == lines


# Bad input


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: TabularPolicy([0, 1]), r"logits has shape \(2,\), expected 2 dimensions"),
        (lambda: TabularPolicy([[0, np.nan]]), r"logits\[0, 1\] is nan"),
        (lambda: BigramPolicy(np.zeros((2, 2)), 2), r"logits has shape \(2, 2\), expected 3 dim"),
        (lambda: BigramPolicy(np.zeros((1, 2, 3)), 2), r"logits has shape \(1, 2, 3\), expected"),
        (lambda: BigramPolicy(np.zeros((1, 2, 2)), 0), "max_length is 0, expected an integer >= 1"),
        (lambda: TABLE.log_prob([3], [0]), r"prompts\[0\] is 3, expected an integer from 0 to 2"),
        (lambda: TABLE.log_prob([0], [-1]), r"responses\[0\] is -1, expected an integer from 0"),
        (lambda: TABLE.log_prob([0, 1], [0]), "responses has 1 rows, expected one for each of 2"),
        (lambda: TABLE.log_prob([0.0], [0]), "prompts has dtype float64, expected integers"),
        (lambda: TABLE.log_prob([[0]], [0]), r"prompts has shape \(1, 1\), expected \(m,\)"),
        (lambda: TABLE.sample([5], RNG), r"prompts\[0\] is 5"),
        (lambda: BIGRAM.sample([0, 2], RNG), r"prompts\[1\] is 2, expected an integer from 0 to 1"),
        (lambda: BIGRAM.log_prob([2], [[0] * 4]), r"prompts\[0\] is 2, expected an integer from"),
        (
            lambda: BIGRAM.log_prob([0], [[1, 0]]),
            r"responses has shape \(1, 2\), expected \(m, 4\)",
        ),
        (lambda: BIGRAM.log_prob([0], [[1, 0, 2, 0]]), r"responses\[0, 2\] is 2, expected 0 after"),
        (lambda: BIGRAM.log_prob([0], [[3, 0, 0, 0]]), r"responses\[0, 0\] is 3, expected an"),
    ],
)
def test_bad_policies_and_responses_are_refused(call, message):
    with pytest.raises(ValueError, match="^" + message):
        call()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"loss": "ppo"}, "loss is 'ppo', expected one of dpo, hinge"),
        ({"loss": dpo.dpo_loss}, "loss is <function .*, expected a name, or a loss and its"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd', expected 'adam' or 'gd'"),
        ({"learning_rate": 0}, "learning_rate is 0.0, expected a number > 0"),
        ({"steps": 0}, "steps is 0, expected an integer >= 1"),
        ({"log_every": 0}, "log_every is 0, expected an integer >= 1"),
        ({"batch_size": 0}, "batch_size is 0, expected an integer >= 1"),
        ({"seed": -1}, "seed is -1, expected an integer >= 0"),
        ({"beta": -1}, "beta is -1.0, expected a number > 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match="^" + message):
        train(TabularPolicy(np.zeros((1, 3))), FOOTBALL, **options)


@pytest.mark.parametrize(
    "counts, message",
    [
        ([1, 2], r"counts has shape \(2,\), expected that of prompts, \(4,\)"),
        ([1, 1, 1, -1], r"counts\[3\] is -1.0, expected a number >= 0"),
        ([1, np.nan, 1, 1], r"counts\[1\] is nan, expected a finite number"),
        ([0, 0, 0, 0], "counts are all zero"),
    ],
)
def test_bad_counts_are_refused(counts, message):
    with pytest.raises(ValueError, match="^" + message):
        train(TabularPolicy(np.zeros((1, 3))), FOOTBALL._replace(counts=counts))
