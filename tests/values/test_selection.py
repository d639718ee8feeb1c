import json
import math

import pytest
import torch
from forwards import Recording, assert_tables, naive_table, normal, plain
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertForSequenceClassification

from captum_lkn import AndOrInteraction, players_from_mask, text_players
from captum_lkn.players.players import Players
from captum_lkn.values.selection import select_players

LOGIT = {"target": None, "score": "logit"}


def columns(x, baselines=0, **masks):
    return players_from_mask(x, baselines, **masks)


def planted(x):
    """3 and 17 together, 8 or 25, and 11 by itself; the rest hardly matter."""
    background = 0.01 * x.sum(1)
    return 4 * x[:, 3] * x[:, 17] + 3 * torch.maximum(x[:, 8], x[:, 25]) - 2 * x[:, 11] + background


def test_planted_players_are_found_among_many():
    chosen = select_players(planted, columns(torch.ones(1, 30)), k=5, **LOGIT)
    assert chosen.labels == (("3", "8", "11", "17", "25"),)
    assert chosen.choices[0].kept == (3, 8, 11, 17, 25)
    assert chosen.choices[0].left_out == tuple(str(i) for i in range(30) if i not in (3, 8, 11, 17, 25))
    assert chosen.choices[0].explained == pytest.approx(5.05 / 5.30, abs=1e-6)


def test_what_is_needed_and_what_is_enough_count_alike():
    def both_and_either(x):
        return 2 * x[:, 0] * x[:, 1] + torch.maximum(x[:, 2], x[:, 3]) + 0.25 * x[:, 4]

    (choice,) = select_players(both_and_either, columns(torch.ones(1, 5)), k=1, **LOGIT).choices
    torch.testing.assert_close(choice.strengths, torch.tensor([1.0, 1.0, 0.5, 0.5, 0.25], dtype=torch.float64))
    assert choice.kept == (0,)  # of equals the earlier


def test_the_bar_ends_at_its_total(capsys):
    select_players(planted, columns(torch.ones(2, 30)), k=5, show_progress=True, **LOGIT)
    assert "100%|" in capsys.readouterr().err.split("\r")[-1]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(1, 6), st.sampled_from(["keep", "mask"]))
@pytest.mark.filterwarnings("ignore:the . kept players do not explain")
def test_strengths_choice_and_share_against_all_masks(seed, n, k, rest):
    weights = normal(n, n, seed=seed)
    x, baseline = normal(2, n, seed=seed + 1), normal(1, n, seed=seed + 2)

    def forward(x):
        return ((x @ weights) * x).sum(1)

    chosen = select_players(forward, columns(x, baseline), k=k, rest=rest, **LOGIT)
    assert chosen.labels != ()
    for sample, choice in enumerate(chosen.choices):
        ids = torch.arange(n).expand(2, n)
        v = naive_table(forward, (x,), (baseline.expand(2, n),), (ids,), sample)
        full = 2**n - 1
        strengths = [(abs(v[full] - v[full - 2**i]) + abs(v[2**i] - v[0])) / 2 for i in range(n)]
        torch.testing.assert_close(choice.strengths, torch.stack(strengths), atol=1e-4, rtol=1e-4)
        best = sorted(range(n), key=lambda i: (-float(choice.strengths[i]), i))[:k]
        assert choice.kept == tuple(sorted(best))
        kept = sum(2**i for i in choice.kept)
        part = v[kept] - v[0] if rest == "mask" else v[full] - v[full - kept]
        assert choice.explained == pytest.approx(float(part / (v[full] - v[0])), rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("rest", ["keep", "mask"])
def test_the_others_are_kept_or_masked_in_every_copy(rest):
    x, baseline = normal(2, 6), normal(1, 6, seed=1)
    weights = normal(6, 6, seed=2)

    def forward(x):
        return ((x @ weights) * x).sum(1)

    chosen = select_players(forward, columns(x, baseline), k=3, rest=rest, **LOGIT)
    assert chosen.choices[0].kept != chosen.choices[1].kept  # a choice of its own for each sample
    ids = torch.full((2, 6), -1)
    fixed = x.clone()
    for sample, choice in enumerate(chosen.choices):
        ids[sample, list(choice.kept)] = torch.arange(3)
        if rest == "mask":
            others = [i for i in range(6) if i not in choice.kept]
            fixed[sample, others] = baseline[0, others]
    tables = [naive_table(forward, (fixed,), (baseline.expand(2, 6),), (ids,), sample) for sample in range(2)]
    found = plain(forward).attribute(chosen)
    assert_tables(found, tables)
    whole = (forward(x) - forward(baseline)).tolist()
    for one, choice, all_of_it in zip(found, chosen.choices, whole, strict=True):
        assert choice.explained == pytest.approx((one.v_full - one.v_empty) / all_of_it, rel=1e-3)


def test_in_an_additive_model_the_share_is_that_of_the_kept_effects():
    weights = torch.tensor([1.0, -3.0, 2.0, 4.0])
    for rest in ("keep", "mask"):
        chosen = select_players(lambda x: x @ weights, columns(torch.ones(1, 4)), k=2, rest=rest, **LOGIT)
        assert chosen.choices[0].kept == (1, 3)
        assert chosen.choices[0].explained == pytest.approx((4 - 3) / 4)


@pytest.mark.parametrize("k", [4, 5, 100])
def test_with_k_players_or_fewer_all_are_kept(k):
    players = columns(normal(2, 4), 1.0, feature_mask=torch.tensor([0, 1, 2, 3]))
    chosen = select_players(lambda x: x.prod(1), players, k=k, rest="mask", **LOGIT)
    assert isinstance(chosen, Players)
    assert chosen.labels == players.labels
    for before, after in [
        (players.inputs, chosen.inputs),
        (players.owners, chosen.owners),
        (players.baselines, chosen.baselines),
    ]:
        assert torch.equal(before[0], after[0])
    assert [choice.explained for choice in chosen.choices] == [1.0, 1.0]
    assert "all 4 players are kept" in repr(chosen)


def test_samples_with_different_numbers_of_players():
    mask = torch.tensor([[0, 1, 2, 3], [0, 0, 1, 1]])
    x = torch.tensor([[1.0, 5.0, 2.0, 3.0], [1.0, 5.0, 2.0, 3.0]])
    chosen = select_players(lambda x: x.sum(1), columns(x, feature_mask=mask), k=2, **LOGIT)
    assert chosen.labels == (("1", "3"), ("0", "1"))
    assert chosen.owners[0].tolist() == [[-1, 0, -1, 1], [0, 0, 1, 1]]


def test_a_player_may_own_scalars_of_several_inputs():
    inputs = (torch.ones(1, 2), torch.ones(1, 3))
    masks = (torch.tensor([0, 1]), torch.tensor([1, 2, 3]))
    players = players_from_mask(inputs, feature_mask=masks)
    chosen = select_players(lambda a, b: a[:, 1] + b @ torch.tensor([1.0, 0.1, 3.0]), players, k=2, **LOGIT)
    assert chosen.labels == (("1", "3"),)
    assert [owner.tolist() for owner in chosen.owners] == [[[-1, 0]], [[0, -1, 1]]]
    assert chosen.is_tuple


def test_a_choice_out_of_a_choice():
    first = select_players(planted, columns(torch.ones(1, 30)), k=5, **LOGIT)
    second = select_players(planted, first, k=3, **LOGIT)
    assert second.labels == (("3", "11", "17"),)
    assert second.owners[0].tolist() == [[{3: 0, 11: 1, 17: 2}.get(i, -1) for i in range(30)]]


def test_few_rows_are_evaluated():
    forward = Recording(planted)
    select_players(forward, columns(torch.ones(2, 30)), k=5, perturbations_per_eval=4, **LOGIT)
    # Checked alone: two rows of the first forward, a sample. Since the samples are equal: both, one of them masked.
    assert sum(forward.rows) == 2 * (2 * 30 + 3) + 3 + 2
    assert max(forward.rows) == 8
    answers = [
        select_players(planted, columns(torch.ones(2, 30)), k=5, perturbations_per_eval=p, **LOGIT).choices[1]
        for p in (1, 7, None)
    ]
    assert len({answer.kept for answer in answers}) == 1


def test_further_arguments_go_with_their_samples():
    x, weights = torch.ones(2, 3), torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    for given_ in ((weights,), weights, {"weights": weights}):
        chosen = select_players(
            lambda x, weights: (x * weights).sum(1), columns(x), k=1, additional_forward_args=given_, **LOGIT
        )
        assert chosen.labels == (("0",), ("2",))


def test_the_target_is_that_of_the_samples_as_they_are():
    def classes(x):  # class 1 as long as column 0 is there
        return torch.stack([1 - x[:, 0], x[:, 0] + 0.1 * x[:, 1]], 1)

    players = columns(torch.ones(1, 3))
    chosen = select_players(classes, players, k=1, score="logit")
    torch.testing.assert_close(chosen.choices[0].strengths.tolist(), [1.0, 0.1, 0.0], atol=1e-6, rtol=0)
    other = select_players(classes, players, k=1, score="logit", target=0)
    torch.testing.assert_close(other.choices[0].strengths.tolist(), [1.0, 0.0, 0.0], atol=1e-6, rtol=0)


@pytest.mark.filterwarnings("ignore:the 1 kept players do not explain")
def test_a_prediction_that_is_another_without_the_others_is_told():
    def classes(x):  # the three weak ones outvote the strong one together
        return torch.stack([x[:, 0] - 0.5, 0.9 * x[:, 1:].sum(1)], 1)

    players = columns(torch.ones(2, 4))
    with pytest.warns(UserWarning, match=r"another class for 0, 1 of 2 samples: give the methods target=\[1, 1\]"):
        select_players(classes, players, k=1, rest="mask", score="margin")
    select_players(classes, players, k=1, rest="mask", target=1, score="margin")  # who names it knows it
    select_players(classes, players, k=1, rest="keep", score="margin")


def test_nothing_to_explain_has_no_share():
    chosen = select_players(lambda x: 0 * x[:, 0] + 1, columns(torch.ones(1, 3)), k=1, **LOGIT)
    assert math.isnan(chosen.choices[0].explained)
    assert chosen.description["selection"][0]["explained"] is None
    assert "v(N) = v(empty)" in repr(chosen)


def test_the_description_is_kept_and_can_be_written_as_json():
    players = columns(torch.ones(1, 4), feature_mask=torch.tensor([0, 1, 2, 3]))
    chosen = select_players(lambda x: x[:, 1], players, k=1, rest="mask", **LOGIT)
    assert json.loads(json.dumps(chosen.description)) == {
        **players.description,
        "selection": [{"kept": 1, "of": 4, "rest": "mask", "left_out": ["0", "2", "3"], "explained": 1.0}],
    }
    assert "1 of 4 players kept, 100 % of v(N) - v(empty) explained; the others are masked for good: 0, 2, 3" in repr(
        chosen
    )


def test_patches_of_an_image():
    patches = torch.arange(196).reshape(14, 14).repeat_interleave(2, 0).repeat_interleave(2, 1)
    image = torch.ones(1, 3, 28, 28)

    def forward(x):  # patches (2, 3) and (9, 9) together; (13, 0) alone
        return x[:, 0, 4, 6] * x[:, 1, 19, 18] + 0.5 * x[:, 2, 27, 1]

    chosen = select_players(forward, players_from_mask(image, feature_mask=patches), k=3, **LOGIT)
    assert chosen.labels == (("31", "135", "182"),)
    assert chosen.owners[0].stride()[1] == 0  # still one mask for all channels
    found = plain(forward).attribute(chosen)
    assert [(one.players, one.effect) for one in found[0].top(2)] == [(("31", "135"), 1.0), (("182",), 0.5)]
    assert found.attributions().shape == image.shape


@pytest.mark.slow
def test_a_long_sentence_in_one_call(sentiment):
    model, tokenizer = sentiment
    text = (
        "the film has a good cast and a few funny scenes , but the plot is not believable , the dialogue is dull , "
        "and by the end of its two hours i did not care what happened to any of them"
    )
    players = text_players(tokenizer, text)
    assert players.sizes[0] > 40
    before = [p.clone() for p in model.parameters()]
    found = AndOrInteraction(model).attribute(select_players(model, players, k=6), target="predicted")
    assert {"not[2]", "dull", "good"} <= set(found[0].players)  # the sentence has the word twice
    assert found[0].provenance["selection"]["left_out"][:2] == ["the[1]", "film"]
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    with torch.no_grad():
        (z,) = model(**tokenizer(text, return_tensors="pt")).logits
    assert found[0].v_full == pytest.approx(float((z[0] - z[1]).abs()), abs=1e-4)


def test_the_labels_of_a_multi_label_head_are_ranked_each_by_itself():
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    settings_ = {"vocab_size": 50, "num_labels": 3, "initializer_range": 0.5}
    config = BertConfig(**sizes, **settings_, problem_type="multi_label_classification")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertForSequenceClassification(config).eval()
    players = players_from_mask({"input_ids": torch.tensor([[5, 6, 7, 8]])}, 3)
    (choice,) = select_players(model, players, k=2, target=1).choices
    (by_logit,) = select_players(model, players, k=2, target=1, score="logit").choices
    torch.testing.assert_close(choice.strengths, by_logit.strengths, atol=1e-6, rtol=0)
    assert choice.explained == pytest.approx(by_logit.explained, abs=1e-6)


# ---------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"k": 0}, ValueError, "k must be at least 1.*got 0"),
        ({"k": -3}, ValueError, "k must be at least 1.*got -3"),
        ({"k": 2.5}, TypeError, "k must be an int.*got 2.5"),
        ({"k": True}, TypeError, "k must be an int.*got True"),
        ({"rest": "hide"}, ValueError, 'rest must be "keep".*or "mask".*got \'hide\''),
        ({"players": torch.ones(1, 3)}, TypeError, r"players must be Players; got float32 \[1, 3\]"),
        ({"score": "odds"}, ValueError, "score must be one of .*got 'odds'"),
        ({"target": 5}, ValueError, "target must be .*; got 5"),
        ({"perturbations_per_eval": 0}, ValueError, "perturbations_per_eval must be at least 1; got 0"),
        ({"perturbations_per_eval": "4"}, TypeError, "perturbations_per_eval must be an int or None; got '4'"),
    ],
)
def test_arguments_that_do_not_fit(changed, error, said):
    asked = {"players": columns(torch.ones(1, 3)), "k": 2, **LOGIT} | changed
    with pytest.raises(error, match=said):
        select_players(lambda x: x.sum(1), **asked)


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (lambda x: x[:, 0] / x[:, 1:].sum(1), "the value of sample 0 is .*the players .. present"),
        (lambda x: 1 / (x[:, 0] + 0 * x[:, 1]) * x[:, 1], "sample 0 is nan with the players .. present"),
        (lambda x: x[:, 0].log() + 9, "sample 0 is -inf with the players .. present"),
        (
            lambda x: torch.where(x.sum(1) == 2, math.inf, x.sum(1)),
            r"is inf with the players \{b, c\} present",
        ),
        (
            lambda x: torch.where(x[:, 2] * (x.sum(1) == 1) > 0, math.nan, x.sum(1)),
            r"nan with the players \{c\}",
        ),
    ],
)
def test_values_that_are_not_finite(forward, said):
    players = players_from_mask(torch.ones(1, 3), player_names=["a", "b", "c"])
    with pytest.raises(ValueError, match=said):
        select_players(forward, players, k=1, **LOGIT)


def test_probabilities_are_refused_where_logits_are_read():
    with pytest.raises(ValueError, match="probabilit"):
        select_players(lambda x: x.softmax(1), columns(normal(2, 3)), k=1)
    select_players(lambda x: x.softmax(1), columns(normal(2, 3)), k=1, score="logit")


def test_one_value_for_the_whole_batch_is_refused():
    with pytest.raises(ValueError, match=r"one value for the whole batch of 2 samples.*one sample at a time"):
        select_players(lambda x: x.sum(), columns(torch.ones(2, 3)), k=1, **LOGIT)


def test_the_model_is_left_as_it_was_found_also_after_an_error():
    class Interrupted(torch.nn.Linear):
        def forward(self, x):
            assert not self.training
            if len(x) > 2:
                raise KeyboardInterrupt
            return super().forward(x)

    model = Interrupted(3, 1)
    state = torch.get_rng_state()
    with pytest.warns(UserWarning, match="training mode"), pytest.raises(KeyboardInterrupt):
        select_players(model, columns(torch.ones(2, 3)), k=1, **LOGIT)
    assert model.training
    assert torch.equal(state, torch.get_rng_state())
    assert torch.is_grad_enabled()


def test_repeated_words_are_told_apart_everywhere():
    words = ["it", "is", "it", "is", "good", "it"]
    players = players_from_mask(2.0 ** torch.arange(6)[None], player_names=words)
    assert "6 players: it[1] | is[1] | it[2] | is[2] | good | it[3]" in repr(players)
    chosen = select_players(lambda x: x[:, 2] + 3 * x[:, 5], players, k=2, target=None, score="logit")
    assert chosen.labels == (("it[2]", "it[3]"),)  # their places in the sentence, not among the kept
    assert chosen.choices[0].left_out == ("it[1]", "is[1]", "is[2]", "good")
    assert chosen.description["selection"][0]["left_out"] == ["it[1]", "is[1]", "is[2]", "good"]
    lines = repr(chosen).splitlines()
    assert lines[1] == "  sample 0, 2 players: it[2] | it[3]"
    assert lines[2].endswith("the others stay visible: it[1], is[1], is[2], good")
    found = plain(lambda x: x[:, 2] + 3 * x[:, 5]).attribute(chosen)[0]
    assert [(one.players, one.effect) for one in found.top(2)] == [(("it[3]",), 96.0), (("it[2]",), 4.0)]
    with pytest.raises(ValueError, match=r"is inf with the players \{it\[1\], it\[2\]\} present"):
        plain(lambda x: torch.where(x.sum(1) == 5, math.inf, x.sum(1))).attribute(players)


def test_very_many_players_are_refused_before_any_forward():
    forward = Recording(lambda x: x.sum(1))
    with pytest.raises(ValueError, match=r"has 300 players.*603 masked copies.*at most 256.*Group them.*most=300"):
        select_players(forward, columns(torch.ones(1, 300)), k=10, **LOGIT)
    assert not forward.calls
    assert select_players(forward, columns(torch.ones(1, 300)), k=10, most=300, **LOGIT).sizes == (10,)


def test_kept_players_that_explain_less_than_nothing_are_told():
    def pairs(x):  # only all pairs together count; alone each takes a little away
        return 10 * x.prod(1) - x.sum(1) * 0.5

    with pytest.warns(UserWarning, match=r"the 1 kept players do not explain.*sample 0 \(-?\d+ %\).*keep more"):
        select_players(pairs, columns(torch.ones(1, 4)), k=1, rest="mask", **LOGIT)
