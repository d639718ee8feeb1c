"""Models that are no transformers: tables with columns, several inputs, recurrent networks."""

import pytest
import torch
from forwards import assert_tables, naive_table, normal, plain
from sklearn.datasets import load_breast_cancer
from torch import nn

from captum_lkn import AndOrInteraction, LayerAndOrInteraction, players_from_mask


def tables_by_hand(value, inputs, baselines, masks):
    """`value` takes a row of each input."""
    with torch.no_grad():
        filled = [torch.as_tensor(b).expand_as(x) for b, x in zip(baselines, inputs, strict=True)]
        ids = [mask.expand(x.shape) for mask, x in zip(masks, inputs, strict=True)]
        return [naive_table(value, inputs, filled, ids, b) for b in range(len(inputs[0]))]


# ---------------------------------------------------------------- a table with columns


@pytest.fixture(scope="module")
def tumours():
    """Breast cancer, standardised, and a network that has learnt it; ten measures in three variants each."""
    data = load_breast_cancer()
    x = torch.tensor(data.data).float()
    x = (x - x.mean(0)) / x.std(0)
    y = torch.tensor(data.target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
        optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(60):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimiser.step()
    names = [str(name).removeprefix("mean ") for name in data.feature_names[:10]]
    return net.eval(), x, y, names


def test_columns_by_measure(tumours):
    """A measure with its mean, error and worst value is one player."""
    net, x, y, names = tumours
    assert float((net(x).argmax(1) == y).float().mean()) > 0.95
    rows, measures = x[:2], torch.arange(10).repeat(3)[None]
    found = AndOrInteraction(net).attribute(
        rows, 0.0, y[:2], feature_mask=measures, player_names=names, perturbations_per_eval=100
    )

    def log_odds(row, b):
        z = net(row)[0].double()
        return z[y[b]] - z[1 - y[b]]

    for b, one in enumerate(found):
        table = tables_by_hand(lambda row, b=b: log_odds(row, b), (rows,), (0.0,), (measures,))[b]
        torch.testing.assert_close(one.values, table, atol=1e-5, rtol=1e-5)
        assert one.players == tuple(names)
        assert one.residual <= one.kappa + 1e-9
    shares = found.attributions()
    assert shares.shape == rows.shape
    torch.testing.assert_close(shares[:, :10], shares[:, 20:])  # all columns of a measure bear its value


def test_a_layer_of_a_network_of_columns(tumours):
    net, x, _, _ = tumours
    readout, measures = nn.Linear(16, 2), torch.arange(10).repeat(3)[None] % 4
    method = LayerAndOrInteraction(net, ["1", "output"], probe={"1": readout}, score="logit", kind="and", noise=0)
    found = method.attribute(x[:2], 0.0, 1, feature_mask=measures)
    at_layer = tables_by_hand(lambda row: readout(net[:2](row))[0, 1], (x[:2],), (0.0,), (measures,))
    assert_tables(found["1"], at_layer)
    assert_tables(found["output"], tables_by_hand(lambda row: net(row)[0, 1], (x[:2],), (0.0,), (measures,)))


# ---------------------------------------------------------------- several inputs


class Product(nn.Module):
    """Users and things, as recommenders have them: ids, a vector, and what their embeddings say together."""

    def __init__(self):
        super().__init__()
        self.users, self.things = nn.Embedding(5, 4), nn.Linear(3, 4)
        self.head = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))

    def forward(self, user, thing):
        return self.head(self.users(user).mean(1) * self.things(thing)).squeeze(1)


def test_a_module_with_two_inputs_of_two_kinds():
    net = Product().eval()
    inputs = (torch.tensor([[1, 2], [3, 4]]), normal(2, 3))
    baselines, masks = (0, 0.5), (torch.tensor([[0, 1]]), torch.tensor([[2, 0, 3]]))  # player 0 is in both
    found = plain(net).attribute(inputs, baselines, feature_mask=masks)
    assert_tables(found, tables_by_hand(lambda user, thing: net(user, thing)[0], inputs, baselines, masks))
    assert tuple(part.shape for part in found.attributions()) == ((2, 2), (2, 3))


def test_a_layer_of_a_module_with_two_inputs():
    net, readout = Product().eval(), nn.Linear(6, 1)
    inputs, baselines = (torch.tensor([[1, 2], [3, 4]]), normal(2, 3)), (0, 0.5)
    masks = (torch.tensor([[0, 1]]), torch.tensor([[2, 0, 3]]))
    method = LayerAndOrInteraction(net, "head.1", probe=readout, score="logit", kind="and", noise=0)

    def value(user, thing):
        return readout(net.head[:2](net.users(user).mean(1) * net.things(thing)))[0, 0]

    assert_tables(
        method.attribute(inputs, baselines, feature_mask=masks), tables_by_hand(value, inputs, baselines, masks)
    )


def test_inputs_by_keyword():
    net = Product().eval()
    inputs = (torch.tensor([[1, 2], [3, 4]]), normal(2, 3))
    players = players_from_mask({"thing": inputs[1], "user": inputs[0]}, 0.5, torch.tensor([[0, 1, 1]]))
    found = plain(net).attribute(players)  # only what floats is masked
    one_thing = torch.tensor([[0, 1, 1]])
    tables = [
        tables_by_hand(lambda t, b=b: net(inputs[0][b : b + 1], t)[0], (inputs[1],), (0.5,), (one_thing,))[b]
        for b in range(2)
    ]
    assert_tables(found, tables)


# ---------------------------------------------------------------- recurrent networks


class Recurrent(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.words = nn.Embedding(20, 6)
        self.lstm = nn.LSTM(6, 5, batch_first=True, **settings)
        self.head = nn.Linear(5, 3)

    def states(self, ids):
        return self.lstm(self.words(ids))[0]

    def forward(self, ids):
        return self.head(self.states(ids)[:, -1])


@pytest.mark.parametrize("settings", [{}, {"num_layers": 2, "dropout": 0.5}])
def test_an_lstm(settings):
    net, ids = Recurrent(**settings).eval(), torch.tensor([[1, 2, 3, 4], [9, 8, 7, 6]])
    steps = torch.tensor([[0, 1, 2, -1]])
    found = plain(net, score="log_odds").attribute(ids, 0, 2, feature_mask=steps, perturbations_per_eval=3)

    def value(row):
        p = net(row)[0].double().softmax(0)[2]
        return (p / (1 - p)).log()

    assert_tables(found, tables_by_hand(value, (ids,), (0,), (steps,)))


@pytest.mark.parametrize("pool", ["last", "mean"])
def test_a_layer_of_an_lstm(pool):
    from captum_lkn.models.layers import Layer

    net, ids = Recurrent().eval(), torch.tensor([[1, 2, 3, 4], [9, 8, 7, 6]])
    steps, readout = torch.tensor([[0, 1, 2, -1]]), nn.Linear(5, 3)
    layer = Layer("lstm", pool=pool)
    found = LayerAndOrInteraction(net, layer, probe=readout, score="logit", kind="and", noise=0).attribute(
        ids, 0, 2, feature_mask=steps
    )

    def value(row):
        states = net.states(row)
        return readout(states[:, -1] if pool == "last" else states.mean(1))[0, 2]

    assert_tables(found, tables_by_hand(value, (ids,), (0,), (steps,)))
