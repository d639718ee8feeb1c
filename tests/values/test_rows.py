"""Rows of masked copies, the parts of them, and the work that is counted without running them."""

from itertools import count as counted
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from forwards import Recording, normal

from captum_lkn import players_from_mask
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.model import Model
from captum_lkn.outputs.scores import resolve_score
from captum_lkn.players.players import Players
from captum_lkn.sampling.masks import plan_masks
from captum_lkn.values import evaluator as evaluators
from captum_lkn.values import plans
from captum_lkn.values import rows as row_blocks
from captum_lkn.values import work as works
from captum_lkn.values.copies import copies_of_all, unchanged_players
from captum_lkn.values.evaluator import Evaluator
from captum_lkn.values.first_forward import few_masks
from captum_lkn.values.forwards import _one_of_each_sample
from captum_lkn.values.memory import WatchedMemory
from captum_lkn.values.rows import Part, all_copies, evaluate_rows, rows_of, sampled_copies
from captum_lkn.values.sampled import ending_full
from captum_lkn.values.tables import Request
from captum_lkn.values.work import Work, work_of

SCORE = resolve_score("logit")


def open_evaluator(forward, players, target=None, **given):
    return Evaluator(Model(forward), players, Arguments(players.inputs), target=target, score=SCORE, **given)


def masks_of(n, subsets):
    return torch.tensor([[s >> i & 1 == 1 for i in range(n)] for s in subsets])


# ---------------------------------------------------------------- rows


@pytest.mark.parametrize("together", [1, 3, 63, 64, 65, 200])
def test_parts_are_of_whole_forwards_and_are_the_whole(together):
    for total, parts in product((1, 63, 64, 65, 128, 1000), (1, 2, 3, 40)):
        check_parts(total, together, parts)


def check_parts(total, together, parts):
    found = [Part(number, parts).rows(total, together) for number in range(parts)]
    assert [row for part in found for row in part] == list(range(total))
    for part in found:
        assert part.start % together == 0 or part.start == total
        assert not part or part.stop == total or len(part) >= 64
    whole = -(-total // (together * -(-64 // together)))  # units of forwards with 64 rows or more
    sizes = [-(-len(part) // (together * -(-64 // together))) for part in found]
    assert sum(sizes) == whole
    assert max(sizes) - min(sizes) <= 1


def forwards_like(sizes, rows, *, aligned=False, whole_batch=False):
    columns = torch.arange(max(sizes)).expand(len(sizes), -1)
    owners = torch.where(columns < torch.tensor(sizes)[:, None], columns, -1)
    inputs = torch.ones(owners.shape)
    labels = tuple(tuple(map(str, range(n))) for n in sizes)
    players = Players((inputs,), (0 * inputs,), (owners,), labels)
    return SimpleNamespace(players=players, rows=rows, planned_rows=rows, aligned=aligned, whole_batch=whole_batch)


@pytest.mark.parametrize(("rows", "aligned"), [(1, False), (5, False), (100, False), (5, True)])
def test_all_rows_are_all_masks_of_each_sample_in_turn(rows, aligned):
    evaluated = forwards_like((3, 5, 2, 4), rows, aligned=aligned)
    blocks = list(rows_of(evaluated, all_copies(evaluated, [1, 2, 0])))
    expected = [(sample, s) for sample, n in ((1, 5), (2, 2), (0, 3)) for s in range(1 << n)]
    samples, masks = map(torch.cat, zip(*blocks, strict=True))
    assert samples.tolist() == [sample for sample, _ in expected]
    assert torch.equal(masks, masks_of(5, [s for _, s in expected]))
    lengths = [len(own) for own, _ in blocks]
    assert lengths == [44] if aligned else lengths[:-1] == [rows] * (len(lengths) - 1)
    evaluated = forwards_like((8,), 64)
    some = list(rows_of(evaluated, all_copies(evaluated, [0]), Part(1, 2)))
    assert [int(mask @ (1 << torch.arange(8))) for _, own in some for mask in own.long()] == list(range(128, 256))


def test_rows_become_fewer_while_they_are_evaluated():
    evaluated = forwards_like((4,), 8)
    blocks = rows_of(evaluated, all_copies(evaluated, [0]))
    assert len(next(blocks)[0]) == 8
    evaluated.rows = 3
    assert [len(samples) for samples, _ in blocks] == [3, 3, 2]


def test_sampled_rows_are_the_plans_of_each_sample_in_turn():
    drawn = {n: plan_masks(n, 1400 // (20 - n), torch.Generator().manual_seed(0)) for n in (10, 12)}
    for whole_batch in (False, True):
        sizes = (12, 10, 12)
        evaluated = forwards_like(sizes, 50, whole_batch=whole_batch)
        blocks = list(rows_of(evaluated, sampled_copies(evaluated, drawn)))
        samples, masks = map(torch.cat, zip(*blocks, strict=True))
        used = sizes[:1] if whole_batch else sizes
        every = [torch.cat(drawn[n]) for n in used]
        assert samples.tolist() == [i for i, own in enumerate(every) for _ in own]
        assert torch.equal(masks[samples == 0], every[0])
        if not whole_batch:
            assert torch.equal(masks[samples == 1][:, :10], every[1])
            assert not masks[samples == 1][:, 10:].any()
    assert ending_full(torch.arange(5.0)[None]).tolist() == [[0, 2, 3, 4, 1]]


# ---------------------------------------------------------------- copies that are the same


def copies_by_hand(players, wanted):
    """Return the copies of (sample, mask) pairs, the first of each, and the place of each pair among them."""
    seen, rows = {}, []
    for sample, mask in wanted:
        key = sample, tuple(x.numpy().tobytes() for x in players.masked(sample, mask[None]))
        seen.setdefault(key, len(seen))
        rows.append(seen[key])
    return len(seen), rows


def players_with_unchanged(kind):
    x = torch.tensor([[2.0, 0.0, 0.0, 1.0], [0.0, 0.0, 3.0, 0.0], [1.0, 2.0, 3.0, 4.0], [0.0] * 4])
    if kind == "zeros of both signs and NaN":
        return players_from_mask(
            torch.tensor([[-0.0, 0.0, torch.nan, 1.0]]), torch.tensor([[0.0, 0.0, torch.nan, 1.0]])
        )
    if kind == "ids":
        return players_from_mask(torch.tensor([[5, 9, 9, 5]]), 9, torch.tensor([[0, 1, 2, -1]]))
    if kind == "groups":  # player 1 owns a scalar that changes and one that does not
        return players_from_mask(x, 0.0, torch.tensor([[0, 1, 1, 2]]))
    if kind == "two inputs":
        return players_from_mask((x, x.flip(1)), (0.0, 1.0), (torch.tensor([[0, 1, 2, 3]]),) * 2)
    return players_from_mask(x)


@pytest.mark.parametrize("kind", ["one input", "groups", "two inputs", "ids", "zeros of both signs and NaN"])
def test_each_different_copy_is_evaluated_once(kind):
    players = players_with_unchanged(kind)
    left = list(range(len(players)))[::-1]
    copies = copies_of_all(players, left)
    wanted = [(i, mask) for i in left for mask in masks_of(players.sizes[i], range(1 << players.sizes[i]))]
    total, rows = copies_by_hand(players, wanted)
    assert copies.total == total
    assert copies.masks == len(wanted)
    places = range(total) if copies.places is None else copies.places.tolist()
    samples, masks = copies.take(range(total))
    for (sample, mask), place, same in zip(wanted, places, rows, strict=True):
        assert place == same
        assert int(samples[place]) == sample
        found = players.masked(sample, masks[place, : players.sizes[sample]][None])
        assert [x.numpy().tobytes() for x in found] == [x.numpy().tobytes() for x in players.masked(sample, mask[None])]
    assert copies.masks_in(range(1, 3)).tolist() == [i for i, row in enumerate(rows) if row in (1, 2)]


def unchanged_by_hand(players):
    """Compare each scalar with all that may replace it, one after the other, bit for bit or as NaN."""
    found = torch.ones(len(players), max(players.sizes), dtype=torch.bool)
    for x, baselines, owner in zip(
        players.inputs, players.background or players.baselines, players.owners, strict=True
    ):
        for place in product(*map(range, x.shape)):
            given = [b[place[1:]] for b in baselines] if players.background else [baselines[place]]
            alike = [
                b.numpy().tobytes() == x[place].numpy().tobytes() or bool(b != b and x[place] != x[place])
                for b in given
            ]
            if owner[place] >= 0 and not all(alike):
                found[place[0], owner[place]] = False
    return found


@pytest.mark.parametrize("constant", [True, False])
def test_a_player_is_unchanged_if_nothing_that_may_replace_it_differs(constant):
    x = torch.tensor([[3.0, 0.0, -0.0, torch.nan], [1.0, 2.0, 0.0, torch.nan], [3.0, 2.0, 0.0, 1.0]])
    background = torch.tensor([[3.0, 2.0, 0.0, torch.nan]]).repeat(3, 1)
    if not constant:
        background[2, 0], background[1, 2] = 1, -0.0
    players = averaged_players(x, background)
    found = unchanged_players(players)
    assert torch.equal(found, unchanged_by_hand(players))
    assert found.sum() == (8 if constant else 4)


@pytest.mark.parametrize("own", [False, True], ids=["one mask", "a mask each"])
def test_a_player_of_all_channels_is_unchanged_if_each_of_them_is(own):
    x = (normal(5, 3, 2, 4) > 0.8).float()  # two pixels of three channels a player
    owners = torch.tensor([[0, 1, 1, 2], [0, 2, -1, -1]])[None, None]
    if own:
        owners = torch.cat([owners, owners.flip(3), owners.flip(2), owners.flip(2, 3), owners])
    players = players_from_mask((x, x[:, 0, 0]), (0.0, 0.0), (owners, torch.tensor([[0, 1, 2, -1]])))
    found = unchanged_players(players)
    assert torch.equal(found, unchanged_by_hand(players))
    assert 0 < found.sum() < found.numel()


def test_a_sample_may_be_one_number():
    assert unchanged_players(players_from_mask(torch.tensor([2.0, 0.0, 1.0]))).tolist() == [[False], [True], [False]]


def test_samples_of_one_mask_leave_a_player_out_if_it_changes_none_of_them():
    x = torch.tensor([[2.0, 0.0, 0.0, 1.0], [2.0, 3.0, 0.0, 0.0]])
    players = players_from_mask(x)
    assert unchanged_players(players, alike=True).tolist() == [[False, False, True, False]] * 2
    assert copies_of_all(players, [0], alike=True).total == 8
    forward = Recording(lambda x: (x[:, 0] * x[:, 3] + 5 * x[:, 1] + x[:, 2]).sum())  # one value a batch
    with open_evaluator(forward, players) as evaluator:
        assert evaluator.whole_batch
        values = row_blocks.evaluate_copies(evaluator, all_copies(evaluator, [0]))
    expected = [float(forward.forward(mask * x)) for mask in masks_of(4, range(16))]
    assert values[:, 0].tolist() == expected


def test_sampled_masks_of_one_copy_are_evaluated_once_in_parts_as_in_the_whole():
    x = torch.ones(1, 24)
    x[0, 3:23:2] = 0  # ten players that are absent already
    players = players_from_mask(x)
    drawn = {24: plan_masks(24, 600, torch.Generator().manual_seed(0))}
    masks = torch.cat(drawn[24])
    shown = {tuple(row) for row in masks[:, x[0] > 0].tolist()}
    forward = Recording(lambda x: x[:, 0] * x[:, 1] + x[:, 2] + x[:, 23] * x[:, 4])
    with open_evaluator(forward, players, perturbations_per_eval=64) as evaluator:
        copies = sampled_copies(evaluator, drawn)
        assert copies.total == len(shown) < 600
        before, steps = sum(len(rows) for *_, rows in forward.calls), []
        values = row_blocks.evaluate_copies(evaluator, copies, steps.append)
        checks = 2 + 4  # of the first forward the first row and the last one alone, and four between
        assert sum(len(rows) for *_, rows in forward.calls) - before == len(shown) + checks
        assert sum(steps) == 600
    assert torch.equal(values[:, 0], forward.forward(masks * x).double())


@pytest.mark.parametrize("pending", [0, 7, 1 << 20])
def test_values_on_another_device_are_fetched_together_and_are_those_of_their_rows(pending, monkeypatch):
    monkeypatch.setattr(row_blocks, "_PENDING", pending)
    looked = []

    class Elsewhere(torch.Tensor):
        @property
        def device(self):
            return SimpleNamespace(type="cuda")

    def check_finite(samples, masks, values):
        looked.append(len(samples))
        assert torch.equal(values[:, 0], samples.double() + masks[:, 0])

    evaluated = SimpleNamespace(
        unmasked=torch.zeros(1, 2),
        values=lambda samples, masks, advance: (
            (samples + masks[:, 0]).float()[:, None].repeat(1, 2).as_subclass(Elsewhere)
        ),
        check_finite=check_finite,
    )
    blocks = [(torch.arange(2 * i, 2 * i + 2), torch.tensor([[True], [False]])) for i in range(5)]
    found = evaluate_rows(evaluated, blocks, 10)
    assert found.dtype == torch.float64
    assert found[:, 1].tolist() == [1, 1, 3, 3, 5, 5, 7, 7, 9, 9]
    assert looked == {0: [2] * 5, 7: [4, 4, 2], 1 << 20: [10]}[pending]


@pytest.mark.parametrize("samples", [[0, 0, 1, 2, 2, 2], [2, 0, 2, 1, 0, 2], [1], [0, 1, 2]])
def test_groups_have_at_most_one_row_of_a_sample_and_are_few(samples):
    groups = _one_of_each_sample(torch.tensor(samples))
    assert sorted(torch.cat(groups).tolist()) == list(range(len(samples)))
    assert len(groups) == max(samples.count(s) for s in samples)
    for group in groups:
        own = [samples[row] for row in group]
        assert len(set(own)) == len(own)


def test_few_masks_are_of_the_first_and_the_last_sample():
    samples, masks = few_masks(players_from_mask(torch.ones(3, 4)))
    assert samples.tolist() == [0, 0, 0, 2, 2, 2]
    pattern = [[True] * 4, [True, False, True, False], [False] * 4]
    assert masks.tolist() == pattern * 2


# ---------------------------------------------------------------- averages over a background


def averaged_players(x, background):
    made = players_from_mask(x)
    return Players(
        inputs=made.inputs,
        baselines=made.baselines,
        owners=made.owners,
        labels=made.labels,
        names=made.names,
        background=(background,),
    )


@pytest.mark.parametrize("rows", [4, 1000])
@pytest.mark.parametrize("block", [1, 7, 10, None])
def test_values_are_means_over_the_background_in_blocks_of_any_size(block, rows, monkeypatch):
    for module in (evaluators, works) if block else ():
        monkeypatch.setattr(module, "BLOCK", block)
    block = block or 1000  # by default all of these together
    x, background = 1 + normal(2, 3).abs(), normal(5, 3, seed=1)
    samples, subsets = torch.tensor([1, 0, 1, 0, 0, 1, 1]), [5, 0, 7, 3, 6, 1, 2]
    masks, steps = masks_of(3, subsets), []
    forward = Recording(lambda x: x.prod(1) + x[:, 0])
    with open_evaluator(forward, averaged_players(x, background), perturbations_per_eval=rows) as evaluator:
        evaluator.values(samples, masks)  # checks the first forward
        before = evaluator.forwards
        found = evaluator.values(samples, masks, advance=steps.append)
        taken = evaluator.forwards - before
        counted_work = work_of(evaluator.masked_forwards, False, samples, masks)
    expected = []
    for sample, mask in zip(samples.tolist(), masks, strict=True):
        copies = torch.where(mask, x[sample], background)
        expected.append(float((copies.prod(1) + copies[:, 0]).mean()))
    assert found.flatten().tolist() == pytest.approx(expected, rel=1e-5)
    assert sum(steps) == 7
    per_block = max(1, block // 5)
    assert steps == [len(part) for part in torch.split(samples, per_block)]
    assert counted_work.forwards == taken == sum(-(-5 * len(p) // (2 * rows)) for p in torch.split(samples, per_block))


# ---------------------------------------------------------------- work


def test_work_adds_up():
    assert Work(1, 2, 3).plus(Work(10, 20, 30)) == (11, 22, 33)
    assert Work() == (0, 0, 0)


@pytest.mark.parametrize("rows", [1, 2, 4, 100])
def test_the_work_of_rows_is_what_they_take(rows):
    ids = torch.tensor([[5, 6, 7, 8], [8, 9, 1, 2], [3, 3, 3, 1]])
    table = normal(12)
    players = players_from_mask(ids, 0)
    samples, masks = torch.tensor([0, 2, 2, 1, 0]), masks_of(4, [3, 5, 15, 0, 9])
    for forward in (lambda ids: table[ids].prod(1), lambda ids: table[ids].prod(1).sum()):
        with open_evaluator(forward, players, perturbations_per_eval=rows if forward(ids).dim() else None) as evaluator:
            evaluator.values(samples, masks)
            forwards = evaluator.masked_forwards
            before = forwards.forwards, forwards.tokens
            evaluator.values(samples, masks)
            found = work_of(forwards, False, samples, masks)
            assert found == (forwards.forwards - before[0], *2 * (forwards.tokens - before[1],))
            assert work_of(forwards, False, samples[:0], masks[:0]) == (0, 0, 0)
            forwards.whole_batch, forwards.aligned = False, True
            assert work_of(forwards, False, samples, masks) == (2, 24, 24)  # two rows of a sample at most


def test_tokens_are_those_of_the_first_input():
    ids, further = torch.tensor([[5, 6, 7, 8], [8, 9, 1, 2]]), torch.ones(2, 3)
    players = players_from_mask((ids, further), (0, 0.0), (torch.tensor([[0, 1, 2, 2]]), torch.tensor([[0, 1, 2]])))
    samples, masks = torch.tensor([0, 1, 1]), masks_of(3, [3, 5, 7])
    with open_evaluator(lambda ids, x: ids.sum(1) * x.sum(1), players) as evaluator:
        evaluator.values(samples, masks)
        forwards = evaluator.masked_forwards
        before = forwards.tokens
        evaluator.values(samples, masks)
        assert forwards.tokens - before == 12
        assert work_of(forwards, False, samples, masks) == (1, 12, 12)


def test_removed_tokens_are_counted_as_they_are_left_out():
    # Player 0 has two tokens in the first sample and one in the second; the last token is always there.
    owner = torch.tensor([[0, 0, 1, -1], [0, 1, 2, -1]])
    made = players_from_mask(torch.ones(2, 4, dtype=torch.long), 0, owner)
    forwards = SimpleNamespace(
        players=made,
        has_tokens=True,
        whole_batch=False,
        aligned=False,
        rows=3,
        copies=lambda samples, masks: SimpleNamespace(inputs=made.masked_rows(samples, masks)),
    )
    samples = torch.tensor([0, 0, 0, 1, 1])
    masks = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0], [1, 1, 1]]).bool()
    # Lengths 3, 2, 4 in the first forward, 1 and 4 in the second: a forward for each length.
    assert work_of(forwards, True, samples, masks) == (5, 14, 20)
    assert work_of(forwards, False, samples, masks) == (2, 20, 20)


# ---------------------------------------------------------------- plans


def ticking(monkeypatch, step=1.0):
    """Each look at the clock is `step` later than the last."""
    ticks = counted()
    monkeypatch.setattr(plans.time, "perf_counter", lambda: step * next(ticks))


@pytest.mark.parametrize("net", [lambda x: x.prod(1), lambda x: x.prod(1).sum()], ids=["rows", "whole batch"])
def test_seconds_are_those_of_the_opening_and_of_each_further_row(net, monkeypatch):
    ticking(monkeypatch)
    players = players_from_mask(1 + normal(2, 5).abs())
    request = Request(players, Arguments(players.inputs), None)
    found = plans.plan_values(Model(net), [request], score=SCORE, perturbations_per_eval=1)
    whole = found.whole_batch
    # The clock ticks once around the opening, and once around a further forward of two rows.
    first, masks = (1, 32) if whole else (2, 64)
    assert found.seconds == pytest.approx(1 + (masks - first) / 2)
    assert (found.masks, found.rows, found.tried) == (masks, 1 if whole else 2, 2)
    assert (found.shared, found.reasons, found.has_tokens, found.dropped) == (0, (), False, False)


def test_a_request_that_is_not_tried_is_taken_for_the_nearest_one(monkeypatch):
    ticking(monkeypatch)
    sizes = (4, 7, 3, 6, 5)
    requests = []
    for n in sizes:
        players = players_from_mask(1 + normal(1, n).abs())
        requests.append(Request(players, Arguments(players.inputs), None))
    tried = []
    trial, part = plans._Planner.trial, plans._Planner.part

    def seen_trial(self, request):
        found = trial(self, request)
        tried.append(request.players.sizes[0])
        return found

    parts = {}

    def seen_part(self, request, found, own):
        parts[request.players.sizes[0]] = found.forwards.players.sizes[0], own
        return part(self, request, found, own)

    monkeypatch.setattr(plans._Planner, "trial", seen_trial)
    monkeypatch.setattr(plans._Planner, "part", seen_part)
    counted_forwards = Recording(lambda x: x.prod(1))
    found = plans.plan_values(Model(counted_forwards), requests, score=SCORE, perturbations_per_eval=4)
    assert sorted(tried) == [3, 5, 7]  # most masks, fewest, and the middle
    assert parts == {7: (7, True), 6: (7, False), 5: (5, True), 4: (5, False), 3: (3, True)}
    assert (found.tried, found.masks, found.rows) == (3, sum(1 << n for n in sizes), 4)
    # Rows take as long as those that were tried, times the ratio of their scalars; four rows take a tick.
    per_request = [1 + ((1 << n) - 4) / 4 * n / of for n, (of, _) in parts.items()]
    assert found.seconds == pytest.approx(sum(per_request))


def test_rows_that_are_tried_are_from_all_over_the_masks():
    players = players_from_mask(torch.ones(2, 6))
    planner = plans._Planner(Model(lambda x: x.prod(1)), {}, {})
    forwards = forwards_like((6, 6), 8)
    forwards.players = players
    samples, masks = planner._some_rows(forwards)
    assert samples.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    subsets = (masks.long() @ (1 << torch.arange(6))).tolist()
    assert subsets == [0, 16, 32, 48] * 2
    forwards.rows = 3  # 128 rows, every 42nd
    samples, masks = planner._some_rows(forwards)
    places = 64 * samples + masks.long() @ (1 << torch.arange(6))
    assert places.tolist() == [0, 42, 84]
    forwards.whole_batch = True
    samples, masks = planner._some_rows(forwards)
    assert (masks.long() @ (1 << torch.arange(6))).tolist() == [0, 32]


def test_the_most_bytes_at_a_time_are_watched():
    x = torch.zeros(1000)
    with WatchedMemory() as watched:
        first = x + 1
        second = first * 2
        del first
        third = second + 1
        view = third[:10]
        third.add_(1)
    assert watched.peak == 8000
    assert watched._now == 8000
    del second, third, view
    assert watched._now == 0
