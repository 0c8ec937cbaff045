"""What readers type, and where the search leads them: its own script, without a browser.

A new query is one line of QUERIES, with the page and the section that must be among the first three.
"""

import json
import os
import re
from functools import cache
from pathlib import Path

import pytest
from py_mini_racer import MiniRacer

SITE = Path(__file__).parents[2] / "_build" / "html"
SCRIPT = SITE / "_static" / "search.js"
if not SCRIPT.exists() and not os.environ.get("REQUIRE_BROWSER"):
    pytest.skip("the website is not built (make book)", allow_module_level=True)

QUERIES = {
    # The words of the field.
    "KL divergence": "appendix/glossary#term-KL-divergence",
    "Kullback-Leibler": "kl/what-kl-measures#the-definition",
    "Gibbs inequality": "kl/properties#it-is-never-negative",
    "entropy": "kl/what-kl-measures#extra-bits-in-a-code",
    "cross entropy": "kl/what-kl-measures#extra-bits-in-a-code",
    "chain rule": "kl/properties#sequences-the-chain-rule",
    "forward vs reverse KL": "kl/forward-reverse",
    "mode seeking": "kl/forward-reverse#move-the-humps-nearer",
    "k3 estimator": "kl/estimating-kl#three-estimators",
    "temperature": "kl/leash#a-temperature-is-a-leash",
    "Bradley-Terry": "bradley-terry/the-model",
    "Elo": "bradley-terry/ranking#elo-is-stochastic-gradient-ascent",
    "confidence interval": "bradley-terry/ranking#standard-errors",
    "position bias": "bradley-terry/ranking#home-advantage-is-position-bias",
    "chatbot arena": "bradley-terry/ranking#an-arena-of-language-models",
    "partition function": "dpo/rlhf#why-this-does-not-finish-the-job",
    "best of n": "dpo/rlhf#best-of-n",
    "GRPO": "dpo/rlhf#what-grpo-asks-for",
    "DPO loss": "dpo/dpo-loss",
    "derivation of DPO": "dpo/dpo-loss#the-derivation",
    "gradient of the DPO loss": "dpo/dpo-loss#reading-the-gradient",
    "implicit reward": "bradley-terry/policy-as-reward#the-door-to-dpo",
    "reward model": "bradley-terry/policy-as-reward",
    "length normalization": "dpo/run#sums-or-means",
    "label smoothing": "dpo/limits#labels-that-are-wrong",
    "IPO": "dpo/family#what-ipo-asks-for",
    "KTO": "dpo/family#one-table",
    "LoRA": "dpo/when-not-rlhf#an-adapter",
    "perplexity": "appendix/glossary#term-Perplexity",
    "logsumexp": "appendix/glossary#term-Log-sum-exp-logsumexp",
    "which model is the reference": "dpo/dpo-loss#which-model-is-the-reference",
    "π_ref": "appendix/glossary#term-Reference-policy",
    "reward hacking": "dpo/limits#over-optimisation",
    "verbosity": "bradley-terry/policy-as-reward#when-people-like-long-answers",
    "overfitting": "dpo/limits#loss-0-and-accuracy-1",
    "reference model needed?": "dpo/dpo-loss#which-model-is-the-reference",
    "optimal policy closed form": "dpo/rlhf#the-proof",
    "asymmetric divergence": "kl/properties#the-order-matters",
    "when to stop training": "appendix/questions#when-do-i-stop",
    "noisy labels": "dpo/limits#labels-that-are-wrong",
    "cycles in preferences": "bradley-terry/the-model#circles",
    "ties between models": "bradley-terry/ranking#ties",
    "maximum likelihood estimation": "bradley-terry/finding-the-strengths#the-likelihood",
    "adapters low rank": "dpo/when-not-rlhf#an-adapter",
    "convexity of KL": "kl/properties#mixtures-convexity",
    "KL of gaussians": "kl/what-kl-measures#densities",
    "infinite divergence": "kl/what-kl-measures#when-a-probability-is-zero",
    "sample size of preferences": "dpo/when-not-rlhf#how-many-pairs",
    "online DPO": "dpo/when-not-rlhf#fresh-pairs",
    "verifiable rewards": "dpo/rlhf#if-a-program-can-check-the-answer",
    "ppo clipping": "dpo/rlhf#ppo-grpo-and-dpo-side-by-side",
    "policy gradients of KL estimators": "kl/estimating-kl#two-gradients-of-three-estimators",
    "unbeaten team": "bradley-terry/finding-the-strengths#when-no-estimate-exists",
    "average log prob instead of sum": "dpo/run#sums-or-means",
    "out of distribution answers": "dpo/when-not-rlhf#what-the-data-never-showed",
    "win rate judge length": "bradley-terry/ranking#length-is-another-covariate",
    "token level reward credit assignment": "dpo/run#a-tree-of-values",
    "TRL ref_model=None": "dpo/trl#what-trl-takes-as-the-reference",
    "precompute_ref_log_probs": "dpo/trl#what-trl-takes-as-the-reference",
    "LoRA reference model": "dpo/trl#what-trl-takes-as-the-reference",
    "logging_steps": "dpo/trl#the-first-record",
    "first loss of each loss_type": "dpo/trl#the-first-record",
    "bf16 weights do not change": "dpo/trl#weights-in-bfloat16-stand-still",
    "default learning rate of TRL": "dpo/trl#rate-epochs-precision-memory",
    "completion mask": "dpo/trl#from-text-to-the-four-log-probabilities",
    "chat template": "dpo/trl#from-text-to-the-four-log-probabilities",
    "pad token equals eos token": "dpo/trl#broken-in-five-ways",
    "IPO per token": "dpo/trl#per-token-or-per-answer",
    "loss_weights": "dpo/trl#per-token-or-per-answer",
    "jsonl dataset of pairs": "dpo/trl#run-it",
    "训练自己的模型": "dpo/trl#run-it",
    "preferences are intransitive": "bradley-terry/the-model#circles",
    "margins growing forever": "dpo/limits#an-answer-that-always-wins",
    "memory": "appendix/questions#what-has-to-fit-in-memory",
    "learning rate": "dpo/trl#rate-epochs-precision-memory",
    "chosen reward goes down": "dpo/limits#a-falling-chosen-reward",
    "loss is 0": "dpo/limits#loss-0-and-accuracy-1",
    "repeats itself": "appendix/questions#why-is-the-model-broken-or-repeats-itself-though-the-margin-grows",
    # Typed in haste, and names in code.
    "bradly terry": "bradley-terry/the-model",
    "overoptimization": "dpo/limits#over-optimisation",
    "kl_divergence": "appendix/api-kl#kl2dpo.kl.kl_divergence",
    "dpo_loss": "appendix/api-dpo#kl2dpo.dpo.dpo_loss",
    "kulback": "kl/what-kl-measures#the-definition",
    # Chinese, for a book in English.
    "KL散度": "appendix/glossary#term-KL-divergence",
    "KL 散度": "appendix/glossary#term-KL-divergence",
    "反向KL散度": "kl/forward-reverse#why-rlhf-uses-the-reverse-direction",
    "交叉熵": "kl/what-kl-measures#extra-bits-in-a-code",
    "直接偏好优化": "dpo/dpo-loss#the-derivation",
    "隐式奖励": "bradley-terry/policy-as-reward#the-door-to-dpo",
    "参考策略": "appendix/glossary#term-Reference-policy",
    "奖励黑客": "dpo/limits#over-optimisation",
    "正向KL与反向KL": "kl/forward-reverse#one-hump-for-two",
    "最大似然估计": "bradley-terry/finding-the-strengths#the-likelihood",
    "标签平滑": "dpo/limits#labels-that-are-wrong",
    "学习率": "dpo/run#what-does-early-and-late",
    "过拟合": "appendix/questions#the-loss-is-0-and-the-accuracy-is-1-is-that-good",
    # What people ask in public about DPO, in their words.
    "both chosen and rejected rewards are negative, is this normal?": "dpo/limits#why-both-are-negative",
    "why does the chosen reward go down": "dpo/limits#a-falling-chosen-reward",
    "log probs of the chosen responses keep decreasing": "appendix/questions#why-did-my-chosen-reward-fall",
    "training loss stuck at 0.693": "appendix/questions#all-rewards-are-0-and-the-loss-stays-at-0-6931-why",
    "loss is 0 and accuracy is 1 after one epoch": "dpo/limits#loss-0-and-accuracy-1",
    "does dpo keep a reference model in memory": "dpo/rlhf#ppo-grpo-and-dpo-side-by-side",
    "the model repeats itself after DPO": "practice/reading-a-run#it-repeats-itself",
    "longer answers after training": "bradley-terry/policy-as-reward#when-people-like-long-answers",
    "what value of beta should I use": "appendix/questions#what-is-in-practice",
    "should I SFT on the chosen responses first?": "appendix/questions#do-i-need-supervised-fine-tuning-first",
    "KL is negative in my logs": "appendix/questions#why-is-my-logged-kl-below-zero",
    "DPO训练时chosen reward下降": "dpo/limits#a-falling-chosen-reward",
    "loss一直是0.69不下降": "appendix/questions#all-rewards-are-0-and-the-loss-stays-at-0-6931-why",
    "模型回答越来越长": "bradley-terry/policy-as-reward#when-people-like-long-answers",
    "beta 应该设多大": "appendix/questions#what-is-in-practice",
    "奖励都是负数正常吗": "dpo/limits#why-both-are-negative",
    "reward accuracies jump to 1 at once": "dpo/limits#loss-0-and-accuracy-1",
    "rejected logps drop faster than chosen": "dpo/limits#a-falling-chosen-reward",
    "is the reference model updated during training": "dpo/dpo-loss#which-model-is-the-reference",
    "what does beta do": "dpo/run#what-does-early-and-late",
    "dpo makes the model worse after many epochs": "dpo/limits#over-optimisation",
    "do I need a reward model for DPO": "appendix/questions#where-is-the-reward-model",
    "can I use preference data from another model": "appendix/misconceptions#the-pairs-may-come-from-any-model",
    "where is the KL penalty": "appendix/questions#where-is-the-kl-term-in-the-loss-of-dpo",
    "GRPO vs DPO": "dpo/rlhf#ppo-grpo-and-dpo-side-by-side",
    "which loss should I choose, IPO or KTO": "appendix/questions#which-of-the-other-losses",
    "为什么KL是负的": "appendix/questions#why-is-my-logged-kl-below-zero",
    "显存不够怎么办": "appendix/questions#what-has-to-fit-in-memory",
    "DPO需要先SFT吗": "appendix/questions#do-i-need-supervised-fine-tuning-first",
    "需要多少条偏好数据": "appendix/questions#how-many-pairs-do-i-need",
    "模型一直重复同一句话": "appendix/questions#why-is-the-model-broken-or-repeats-itself-though-the-margin-grows",
    # What one sees in a log: the field guide.
    "loss stays at 0.693 and rewards are 0": "practice/reading-a-run#the-loss-stays-at-ln-2",
    "initial loss is not 0.693": "practice/reading-a-run#the-first-loss-is-not-ln-2",
    "loss 0 accuracy 1": "practice/reading-a-run#loss-0-accuracy-1",
    "chosen and rejected rewards are both negative and falling": "practice/reading-a-run#both-rewards-are-negative",
    "loss drops at the start of each epoch": "practice/reading-a-run#the-loss-falls-in-steps-at-the-epochs",
    "eval loss increases but win rate improves": "practice/reading-a-run#the-held-out-loss-rises-and-so-does-the-win-rate",
    "my model repeats itself": "practice/reading-a-run#it-repeats-itself",
    "answers become longer after dpo": "practice/reading-a-run#the-answers-get-longer",
    "loss is NaN": "practice/reading-a-run#a-value-is-not-a-number-nan",
    "accuracy starts at one half": "practice/reading-a-run#the-first-accuracy-is-not-0",
    "rewards/accuracies is only 0 or 1": "practice/reading-a-run#the-accuracy-is-only-0-or-1",
    "chosen and rejected answers are nearly identical": "practice/reading-a-run#both-rewards-fall-far-more-than-the-margin-grows",
    "margin keeps growing": "practice/reading-a-run#the-margin-grows-without-end",
    "training loss goes up": "practice/reading-a-run#the-loss-rises",
    "training accuracy above the ceiling": "practice/reading-a-run#an-accuracy-is-above-its-ceiling",
    "eval accuracy below 0.5": "practice/reading-a-run#held-out-pairs-are-ordered-the-wrong-way",
    "chosen and rejected swapped by mistake": "practice/reading-a-run#labels-are-swapped-in-both-sets",
    "reward scale does not match the loss": "practice/reading-a-run#loss-and-rewards-are-on-different-scales",
    "log-probabilities do not match after merging the adapter": "practice/reading-a-run#recomputed-rewards-are-off-by-hundreds",
    "eos token missing": "practice/reading-a-run#the-prompt-is-counted-or-the-end-token-is-not",
    "what is wrong with my run": "practice/reading-a-run#what-do-you-see",
    "损失停在 ln 2": "practice/reading-a-run#the-loss-stays-at-ln-2",
    "每个epoch loss突然下降": "practice/reading-a-run#the-loss-falls-in-steps-at-the-epochs",
    "loss变成nan": "practice/reading-a-run#a-value-is-not-a-number-nan",
    "模型复读": "practice/reading-a-run#it-repeats-itself",
    "验证损失上升": "practice/reading-a-run#the-held-out-loss-rises-and-so-does-the-win-rate",
    "准确率只有0和1": "practice/reading-a-run#the-accuracy-is-only-0-or-1",
    # The same in fifteen people's words, as they asked in public (paraphrased), five in Chinese.
    "rewards/chosen and rewards/rejected are both going down": "practice/reading-a-run#both-rewards-are-negative",
    "loss is 0 and margins are above 10": "practice/reading-a-run#loss-0-accuracy-1",
    "all log-probabilities and rewards are 0": "practice/reading-a-run#the-loss-stays-at-ln-2",
    "loss suddenly drops when the second epoch starts": "practice/reading-a-run#the-loss-falls-in-steps-at-the-epochs",
    "after dpo the model repeats the same sentence": "practice/reading-a-run#it-repeats-itself",
    "accuracy is always 0 or 1 with batch size 1": "practice/reading-a-run#the-accuracy-is-only-0-or-1",
    "initial loss is much larger than 0.69": "practice/reading-a-run#the-first-loss-is-not-ln-2",
    "validation loss goes up but the outputs look better": "practice/reading-a-run#the-held-out-loss-rises-and-so-does-the-win-rate",
    "the model never stops generating": "practice/reading-a-run#the-prompt-is-counted-or-the-end-token-is-not",
    "broken text although the margin is fine": "practice/reading-a-run#both-rewards-fall-far-more-than-the-margin-grows",
    "DPO训练loss一直是0.693": "practice/reading-a-run#the-loss-stays-at-ln-2",
    "chosen和rejected的奖励都是负数": "practice/reading-a-run#both-rewards-are-negative",
    "DPO之后模型输出重复": "practice/reading-a-run#it-repeats-itself",
    "DPO训练后输出乱码": "practice/reading-a-run#both-rewards-fall-far-more-than-the-margin-grows",
    "loss很快变成0准确率是1": "practice/reading-a-run#loss-0-accuracy-1",
    # What a log proves, and the way to one's own model.
    "which beta was used in this log": "practice/the-log-as-evidence#two-records-give",
    "is this log possible": "practice/the-log-as-evidence#can-this-log-be",
    "check preference pairs before training": "practice/the-log-as-evidence#pairs-before-training",
    "rankings broken into pairs": "practice/the-log-as-evidence#a-ranking-is-fewer-pairs-than-it-seems",
    "win rate confidence interval": "practice/the-log-as-evidence#judging-the-result",
    "how many comparisons does a win rate need": "practice/the-log-as-evidence#judging-the-result",
    "how to choose beta": "practice/from-here-to-your-model#by-a-budget",
    "multi-turn conversations": "practice/from-here-to-your-model#conversations-and-refusals",
    "refusals and safety": "practice/from-here-to-your-model#conversations-and-refusals",
    "AI feedback": "practice/from-here-to-your-model#where-do-pairs-come-from",
    "best against worst samples": "practice/from-here-to-your-model#if-a-program-gives-the-reward",
    "Plackett-Luce loss": "practice/from-here-to-your-model#what-came-after-and-how-to-choose",
    "published hyperparameters": "practice/from-here-to-your-model#a-sober-table-of-settings",
    "which algorithm should I use": "practice/from-here-to-your-model#dpo-ppo-or-grpo",
    "偏好数据从哪里来": "practice/from-here-to-your-model#where-do-pairs-come-from",
    "多轮对话": "practice/from-here-to-your-model#conversations-and-refusals",
    "超参数": "practice/from-here-to-your-model#a-sober-table-of-settings",
}


@pytest.fixture(scope="module")
def engine():
    with MiniRacer() as engine:
        page = "const location = {}; class URLSearchParams { get() {} }"
        engine.eval(page + SCRIPT.read_text(encoding="utf-8"))
        yield engine


@pytest.fixture(scope="module")
def search(engine):
    """The first results of a query, as the page shows them."""
    show = "(query => JSON.stringify(find(query).slice(0, SHOWN).map(shown)))"
    return cache(lambda query: json.loads(engine.call(show, query)))


@cache
def page(path):
    return (SITE / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("query, place", QUERIES.items())
def test_the_answer_is_among_the_first_three(query, place, search):
    path, _, section = place.partition("#")
    address = f"chapters/{path}.html" + f"#{section}" * bool(section)
    assert address in [result["address"] for result in search(query)[:3]]


def test_every_entry_leads_to_its_place_and_has_text_without_code(engine):
    entries = json.loads(engine.eval("JSON.stringify(ENTRIES)"))
    assert {entry["kind"] for entry in entries} == {"chapter", "section", "term", "function"}
    for entry in entries:
        path, _, anchor = entry["address"].partition("#")
        assert not anchor or f'id="{anchor}"' in page(path), entry["address"]
        assert not re.search(r"\\|plt\.|>>>|= np\.", entry["text"]), entry["address"]


def test_an_excerpt_shows_the_words(search):
    [result] = [r for r in search("reward hacking") if r["address"].endswith("#over-optimisation")]
    assert "reward" in result["excerpt"][1::2]
    # Where it has none of them, the name for which the section was found stands beside its page.
    [result] = [r for r in search("奖励黑客") if r["address"].endswith("#over-optimisation")]
    assert result["title"] == "Over-optimisation" and "奖励黑客" in result["place"]


@pytest.mark.parametrize("query", ["DPO loss", "Bradley-Terry", "KTO", "gradient", "margin"])
def test_chapters_come_before_functions(query, search):
    assert "/api-" not in search(query)[0]["address"]


def test_nothing_is_found_where_nothing_is(search):
    assert search("zzyzx qqqqqq") == [] == search("") == search("the of")
