import importlib
import subprocess
import sys
from functools import partial

import mpmath
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose
from test_checks import Table

import kl2dpo
from kl2dpo.kl import (
    cross_entropy,
    entropy,
    kl_divergence,
    kl_estimators,
    kl_from_logits,
    kl_normal,
)

P, Q = [0.2, 0.8], [0.8, 0.2]


def distributions(outcomes=4):
    """Distributions on `outcomes` outcomes; some probabilities may be zero, or tiny."""
    weights = hnp.arrays(float, outcomes, elements=st.just(0.0) | st.floats(1e-100, 1))
    return weights.filter(lambda w: w.sum() > 0.1).map(lambda w: w / w.sum())


finite = st.floats(-50, 50)
positive = st.floats(1e-3, 1e3)


# Exact values


def test_the_worked_example_in_nats_and_bits():
    assert_allclose(kl_divergence(P, Q), 0.6 * np.log(4), rtol=1e-15)
    assert_allclose(kl_divergence(P, Q, base=2), 1.2, rtol=1e-15)


def test_an_asymmetric_pair():
    assert_allclose(kl_divergence([0.2, 0.8], [0.5, 0.5]), 0.192745, atol=5e-7)
    assert_allclose(kl_divergence([0.5, 0.5], [0.2, 0.8]), 0.223144, atol=5e-7)


def test_entropy_and_cross_entropy_of_dyadic_probabilities():
    p, q = np.array([4, 2, 1, 1]) / 8, np.array([1, 1, 2, 4]) / 8
    assert entropy(p, base=2) == 1.75
    assert cross_entropy(p, q, base=2) == 2.625


@pytest.mark.parametrize(
    "base, unit", [(np.e, 1), (2, np.log(2)), (10, np.log(10)), (0.5, -np.log(2))]
)
def test_base_divides_by_its_logarithm(base, unit):
    assert_allclose(entropy(P, base=base), entropy(P) / unit)
    assert_allclose(cross_entropy(P, Q, base=base), cross_entropy(P, Q) / unit)
    assert_allclose(kl_divergence(P, Q, base=base), kl_divergence(P, Q) / unit)
    assert_allclose(
        kl_from_logits([1, 2], [3, 1], base=base), kl_from_logits([1, 2], [3, 1]) / unit
    )
    assert_allclose(kl_normal(0, 1, 2, 3, base=base), kl_normal(0, 1, 2, 3) / unit)


def test_zero_probabilities():
    assert entropy([1, 0]) == 0 and not np.signbit(entropy([1, 0]))
    assert cross_entropy([1, 0], [1, 0]) == 0 and not np.signbit(cross_entropy([1, 0], [1, 0]))
    assert_allclose(kl_divergence([0, 1], [0.5, 0.5]), np.log(2))
    assert kl_divergence([0.5, 0.5], [0, 1]) == np.inf
    assert cross_entropy([0.5, 0.5], [0, 1]) == np.inf
    assert kl_divergence([0, 1], [0, 1]) == 0
    assert not np.signbit(entropy([1.0])) and not np.signbit(cross_entropy([1.0], [1.0]))


def test_probabilities_too_small_to_divide():
    tiny = 5e-324
    assert_allclose(
        kl_divergence([0.5, 0.5], [tiny, 1.0]), 0.5 * (np.log(0.5) - np.log(tiny)) - 0.5 * np.log(2)
    )


def test_probabilities_too_small_for_their_ratio():
    # Q / P is beyond a float, and the divergence is ln 2 all the same.
    assert_allclose(kl_divergence([0, 1e-310, 1], [0, 0.5, 0.5]), np.log(2), rtol=1e-15)
    assert_allclose(kl_from_logits([0, -715], [0, 0]), np.log(2), rtol=1e-15)


def exact_divergence(p, q):
    """KL of two positive measures, divided by their sums: the definition, in 60 digits."""
    p, q = [x / mpmath.fsum(p) for x in p], [x / mpmath.fsum(q) for x in q]
    return float(mpmath.fsum(x * mpmath.log(x / y) for x, y in zip(p, q)))


@pytest.mark.parametrize("distance", [1, 0.1, 1e-2, 1e-3, 1e-5, 1e-7, 1e-8])
def test_no_digits_are_lost_near_equality(distance):
    rng = np.random.default_rng(3)
    for outcomes in range(2, 9):
        a = rng.normal(size=outcomes)
        b = a + distance * rng.normal(size=outcomes)
        p, q = scipy.special.softmax(a), scipy.special.softmax(b)
        with mpmath.workdps(60):
            of_p_and_q = exact_divergence([mpmath.mpf(x) for x in p], [mpmath.mpf(x) for x in q])
            of_a_and_b = exact_divergence([mpmath.exp(x) for x in a], [mpmath.exp(x) for x in b])
        if of_p_and_q > 1e-17:
            assert_allclose(kl_divergence(p, q), of_p_and_q, rtol=1e-9, atol=0)
        if of_a_and_b > 1e-17:
            assert_allclose(kl_from_logits(a, b), of_a_and_b, rtol=1e-9, atol=0)


@pytest.mark.parametrize("more", [-9e-9, 9e-9])
def test_sums_that_are_nearly_one(more):
    # They are accepted within 1e-8, and the divergence is then that of the normalised pair.
    for p, q in [([0.5, 0.5 + more], [0.5, 0.5]), ([0.5, 0.5], [0.5, 0.5 + more])]:
        assert 0 < kl_divergence(p, q) < 2e-16
    assert_allclose(kl_divergence([0.2, 0.8 + more], Q), 0.6 * np.log(4), rtol=2e-8)


# Agreement with SciPy, and identities


@given(distributions(), distributions())
def test_agrees_with_scipy(p, q):
    assert_allclose(entropy(p), scipy.stats.entropy(p), atol=1e-12)
    assert_allclose(kl_divergence(p, q), scipy.special.rel_entr(p, q).sum(), rtol=1e-9, atol=1e-12)
    assert_allclose(
        kl_divergence(p, q, base=2), scipy.stats.entropy(p, q, base=2), rtol=1e-9, atol=1e-12
    )


@given(distributions(), distributions())
def test_gibbs_inequality(p, q):
    assert kl_divergence(p, q) >= 0
    assert kl_divergence(p, p) == 0


@given(distributions(), distributions())
def test_cross_entropy_is_entropy_plus_divergence(p, q):
    assert_allclose(cross_entropy(p, q), entropy(p) + kl_divergence(p, q), atol=1e-12)


@given(distributions(3), distributions(3), distributions(2), distributions(2))
def test_independent_parts_add(p, q, r, s):
    joint = kl_divergence(np.outer(p, r).ravel(), np.outer(q, s).ravel())
    assert_allclose(joint, kl_divergence(p, q) + kl_divergence(r, s), rtol=1e-9, atol=1e-12)


@given(distributions(), distributions(), st.permutations(range(4)))
def test_relabelling_changes_nothing(p, q, order):
    assert_allclose(kl_divergence(p[order], q[order]), kl_divergence(p, q), rtol=1e-12, atol=1e-15)


# Logits


@given(hnp.arrays(float, 4, elements=finite), hnp.arrays(float, 4, elements=finite))
def test_logits_agree_with_probabilities(a, b):
    p, q = scipy.special.softmax(a), scipy.special.softmax(b)
    assert_allclose(kl_from_logits(a, b), kl_divergence(p, q), rtol=1e-9, atol=1e-12)


def test_shifted_logits_are_the_same_distribution():
    a, b = np.array([1.0, 2.0, 0.5]), np.array([0.0, 1.0, 3.0])
    assert_allclose(kl_from_logits(a + 1e4, b - 1e4), kl_from_logits(a, b), rtol=1e-11)


def test_rows_of_logits_far_apart():
    # One shift for all rows would leave nothing of the lower one.
    rows = np.array([[0.0, 1.0], [1e4, 1e4 + 1]])
    assert_allclose(kl_from_logits(rows, [1.0, 0.0]), kl_from_logits([0, 1], [1, 0]))


@pytest.mark.parametrize(
    "a, b, expected",
    [
        ([1e4, -1e4], [-1e4, 1e4], 2e4),
        ([1e4, -1e4], [1e4, -1e4], 0),
        ([0, 0], [1e4, -1e4], 1e4 - np.log(2)),
        ([-1e4, -1e4], [1e4, 1e4], 0),
        ([1e308, -1e308], [1e308, -1e308], 0),
        ([1e308, -1e308], [-1e308, 1e308], np.inf),  # 2e308 is beyond a float
    ],
)
def test_extreme_logits(a, b, expected):
    assert_allclose(kl_from_logits(a, b), expected, rtol=1e-12)


def test_masked_logits_are_zero_probabilities():
    mask, p, q = [0, -np.inf, 1], scipy.special.softmax([0, -np.inf, 1]), [0.2, 0.5, 0.3]
    assert_allclose(kl_from_logits(mask, np.log(q)), kl_divergence(p, q))
    assert kl_from_logits(mask, mask) == 0
    assert kl_from_logits([0, 0, 0], mask) == np.inf
    # A probability that is 0 only as a float is not excluded, so what excludes it is infinitely far.
    assert kl_from_logits([0, -1000], [0, -np.inf]) == np.inf
    assert_allclose(kl_from_logits([0, -np.inf], [0, -1000]), 0, atol=1e-300)


# Normal distributions


@pytest.mark.parametrize(
    "arguments", [(0, 1, 0.1, 1), (0, 1, 1, 1), (1, 2, 0, 3), (-2, 0.5, 1, 0.25)]
)
def test_normal_agrees_with_its_integral(arguments):
    mean_p, std_p, mean_q, std_q = arguments
    x = mean_p + std_p * np.linspace(-12, 12, 20_001)
    log_p, log_q = (
        scipy.stats.norm.logpdf(x, mean_p, std_p),
        scipy.stats.norm.logpdf(x, mean_q, std_q),
    )
    integral = np.sum(np.exp(log_p) * (log_p - log_q)) * (x[1] - x[0])
    assert_allclose(kl_normal(*arguments), integral, rtol=1e-10)


@given(finite, positive, finite, positive)
def test_normal_is_a_divergence(mean_p, std_p, mean_q, std_q):
    assert kl_normal(mean_p, std_p, mean_q, std_q) >= 0
    assert kl_normal(mean_p, std_p, mean_p, std_p) == 0
    moved = kl_normal(3 * mean_p + 1, 3 * std_p, 3 * mean_q + 1, 3 * std_q)
    assert_allclose(moved, kl_normal(mean_p, std_p, mean_q, std_q), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("step", [1e-12, 1e-8, 1e-4])
def test_normal_is_accurate_near_zero(step):
    assert_allclose(kl_normal(0, 1 + step, 0, 1), step**2, rtol=2 * step + 1e-3)
    assert_allclose(kl_normal(step, 1, 0, 1), step**2 / 2, rtol=1e-12)


def test_normal_at_the_edge_of_floats():
    assert kl_normal(0, 1e300, 0, 1e-300) == np.inf
    assert_allclose(kl_normal(0, 1e-300, 0, 1e300), 600 * np.log(10) - 0.5)


# Estimators


@given(hnp.arrays(float, 5, elements=finite), hnp.arrays(float, 5, elements=finite))
def test_estimators_are_their_formulas(log_p, log_q):
    log_ratio = log_q - log_p
    k = kl_estimators(log_p, log_q)
    assert k._fields == ("k1", "k2", "k3")
    assert_allclose(k.k1, -log_ratio)
    assert_allclose(k.k2, log_ratio**2 / 2)
    assert_allclose(k.k3, np.expm1(log_ratio) - log_ratio, rtol=1e-11, atol=1e-10)
    assert np.all(k.k3 >= 0)
    same = kl_estimators(log_p, log_p)
    assert not np.any(np.signbit(same.k1)) and np.all(np.array(same) == 0)


@pytest.mark.parametrize("sign", [1, -1])
def test_k3_is_accurate_near_zero(sign):
    for size in [1e-300, 1e-150, 1e-15, 1e-8, 1e-4, 9.99e-3, 1e-2, 1.01e-2, 0.3]:
        with mpmath.workdps(700):
            exact = float(mpmath.e ** mpmath.mpf(sign * size) - 1 - mpmath.mpf(sign * size))
        # The other formula loses digits: above 1e-2 that is what is left.
        rtol = 2e-15 if size < 1e-2 else 1e-13
        assert_allclose(kl_estimators(0.0, sign * size).k3, exact, rtol=rtol, atol=0)


def test_samples_that_q_excludes():
    for values in kl_estimators([-1.0, -2.0], [-np.inf, -2.0]):
        assert values.tolist() == [np.inf, 0]


def test_k3_overflows_beyond_709():
    assert np.isfinite(kl_estimators(-709.0, 0.0).k3)
    assert kl_estimators(-710.0, 0.0).k3 == np.inf


def test_exact_means_of_the_estimators():
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.4, 0.4, 0.2])
    k = kl_estimators(np.log(p), np.log(q))
    assert_allclose([p @ k.k1, p @ k.k3], kl_divergence(p, q))


def test_estimators_reproduce_schulmans_table():
    rng = np.random.default_rng(1)
    x = rng.standard_normal(400_000)
    for mean, bias_of_k2, spreads in [(0.1, 0.0025, (20, 1.42, 1.42)), (1, 0.25, (2, 1.73, 1.70))]:
        true = kl_normal(0, 1, mean, 1)
        k = kl_estimators(scipy.stats.norm.logpdf(x), scipy.stats.norm.logpdf(x, mean))
        for values, bias, spread in zip(k, (0, bias_of_k2, 0), spreads):
            error = values.std() / np.sqrt(x.size)
            assert abs(values.mean() - true * (1 + bias)) < 4 * error
            assert_allclose(values.std() / true, spread, rtol=0.02)


# Shapes


@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3), st.data())
@settings(max_examples=50)
def test_leading_axes_broadcast(shapes, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    p, q = (rng.dirichlet(np.ones(4), size=shape) for shape in shapes.input_shapes)
    result = kl_divergence(p, q)
    assert result.shape == shapes.result_shape
    p, q = (np.broadcast_to(d, (*shapes.result_shape, 4)) for d in (p, q))
    for index in np.ndindex(*shapes.result_shape):
        assert_allclose(result[index], kl_divergence(p[index], q[index]), rtol=1e-12)
        assert_allclose(cross_entropy(p, q)[index], cross_entropy(p[index], q[index]), rtol=1e-12)
        assert_allclose(entropy(p)[index], entropy(p[index]), rtol=1e-12)
        assert_allclose(
            kl_from_logits(np.log(p), np.log(q))[index], result[index], rtol=1e-9, atol=1e-14
        )


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_outcomes_on_any_axis(axis):
    rng = np.random.default_rng(2)
    p, q = rng.dirichlet(np.ones(4), size=(2, 3, 5))
    moved_p, moved_q = np.moveaxis(p, -1, axis), np.moveaxis(q, -1, axis)
    assert_allclose(kl_divergence(moved_p, moved_q, axis=axis), kl_divergence(p, q))
    assert_allclose(cross_entropy(moved_p, moved_q, axis=axis), cross_entropy(p, q))
    assert_allclose(entropy(moved_p, axis=axis), entropy(p))
    assert_allclose(
        kl_from_logits(np.log(moved_p), np.log(moved_q), axis=axis), kl_divergence(p, q)
    )


def test_outcomes_on_an_axis_that_only_one_argument_has_others_beside():
    # Columns are distributions. Broadcasting q against the rows instead would also be possible
    # here, because the array is square, and wrong.
    columns, single = np.array([[0.2, 0.5], [0.8, 0.5]]), np.array([0.8, 0.2])
    for function in (kl_divergence, cross_entropy):
        expected = [function(columns[:, k], single) for k in range(2)]
        assert_allclose(function(columns, single, axis=0), expected)
        swapped = [function(single, columns[:, k]) for k in range(2)]
        assert_allclose(function(single, columns, axis=0), swapped)
    logits = kl_from_logits(np.log(columns), np.log(single), axis=0)
    assert_allclose(logits, kl_divergence(columns, single, axis=0))


def test_normal_and_estimators_broadcast():
    assert kl_normal(np.zeros((3, 1)), 1, np.arange(4), [1, 2, 3, 4]).shape == (3, 4)
    assert kl_estimators(np.zeros((3, 1)), np.zeros(4)).k2.shape == (3, 4)


# Bad input: each argument is checked, and refused by its name (test_checks has the messages)

# The calls of every function on its arguments with outcomes, and what these are called.
PAIRS = {
    cross_entropy: ["p", "q"],
    kl_divergence: ["p", "q"],
    kl_from_logits: ["p_logits", "q_logits"],
}
# Good calls of every function that takes an axis; each of them takes a base as well.
WITH_AXIS = [partial(entropy, P), *(partial(function, P, Q) for function in PAIRS)]


def refused(message):
    return pytest.raises(ValueError, match="^" + message)


def test_every_argument_is_checked_and_named():
    calls = {entropy: ["p"], **PAIRS, kl_estimators: ["log_p", "log_q"]}
    for function, names in calls.items():
        for place, name in enumerate(names):
            for bad in ([0.2, np.nan], [0.2, np.inf]):
                arguments = [P] * len(names)
                arguments[place] = bad
                with refused(rf"{name}\[1\] is {bad[1]}"):
                    function(*arguments)
    names = ["mean_p", "std_p", "mean_q", "std_q"]
    for place, name in enumerate(names):
        for bad in [np.nan, np.inf, -np.inf] + [0.0, -1.5] * name.startswith("std"):
            arguments = [[1, 1]] * 4
            arguments[place] = [1, bad]
            with refused(rf"{name}\[1\] is {bad}"):
                kl_normal(*arguments)


def test_probabilities_are_checked():
    for bad, message in [([0.5, 0.6], r"the sum of {} is 1\.1"), ([-0.1, 1.1], r"{}\[0\] is -0.1")]:
        with refused(message.format("p")):
            entropy(bad)
        for function in (cross_entropy, kl_divergence):
            with refused(message.format("p")):
                function(bad, P)
            with refused(message.format("q")):
                function(P, bad)


def test_a_distribution_needs_one_finite_logit():
    masked = [[0, 1], [-np.inf, -np.inf]]
    for name, arguments in [("p_logits", (masked, P)), ("q_logits", (P, masked))]:
        with refused(rf"the largest of {name}\[1\] is -inf"):
            kl_from_logits(*arguments)


def test_a_sample_is_not_impossible():
    with refused(r"log_p\[0\] is -inf"):
        kl_estimators([-np.inf], [0])


def test_a_log_ratio_beyond_a_float_is_refused():
    with refused("log_q - log_p is inf"):
        kl_estimators(-1e308, 1e308)


@pytest.mark.parametrize("base", [0, 1, -2, np.nan, np.inf, "e", None, [2, 10]])
def test_bad_bases_are_refused(base):
    for call in [*WITH_AXIS, partial(kl_normal, 0, 1, 1, 1)]:
        with refused("base "):
            call(base=base)


def test_bad_axes_are_refused():
    for axis in (1, None):
        for call in WITH_AXIS:
            with refused(f"axis is {axis}.*: p"):
                call(axis=axis)
    for function, (p, q) in PAIRS.items():
        with refused(f"axis is -2, .*: {p} has"):
            function(P, [P], axis=-2)
        with refused(f"axis is -2, .*: {q} has"):
            function([[1.0, 1.0]], P, axis=-2)
        with refused(f"{q} is a single number"):
            function([1.0], 1.0)


def test_shapes_that_do_not_fit_are_refused():
    thirds = np.full((2, 3), 1 / 3)
    for function, (p, q) in PAIRS.items():
        with refused(f"{p} has 2, {q} has 3 outcomes along axis -1"):
            function(P, thirds)
        with refused(rf"shapes do not broadcast: {p} \(2, 3\), {q} \(4, 3\)"):
            function(thirds, np.full((4, 3), 1 / 3))
    with refused(r"shapes do not broadcast: mean_p \(2,\), std_p \(\), mean_q \(3,\), std_q \(\)"):
        kl_normal([0, 1], 1, [0, 1, 2], 1)
    with refused(r"shapes do not broadcast: log_p \(2,\), log_q \(3,\)"):
        kl_estimators([0, 1], [0, 1, 2])


def test_labels_that_differ_are_refused():
    # value_counts() sorts by frequency: the cautious and the bold word, each as its own first.
    cautious, bold = Table([0.8, 0.2], ["a", "b"]), Table([0.8, 0.2], ["b", "a"])
    aligned = Table([0.2, 0.8], ["a", "b"])
    for function, (p, q) in {**PAIRS, kl_estimators: ["log_p", "log_q"]}.items():
        with refused(rf"{p} and {q} have labels that differ, \(\['a', 'b'\], \['b', 'a'\]\)"):
            function(cautious, bold)
        assert_allclose(function(cautious, aligned), function(cautious.data, aligned.data))
    rows = Table([[0.2, 0.8], [0.8, 0.2]], ["a", "b"], ["x", "y"])
    assert_allclose(kl_divergence(rows, cautious, axis=0), [0.6 * np.log(4), 0])
    with refused("p and q have labels"):
        kl_divergence(rows, bold, axis=0)


def test_public_names_exist_and_are_documented():
    modules = ["kl", "bradley_terry", "datasets", "rlhf", "dpo", "policy"]
    modules += ["pairs", "diagnosis", "figures"]
    for name in modules:
        module = importlib.import_module(f"kl2dpo.{name}")
        for public in module.__all__:
            assert getattr(module, public).__doc__, f"{name}.{public}"
            # All but the figures, which need matplotlib, come flat too.
            assert name == "figures" or getattr(kl2dpo, public) is getattr(module, public)
    assert len(set(kl2dpo.__all__)) == len(kl2dpo.__all__)


def test_import_needs_numpy_only():
    code = (
        "import sys, kl2dpo; print(*{'matplotlib', 'sympy', 'scipy', 'IPython'} & set(sys.modules));"
        "import kl2dpo.figures; print(*{'sympy'} & set(sys.modules))"  # what moves asks for it later
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""


def test_logits_far_from_zero():
    assert kl_from_logits([1e308, 1e308], [-1e308, -1e308]) == 0
    assert_allclose(kl_from_logits([1.7e308, 0], [-1.7e308, -1.7e308]), np.log(2))
    expected = kl_from_logits([0, 1], [0.5, 1])
    assert_allclose(kl_from_logits([2.0**40, 2.0**40 + 1], [0.5, 1]), expected, rtol=1e-12)


def test_normals_of_nearly_equal_width():
    # (x^2 - 1) / 2 - ln x = (x - 1)^2 to leading order.
    assert_allclose(kl_normal(0, 2.0**33 * (1 + 2.0**-30), 0, 2.0**33), 2.0**-60, rtol=1e-8)


def test_the_tolerance_of_a_sum_is_the_documented_one():
    kl_divergence([0.5, 0.5 + 0.98e-8], [0.5, 0.5])
    with refused("the sum of p is 1.0000000102"):
        kl_divergence([0.5, 0.5 + 1.02e-8], [0.5, 0.5])
