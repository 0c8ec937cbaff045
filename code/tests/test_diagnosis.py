"""Every symptom on a log that `train` makes in a small world, and no alarm on healthy logs."""

import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml
from numpy.testing import assert_allclose

from kl2dpo.datasets import public_logs, trl_football
from kl2dpo.diagnosis import audit_log, diagnose, symptoms
from kl2dpo.dpo import define_loss, dpo_loss, gradient
from kl2dpo.policy import BigramPolicy, PreferencePairs, TabularPolicy, train

ROOT = Path(__file__).parents[2]
NAMES = ["loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"]
NAMES += ["logps/chosen", "logps/rejected"]


# Worlds. Chapter 19 can have them, too.

START = TabularPolicy(np.log([[0.5, 0.3, 0.2]]))
FOOTBALL = PreferencePairs(
    np.zeros(4, int), np.array([0, 1, 0, 2]), np.array([1, 0, 2, 0]), np.array([8, 4, 3, 5])
)
WRITER = BigramPolicy(np.random.default_rng(0).normal(scale=0.5, size=(2, 4, 4)), max_length=4)
WORTH = np.array([[0, 1, 0, -0.5], [0, -0.5, 1, 0]])  # of a token, by prompt


def written_pairs(n, seed):
    """The world of chapter 12: pairs of the writer, and the accuracy of the best guess."""
    rng = np.random.default_rng(seed)
    x = rng.integers(2, size=n)
    one, two = WRITER.sample(x, rng), WRITER.sample(x, rng)
    differ = np.any(one != two, axis=1)
    x, one, two = x[differ], one[differ], two[differ]
    r_one, r_two = (np.take_along_axis(WORTH[x], y, axis=1).sum(axis=1) for y in (one, two))
    p = 1 / (1 + np.exp(r_two - r_one))
    first = (rng.random(len(x)) < p)[:, None]
    pairs = PreferencePairs(x, np.where(first, one, two), np.where(first, two, one))
    return pairs, np.maximum(p, 1 - p).mean()


def coin_pairs(n):
    """n prompts with two answers; a coin has said which is better. The policy is a table."""
    better = np.random.default_rng(0).integers(2, size=n)
    return TabularPolicy(np.zeros((n, 2))), PreferencePairs(np.arange(n), better, 1 - better)


def first_record(policy, pairs, reference, loss="dpo", **options):
    """What a trainer logs about a policy and some pairs before it takes a step."""
    history = train(policy, pairs, loss, reference=reference, steps=1, **options).history
    return {name: history[name][0] for name in NAMES}


def held_out_record(pairs, reference, **options):
    """For `train`: a function that records the held-out pairs under TRL's names."""

    def record(policy):
        found = first_record(policy, pairs, reference, **options)
        return {"eval_" + name: value for name, value in found.items()}

    return record


def take(pairs, rows):
    return PreferencePairs(pairs.prompts[rows], pairs.chosen[rows], pairs.rejected[rows])


def trl_log(start, pairs, batch_size, epochs, *, logging_steps=1, held_out=None, seed=0, **options):
    """A log as TRL keeps it: means over the batches since the last record, each before its step."""
    rng = np.random.default_rng(seed)
    options = {"optimizer": "gd", "steps": 1, "reference": start} | options
    policy, since, records = start, [], []
    per_epoch = len(pairs.prompts) // batch_size
    for step in range(1, epochs * per_epoch + 1):
        if step % per_epoch == 1 or per_epoch == 1:
            batches = rng.permutation(len(pairs.prompts))[: per_epoch * batch_size]
            batches = iter(np.split(batches, per_epoch))
        policy, history = train(policy, take(pairs, next(batches)), **options)
        since.append([history[name][0] for name in NAMES])
        if step % logging_steps == 0:
            means = dict(zip(NAMES, np.mean(since, axis=0)))
            records.append(means | {"step": step, "epoch": step / per_epoch, "grad_norm": 1.0})
            since = []
        if held_out is not None and step % 20 == 0:
            beta = options["beta"]
            record = held_out_record(held_out, start, beta=beta)(policy)
            records.append(record | {"step": step, "epoch": step / per_epoch, "eval_runtime": 1.0})
    return [*records, {"train_loss": 0.6, "train_runtime": 9.0, "step": step, "epoch": epochs}]


# Symptoms: a function a log, under the names of the symptoms that it has.


def a_mean_over_nothing():
    empty = np.array([])
    return train(START, FOOTBALL, record=lambda policy: {"eval_loss": empty.sum() / np.nan}).history


def the_same_answers():
    return train(START, PreferencePairs([0, 0], [0, 1], [0, 1]), beta=0.5, steps=100).history


def both_orders():
    pairs = PreferencePairs([0, 0, 0, 0], [0, 1, 1, 2], [1, 0, 2, 1])
    return train(START, pairs, beta=0.5, steps=100).history


def a_tiny_rate():
    return train(START, FOOTBALL, beta=0.5, learning_rate=1e-5, steps=100).history


def a_tiny_beta():
    return train(START, FOOTBALL, beta=1e-4, learning_rate=0.1, steps=100).history


def a_tiny_beta_without_adam():
    return train(START, FOOTBALL, beta=1e-4, optimizer="gd", steps=100).history


def its_own_reference():
    policy, records = START, []
    for step in range(1, 21):
        records.append({"step": step} | first_record(policy, FOOTBALL, None))
        policy = train(policy, FOOTBALL, steps=1).policy
    return records


def no_token():
    """The only answer is certain: its log-probability is 0, as the sum over no token is."""
    return train(TabularPolicy([[0.0]]), PreferencePairs([0], [0], [0])).history


def another_reference():
    return train(START, FOOTBALL, reference=TabularPolicy([[0, 0, 0]]), beta=0.5).history


def a_rounded_reference():
    rounded = TabularPolicy(np.log([[0.5, 0.3, 0.2]]).astype(np.float16).astype(float))
    return train(START, FOOTBALL, reference=rounded, beta=0.5).history


def twenty_coins():
    return train(*coin_pairs(20), beta=0.25, steps=200).history


def one_pair_a_batch():
    return trl_log(WRITER, written_pairs(100, 0)[0], 1, 1, beta=0.5, learning_rate=0.3)


def few_pairs():
    record = held_out_record(written_pairs(2_000, 1)[0], WRITER, beta=0.25)
    options = {"beta": 0.25, "learning_rate": 0.05, "steps": 300}
    return train(WRITER, written_pairs(100, 0)[0], record=record, **options).history


def nearly_the_same_answers():
    """Six times the same word against seven times: of four people, three like six better."""
    start = BigramPolicy(
        np.log([[[0.02, 0.9, 0.08], [0.1, 0.8, 0.1], [0.9, 0.05, 0.05]]]), max_length=9
    )
    six, seven = [1] * 6 + [0] * 3, [1] * 7 + [0] * 2
    pairs = PreferencePairs([0, 0], [six, seven], [seven, six], [3, 1])
    return train(start, pairs, beta=0.5, learning_rate=0.05).history


def three_epochs_of_coins():
    return trl_log(*coin_pairs(60), 4, 3, beta=0.5, learning_rate=4.0)


def never_beaten():
    """A beat B 8:4, and C beat A 5:0."""
    pairs = PreferencePairs([0, 0, 0], [0, 1, 2], [1, 0, 0], [8, 4, 5])
    return train(START, pairs, beta=0.5).history


def too_long_a_step():
    return train(START, FOOTBALL, beta=1.0, optimizer="gd", learning_rate=20).history


def held_out_pairs_of_the_training_set():
    pairs = written_pairs(100, 0)[0]
    record = held_out_record(take(pairs, slice(50)), WRITER, beta=0.25)
    return train(WRITER, pairs, beta=0.25, learning_rate=0.05, steps=200, record=record).history


def swapped_held_out_pairs():
    held_out = written_pairs(2_000, 1)[0]
    swapped = held_out._replace(chosen=held_out.rejected, rejected=held_out.chosen)
    options = {"beta": 1.0, "learning_rate": 0.05, "epochs": 3, "batch_size": 64}
    record = held_out_record(swapped, WRITER, beta=1.0)
    return train(WRITER, written_pairs(1_000, 0)[0], record=record, **options).history


@define_loss
def without_beta(policy_chosen, policy_rejected, ref_chosen, ref_rejected):
    """DPO at beta 0.1. There is no option beta, so that the rewards are logged without it."""
    logps = policy_chosen, policy_rejected, ref_chosen, ref_rejected
    return dpo_loss(*logps, beta=0.1), *gradient(dpo_loss, *logps, beta=0.1)


@define_loss
def fivefold(policy_chosen, policy_rejected, ref_chosen, ref_rejected, *, beta=0.1):
    """A loss that sees sums over five tokens, where the rewards are logged as means."""
    logps = policy_chosen, policy_rejected, ref_chosen, ref_rejected
    return dpo_loss(*logps, beta=5 * beta), *gradient(dpo_loss, *logps, beta=5 * beta)


def rewards_without_beta():
    options = {"learning_rate": 0.01, "steps": 100, "log_every": 5}
    return train(WRITER, written_pairs(1_000, 0)[0], without_beta, **options).history


def sums_and_means():
    options = {"learning_rate": 0.01, "steps": 100, "log_every": 5}
    return train(WRITER, written_pairs(1_000, 0)[0], fivefold, **options).history


def means_in_the_loss():
    """sigmoid_norm, for answers of some fifteen tokens, taken for the sigmoid loss."""
    start = BigramPolicy([[[-99.0, 0, 0], [-2.6, 0, 0], [-2.6, 0, 0]]], max_length=40)
    rng = np.random.default_rng(0)
    one, two = start.sample(np.zeros(500, int), rng), start.sample(np.zeros(500, int), rng)
    fewer = (np.mean(one == 1, axis=1) < np.mean(two == 1, axis=1))[:, None]
    pairs = PreferencePairs(
        np.zeros(500, int), np.where(fewer, one, two), np.where(fewer, two, one)
    )
    options = {"beta": 2.0, "learning_rate": 0.003, "steps": 10, "log_every": 1}
    return train(start, pairs, "sigmoid_norm", **options).history


LN2 = "the loss stays at ln 2"
ALIKE = "both sides have the same answers"
ZERO = "the rewards stay 0"
ABOVE = "the accuracy is above what fresh labels allow"
RISES = "the held-out loss rises"
SCALES = "loss and rewards are on different scales"
SICK = {
    a_mean_over_nothing: ["a value is not a number"],
    the_same_answers: [LN2, ALIKE, ZERO],
    both_orders: [LN2, ALIKE, ZERO],
    a_tiny_rate: [LN2],
    a_tiny_beta: [LN2, "the policy moves far, and the loss does not show it"],
    a_tiny_beta_without_adam: [LN2, ZERO],
    its_own_reference: [LN2, ZERO],
    no_token: [LN2, "no token of an answer is counted", ALIKE, ZERO],
    another_reference: ["the first loss is not ln 2"],
    a_rounded_reference: ["the first accuracy is not 0"],
    twenty_coins: ["the loss is 0 and the accuracy 1", "the margin grows without end"],
    one_pair_a_batch: ["the accuracy is only 0 or 1"],
    few_pairs: ["both rewards fall, and the held-out loss does not", RISES, ABOVE],
    nearly_the_same_answers: ["both rewards fall far more than the margin grows"],
    three_epochs_of_coins: ["the loss falls in steps, at the epochs"],
    never_beaten: ["the margin grows without end"],
    too_long_a_step: ["the loss rises"],
    held_out_pairs_of_the_training_set: [ABOVE, "the held-out accuracy is above its ceiling"],
    swapped_held_out_pairs: [RISES, "held-out pairs are ordered the wrong way"],
    rewards_without_beta: [SCALES],
    sums_and_means: [SCALES],
    means_in_the_loss: [SCALES],
}


CEILING = {few_pairs: 0.7, held_out_pairs_of_the_training_set: 0.7}


def names(diagnosis):
    return [finding.symptom.name for finding in diagnosis.findings]


@pytest.mark.parametrize("world", SICK, ids=lambda world: world.__name__)
def test_symptom(world):
    found = diagnose(world(), ceiling=CEILING.get(world))
    assert names(found) == SICK[world]
    for finding in found.findings:
        assert re.search(r"\d|nan", finding.evidence) and finding.symptom.chapter in str(finding)


def test_every_rule_has_a_world():
    shown = {name for found in SICK.values() for name in found}
    assert shown == {symptom.name for symptom in symptoms() if symptom.rule}


def test_chapters_exist():
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    pages = [page["file"] for part in parts if part.get("numbered") for page in part["chapters"]]
    headings = {}
    for page in pages:
        cells = nbformat.read(ROOT / f"{page}.ipynb", as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        headings[re.search("^# (.+)$", text, re.M)[1]] = re.findall("^##+ (.+)$", text, re.M)
    for symptom in symptoms():
        section, chapter = re.fullmatch(r"(.+) \(in (.+)\)", symptom.chapter).groups()
        assert section in headings[chapter]


# Healthy logs


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "gd", "learning_rate": 2.0},
        {"learning_rate": 0.05},
        {"learning_rate": 0.02, "steps": 2_000, "log_every": 50},
        {"learning_rate": 0.02, "steps": 400, "batch_size": 10, "seed": 1},
    ],
)
def test_no_alarm_on_the_thread(options, beta):
    if options.get("optimizer") == "gd":
        options = options | {"learning_rate": 2 / beta**2}
    assert diagnose(train(START, FOOTBALL, beta=beta, **options).history).findings == ()


OTHERS = [("robust", {"label_smoothing": 0.1}), ("ipo", {}), ("hinge", {"beta": 0.5})]
OTHERS += [("kto", {"beta": 0.5}), ("sigmoid_norm", {"beta": 2.0}), ("simpo", {}), ("orpo", {})]
OTHERS += [("dpo", {"beta": 0.5, "nll_weight": 0.05})]


@pytest.mark.parametrize("loss, options", [*OTHERS, *[("dpo", {"beta": b}) for b in (0.5, 1, 2)]])
def test_no_alarm_on_the_run_of_chapter_12(loss, options):
    pairs, ceiling = written_pairs(1_000, 0)
    record = held_out_record(written_pairs(2_000, 1)[0], WRITER, loss=loss, **options)
    settings = {"learning_rate": 0.05, "epochs": 8, "batch_size": 64, "record": record}
    history = train(WRITER, pairs, loss, **settings, **options).history
    sigmoid = loss == "dpo" and "nll_weight" not in options
    found = diagnose(history, sigmoid=sigmoid, ceiling=ceiling)
    assert found.findings == () and not found.not_enough.keys() - {STAIRS}
    # Negative rewards alone are no symptom.
    assert history["eval_rewards/chosen"][-1] + history["eval_rewards/rejected"][-1] < 0


STAIRS = "the loss falls in steps, at the epochs"


@pytest.mark.parametrize("logging_steps, seed", [(1, 0), (10, 1)])
def test_no_alarm_on_a_log_of_batches(logging_steps, seed):
    options = {"beta": 1.0, "learning_rate": 0.3, "held_out": written_pairs(1_000, 1)[0]}
    log = trl_log(
        WRITER, written_pairs(1_800, 2)[0], 24, 2, logging_steps=logging_steps, seed=seed, **options
    )
    found = diagnose(log)
    assert found.findings == ()
    averaged = {"the first loss is not ln 2", "the first accuracy is not 0"}
    unknown = {"the held-out accuracy is above its ceiling"}  # which nobody gave
    assert found.not_enough.keys() == (unknown | averaged if logging_steps == 10 else unknown)


def test_no_alarm_on_a_run_of_trl():
    assert diagnose(trl_football().history).findings == ()
    assert diagnose(public_logs()["zephyr-7b-alpha"]).findings == ()


# Public logs


PUBLIC = {
    "zephyr-7b-beta": ["both rewards fall, and the held-out loss does not", STAIRS, RISES],
    "zephyr-7b-alpha": [],
    "dpo-36": [],
    "trl-1236": ["the first loss is not ln 2", "the loss is 0 and the accuracy 1"],
    "trl-1311": [ZERO],
    "llms-tool-46": [ZERO],
    "eto-14": ["no token of an answer is counted"],
}


def test_public_logs():
    logs = public_logs()
    assert {name: names(diagnose(log)) for name, log in logs.items()} == PUBLIC
    determined = {name: audit_log(log) for name, log in logs.items()}
    assert all(found.possible for found in determined.values())
    betas = {name: found.beta for name, found in determined.items() if found.beta}
    assert betas == pytest.approx(
        {"zephyr-7b-beta": 0.1, "zephyr-7b-alpha": 0.05, "dpo-36": 0.1}, abs=2e-6
    )


def test_the_log_of_issue_36():
    found = audit_log(public_logs()["dpo-36"])
    assert_allclose(found.reference, [-12.2840, -33.8461], atol=5e-5)
    assert_allclose(found.moved[0], [-16.41, -15.15], atol=5e-3)
    assert "β = 0.1000" in str(found) and "reference -12.2840" in str(found)


# The arithmetic of a log


@pytest.mark.parametrize("policy, pairs", [(START, FOOTBALL), (WRITER, written_pairs(200, 0)[0])])
@pytest.mark.parametrize("beta", [0.01, 0.3, 5.0])
def test_beta_and_the_reference_come_out(policy, pairs, beta):
    history = train(policy, pairs, beta=beta, learning_rate=0.02, steps=100).history
    found = audit_log(history)
    assert_allclose(found.beta, beta, rtol=1e-9)
    logps = [history["logps/chosen"][0], history["logps/rejected"][0]]
    assert_allclose(found.reference, logps, rtol=1e-9)
    assert_allclose(found.moved[1], history["rewards/rejected"] / beta, atol=1e-9)
    assert found.possible and len(found.identities) == 4
    # The error by rounding covers what rounding does.
    rounded = {name: column.round(3) for name, column in history.items()}
    found = audit_log(rounded)
    assert found.beta is None or abs(found.beta - beta) <= found.beta_error
    assert found.possible


def test_one_record_with_beta():
    history = train(START, FOOTBALL, beta=0.5, steps=30).history
    last = {name: float(history[name][-1]) for name in NAMES}
    assert audit_log([last]).beta is None
    found = audit_log([last], beta=0.5)
    assert_allclose(
        found.reference, [history[f"logps/{side}"][0] for side in ("chosen", "rejected")]
    )


def test_means_over_other_pairs_determine_nothing():
    log = trl_log(WRITER, written_pairs(300, 0)[0], 16, 1, beta=0.5, learning_rate=0.3)
    found = audit_log(log)
    assert found.beta is None and len(found.identities) == 3 and found.possible
    assert str(found).startswith("β and the reference are not determined")
    assert not audit_log(log, beta=0.5).possible


@pytest.mark.parametrize(
    "name, change, fails",
    [
        ("rewards/margins", 0.01, "margins = chosen - rejected"),
        ("logps/chosen", 0.05, "logps - rewards / β is the same"),
        ("loss", -0.03, "loss >= ln(1 + exp(-margins))"),
        ("rewards/accuracies", -0.5, "loss >= (1 - accuracies) ln 2"),
    ],
)
def test_one_wrong_number_is_found(name, change, fails):
    history = train(*coin_pairs(20), beta=0.5, steps=50).history
    history[name][-1] += change
    found = audit_log(history, beta=0.5)
    assert [identity.name for identity in found.identities if not identity.holds] == [fails]
    assert not found.possible and "FAILS" in str(found)


def test_the_floors_are_those_of_any_pairs():
    """A pair in the wrong order costs at least ln 2, and the mean of a convex function is above."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        h = rng.normal(rng.normal(), rng.exponential(2), size=rng.integers(1, 30))
        loss = np.logaddexp(0, -h).mean()
        record = {"loss": loss, "rewards/chosen": h.mean(), "rewards/rejected": 0.0}
        record |= {"rewards/margins": h.mean(), "rewards/accuracies": np.mean(h > 0)}
        record |= {"logps/chosen": -1.0, "logps/rejected": -1.0}
        assert audit_log([record]).possible


def test_a_smaller_last_batch_breaks_a_floor():
    """TRL weighs batches equally in its columns, and pairs in eval_loss: here 8 pairs and 1."""
    chosen, rejected = np.random.default_rng(0).normal(0, 0.01, size=(2, 9))  # log-ratios
    chosen[8] -= 3.0  # the last pair, a batch of its own, is in the wrong order

    def held_out(beta, mean):
        margins = beta * (chosen - rejected)
        record = {"loss": np.logaddexp(0, -margins).mean(), "rewards/margins": mean(margins)}
        record |= {"rewards/chosen": mean(beta * chosen), "logps/chosen": mean(chosen - 20)}
        record |= {"rewards/rejected": mean(beta * rejected), "logps/rejected": mean(rejected - 30)}
        record |= {"rewards/accuracies": mean(margins > 0)}
        return {"eval_" + name: float(value) for name, value in record.items()}

    of_batches = held_out(0.5, lambda x: (x[:8].mean() + x[8]) / 2)
    found = audit_log([of_batches], beta=0.5)
    failing = [identity.name for identity in found.identities if not identity.holds]
    assert failing == ["loss >= ln(1 + exp(-margins))"]
    assert_allclose(found.reference, [-20, -30])
    assert "means of batches, of which the last may be smaller" in str(found)
    of_pairs = audit_log([held_out(0.5, np.mean)], beta=0.5)
    assert of_pairs.possible and "batches" not in str(of_pairs)


# Little to go by


def test_not_enough_records():
    found = diagnose([])
    assert found.findings == () and "no symptom found" in str(found)
    assert found.not_enough.keys() == {
        s.name for s in symptoms() if s.rule and s.name != "a value is not a number"
    }
    history = train(START, FOOTBALL, beta=0.5, steps=30, log_every=10).history
    missing = diagnose(history).not_enough
    assert missing[LN2] == "4 records with loss, rewards/margins, at least 6 needed"
    assert missing["the held-out accuracy is above its ceiling"].startswith("0 records with eval_")
    assert missing[STAIRS].startswith("0 records with epoch, loss")


@pytest.mark.parametrize("function", [diagnose, audit_log])
@pytest.mark.parametrize(
    "history, message",
    [
        (None, "history is None"),
        (5, "history is 5"),
        ({}, "history is {}"),
        ({"step": 1, "loss": 0.7}, "history is .*equally long columns"),
        ({"step": [1, 2], "loss": [0.7]}, "history is .*equally long columns"),
        ({"loss": np.ones((2, 2))}, "history is .*equally long columns"),
        ([0.7, 0.6], r"history is \[0.7, 0.6\]"),
        ([{"loss": 0.7}, {"loss": None}], r"history\[1\] is .*None.*expected numbers"),
        ([{"loss": "nought"}], r"history\[0\] is .*nought"),
    ],
)
def test_what_is_no_log(function, history, message):
    with pytest.raises(ValueError, match="^" + message):
        function(history)


def test_other_bad_arguments():
    history = train(START, FOOTBALL, steps=20).history
    for ceiling in (-0.1, 1.1, np.nan, "high"):
        with pytest.raises(ValueError, match="^ceiling is "):
            diagnose(history, ceiling=ceiling)
    with pytest.raises(ValueError, match="^beta is -1"):
        audit_log(history, beta=-1)
    with pytest.raises(ValueError, match="^history has 0 records with .*logps/rejected"):
        audit_log([{"loss": 0.7}])


def test_names_not_known_do_no_harm():
    history = train(START, FOOTBALL, record=lambda policy: {"logits": policy.parameters[0]}).history
    assert diagnose(history).findings == ()
    assert audit_log(history).possible
    records = [{name: float(history[name][k]) for name in NAMES} for k in range(101)]
    texts = [{name: str(value) for name, value in record.items()} for record in records]
    assert diagnose(texts) == diagnose(records)
