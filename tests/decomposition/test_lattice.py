import itertools
import os
import re
import subprocess
import sys
import textwrap

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_lkn.decomposition import indices, kronecker, lattice

pytestmark = pytest.mark.filterwarnings("error")

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
TRANSFORMS = {
    lattice.and_transform: oracles.and_effects,
    lattice.and_inverse: lambda effects: [oracles.reconstruct(effects, [0.0] * len(effects), t) for t in sets(effects)],
    lattice.or_transform: lambda v: [v[0], *oracles.or_effects(v)[1:]],
    lattice.or_inverse: oracles.or_inverse,
    lattice.superset_sums: oracles.superset_sums,
}
EACH_TRANSFORM = pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda transform: transform.__name__)


def sets(table):
    return range(len(table))


def table(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(numbers, abs=1e-12):
    return pytest.approx(numbers, rel=0, abs=abs)


# The transforms, against their definitions


@pytest.mark.parametrize("n", range(7))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@EACH_TRANSFORM
def test_small_whole_numbers_come_out_exactly_in_every_dtype(transform, dtype, n):
    # Sums of 64 numbers of at most 1 stay whole numbers that even bfloat16 holds.
    v = torch.randint(-1, 2, (2**n,), generator=torch.Generator().manual_seed(n)).to(dtype)
    found = transform(v)
    assert found.dtype == dtype
    assert found.shape == v.shape
    assert found.tolist() == TRANSFORMS[transform](v.tolist())


@pytest.mark.parametrize("n", range(7))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@EACH_TRANSFORM
def test_transforms_follow_their_definitions_to_rounding(transform, dtype, n):
    v = random(2**n, seed=n).to(dtype)
    rounding = 4 * torch.finfo(dtype).eps * float(v.double().abs().sum())
    assert transform(v).tolist() == close(TRANSFORMS[transform](v.tolist()), abs=rounding)


@EACH_TRANSFORM
@pytest.mark.parametrize("n", [0, 1, 4, 6, 11])
def test_leading_dimensions_are_a_batch(transform, n):
    v = random(2, 3, 2**n)
    found = transform(v)
    assert found.shape == v.shape
    for i, j in itertools.product(range(2), range(3)):
        torch.testing.assert_close(found[i, j], transform(v[i, j]), rtol=0, atol=1e-12)


@EACH_TRANSFORM
@pytest.mark.parametrize("shape", [(0, 16), (3, 0, 64), (1, 1, 1)])
def test_empty_batches_and_single_values_keep_their_shape(transform, shape):
    assert transform(torch.zeros(shape)).shape == shape


@EACH_TRANSFORM
@pytest.mark.parametrize("n", [0, 1, 3, 6])
def test_strides_do_not_matter(transform, n):
    dense = random(4, 2**n)
    expected = transform(dense)
    in_columns = dense.T.contiguous().T
    spaced = torch.stack([dense, -dense], dim=-1)[..., 0]
    expanded = dense[:1].expand(4, -1)
    for v, wanted in ((in_columns, expected), (spaced, expected), (expanded, expected[:1].expand(4, -1))):
        torch.testing.assert_close(transform(v), wanted, rtol=0, atol=1e-12)


@EACH_TRANSFORM
@pytest.mark.parametrize("n", [0, 1, 6])
def test_the_argument_stays_as_it_was_and_shares_no_memory_with_the_result(transform, n):
    v = random(2, 2**n)
    before = v.clone()
    transform(v).fill_(7.0)
    assert torch.equal(v, before)


@EACH_TRANSFORM
def test_the_same_input_gives_the_same_bits(transform):
    v = random(3, 2**12)
    assert torch.equal(transform(v), transform(v))


def test_zeros_have_no_sign():
    for transform in TRANSFORMS:
        assert not torch.signbit(transform(torch.zeros(8))).any(), transform.__name__


def test_an_unanimity_game_is_one_and_effect_and_its_dual_is_one_or_effect():
    together = lattice.masks(4)[:, [0, 2]]
    only = torch.zeros(16, dtype=torch.float64)
    only[0b0101] = 1
    assert torch.equal(lattice.and_transform(together.all(-1).double()), only)
    assert torch.equal(lattice.or_transform(together.any(-1).double()), only)


# Inverses and adjoints


@pytest.mark.parametrize("n", [*range(7), 10, 12])
@pytest.mark.parametrize(
    ("transform", "inverse"),
    [(lattice.and_transform, lattice.and_inverse), (lattice.or_transform, lattice.or_inverse)],
    ids=["and", "or"],
)
def test_transform_and_inverse_undo_each_other(transform, inverse, n):
    v = torch.rand(3, 2**n, generator=torch.Generator().manual_seed(n), dtype=torch.float64) / 2**n
    torch.testing.assert_close(inverse(transform(v)), v, rtol=0, atol=1e-12)
    torch.testing.assert_close(transform(inverse(v)), v, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [*range(7), 9])
def test_superset_sums_are_the_adjoint_of_the_and_inverse(n):
    x, y = random(2**n, seed=1), random(2**n, seed=2)
    left, right = lattice.and_inverse(x) @ y, x @ lattice.superset_sums(y)
    assert float(left) == pytest.approx(float(right), rel=1e-12, abs=1e-12)


@EACH_TRANSFORM
@pytest.mark.parametrize("n", [0, 1, 3, 6])
def test_gradients_are_those_of_finite_differences(transform, n):
    assert torch.autograd.gradcheck(transform, random(2, 2**n).requires_grad_())


@EACH_TRANSFORM
def test_what_inference_mode_computed_first_serves_autograd_later(transform):
    kronecker._power.cache_clear()
    v = random(2**6)
    with torch.inference_mode():
        inside = transform(v)
    tracked = v.clone().requires_grad_()
    outside = transform(tracked)
    outside.sum().backward()
    assert torch.equal(inside, outside)
    assert tracked.grad.isfinite().all()


# The empty set


@pytest.mark.parametrize("n", [0, 1, 3])
def test_both_transforms_keep_the_value_of_the_empty_set_at_entry_zero(n):
    v = random(5, 2**n)
    assert torch.equal(lattice.and_transform(v)[:, 0], v[:, 0])
    assert torch.equal(lattice.or_transform(v)[:, 0], v[:, 0])


def test_a_constant_has_no_effect_but_that_of_the_empty_set():
    for transform in (lattice.and_transform, lattice.or_transform):
        assert transform(torch.full((16,), 2.5)).tolist() == [2.5] + [0.0] * 15


def test_a_constant_added_to_the_split_moves_no_nonempty_effect():
    v, gamma = random(32, seed=1), random(32, seed=2)
    for transform, half in ((lattice.and_transform, v / 2 + gamma), (lattice.or_transform, v / 2 - gamma)):
        torch.testing.assert_close(transform(half + 3)[1:], transform(half)[1:], rtol=0, atol=1e-12)


# Identities of the two kinds of effects, for any table and any split of it


@st.composite
def splits(draw):
    """A table and gamma, of one to five players."""
    n = draw(st.integers(1, 5))
    numbers = st.lists(st.floats(-1, 1, width=32), min_size=2**n, max_size=2**n)
    return draw(numbers), draw(numbers)


def effects(v, gamma):
    """AND and OR effects of a split table; the empty effect is v(empty), and it is an AND effect."""
    ands = lattice.and_transform(table(v) / 2 + table(gamma))
    ors = lattice.or_transform(table(v) / 2 - table(gamma))
    ands[0], ors[0] = v[0], 0.0
    return ands, ors


def signs(n):
    """(-1)^(|S| + 1) for every S."""
    return 1.0 - 2.0 * ((lattice.orders(n) + 1) % 2).double()


IDENTITY = settings(max_examples=60, deadline=None)


@given(splits())
@IDENTITY
def test_effects_add_up_to_the_value_of_every_set(split):
    v, gamma = split
    ands, ors = effects(v, gamma)
    assert (lattice.and_inverse(ands) + lattice.or_inverse(ors)).tolist() == close(v)
    assert [oracles.reconstruct(ands.tolist(), ors.tolist(), t) for t in sets(v)] == close(v)
    assert float(ands.sum() + ors.sum()) == close(v[-1])


@given(splits())
@IDENTITY
def test_the_value_of_the_empty_set_may_be_split_in_any_way(split):
    v, gamma = split
    whole = lattice.and_inverse(lattice.and_transform(table(v) / 2 + table(gamma)))
    whole = whole + lattice.or_inverse(lattice.or_transform(table(v) / 2 - table(gamma)))
    assert whole.tolist() == close(v)


@given(splits())
@IDENTITY
def test_shapley_values_share_each_effect_equally(split):
    v, gamma = split
    n = oracles.n_of(v)
    shares = sum(effects(v, gamma)) / lattice.orders(n).clamp(min=1)
    assert (shares @ lattice.masks(n).double()).tolist() == close(oracles.shapley_values(v))


@given(splits())
@IDENTITY
def test_banzhaf_values_halve_each_effect_for_each_further_player(split):
    v, gamma = split
    n = oracles.n_of(v)
    shares = sum(effects(v, gamma)) * 2.0 ** (1 - lattice.orders(n).double())
    assert (shares @ lattice.masks(n).double()).tolist() == close(oracles.banzhaf_values(v))


@given(splits())
@IDENTITY
def test_the_shapley_interaction_index_follows_from_both_kinds_of_effects(split):
    v, gamma = split
    n, order = oracles.n_of(v), lattice.orders(oracles.n_of(v))
    ands, ors = effects(v, gamma)
    for t in range(1, 2**n):
        above = [s for s in range(2**n) if t & ~s == 0]
        sign = float(signs(n)[t])
        index = sum(float(ands[s] + sign * ors[s]) / int(order[s] - order[t] + 1) for s in above)
        assert index == close(oracles.shapley_interaction_index(v, t))


@given(splits(), st.integers(1, 6))
@IDENTITY
def test_the_shapley_interaction_index_up_to_an_order(split, order):
    v, _ = split
    found = indices.shapley_interaction_index(table(v), order).tolist()
    for t, index in enumerate(found):
        expected = oracles.shapley_interaction_index(v, t) if 1 <= t.bit_count() <= order else 0.0
        assert index == close(expected)


@given(splits())
@IDENTITY
def test_the_plain_moebius_transform_does_not_depend_on_the_split(split):
    v, gamma = split
    ands, ors = effects(v, gamma)
    found = ands + signs(oracles.n_of(v)) * lattice.superset_sums(ors)
    assert found[1:].tolist() == close(lattice.and_transform(table(v))[1:].tolist())
    assert found[1:].tolist() == close(oracles.and_effects(v)[1:])


@given(splits())
@IDENTITY
def test_or_effects_are_signed_comoebius_coefficients(split):
    v, _ = split
    everyone = len(v) - 1
    # coMoebius: the sum over the T that hold the complement of S, signed by how many players T lacks.
    comoebius = [
        sum((-1) ** (oracles.size(everyone) - oracles.size(t)) * v[t] for t in sets(v) if everyone & ~s & ~t == 0)
        for s in sets(v)
    ]
    found = lattice.or_transform(table(v))
    assert found[1:].tolist() == close((signs(oracles.n_of(v)) * table(comoebius))[1:].tolist())


@given(splits())
@IDENTITY
def test_single_players_are_moved_to_and_without_changing_any_value(split):
    v, gamma = split
    ands, ors = effects(v, gamma)
    before = ands.clone(), ors.clone()
    merged = lattice.merge_first_order(ands, ors)
    assert torch.equal(ands, before[0])
    assert torch.equal(ors, before[1])
    wanted = oracles.and_or_effects(v, gamma)
    assert merged[0].tolist() == close(wanted[0])
    assert merged[1].tolist() == close(wanted[1])
    assert (lattice.and_inverse(merged[0]) + lattice.or_inverse(merged[1])).tolist() == close(v)


def test_single_players_are_merged_in_batches_and_in_any_float_dtype():
    ands, ors = random(2, 3, 8).half(), random(2, 3, 8, seed=1).half()
    merged = lattice.merge_first_order(ands, ors)
    single = lattice.orders(3) == 1
    assert merged[0].dtype == merged[1].dtype == torch.float16
    assert torch.equal(merged[0][..., single], (ands + ors)[..., single])
    assert torch.equal(merged[1][..., ~single], ors[..., ~single])
    assert not merged[1][..., single].any()


# Subsets as numbers and as rows


@pytest.mark.parametrize("n", [0, 1, 2, 5, 10])
def test_bit_i_of_an_index_is_player_i(n):
    rows = [[bool(t >> i & 1) for i in range(n)] for t in range(2**n)]
    assert lattice.masks(n).tolist() == rows
    assert lattice.masks(n).shape == (2**n, n)
    assert lattice.masks(n).dtype == torch.bool
    assert lattice.orders(n).tolist() == [sum(row) for row in rows]
    assert lattice.orders(n).dtype == torch.int64


@given(st.integers(0, 40), st.data())
def test_members_and_index_undo_each_other(n, data):
    subsets = data.draw(st.lists(st.integers(0, 2**n - 1), max_size=8))
    rows = lattice.members(torch.tensor(subsets, dtype=torch.int64), n)
    assert rows.shape == (len(subsets), n)
    assert rows.tolist() == [[bool(s >> i & 1) for i in range(n)] for s in subsets]
    assert lattice.subset_index(rows).tolist() == subsets


def test_members_and_index_take_any_shape():
    subsets = torch.tensor([[3, 0, 7], [1, 6, 2]])
    assert lattice.members(subsets, 3).shape == (2, 3, 3)
    assert torch.equal(lattice.subset_index(lattice.members(subsets, 3)), subsets)
    assert lattice.members(torch.tensor(5), 3).tolist() == [True, False, True]


def test_subset_tables_are_made_on_the_device_asked_for():
    with torch.device("meta"):
        for made in (lattice.orders(3, device="cpu"), lattice.masks(3, device="cpu")):
            assert made.device.type == "cpu"


@pytest.mark.parametrize("n", range(12))
def test_the_number_of_players_is_read_from_the_last_dimension(n):
    assert lattice.n_players(torch.zeros(3, 2**n)) == n


# Size


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory as Linux reports it")
def test_twenty_players_take_less_than_50_mb_beyond_the_table():
    script = """
        import resource, torch
        from captum_lkn.decomposition import lattice

        def peak():  # getrusage would tell the parent's peak, which a process inherits, and filling it takes seconds
            (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
            return int(line.split()[1]) * 1024

        torch.set_num_threads(1)
        transforms = [lattice.and_transform, lattice.and_inverse, lattice.or_transform, lattice.or_inverse,
                      lattice.superset_sums]
        small = [transform(torch.ones(2**10, dtype=torch.float64)) for transform in transforms]
        # What is in use now, not what loading the libraries took, is the level to measure from.
        in_use = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
        level = torch.ones(max(0, peak() - in_use), dtype=torch.uint8)
        table = torch.randn(2**20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        before = peak()
        for transform in transforms:
            transform(table)
        taken = (peak() - before) / 1e6
        assert taken < 50, f"{taken:.0f} MB"
        effects = lattice.and_transform(table)
        assert abs(effects[6] - (table[6] - table[4] - table[2] + table[0])) < 1e-12
        torch.testing.assert_close(lattice.and_inverse(effects), table, rtol=0, atol=1e-7)
        print(taken)
    """
    # By default glibc keeps some freed blocks of this size and gives back others, and the peak varies from run to run.
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"},
    )
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) > 8, "a result alone is 8 MB: the measure missed it"


# Bad input


@EACH_TRANSFORM
@pytest.mark.parametrize("shape", [(3,), (2, 0), (4, 12), ()])
def test_a_length_that_is_no_power_of_two_is_quoted(transform, shape):
    with pytest.raises(ValueError, match="must be a power of two") as error:
        transform(torch.zeros(shape))
    assert str(list(shape)) in str(error.value)


@EACH_TRANSFORM
@pytest.mark.parametrize("wrong", [[0.0, 1.0], None, 3.0], ids=["list", "None", "number"])
def test_what_is_no_tensor_is_named(transform, wrong):
    with pytest.raises(
        TypeError, match=f"must be a tensor; got {re.escape(str(wrong))}|got {type(wrong).__name__}.*torch.as_tensor"
    ):
        transform(wrong)


@EACH_TRANSFORM
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64], ids=str)
@pytest.mark.parametrize("n", [0, 2])
def test_a_dtype_that_is_not_floating_is_named(transform, dtype, n):
    with pytest.raises(TypeError, match=f"floating dtype; got {dtype}"):
        transform(torch.zeros(2**n, dtype=dtype))
