"""Two data sets of the course for `dpo_with_trl.py`, each with a small model made for it.

Football: the twenty comparisons of the thread. The reference names the three teams with
probabilities (0.5, 0.3, 0.2), and the optimum of DPO is pi_ref * alpha^(1/beta), where alpha are
the Bradley-Terry strengths.

Forest: the model writes sentences like those of the corpus. People like some words, dislike others
and pay for each word, and compare pairs of the model's own sentences.
"""

import copy

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from kl2dpo.bradley_terry import fit, win_probability
from kl2dpo.datasets import football, forest
from kl2dpo.policy import PreferencePairs, TabularPolicy, train
from kl2dpo.rlhf import optimal_policy, optimal_value

PROMPT = "Who wins ?"
# Answers of different lengths, with a word in common: a log-probability is a sum over tokens.
ANSWERS = {"A": " Albion", "B": " Borough United", "C": " City United Club"}
REFERENCE = [0.5, 0.3, 0.2]
TOLERANCE = 1e-3

LIKED = ["kind", "gentle", "helps", "shares", "thanks"]
DISLIKED = ["steals", "bites", "scares", "angry"]
PRICE = 0.25  # of every word


def build_tokenizer(texts):
    """One token a word."""
    words = dict.fromkeys(["[PAD]", "[EOS]", *" ".join(texts).split()])
    vocabulary = {word: k for k, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", eos_token="[EOS]", padding_side="right"
    )


def build_model(tokenizer, seed):
    """A Llama of two layers with random weights."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def answer_log_probs(model, tokenizer, prompt, answers):
    """ln pi(answer | prompt) of each answer: the sum over its tokens and the end token."""
    texts = [prompt + answer + tokenizer.eos_token for answer in answers]
    batch = tokenizer(texts, padding=True, return_tensors="pt").to(model.device)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    logits = model(input_ids=ids, attention_mask=mask).logits
    # The position before a token predicts it.
    tokens = logits[:, :-1].log_softmax(dim=-1).gather(2, ids[:, 1:, None])[..., 0]
    first = len(tokenizer(prompt)["input_ids"])
    return (tokens * mask[:, 1:])[:, first - 1 :].sum(dim=1)


def fine_tune(model, tokenizer, prompt, answers, share, steps):
    """Supervised fine-tuning on some answers, each with its share."""
    torch.set_num_threads(1)  # fastest for models as small as these
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        log_probs = answer_log_probs(model, tokenizer, prompt, answers)
        cross_entropy = -torch.tensor(share) @ log_probs
        optimizer.zero_grad()
        cross_entropy.backward()
        optimizer.step()


def comparisons():
    """The football counts, one row a comparison."""
    names, wins = football()
    rows = [
        {"prompt": PROMPT, "chosen": ANSWERS[winner], "rejected": ANSWERS[loser]}
        for i, winner in enumerate(names)
        for j, loser in enumerate(names)
        for _ in range(int(wins[i, j]))
    ]
    return Dataset.from_list(rows)


def predictions(reference, beta, nll=0.0):
    """What the course says about the optimum: each quantity by its name."""
    wins = football().wins
    winner, loser = np.nonzero(wins)
    counts = wins[winner, loser]
    share = counts / counts.sum()
    # TRL's term is a mean over all tokens of the chosen answers, each with an end token.
    n_tokens = np.array([len(answer.split()) + 1 for answer in ANSWERS.values()])
    nll /= share @ n_tokens[winner]
    if nll == 0:
        policy = optimal_policy(reference, fit(wins).log_strengths, beta)
    else:
        pairs = PreferencePairs(np.zeros(len(share), int), winner, loser, counts)
        options = {"optimizer": "gd", "learning_rate": 1 / (beta**2 + nll), "steps": 2_000}
        start = TabularPolicy([np.log(reference)])
        policy = train(start, pairs, beta=beta, nll_weight=nll, **options).policy.probabilities()[0]
    rewards = beta * np.log(policy / reference)
    margins = rewards[winner] - rewards[loser]
    return {
        "loss": share @ (np.logaddexp(0, -margins) - nll * np.log(policy[winner])),
        "rewards/margins": share @ margins,
        "rewards/accuracies": share @ (margins > 0),
    } | {f"share of {name}": p for name, p in zip(ANSWERS, policy)}


class Football:
    """Three teams, twenty comparisons, and the exact optimum."""

    def __init__(self, options, write):
        teams = list(ANSWERS.values())
        self.tokenizer = build_tokenizer([PROMPT, *teams])
        self.model = build_model(self.tokenizer, options.seed)
        fine_tune(self.model, self.tokenizer, PROMPT, teams, REFERENCE, steps=150)
        self.before = self.log_probs(self.model)
        self.rows = comparisons()

    @torch.no_grad()
    def log_probs(self, model):
        """Of the three answers, and of no word at all."""
        answers = [*ANSWERS.values(), ""]
        return answer_log_probs(model, self.tokenizer, PROMPT, answers).cpu().double().numpy()

    def report(self, trained, records, options):
        """Print the result beside the optimum; return whether they agree."""
        before, after = self.before, self.log_probs(trained)
        print(f"\n{'answer':<19}{'ln pi_ref':>11}{'ln pi':>11}{'pi_ref':>9}{'pi':>9}")
        for answer, old, new in zip([*ANSWERS.values(), " (no word)"], before, after):
            print(f"{answer[1:]:<19}{old:>11.6f}{new:>11.6f}{np.exp(old):>9.5f}{np.exp(new):>9.5f}")
        reference, policy = np.exp(before[:3]), np.exp(after[:3])
        print(f"{'all three':<41}{reference.sum():>9.5f}{policy.sum():>9.5f}")

        predicted = predictions(reference / reference.sum(), options.beta, options.nll)
        shares = [f"share of {name}" for name in ANSWERS]
        measured = records[-1] | dict(zip(shares, policy / policy.sum()))
        print(f"\n{'':<19}{'predicted':>11}{'TRL':>11}{'difference':>13}")
        for name, value in predicted.items():
            print(f"{name:<19}{value:>11.6f}{measured[name]:>11.6f}{measured[name] - value:>13.1e}")
        good = all(abs(measured[name] - predicted[name]) < TOLERANCE for name in predicted)
        print(f"within {TOLERANCE:g}: {'yes' if good else 'NO (more --steps may help)'}")
        return good


def rewards(sentences):
    """+1 for a liked word, -1 for a disliked one, less the price of every word."""
    value = dict.fromkeys(LIKED, 1) | dict.fromkeys(DISLIKED, -1)
    words = [sentence.split() for sentence in sentences]
    return np.array([sum(value.get(word, 0) - PRICE for word in row) for row in words])


class Forest:
    """A model that writes, and people who compare its sentences."""

    def __init__(self, options, write):
        corpus = forest()
        sentences = [" " + text for text in corpus.texts(corpus.sentences)]
        self.prompt = "Write:"
        self.tokenizer = build_tokenizer([self.prompt, *sentences])
        self.model = build_model(self.tokenizer, options.seed)
        share = [1 / len(sentences)] * len(sentences)
        # With 150 steps it would know the corpus by heart.
        fine_tune(self.model, self.tokenizer, self.prompt, sentences, share, steps=40)
        self.reference = copy.deepcopy(self.model)
        self.write = lambda model, n: [
            " " + text for text in write(model, self.tokenizer, self.prompt, options.seed, n)
        ]
        self.before = self.write(self.model, 20_000)
        self.rows = self.pairs(options.seed)

    def pairs(self, seed):
        """Two sentences of the model at a time; people choose by Bradley-Terry."""
        a, b = self.before[::2], self.before[1::2]
        p = win_probability(rewards(a), rewards(b))
        a_wins = np.random.default_rng(seed).random(len(p)) < p
        return Dataset.from_list(
            [
                {"prompt": self.prompt, "chosen": x if wins else y, "rejected": y if wins else x}
                for x, y, wins in zip(a, b, a_wins)
                if x != y
            ]
        )

    @torch.no_grad()
    def report(self, trained, records, options):
        """Print sentences, and how much of reward - beta KL was gained."""
        before, after = self.before, self.write(trained, 2_000)
        for name, sentences in {"before": before, "after": after}.items():
            print("", f"{name}:", *sentences[:6], sep="\n")
        new, old = (
            answer_log_probs(model, self.tokenizer, self.prompt, after).cpu()
            for model in (trained, self.reference)
        )
        kl = (new - old).mean().item()
        old, new = rewards(before), rewards(after)
        best = optimal_value(np.full(len(old), 1 / len(old)), old, options.beta)
        rows = {
            "words": [np.mean([len(text.split()) for text in texts]) for texts in (before, after)],
            "reward": [old.mean(), new.mean()],
            "KL from the reference": [0, kl],
            "reward - beta KL": [old.mean(), new.mean() - options.beta * kl, best],
        }
        print(f"\n{'':<22}{'before':>8}{'after':>8}{'best':>8}")
        for name, values in rows.items():
            print(f"{name:<22}" + "".join(f"{value:>8.2f}" for value in values))
        return True


WORLDS = {"football": Football, "forest": Forest}
