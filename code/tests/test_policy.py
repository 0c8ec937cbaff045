import numpy as np
import pytest
from numpy.testing import assert_allclose

from kl2dpo import dpo
from kl2dpo.bradley_terry import fit
from kl2dpo.datasets import football
from kl2dpo.policy import BigramPolicy, PreferencePairs, TabularPolicy, TrainingError, train
from kl2dpo.rlhf import optimal_policy

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
    exact = optimal_policy(reference, log_strengths, beta)
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


@pytest.mark.parametrize(
    "loss, own",
    [
        ("dpo", {"beta": 0.1}),
        ("robust", {"beta": 0.1}),
        ("hinge", {"beta": 0.1}),
        ("kto", {"beta": 0.1}),
        ("sigmoid_norm", {"beta": 2}),
        ("simpo", {"beta": 2}),
        ("ipo", {"tau": 0.1}),
        ("orpo", {"lambda_": 0.1}),
    ],
)
def test_the_defaults_are_the_documented_ones(loss, own):
    start = TabularPolicy(np.zeros((1, 3)))
    options = {"optimizer": "adam", "learning_rate": 0.1, "log_every": 10, "nll_weight": 0}
    default = train(start, FOOTBALL, loss, steps=30)
    given = train(start, FOOTBALL, loss, reference=start, steps=30, ridge=0, **options, **own)
    assert np.array_equal(default.policy.parameters, given.policy.parameters)
    assert default.history.keys() == given.history.keys()
    for name, values in default.history.items():
        assert np.array_equal(values, given.history[name]), name


def test_the_default_loss_number_of_steps_and_seed():
    start = TabularPolicy(np.zeros((1, 3)))
    a, b = train(start, FOOTBALL), train(start, FOOTBALL, "dpo", steps=1_000)
    assert np.array_equal(a.policy.parameters, b.policy.parameters)
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
        slopes = dpo.gradient(dpo.dpo_loss, *logps, *refs, beta=1.0)
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

    @dpo.define_loss
    def constant(policy_chosen, policy_rejected):
        return np.zeros(1), np.full(1, -1e-8), np.full(1, 1e-8)

    trained, _ = train(TabularPolicy([[0, 0]]), pair, constant, learning_rate=0.5, steps=1)
    assert_allclose(trained.parameters, [[0.25, -0.25]])


def test_a_batch_is_the_mean_of_its_comparisons():
    start, options = TabularPolicy(np.zeros((1, 3))), {"optimizer": "gd", "learning_rate": 1.0}
    for seed in range(5):
        trained, _ = train(start, FOOTBALL, batch_size=1, steps=1, seed=seed, beta=1.0, **options)
        assert_allclose(np.sort(trained.parameters[0]), [-0.5, 0, 0.5], atol=1e-12)
        trained, _ = train(start, FOOTBALL, batch_size=8, steps=1, seed=seed, beta=1.0, **options)
        assert np.abs(trained.parameters).max() <= 0.5
        assert_allclose(trained.parameters * 16, np.round(trained.parameters * 16), atol=1e-12)


def sentences(m=40):
    """Pairs of responses of different lengths, and the policy that wrote them."""
    rng = np.random.default_rng(4)
    policy = BigramPolicy(rng.normal(size=(2, 3, 3)), max_length=4)
    prompts = rng.integers(2, size=m)
    return policy, PreferencePairs(
        prompts, policy.sample(prompts, rng), policy.sample(prompts, rng)
    )


def test_descent_token_by_token():
    start, pairs = sentences()
    logits = start.parameters.copy()
    for _ in range(20):
        now, downhill = BigramPolicy(logits, max_length=4), np.zeros(logits.shape)
        shares = now.probabilities()
        for prompt, *sides in zip(*pairs[:3]):
            u = [bigram_by_hand(now, prompt, y) - bigram_by_hand(start, prompt, y) for y in sides]
            slope = 0.5 / (1 + np.exp(0.5 * (u[0] - u[1])))
            for y, weight in zip(sides, (slope, -slope)):
                for last, token in zip([0, *y], y[: start.lengths([y])[0]]):
                    downhill[prompt, last, token] += weight
                    downhill[prompt, last] -= weight * shares[prompt, last]
        logits = logits + 2.0 * downhill / 40
    options = {"optimizer": "gd", "learning_rate": 2.0, "steps": 20}
    assert np.abs(logits - start.parameters).max() > 0.5
    assert_allclose(train(start, pairs, beta=0.5, **options).policy.parameters, logits, atol=1e-12)


def test_an_epoch_takes_every_comparison_once():
    # A slope that does not depend on the policy: what an epoch adds up to has no order.
    @dpo.define_loss
    def linear(policy_chosen, policy_rejected, chosen_length, ref_rejected):
        loss = chosen_length * policy_chosen + ref_rejected * policy_rejected
        return loss, np.array(chosen_length), np.array(ref_rejected)

    policy, pairs = sentences()
    pairs = pairs._replace(counts=np.arange(40) % 3)
    options = {"optimizer": "gd", "learning_rate": 1e-9}
    batches, _ = train(policy, pairs, linear, batch_size=13, epochs=2, **options)
    at_once, _ = train(policy, pairs, linear, epochs=6, **options)  # 39 comparisons: 3 batches
    moves = (trained.parameters - policy.parameters for trained in (batches, at_once))
    assert_allclose(*moves, rtol=1e-5, atol=1e-15)


def test_epochs_are_steps():
    policy, pairs = sentences()
    for options, steps in [({"batch_size": 13}, 8), ({"batch_size": 40}, 2), ({}, 2)]:
        a = train(policy, pairs, epochs=2, **options)
        b = train(policy, pairs, steps=steps, **options)
        assert a.history["step"][-1] == steps
        assert np.array_equal(a.policy.parameters, b.policy.parameters)


@pytest.mark.parametrize("loss", ["dpo", "sigmoid_norm", "simpo"])
def test_a_batch_of_all_comparisons_is_the_whole_data(loss):
    policy, pairs = sentences()
    weights = {"nll_weight": np.linspace(0, 1, 40)}
    for counts in (None, np.arange(40) % 3):
        pairs = pairs._replace(counts=counts)
        size = 40 if counts is None else int(counts.sum())
        a, b = (
            train(policy, pairs, loss, steps=9, **weights, **o).policy
            for o in ({}, {"batch_size": size})
        )
        assert_allclose(a.parameters, b.parameters, atol=1e-9)


@pytest.mark.parametrize(
    "loss", ["dpo", "robust", "ipo", "hinge", "kto", "sigmoid_norm", "simpo", "orpo"]
)
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
    other = BigramPolicy(BIGRAM.parameters + np.arange(3), max_length=4)
    refs = other.log_prob(*pairs[:2]), other.log_prob(pairs.prompts, pairs.rejected)
    _, history = train(BIGRAM, pairs, "sigmoid_norm", reference=other, steps=1)
    assert_allclose(history["loss"][0], dpo.sigmoid_norm_loss(*logps, *refs, [3], [2])[0])
    # Its rewards are those of sums, as in TRL.
    assert_allclose(history["rewards/chosen"][0], 2 * (logps[0] - refs[0])[0])


@pytest.mark.parametrize("options", [{}, {"batch_size": 7}])
def test_counts_are_repetitions(options):
    repeated = PreferencePairs(*(np.repeat(part, FOOTBALL.counts) for part in FOOTBALL[:3]))
    start = TabularPolicy(np.zeros((1, 3)))
    a, b = (train(start, pairs, steps=50, **options).policy for pairs in (FOOTBALL, repeated))
    assert_allclose(a.parameters, b.parameters, atol=1e-12)


def test_batches_are_seeded_and_unbiased():
    start = TabularPolicy(np.zeros((1, 3)))
    options = {"beta": 1.0, "optimizer": "gd", "learning_rate": 0.02, "batch_size": 5}
    a, b, c = (train(start, FOOTBALL, seed=k, steps=3_000, **options).policy for k in (1, 1, 2))
    assert np.array_equal(a.parameters, b.parameters)
    assert not np.array_equal(a.parameters, c.parameters)
    assert_allclose(19 * a.probabilities()[0], [6, 3, 10], atol=1.5)


def test_a_loss_by_its_name_or_itself():
    start = TabularPolicy(np.zeros((1, 3)))
    a, b = (train(start, FOOTBALL, loss, tau=0.5, steps=20) for loss in ("ipo", dpo.ipo_loss))
    assert np.array_equal(a.policy.parameters, b.policy.parameters)


def test_dpo_with_likelihood_on_the_thread():
    # The gradient of DPO is 0, 0, -1/20 at (2, 1, 2)/5, that of the likelihood 3/20, 0, -3/20.
    start, options = TabularPolicy(np.zeros((1, 3))), {"beta": 1.0, "steps": 3_000}
    trained, history = train(start, FOOTBALL, nll_weight=1 / 3, learning_rate=0.02, **options)
    assert_allclose(5 * trained.probabilities(), [[2, 1, 2]], atol=1e-6)
    logps = np.log([0.4, 0.2, 0.4])
    share = np.array([8, 4, 3, 5]) / 20
    likelihood = share @ logps[FOOTBALL.chosen]
    margins = share @ np.log1p(np.exp(logps[FOOTBALL.rejected] - logps[FOOTBALL.chosen]))
    assert_allclose(history["loss"][-1], margins - likelihood / 3, rtol=1e-9)
    # Alone, the likelihood asks for the shares of the chosen answers.
    trained, _ = train(start, FOOTBALL, nll_weight=1e6, learning_rate=0.02, **options)
    assert_allclose(20 * trained.probabilities(), [[11, 4, 5]], atol=1e-4)


def test_likelihood_of_sentences_and_of_tokens():
    policy, pairs = sentences()
    for weight in (0.3, 0.3 / policy.lengths(pairs.chosen)):
        _, history = train(policy, pairs, nll_weight=weight, steps=1)
        likelihood = np.mean(weight * policy.log_prob(pairs.prompts, pairs.chosen))
        assert_allclose(history["loss"][0], np.log(2) - likelihood)


def test_ridge_pulls_to_the_reference():
    start, other = TabularPolicy(np.zeros((1, 3))), TabularPolicy([[1.0, -2.0, 0.5]])
    options = {"beta": 1.0, "optimizer": "gd", "learning_rate": 0.5}
    moves = [
        train(start, FOOTBALL, reference=other, steps=1, ridge=ridge, **options).policy.parameters
        for ridge in (0.0, 0.2)
    ]
    assert_allclose(moves[1] - moves[0], 0.5 * 0.2 * other.parameters)
    # At rest the two gradients cancel, and the logged loss has no penalty.
    trained, history = train(start, FOOTBALL, ridge=0.2, steps=300, **options)
    logps = np.log(trained.probabilities()[0])
    slopes = dpo.gradient(
        dpo.dpo_loss, logps[FOOTBALL.chosen], logps[FOOTBALL.rejected], 0, 0, beta=1.0
    )
    share = FOOTBALL.counts / 20
    downhill = np.bincount(FOOTBALL.chosen, share * slopes.chosen, 3)
    downhill += np.bincount(FOOTBALL.rejected, share * slopes.rejected, 3)
    assert_allclose(0.2 * trained.parameters[0], -downhill, atol=1e-9)
    loss = dpo.dpo_loss(logps[FOOTBALL.chosen], logps[FOOTBALL.rejected], 0, 0, beta=1.0)
    assert_allclose(history["loss"][-1], share @ loss)


def test_records_of_your_own():
    start = TabularPolicy(np.zeros((1, 3)))
    kept = []

    def record(policy):
        kept.append(policy)
        return {"share of C": policy.probabilities()[0, 2], "shares": policy.probabilities()[0]}

    trained, history = train(start, FOOTBALL, steps=20, record=record)
    assert history["share of C"].shape == (3,) and history["shares"].shape == (3, 3)
    assert_allclose(history["share of C"][[0, -1]], [1 / 3, trained.probabilities()[0, 2]])
    assert not kept[0].parameters.any()  # each record has a policy of its own


@pytest.mark.parametrize(
    "loss, options",
    [
        ("ipo", {"tau": 0.1, "optimizer": "gd", "learning_rate": 1e3}),
        # Between two records, too: the parameters overflow in the first step.
        ("ipo", {"tau": 1e-3, "optimizer": "gd", "learning_rate": 1e307}),
        ("dpo", {"optimizer": "gd", "learning_rate": 1e308, "ridge": 1e3}),
        ("dpo", {"learning_rate": 1e308}),
        ("simpo", {"learning_rate": 1e308}),
        ("orpo", {"learning_rate": 1e308}),
        ("kto", {"learning_rate": 1e308}),
        ("dpo", {"beta": 1e308}),
        ("dpo", {"learning_rate": 1e308, "batch_size": 3}),
    ],
)
def test_divergence_is_an_error(loss, options):
    start = TabularPolicy(np.zeros((1, 3)))
    with pytest.raises(TrainingError, match=r"^training has diverged at step [1-9]\d*: .* \d"):
        train(start, FOOTBALL, loss, **options)
    assert issubclass(TrainingError, ValueError)


def test_the_step_and_the_last_loss_are_named():
    with pytest.raises(TrainingError, match="at step 1: the last recorded loss was 250000;"):
        options = {"optimizer": "gd", "learning_rate": 1e307}
        train(TabularPolicy(np.zeros((1, 3))), FOOTBALL, "ipo", tau=1e-3, **options)


def test_the_cause_of_a_divergence_is_named():
    @dpo.define_loss
    def fragile(policy_chosen, policy_rejected):
        if policy_chosen[0] > -0.6:
            raise ValueError("my own complaint")
        return -policy_chosen, -np.ones(4), np.zeros(4)

    with pytest.raises(TrainingError, match="my own complaint"):
        train(TabularPolicy(np.zeros((1, 3))), FOOTBALL, fragile)


# Bad input


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: TabularPolicy([0, 1]), r"logits .*\(2,\)"),
        (lambda: TabularPolicy([[0, np.nan]]), r"logits\[0, 1\] is nan"),
        (lambda: BigramPolicy(np.zeros((2, 2)), 2), r"logits .*\(2, 2\)"),
        (lambda: BigramPolicy(np.zeros((1, 2, 3)), 2), r"logits .*\(1, 2, 3\)"),
        (lambda: BigramPolicy(np.zeros((1, 2, 2)), 0), "max_length is 0"),
        (lambda: TABLE.log_prob([3], [0]), r"prompts\[0\] is 3"),
        (lambda: TABLE.log_prob([0], [-1]), r"responses\[0\] is -1"),
        (lambda: TABLE.log_prob([0, 1], [0]), r"responses .*\(1,\).*\(2\)"),
        (lambda: TABLE.log_prob([0.5], [0]), r"prompts\[0\] is 0.5"),
        (lambda: TABLE.log_prob([[0]], [0]), r"prompts .*\(1, 1\)"),
        (lambda: TABLE.log_prob([[0], [1, 2]], [0]), r"prompts is \[\[0\], \[1, 2\]\]"),
        (lambda: TABLE.log_prob([], []), "prompts is empty"),
        (lambda: TABLE.log_prob(0, 0), r"prompts .*\(\)"),
        (lambda: TABLE.lengths([RNG]), r"responses is \[Generator"),
        (lambda: TABLE.lengths([4]), r"responses\[0\] is 4"),
        (lambda: TABLE.sample([5], RNG), r"prompts\[0\] is 5"),
        (lambda: TABLE.gradient([0], [0], [np.nan]), r"weights\[0\] is nan"),
        (lambda: TABLE.gradient([0, 1], [0, 0], 1.0), r"weights .*\(\)"),
        (lambda: BIGRAM.gradient([0], [[0] * 4], [1, 2]), r"weights .*\(2,\)"),
        (lambda: BIGRAM.sample([0, 2], RNG), r"prompts\[1\] is 2"),
        (lambda: BIGRAM.log_prob([2], [[0] * 4]), r"prompts\[0\] is 2"),
        (lambda: BIGRAM.log_prob([0], [[1, 0]]), r"responses .*\(1, 2\)"),
        (lambda: BIGRAM.log_prob([0], [[1, 0], [2]]), "responses is "),
        (lambda: BIGRAM.log_prob([0], [[1, 0, 2, 0]]), r"responses\[0, 2\] is 2"),
        (lambda: BIGRAM.lengths([[1, 0, 2, 0]]), r"responses\[0, 2\] is 2"),
        (lambda: BIGRAM.lengths([1, 0, 0, 0]), r"responses .*\(4,\)"),
        (lambda: BIGRAM.log_prob([0], [[3, 0, 0, 0]]), r"responses\[0, 0\] is 3"),
        (lambda: TABLE.kl_from(BIGRAM), "reference is BigramPolicy"),
        (lambda: TABLE.kl_from([[0.5, 0.5]]), r"reference is \[\[0.5, 0.5\]\]"),
        (lambda: BIGRAM.kl_from(BigramPolicy(np.zeros((1, 3, 3)), 4)), r"reference .*\(1, 3, 3\)"),
        (lambda: BIGRAM.kl_from(BigramPolicy(np.zeros((2, 3, 3)), 5)), "reference .* 5"),
    ],
)
def test_bad_policies_and_responses_are_refused(call, message):
    with pytest.raises(ValueError, match="^" + message):
        call()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"policy": np.zeros((1, 3))}, "policy is array"),
        ({"policy": None}, "policy is None"),
        ({"reference": [0, 0, 0]}, r"reference is \[0, 0, 0\]"),
        ({"reference": TABLE}, r"reference is .*\(3, 4\)"),
        ({"loss": "ppo"}, "loss is 'ppo', expected .*dpo, hinge, ipo"),
        ({"loss": (dpo.dpo_loss, dpo.gradient)}, "loss is "),
        ({"optimizer": "sgd"}, "optimizer is 'sgd'"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"learning_rate": [0.1, 0.2]}, r"learning_rate .*\(2,\)"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 1.5}, "steps is 1.5"),
        ({"steps": None}, "steps is None"),
        ({"epochs": 0}, "epochs is 0"),
        ({"log_every": 0}, "log_every is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 21}, "batch_size is 21.* 20"),
        ({"batch_size": 2**63}, "batch_size is 9.*e[+]18.* 20"),
        ({"seed": -1}, "seed is -1"),
        ({"beta": -1}, "beta is -1"),
        ({"gamma": 1}, "train .*'gamma'"),
        ({"ref_chosen": -1}, "train .*'ref_chosen'"),
        ({"ridge": -1}, "ridge is -1"),
        ({"nll_weight": -1}, "nll_weight is -1"),
        ({"nll_weight": [1, 2]}, r".*nll_weight \(2,\)"),
        ({"nll_weight": np.ones((2, 1))}, r"nll_weight .*\(2, 1\)"),
        ({"record": lambda policy: 1.0}, "record .* 1.0"),
        ({"record": lambda policy: {"kl": 1.0}}, "record .*'kl': 1.0.*without .*'loss'"),
        (
            {"batch_size": 2, "pairs": FOOTBALL._replace(counts=[2.0**62] * 4)},
            r"\(sum of counts\) is 1.8\d*e\+19, expected a number <= 1",
        ),
    ],
)
def test_bad_options_are_refused(options, message):
    given = {"policy": TabularPolicy(np.zeros((1, 3))), "pairs": FOOTBALL} | options
    with pytest.raises(ValueError, match="^" + message):
        train(**given)


@pytest.mark.parametrize(
    "pairs, message",
    [
        (5, "pairs is 5"),
        ([(0, 0, 1), (0, 1, 2), (0, 2, 0)], r"pairs is \[\(0, 0, 1\)"),
        (([0], [1]), r"pairs is \(\[0\], \[1\]\)"),
        (PreferencePairs([], [], []), "prompts is empty"),
        (PreferencePairs([1], [0], [1]), r"prompts\[0\] is 1"),
        (PreferencePairs([0], [3], [1]), r"chosen\[0\] is 3"),
        (PreferencePairs([0], [0], [0.5]), r"rejected\[0\] is 0.5"),
        (PreferencePairs([0], [0], [1, 2]), r"rejected .*\(2,\)"),
        (PreferencePairs([0, 0], [[0], [1, 2]], [1, 2]), r"chosen is \[\[0\], \[1, 2\]\]"),
        (FOOTBALL._replace(counts=[1, 2]), r"counts .*\(2,\)"),
        (FOOTBALL._replace(counts=[1, 1, 1, -1]), r"counts\[3\] is -1"),
        (FOOTBALL._replace(counts=[1, np.nan, 1, 1]), r"counts\[1\] is nan"),
        (FOOTBALL._replace(counts=[0, 0, 0, 0]), r"\(sum of counts\) is 0"),
        (FOOTBALL._replace(counts=[1e308] * 4), r"\(sum of counts\) is inf"),
    ],
)
def test_bad_pairs_are_refused(pairs, message):
    with pytest.raises(ValueError, match="^" + message):
        train(TabularPolicy(np.zeros((1, 3))), pairs)


def test_what_cannot_begin_has_not_diverged():
    certain, far = TabularPolicy([[800.0, 0.0, 0.0]]), TabularPolicy([[1.7e308, -1.7e308, 0.0]])
    for start, loss, message in [
        (certain, "orpo", r"policy_chosen\[0\] is 0"),
        (far, "simpo", r"policy_chosen\[1\] is -inf"),
    ]:
        with pytest.raises(ValueError, match="^" + message) as caught:
            train(start, FOOTBALL, loss)
        assert not isinstance(caught.value, TrainingError)


def test_batches_take_whole_comparisons():
    pairs = FOOTBALL._replace(counts=[1, 0.5, 1, 1])
    with pytest.raises(ValueError, match=r"^counts\[1\] is 0.5.*batch_size"):
        train(TabularPolicy(np.zeros((1, 3))), pairs, batch_size=2)


def test_pairs_may_be_a_plain_tuple():
    start = TabularPolicy(np.zeros((1, 3)))
    a, b = (train(start, pairs, steps=5).policy for pairs in (tuple(FOOTBALL), FOOTBALL))
    assert np.array_equal(a.parameters, b.parameters)


@pytest.mark.parametrize("optimizer", ["adam", "gd"])
def test_a_token_that_is_never_written_stays_so(optimizer):
    logits = np.array([[[0.0, 0.5, -np.inf], [0.2, -np.inf, 0.0], [0.0, 0.3, 0.1]]])
    policy = BigramPolicy(logits, max_length=5)
    assert policy.probabilities()[0, 0, 2] == 0
    rng = np.random.default_rng(0)
    first, second = policy.sample(np.zeros(400, int), rng), policy.sample(np.zeros(400, int), rng)
    pairs = PreferencePairs(np.zeros(400, int), first, second)
    trained, history = train(
        policy, pairs, beta=0.5, optimizer=optimizer, learning_rate=0.05, steps=20, ridge=0.01
    )
    assert np.array_equal(trained.parameters == -np.inf, logits == -np.inf)
    assert np.isfinite(history["kl"]).all() and history["kl"][-1] > 0
    # A logit of -800 is the same policy in floating point.
    near = BigramPolicy(np.maximum(logits, -800), max_length=5)
    options = {"beta": 0.5, "optimizer": optimizer, "learning_rate": 0.05, "steps": 20}
    assert_allclose(
        train(policy, pairs, **options).policy.probabilities(),
        train(near, pairs, **options).policy.probabilities(),
    )
    with pytest.raises(ValueError, match=r"^policy_chosen\[0\] is -inf"):
        train(policy, PreferencePairs([0], [[2, 0, 0, 0, 0]], [[1, 0, 0, 0, 0]]))
    with pytest.raises(ValueError, match="^the largest of logits.* is -inf"):
        BigramPolicy(np.full((1, 2, 2), -np.inf), 3)
