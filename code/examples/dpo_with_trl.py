"""The prediction of chapter 11 of this course, *The DPO loss*, tested
on a transformer that TRL's `DPOTrainer` trains.

    python3 -m venv /somewhere/trl
    /somewhere/trl/bin/python -m pip install -r code/examples/requirements.txt
    /somewhere/trl/bin/python code/examples/dpo_with_trl.py

On several GPUs, nothing changes but the launcher: `accelerate launch code/examples/dpo_with_trl.py`.

The preferences are the football counts of the course. The model is a Llama of two layers,
built from a configuration: nothing is downloaded. It first learns to name the three teams
with probabilities (0.5, 0.3, 0.2); that model is the reference. Then TRL runs DPO, and the
result is compared with pi_ref * alpha^(1/beta), where alpha are the Bradley-Terry strengths.
"""

import argparse
import copy
import csv
import math
import os
import sys
import tempfile
import warnings
from pathlib import Path

# Nothing is downloaded here; this also keeps the Hugging Face libraries from sending statistics.
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, PrinterCallback
from trl import DPOConfig, DPOTrainer

from kl2dpo.bradley_terry import fit
from kl2dpo.datasets import football
from kl2dpo.rlhf import optimal_policy

PROMPT = "Who wins ?"
# Answers of different lengths, with a word in common: a log-probability is a sum over tokens.
ANSWERS = {"A": " Albion", "B": " Borough United", "C": " City United Club"}
REFERENCE = [0.5, 0.3, 0.2]
LOGGED = [
    "step",
    "loss",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
    "grad_norm",
]
TOLERANCE = 2e-3


def build_tokenizer():
    """One token a word."""
    words = " ".join([PROMPT, *ANSWERS.values()]).split()
    vocabulary = {word: k for k, word in enumerate(dict.fromkeys(["[PAD]", "[EOS]", *words]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", eos_token="[EOS]", padding_side="right"
    )


def build_model(tokenizer, seed):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def answer_log_probs(model, tokenizer, answers=tuple(ANSWERS.values())):
    """ln pi(answer | prompt) of each answer: the sum over its tokens and the end token."""
    texts = [PROMPT + answer + tokenizer.eos_token for answer in answers]
    batch = tokenizer(texts, padding=True, return_tensors="pt").to(model.device)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    logits = model(input_ids=ids, attention_mask=mask).logits
    # The position before a token predicts it.
    tokens = logits[:, :-1].log_softmax(dim=-1).gather(2, ids[:, 1:, None])[..., 0]
    first = len(tokenizer(PROMPT)["input_ids"])
    return (tokens * mask[:, 1:])[:, first - 1 :].sum(dim=1)


def as_array(log_probs):
    return log_probs.detach().cpu().double().numpy()


def fine_tune(model, tokenizer, steps=150):
    """Supervised fine-tuning on the three answers, in the proportions of REFERENCE."""
    share = torch.tensor(REFERENCE)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        cross_entropy = -share @ answer_log_probs(model, tokenizer)
        optimizer.zero_grad()
        cross_entropy.backward()
        optimizer.step()


def comparisons(copies=1):
    """The football counts, one row a comparison."""
    names, wins = football()
    rows = [
        {"prompt": PROMPT, "chosen": ANSWERS[winner], "rejected": ANSWERS[loser]}
        for i, winner in enumerate(names)
        for j, loser in enumerate(names)
        for _ in range(int(wins[i, j]))
    ]
    return Dataset.from_list(rows * copies)


def train(model, reference, tokenizer, beta, steps, seed, folder):
    """DPO with TRL, on all comparisons in every step; return the trainer."""
    args = DPOConfig(
        output_dir=folder,
        beta=beta,
        max_steps=steps,
        learning_rate=3e-3,  # TRL's default, 1e-6, is meant for large pretrained models
        lr_scheduler_type="cosine",
        use_cpu=not torch.cuda.is_available(),
        bf16=False,  # TRL's default, True, would round the log-probabilities to three digits
        activation_checkpointing=False,  # it would save memory and cost time
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=False,
        logging_steps=1,  # otherwise TRL logs means over the steps since the last record
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=seed,
    )
    # With several processes, each takes an equal part of a whole number of copies of the data.
    rows = math.lcm(len(comparisons()), args.world_size)
    args.per_device_train_batch_size = rows // args.world_size
    trainer = DPOTrainer(
        model=model,
        ref_model=reference,  # without it, TRL looks for the model's name on disk or on the hub
        args=args,
        train_dataset=comparisons(copies=rows // len(comparisons())),
        processing_class=tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer


def predictions(reference_log_probs, beta):
    """What the course says about the optimum: each quantity by its name."""
    _, wins = football()
    strengths = fit(wins).log_strengths
    winner, loser = np.nonzero(wins)
    share = wins[winner, loser] / wins.sum()
    margins = strengths[winner] - strengths[loser]
    reference = np.exp(reference_log_probs)
    policy = optimal_policy(reference / reference.sum(), strengths, beta)
    return {
        "loss": share @ np.logaddexp(0, -margins),
        "rewards/margins": share @ margins,
        "rewards/accuracies": share @ (margins > 0),
    } | {f"share of {name}": p for name, p in zip(ANSWERS, policy, strict=True)}


def measurements(record, policy_log_probs):
    """The same quantities in TRL's last record, and in the probabilities of the trained model."""
    policy = np.exp(policy_log_probs)
    return {name: record[name] for name in ("loss", "rewards/margins", "rewards/accuracies")} | {
        f"share of {name}": p for name, p in zip(ANSWERS, policy / policy.sum(), strict=True)
    }


def write_log(path, records):
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(LOGGED)
        writer.writerows([round(record[name], 6) for name in LOGGED] for record in records)


def write_answers(path, seed, before, after):
    """Log-probabilities before and after: of the answers, and of no word at all."""
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["seed", "answer", "ref_logp", "logp"])
        for name, *log_probs in zip([*ANSWERS, "none"], before, after, strict=True):
            writer.writerow([seed, name, *(round(float(value), 6) for value in log_probs)])


def report(tokenizer, before, after, predicted, measured):
    """Print the answers and the comparison; return whether the prediction holds."""
    print(f"{'answer':<22}{'tokens':>7}{'ln pi_ref':>11}{'ln pi':>11}{'pi_ref':>9}{'pi':>9}")
    for answer, old, new in zip([*ANSWERS.values(), ""], before, after, strict=True):
        n_tokens = len(tokenizer(answer + tokenizer.eos_token).input_ids)
        print(
            f"{answer.strip() or '(no word)':<22}{n_tokens:>7}{old:>11.6f}{new:>11.6f}"
            f"{np.exp(old):>9.5f}{np.exp(new):>9.5f}"
        )
    print(f"{'all three':<51}{np.exp(before[:-1]).sum():>9.5f}{np.exp(after[:-1]).sum():>9.5f}")
    print(f"\n{'':<22}{'predicted':>11}{'TRL':>11}{'difference':>13}")
    for name, value in predicted.items():
        print(f"{name:<22}{value:>11.6f}{measured[name]:>11.6f}{measured[name] - value:>13.1e}")
    holds = all(abs(measured[name] - value) <= TOLERANCE for name, value in predicted.items())
    print(f"\nwithin {TOLERANCE:g}: {'yes' if holds else 'NO'}")
    return holds


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beta", type=float, default=0.5, help="tightness of the leash (0.5)")
    parser.add_argument("--steps", type=int, default=100, help="steps of DPO (100)")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights (0)")
    parser.add_argument("--output", help="CSV file for the metrics that TRL logs")
    parser.add_argument("--answers", help="CSV file for the log-probabilities of the answers")
    options = parser.parse_args(arguments)

    # A model as small as this one is fastest on one thread.
    torch.set_num_threads(1)
    disable_progress_bars()
    # TRL 1.16 still uses a name that transformers 5.24 has replaced.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, options.seed)
    fine_tune(model, tokenizer)
    answers = [*ANSWERS.values(), ""]
    before = as_array(answer_log_probs(model, tokenizer, answers))
    with tempfile.TemporaryDirectory() as folder:
        trainer = train(
            model,
            copy.deepcopy(model),
            tokenizer,
            options.beta,
            options.steps,
            options.seed,
            folder,
        )
    trained = trainer.accelerator.unwrap_model(trainer.model)
    after = as_array(answer_log_probs(trained, tokenizer, answers))
    records = [record for record in trainer.state.log_history if "rewards/margins" in record]
    predicted = predictions(before[:-1], options.beta)
    measured = measurements(records[-1], after[:-1])
    holds = True
    if trainer.accelerator.is_main_process:
        holds = report(tokenizer, before, after, predicted, measured)
        if options.output:
            write_log(options.output, records)
        if options.answers:
            write_answers(options.answers, options.seed, before, after)
    trainer.accelerator.end_training()
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
