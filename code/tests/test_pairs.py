import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kl2dpo.pairs import audit
from kl2dpo.policy import BigramPolicy, PreferencePairs


def row(prompt, chosen, rejected):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def test_by_hand():
    pairs = [
        *3 * [row("p", "long one", "short")],
        row("p", "short", "long one"),
        row("p", "short", "third"),
        *2 * [row("q", "a", "b")],
        *2 * [row("q", "b", "a")],
        row("r", "same", "same"),
        row("r", "same", " "),
    ]
    found = audit(pairs)
    assert (found.comparisons, found.identical, found.empty) == (11, 1, 1)
    assert found.repeated == 2 + 1 + 1
    assert (found.pairs, found.both_orders, found.ties) == (4, 2, 1)
    # Of the two labels of a pair: three agree of six, and two of six.
    assert_allclose(found.agreement, (3 / 6 + 2 / 6) / 2)
    assert (found.prompts, found.most_pairs) == (3, 2)
    assert_allclose([found.chosen_longer, found.chosen_shorter], [4 / 11, 1 / 11])
    chosen, rejected = 3 * 8 + 5 + 5 + 4 + 4 + 4, 3 * 5 + 8 + 5 + 4 + 4 + 0
    assert_allclose(found.length_ratio, chosen / rejected)
    assert found.shown_first is found.held_out_pairs is found.held_out_prompts is None


def test_counts_are_comparisons():
    pairs = PreferencePairs([0, 0, 0], [0, 1, 2], [1, 0, 1], [8, 4, 0])
    copies = PreferencePairs([0] * 12, [0] * 8 + [1] * 4, [1] * 8 + [0] * 4)
    found = audit(pairs)
    assert found == audit(copies)
    assert found.repeated == 10 and found.pairs == 1
    assert_allclose(found.agreement, (8 * 7 + 4 * 3) / (12 * 11))


def test_agreement_estimates_its_mean():
    p, rng = 0.8, np.random.default_rng(0)
    prompts = np.repeat(np.arange(20_000), 2)
    first = (rng.random(40_000) < p).astype(int)
    found = audit(PreferencePairs(prompts, first, 1 - first))
    assert_allclose(found.agreement, p**2 + (1 - p) ** 2, atol=0.01)


def test_a_ranking_gives_all_its_pairs():
    ranking = ["best", "good", "fair", "poor", "bad"]
    pairs = [row("x", better, worse) for better, worse in itertools.combinations(ranking, 2)]
    found = audit(pairs)
    assert found.most_pairs == found.pairs == 10 and found.prompts == 1


def test_held_out():
    pairs = [row("p", "a", "b"), row("q", "c", "d")]
    held_out = [row("p", "b", "a"), row("p", "a", "c"), row("q", "c", "d"), row("r", "a", "b")]
    found = audit(pairs, held_out)
    assert (found.held_out_pairs, found.held_out_prompts) == (0.5, 0.75)
    assert audit(pairs, [row("r", "a", "b")]).held_out_pairs == 0


def test_the_order_of_showing():
    pairs = PreferencePairs([0, 0, 1, 1], [0, 1, 0, 1], [1, 0, 1, 0])
    assert audit(pairs, shown_first=[True, True, True, False]).shown_first == 0.75


def test_texts_tokens_and_messages_are_the_same_pairs():
    texts = [row("hi", "ab", "c"), row("hi", "c", "ab")]
    tokens = [row([7], [1, 2], [3]), row((7,), np.array([3]), [1, 2])]
    say = lambda text: [{"role": "assistant", "content": text}]  # noqa: E731
    messages = [row(say("hi"), say("ab"), say("c")), row("hi", say("c"), "ab")]
    assert audit(texts) == audit(tokens) == audit(messages)


def test_lengths_of_a_bigram_policy():
    policy = BigramPolicy(np.zeros((1, 3, 3)), max_length=5)
    responses = policy.sample(np.zeros(40, int), np.random.default_rng(0))
    pairs = PreferencePairs(np.zeros(20, int), responses[:20], responses[20:])
    found = audit(pairs, length=np.count_nonzero)
    lengths = np.count_nonzero(responses, axis=1)
    assert found.empty == np.sum((lengths[:20] == 0) | (lengths[20:] == 0))
    assert_allclose(found.length_ratio, lengths[:20].mean() / lengths[20:].mean())


def test_nothing_written_has_no_ratio():
    assert audit([row("p", "a", "")]).length_ratio is None


GOOD = [row("p", "a", "b")]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((5,), "pairs is 5"),
        (([],), "pairs is empty"),
        ((["text"],), r"pairs is \['text'\]"),
        (([*GOOD, {"prompt": "p", "chosen": "a"}],), r"pairs\[1\] is without \['rejected'\]"),
        (([row("p", None, "b")],), r"pairs\[0\] is without \['chosen'\]"),
        ((GOOD, []), "held_out is empty"),
        ((GOOD, 5), "held_out is 5"),
        ((PreferencePairs([0], [0], [1, 2]),), r"the number of pairs is \[1, 2\]"),
        ((PreferencePairs([0], [0], [1], [0.5]),), r"counts\[0\] is 0.5.*integer"),
        ((PreferencePairs([0], [0], [1], [-1]),), r"counts\[0\] is -1"),
        ((PreferencePairs([0], [0], [1], [1, 1]),), r"counts has shape \(2,\)"),
        ((PreferencePairs([0], [0], [1], [0]),), "counts is 0 everywhere"),
    ],
)
def test_bad_pairs_are_refused(arguments, message):
    with pytest.raises(ValueError, match="^" + message):
        audit(*arguments)


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match=r"^shown_first has shape \(2,\)"):
        audit(GOOD, shown_first=[True, False])
    with pytest.raises(ValueError, match=r"^shown_first\[0\] is 2"):
        audit(GOOD, shown_first=[2])
    with pytest.raises(ValueError, match=r"^length\[0, 0\] is -1"):
        audit(GOOD, length=lambda answer: -1)
