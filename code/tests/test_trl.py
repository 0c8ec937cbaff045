"""Our losses, gradients and metrics against those of TRL's trainers, where TRL is installed.

TRL computes its log-probabilities inside the trainers. So each test gives a trainer a tiny
model, and computes from the same model what our functions need, one response at a time.
"""

import copy
import functools
import importlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kl2dpo import dpo
from kl2dpo.datasets import trl_football
from kl2dpo.kl import kl_divergence

REASON = "an optional check: `make test-trl`"
os.environ["HF_HUB_OFFLINE"] = os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
torch = pytest.importorskip("torch", reason=f"PyTorch is not installed, {REASON}")
trl = pytest.importorskip("trl", "1.16.0", reason=f"TRL 1.16 is not installed, {REASON}")
datasets, cpo, orpo = map(
    importlib.import_module, ("datasets", "trl.experimental.cpo", "trl.experimental.orpo")
)

EXAMPLES = Path(__file__).parents[1] / "examples"
BETA, EPS, TAU, GAMMA, LAMBDA = 0.4, 0.2, 0.3, 1.2, 0.5
# TRL works in single precision, we in double.
CLOSE = {"rtol": 2e-5, "atol": 2e-6}

# Two prompts; answers of different lengths; a pair in both orders, so that a sign matters.
PAIRS = [
    ("Who wins ?", " Albion", " Borough United"),
    ("Who wins ?", " Borough United", " Albion"),
    ("wins", " City United Club", " Albion"),
    ("wins", " Borough United", " City United Club"),
    ("Who wins ?", " City United Club", " Borough"),
]
ROWS = [dict(zip(("prompt", "chosen", "rejected"), pair, strict=True)) for pair in PAIRS]


@pytest.fixture(autouse=True)
def warnings_of_third_parties(warnings_are_errors):
    # TRL uses names that transformers is about to drop.
    warnings.filterwarnings("ignore", ".*gradient_checkpointing", FutureWarning)


@pytest.fixture(scope="module")
def example():
    sys.path.insert(0, str(EXAMPLES))
    datasets.disable_progress_bars()
    torch.set_num_threads(1)  # fastest for models as small as these
    return importlib.import_module("dpo_with_trl")


@pytest.fixture(scope="module")
def course(example):
    return importlib.import_module("course")


@pytest.fixture(scope="module")
def tokenizer(course):
    return course.build_tokenizer([course.PROMPT, *course.ANSWERS.values()])


@pytest.fixture
def models(course, tokenizer):
    """A policy and a reference that disagree."""
    policy, reference = (course.build_model(tokenizer, seed) for seed in (1, 2))
    with torch.no_grad():
        for parameter in [*policy.parameters(), *reference.parameters()]:
            parameter.mul_(3)  # the first weights are small, and the models nearly uniform
    return policy, reference


def log_prob(model, tokenizer, prompt, answer):
    """Sum of ln pi over the tokens of the answer and the end token, and their number."""
    start = len(tokenizer(prompt)["input_ids"])
    ids = torch.tensor(tokenizer(prompt + answer + tokenizer.eos_token)["input_ids"])
    steps = model(input_ids=ids[None]).logits[0].log_softmax(dim=-1)
    return sum(steps[t - 1, ids[t]] for t in range(start, len(ids))), len(ids) - start


def all_log_probs(model, tokenizer):
    """Chosen and rejected log-probabilities as tensors, and their lengths as arrays."""
    sides = [
        [log_prob(model, tokenizer, row["prompt"], row[side]) for row in ROWS]
        for side in ("chosen", "rejected")
    ]
    logps = [torch.stack([value for value, _ in side]) for side in sides]
    return logps, [np.array([length for _, length in side]) for side in sides]


def numbers(tensors):
    return [tensor.detach().double().numpy() for tensor in tensors]


def trainer_of(kind, config, tokenizer, rows, folder, model, reference=None, **options):
    """A trainer that takes all rows as one batch."""
    args = config(
        output_dir=str(folder),
        per_device_train_batch_size=len(rows),
        per_device_eval_batch_size=len(rows),
        use_cpu=True,
        bf16=False,
        activation_checkpointing=False,
        dataloader_pin_memory=False,
        report_to="none",
        disable_tqdm=True,
        **options,
    )
    data = datasets.Dataset.from_list(rows)
    models = {"model": model} | ({} if reference is None else {"ref_model": reference})
    return kind(
        **models, args=args, train_dataset=data, eval_dataset=data, processing_class=tokenizer
    )


def loss_and_gradient(trainer):
    """TRL's loss on the batch, and its gradient by all parameters."""
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return loss.item(), flat_gradient(trainer.model)


def assert_same(trainer, loss, gradient):
    theirs, their_gradient = loss_and_gradient(trainer)
    assert_allclose(theirs, loss, **CLOSE)
    assert_allclose(their_gradient, gradient, rtol=1e-3, atol=1e-5)


def flat_gradient(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()]).double().numpy()


def our_gradient(model, logps, slopes):
    """From the derivatives by the log-probabilities to those by the parameters."""
    model.zero_grad()
    mean = sum(
        torch.tensor(slope / len(ROWS), dtype=logp.dtype) @ logp
        for slope, logp in zip(slopes, logps, strict=True)
    )
    mean.backward()
    return flat_gradient(model)


# TRL's options, and the same loss in our names.
DPO_FAMILY = {
    "dpo": ({"loss_type": "sigmoid", "beta": BETA}, dpo.dpo_loss, {"beta": BETA}),
    "robust": (
        {"loss_type": "robust", "beta": BETA, "label_smoothing": EPS},
        dpo.robust_dpo_loss,
        {"beta": BETA, "label_smoothing": EPS},
    ),
    "hinge": (
        {"loss_type": "hinge", "beta": BETA},
        dpo.hinge_loss,
        {"beta": BETA},
    ),
    # TRL 1.16 has no cDPO: label smoothing leaves the loss "sigmoid" as it is.
    "dpo, smoothing ignored": (
        {"loss_type": "sigmoid", "beta": BETA, "label_smoothing": EPS},
        dpo.dpo_loss,
        {"beta": BETA},
    ),
}


@pytest.mark.parametrize("name", DPO_FAMILY)
def test_dpo_family(name, models, tokenizer, tmp_path):
    options, loss, ours = DPO_FAMILY[name]
    policy, reference = models
    old = numbers(all_log_probs(reference, tokenizer)[0])
    logps, _ = all_log_probs(policy, tokenizer)
    expected = loss(*numbers(logps), *old, **ours).mean()
    slopes = dpo.gradient(loss, *numbers(logps), *old, **ours)
    expected_gradient = our_gradient(policy, logps, slopes)

    args = trl.DPOTrainer, trl.DPOConfig, tokenizer, ROWS, tmp_path, policy, reference
    assert_same(trainer_of(*args, **options), expected, expected_gradient)
    assert np.abs(expected_gradient).max() > 1e-2


def test_ipo_of_trl_takes_means_over_tokens(models, tokenizer, tmp_path):
    # The paper's loss, and ours, has sums. TRL divides each log-ratio by the number of tokens.
    policy, reference = models
    old = numbers(all_log_probs(reference, tokenizer)[0])
    logps, lengths = all_log_probs(policy, tokenizer)
    means = [x / n for x, n in zip([*numbers(logps), *old], lengths * 2, strict=True)]
    slopes = dpo.gradient(dpo.ipo_loss, *means, tau=TAU)
    slopes = [slope / n for slope, n in zip(slopes, lengths, strict=True)]
    expected_gradient = our_gradient(policy, logps, slopes)

    args = trl.DPOTrainer, trl.DPOConfig, tokenizer, ROWS, tmp_path, policy, reference
    expected = dpo.ipo_loss(*means, tau=TAU).mean()
    assert_same(trainer_of(*args, loss_type="ipo", beta=TAU), expected, expected_gradient)
    assert abs(expected - dpo.ipo_loss(*numbers(logps), *old, tau=TAU).mean()) > 0.1


def test_sigmoid_norm(models, tokenizer, tmp_path):
    policy, reference = models
    old = numbers(all_log_probs(reference, tokenizer)[0])
    logps, lengths = all_log_probs(policy, tokenizer)
    data = *numbers(logps), *old, *lengths
    slopes = dpo.gradient(dpo.sigmoid_norm_loss, *data, beta=BETA)
    expected_gradient = our_gradient(policy, logps, slopes)

    args = trl.DPOTrainer, trl.DPOConfig, tokenizer, ROWS, tmp_path, policy, reference
    expected = dpo.sigmoid_norm_loss(*data, beta=BETA).mean()
    trainer = trainer_of(*args, loss_type="sigmoid_norm", beta=BETA)
    assert_same(trainer, expected, expected_gradient)


def test_likelihood_of_the_chosen_answer(models, tokenizer, tmp_path):
    # TRL's term is a mean over all tokens of the chosen answers in the batch.
    policy, reference = models
    old = numbers(all_log_probs(reference, tokenizer)[0])
    logps, lengths = all_log_probs(policy, tokenizer)
    ours = {"beta": BETA, "nll_weight": LAMBDA / lengths[0].mean()}
    expected = dpo.dpo_loss(*numbers(logps), *old, **ours).mean()
    slopes = dpo.gradient(dpo.dpo_loss, *numbers(logps), *old, **ours)
    expected_gradient = our_gradient(policy, logps, slopes)

    args = trl.DPOTrainer, trl.DPOConfig, tokenizer, ROWS, tmp_path, policy, reference
    options = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, LAMBDA], "beta": BETA}
    assert_same(trainer_of(*args, **options), expected, expected_gradient)


def test_metrics(models, tokenizer, tmp_path):
    policy, reference = models
    old = numbers(all_log_probs(reference, tokenizer)[0])
    new = numbers(all_log_probs(policy, tokenizer)[0])
    args = trl.DPOTrainer, trl.DPOConfig, tokenizer, ROWS, tmp_path, policy, reference
    theirs = trainer_of(*args, beta=BETA).evaluate()

    chosen, rejected = (BETA * (after - before) for after, before in zip(new, old, strict=True))
    expected = {
        "loss": dpo.dpo_loss(*new, *old, beta=BETA),
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/margins": chosen - rejected,
        "rewards/accuracies": chosen > rejected,
        "logps/chosen": new[0],
        "logps/rejected": new[1],
    }
    for name, values in expected.items():
        assert_allclose(theirs[f"eval_{name}"], np.mean(values), err_msg=name, **CLOSE)


def test_before_training_the_loss_is_ln_2_and_the_accuracy_0(models, tokenizer, tmp_path):
    # Equal rewards do not count as right: the accuracy starts at 0, not at one half.
    policy, _ = models
    same = copy.deepcopy(policy)
    args = trl.DPOTrainer, trl.DPOConfig, tokenizer, ROWS, tmp_path, policy, same
    theirs = trainer_of(*args, beta=BETA).evaluate()
    assert_allclose(theirs["eval_loss"], np.log(2), rtol=1e-6)
    assert theirs["eval_rewards/accuracies"] == 0


FIRST_LOSSES = dict.fromkeys(
    ["sigmoid", "robust", "sigmoid_norm", "aot", "aot_unpaired"], np.log(2)
)
FIRST_LOSSES |= dict.fromkeys(["hinge", "apo_zero", "apo_down"], 1)
FIRST_LOSSES |= dict.fromkeys(["bco_pair", "nca_pair"], 2 * np.log(2))
FIRST_LOSSES |= {
    "ipo": 1 / (4 * BETA**2),
    "sppo_hard": 1 / (2 * BETA**2),
    "discopop": (np.log(2) + 1) / 2,
    "exo_pair": -np.log(2) - np.log(EPS * (1 - EPS)) / 2,
}


@pytest.mark.parametrize("loss_type", FIRST_LOSSES)
def test_first_loss_of(loss_type, models, tokenizer, tmp_path):
    policy, same = models[0], copy.deepcopy(models[0])
    args = trl.DPOTrainer, trl.DPOConfig, tokenizer, ROWS, tmp_path, policy, same
    options = {"loss_type": [loss_type], "beta": BETA}
    if loss_type in ("robust", "exo_pair"):
        options["label_smoothing"] = EPS
    assert_allclose(
        trainer_of(*args, **options).evaluate()["eval_loss"], FIRST_LOSSES[loss_type], **CLOSE
    )


def test_first_loss_of_kto(models, tokenizer, tmp_path):
    policy, same = models[0], copy.deepcopy(models[0])
    rows = [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for side in ("chosen", "rejected")
        for row in ROWS
    ]
    args = trl.KTOTrainer, trl.KTOConfig, tokenizer, rows, tmp_path, policy, same
    assert_allclose(trainer_of(*args, beta=BETA).evaluate()["eval_loss"], 0.5, **CLOSE)


def test_weights_of_losses_are_not_normalised(models, tokenizer, tmp_path):
    policy, _ = models
    logps, lengths = all_log_probs(policy, tokenizer)
    nll = -numbers(logps)[0].sum() / lengths[0].sum()
    args = trl.DPOTrainer, trl.DPOConfig, tokenizer, ROWS, tmp_path, policy, copy.deepcopy(policy)
    for weights, first in [(None, np.log(2) + nll), ([0.5, 0.05], (np.log(2) + 0.1 * nll) / 2)]:
        options = {"loss_type": ["sigmoid", "sft"], "loss_weights": weights}
        assert_allclose(trainer_of(*args, **options).evaluate()["eval_loss"], first, **CLOSE)


def test_what_trl_takes_as_the_reference(example, own_model, models, tokenizer, tmp_path):
    # A model that came from a folder, and was changed in memory.
    auto = importlib.import_module("transformers").AutoModelForCausalLM
    loaded = auto.from_pretrained(own_model)
    old = numbers(all_log_probs(loaded, tokenizer)[0])
    loaded.load_state_dict(models[0].state_dict())
    new = numbers(all_log_probs(loaded, tokenizer)[0])
    reloaded = dpo.dpo_loss(*new, *old, beta=BETA).mean()
    assert abs(reloaded - np.log(2)) > 0.01

    def first_loss(policy, peft=None, **options):
        args = tokenizer, ROWS, tmp_path, copy.deepcopy(policy)
        kind = functools.partial(trl.DPOTrainer, peft_config=peft) if peft else trl.DPOTrainer
        trainer = trainer_of(kind, trl.DPOConfig, *args, beta=BETA, **options)
        return trainer.evaluate()["eval_loss"]

    adapter = example.LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear")
    assert_allclose(first_loss(loaded), reloaded, **CLOSE)
    assert_allclose(first_loss(loaded, adapter), np.log(2), **CLOSE)
    assert_allclose(first_loss(loaded, precompute_ref_log_probs=True), np.log(2), **CLOSE)
    with pytest.raises(OSError):
        first_loss(models[0])  # built from a configuration


@pytest.mark.parametrize("swapped", [False, True])
def test_kto(swapped, models, tokenizer, tmp_path):
    policy, reference = reversed(models) if swapped else models
    old = numbers(all_log_probs(reference, tokenizer)[0])
    logps, _ = all_log_probs(policy, tokenizer)
    rows = [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for side in ("chosen", "rejected")
        for row in ROWS
    ]
    # TRL's reference point: the mean log-ratio of each prompt with the *previous* row's answer.
    with torch.no_grad():
        previous = [
            log_prob(policy, tokenizer, row["prompt"], rows[k - 1]["completion"])[0]
            - log_prob(reference, tokenizer, row["prompt"], rows[k - 1]["completion"])[0]
            for k, row in enumerate(rows)
        ]
    kl = max(float(np.mean(previous)), 0.0)
    assert (kl > 0.1) == swapped  # so both sides of the bound are tested
    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.5}
    new = numbers(logps)
    # Ours is a sum over the two responses of a pair, TRL's a mean over all responses.
    expected = dpo.kto_loss(*new, *old, beta=BETA, kl=kl, **weights).mean() / 2
    slopes = dpo.gradient(dpo.kto_loss, *new, *old, beta=BETA, kl=kl, **weights)
    expected_gradient = our_gradient(policy, logps, slopes) / 2

    args = trl.KTOTrainer, trl.KTOConfig, tokenizer, rows, tmp_path, policy, reference
    assert_same(trainer_of(*args, beta=BETA, **weights), expected, expected_gradient)


def test_simpo(models, tokenizer, tmp_path):
    # TRL's simpo_gamma is gamma itself. Its default cpo_alpha, 1, would add the likelihood.
    policy, _ = models
    logps, lengths = all_log_probs(policy, tokenizer)
    ours = {"beta": BETA, "gamma": GAMMA}
    expected = dpo.simpo_loss(*numbers(logps), *lengths, **ours).mean()
    slopes = dpo.gradient(dpo.simpo_loss, *numbers(logps), *lengths, **ours)
    expected_gradient = our_gradient(policy, logps, slopes)

    options = {"loss_type": "simpo", "beta": BETA, "simpo_gamma": GAMMA, "cpo_alpha": 0.0}
    args = cpo.CPOTrainer, cpo.CPOConfig, tokenizer, ROWS, tmp_path, policy
    assert_same(trainer_of(*args, **options), expected, expected_gradient)


def test_cdpo_is_in_the_cpo_trainer(models, tokenizer, tmp_path):
    # Without a reference: as if every answer had probability 1 under it.
    policy, _ = models
    logps, _ = all_log_probs(policy, tokenizer)
    ours = {"beta": BETA, "label_smoothing": EPS}
    expected = dpo.dpo_loss(*numbers(logps), 0.0, 0.0, **ours).mean()
    slopes = dpo.gradient(dpo.dpo_loss, *numbers(logps), 0.0, 0.0, **ours)
    expected_gradient = our_gradient(policy, logps, slopes)

    options = {"loss_type": "sigmoid", "cpo_alpha": 0.0, **ours}
    args = cpo.CPOTrainer, cpo.CPOConfig, tokenizer, ROWS, tmp_path, policy
    assert_same(trainer_of(*args, **options), expected, expected_gradient)


def test_orpo(models, tokenizer, tmp_path):
    # TRL's beta is lambda. Its likelihood term is a mean over all tokens of the batch, prompts
    # included; ours is that of the paper, a mean over the answer's tokens.
    policy, _ = models
    logps, lengths = all_log_probs(policy, tokenizer)
    data = *numbers(logps), *lengths
    odds_ratio = dpo.orpo_loss(*data, lambda_=LAMBDA) - dpo.orpo_loss(*data, lambda_=0)
    both = zip(
        dpo.gradient(dpo.orpo_loss, *data, lambda_=LAMBDA),
        dpo.gradient(dpo.orpo_loss, *data, lambda_=0),
        strict=True,
    )
    expected_gradient = our_gradient(policy, logps, [one - other for one, other in both])

    policy.zero_grad()
    texts = [(row["prompt"] + row["chosen"]).split(maxsplit=1) for row in ROWS]
    whole = [log_prob(policy, tokenizer, first, " " + rest) for first, rest in texts]
    likelihood = -sum(value for value, _ in whole) / sum(length for _, length in whole)
    likelihood.backward()
    expected_gradient = expected_gradient + flat_gradient(policy)

    args = orpo.ORPOTrainer, orpo.ORPOConfig, tokenizer, ROWS, tmp_path, policy
    assert_same(
        trainer_of(*args, beta=LAMBDA), likelihood.item() + odds_ratio.mean(), expected_gradient
    )


def test_direction_of_kl_div():
    # torch's kl_div(input, target) is KL(target || input), with input as log-probabilities.
    p, q = np.array([0.2, 0.8]), np.array([0.5, 0.5])
    theirs = torch.nn.functional.kl_div(torch.tensor(q).log(), torch.tensor(p), reduction="sum")
    assert_allclose(theirs.item(), kl_divergence(p, q), rtol=1e-12)


def test_comparisons_of_football(course):
    rows = course.comparisons()
    pairs = [(row["chosen"].split()[0], row["rejected"].split()[0]) for row in rows]
    counts = {pair: pairs.count(pair) for pair in set(pairs)}
    assert len(rows) == 20
    assert counts == {
        ("Albion", "Borough"): 8,
        ("Borough", "Albion"): 4,
        ("City", "Albion"): 5,
        ("Albion", "City"): 3,
    }


def test_predictions(course):
    predicted = course.predictions(np.array([0.5, 0.3, 0.2]), beta=0.5)
    assert_allclose(predicted["loss"], 0.646534, atol=5e-7)
    assert_allclose(
        predicted["rewards/margins"], (4 * np.log(2) + 2 * np.log(5 / 3)) / 20, rtol=1e-6
    )
    assert predicted["rewards/accuracies"] == 13 / 20
    shares = [predicted[f"share of {name}"] for name in "ABC"]
    assert_allclose(shares, [0.44226, 0.06634, 0.49140], atol=5e-6)


@pytest.mark.parametrize("nll", [0.01, 0.1])
def test_predictions_with_the_likelihood(nll, course):
    # No other policy has a lower loss; the mean chosen answer has 2.7 tokens.
    def loss(p):
        h = 0.5 * (
            np.log(p[[0, 1, 0, 2]] / ref[[0, 1, 0, 2]])
            - np.log(p[[1, 0, 2, 0]] / ref[[1, 0, 2, 0]])
        )
        share = np.array([8, 4, 3, 5]) / 20
        return share @ (np.logaddexp(0, -h) - nll / 2.7 * np.log(p[[0, 1, 0, 2]]))

    ref = np.array([0.5, 0.3, 0.2])
    predicted = course.predictions(ref, 0.5, nll)
    optimum = np.array([predicted[f"share of {name}"] for name in "ABC"])
    assert_allclose(predicted["loss"], loss(optimum), rtol=1e-12)
    for direction in np.eye(3):
        for step in (1e-3, -1e-3):
            other = optimum * np.exp(step * direction)
            assert loss(other / other.sum()) > predicted["loss"]


@pytest.mark.parametrize("options", [[], ["--nll", "0.1"], ["--adapter"]])
def test_football_ends_at_the_optimum(options, example, tmp_path, capsys):
    path = tmp_path / "log.csv"
    assert example.main([*options, "--log", str(path)]) == 0
    assert "within 0.001: yes" in capsys.readouterr().out
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].split(",") == example.LOGGED and len(lines) == 201
    if not options:  # the run of chapter 18 of this course, *The real thing: TRL*
        log = np.genfromtxt(path, delimiter=",", names=True, deletechars="")
        for name, values in trl_football().history.items():
            # Later, the last digits of an addition decide.
            assert_allclose(log[name][:10], values[:10], atol=1e-3, err_msg=name)


def test_two_processes_train_as_one(example, tmp_path):
    logs = [str(tmp_path / name) for name in ("one.csv", "two.csv")]
    example.main(["--steps", "4", "--log", logs[0]])
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    script = [str(EXAMPLES / "dpo_with_trl.py"), "--steps", "4", "--log", logs[1]]
    done = subprocess.run(
        [*launch, "--main_process_port", "0", *script], capture_output=True, text=True
    )
    assert done.stdout.count("all three") == 1, done.stderr  # one of them reports
    one, two = (np.genfromtxt(log, delimiter=",", skip_header=1) for log in logs)
    assert_allclose(two, one, atol=2e-5)


def test_football_notices_that_it_has_not_arrived(example, capsys):
    assert example.main(["--steps", "3"]) == 1
    assert "within 0.001: NO" in capsys.readouterr().out


def test_forest_comes_nearer_to_the_best(example, capsys):
    assert example.main(["--dataset", "forest"]) == 0
    out = capsys.readouterr().out
    rows = {line[:22].strip(): line[22:].split() for line in out.splitlines()}
    old, new, best = map(float, rows["reward - beta KL"])
    assert old + 0.5 * (best - old) < new < best
    reward, kl = float(rows["reward"][1]), float(rows["KL from the reference"][1])
    assert abs(reward - 0.5 * kl - new) < 0.02


def test_rewards_of_sentences(course):
    # Two liked words, one disliked, six words at a quarter each.
    assert course.rewards([" the kind owl helps the angry", ""]).tolist() == [2 - 1 - 6 / 4, 0]


@pytest.fixture(scope="module")
def own_model(course, tmp_path_factory):
    """A tiny model in a folder, as one has it from elsewhere."""
    folder = tmp_path_factory.mktemp("own") / "model"
    tokenizer = course.build_tokenizer([course.PROMPT, *course.ANSWERS.values()])
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}[EOS]{% endif %}"
        "{% endfor %}"
    )
    course.build_model(tokenizer, 3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_lines(path, rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def own(model, folder, rows, *options):
    """The arguments for these rows."""
    data = write_lines(folder / "pairs.jsonl", rows)
    known = ["--model", str(model), "--dataset", data, "--save", str(folder / "trained")]
    return [*known, "--learning-rate", "1e-2", "--batch", "5", "--steps", "6", *options]


def as_messages(row):
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    return {name: [{"role": roles[name], "content": row[name]}] for name in row}


@pytest.mark.parametrize("shape", ["texts", "messages"])
@pytest.mark.parametrize("options", [[], ["--adapter"], ["--accumulate", "5"]])
def test_own_model_and_pairs(options, shape, example, own_model, tmp_path, capsys):
    rows = 2 * (ROWS if shape == "texts" else [as_messages(row) for row in ROWS])
    log = str(tmp_path / "log.csv")
    assert example.main(own(own_model, tmp_path, rows, *options, "--log", log)) == 0
    assert capsys.readouterr().out.count("before: ") == 2  # one for each prompt

    steps = np.genfromtxt(log, delimiter=",", names=True)
    assert_allclose(steps["loss"][0], np.log(2), atol=1e-6)
    assert steps["loss"][-1] < 0.69

    # What was saved is the trained model: its log-probabilities are those after the last step.
    auto = importlib.import_module("transformers").AutoModelForCausalLM
    old, new = (auto.from_pretrained(path) for path in (own_model, tmp_path / "trained"))
    assert (tmp_path / "trained/adapter_config.json").exists() == ("--adapter" in options)
    tokenizer = example.AutoTokenizer.from_pretrained(tmp_path / "trained")
    margins = [
        np.subtract(*numbers(all_log_probs(model, tokenizer)[0])).mean() for model in (old, new)
    ]
    assert margins[1] > margins[0] + 0.1


def test_answers_that_lose_their_end_are_counted(example, own_model, tmp_path, capsys):
    # With its prompt and end token, the longest answer has seven tokens, the others at most six.
    example.main(own(own_model, tmp_path, [*ROWS[:2], ROWS[4]], "--max-length", "6"))
    assert "1 of 3 pairs are longer than --max-length" in capsys.readouterr().out


def test_one_step_is_the_same_in_parts(example, own_model, tmp_path):
    logs = []
    for parts in ("1", "5"):
        folder = tmp_path / parts
        folder.mkdir()
        logs.append(str(folder / "log.csv"))
        example.main(own(own_model, folder, ROWS, "--accumulate", parts, "--log", logs[-1]))
    whole, in_parts = (np.genfromtxt(log, delimiter=",", skip_header=1) for log in logs)
    assert_allclose(in_parts, whole, atol=1e-4)


GOOD = {"prompt": "Who wins ?", "chosen": " Albion", "rejected": " Borough"}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"prompt": "Who wins ?", "chosen": " Albion"}, "line 2: 'rejected' is missing"),
        (GOOD | {"chosen": " "}, "line 2: 'chosen' is empty"),
        (GOOD | {"prompt": ""}, "line 2: 'prompt' is empty"),
        (GOOD | {"rejected": []}, "line 2: 'rejected' is empty"),
        (GOOD | {"rejected": "Albion"}, "line 2: 'chosen' and 'rejected' are the same"),
        (GOOD | {"chosen": None}, "line 2: found .* expected a pair in JSON"),
        (GOOD | {"chosen": [{"role": "assistant"}]}, "line 2: found .* expected a pair in JSON"),
        ("{'prompt': 1}", "line 2: found .* expected a pair in JSON"),
        ("", "line 2: found '', expected a pair in JSON"),
        (GOOD | {"prompt": "Who wins ? "}, "line 2: 'prompt' ends in a space, which belongs to"),
        (
            GOOD | {"prompt": "Who wins ?" + " Who wins ?" * 3},
            "line 2: the prompt has --max-length",
        ),
    ],
)
def test_a_bad_pair_is_named_by_its_line(bad, message, example, own_model, tmp_path):
    with pytest.raises(SystemExit, match=message):
        example.main(own(own_model, tmp_path, [GOOD, bad, GOOD], "--max-length", "12"))


def test_options_that_do_not_fit(example, own_model, tmp_path, capsys):
    good = own(own_model, tmp_path, [GOOD])
    for arguments, message in [
        (["--dataset", "no.jsonl"], "expected football, forest or a file"),
        (["--model", "here"], "--model and --save belong to a file"),
        (good[:4], "--model and --save belong to a file"),
        ([*good, "--save", str(tmp_path)], "exists already"),
    ]:
        with pytest.raises(SystemExit):
            example.main(arguments)
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit, match="--batch is 5, expected a multiple of"):
        example.main([*good, "--accumulate", "2"])
    (own_model / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SystemExit):
        example.main(good)
    assert "is an adapter: merge it into its model first" in capsys.readouterr().err
