"""Masked evaluation the plain way, and forward functions that remember their calls."""

import functools

import torch

from captum_lkn import AndOrInteraction


def naive_table(value, inputs, baselines, ids, sample):
    """v(T) for all T of one sample: scalar by scalar, row by row. `value` takes one row, a tensor an input."""
    own = sorted({int(i) for mask in ids for i in mask[sample].reshape(-1)} - {-1})
    table = []
    for subset in range(2 ** len(own)):
        present = {player for bit, player in enumerate(own) if subset >> bit & 1}
        rows = []
        for x, baseline, mask in zip(inputs, baselines, ids, strict=True):
            row = x[sample].clone().reshape(-1)
            for k, player in enumerate(mask[sample].reshape(-1).tolist()):
                if player != -1 and player not in present:
                    row[k] = baseline[sample].reshape(-1)[k]
            rows.append(row.reshape(1, *x[sample].shape))
        table.append(float(value(*rows)))
    return torch.tensor(table, dtype=torch.float64)


def data_parallel(module):
    """``DataParallel`` around a module on the CPU, also on a machine with GPUs, to which it would move the module."""
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    wrapper = torch.nn.DataParallel(module)
    wrapper.device_ids = []  # as on a machine without one: the module itself is called
    module.to(device)
    return wrapper


def plain(forward, **settings):
    """Interactions that need no solver: for tests of what comes before it."""
    return AndOrInteraction(forward, **{"score": "logit", "kind": "and", "noise": 0} | settings)


def assert_tables(found, expected):
    assert len(found) == len(expected)
    for one, table in zip(found, expected, strict=True):
        assert one.values.dtype == torch.float64
        torch.testing.assert_close(one.values, table, atol=1e-5, rtol=1e-5)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Recording:
    """A forward function that remembers its calls."""

    def __init__(self, forward):
        self.forward, self.calls = forward, []

    def __call__(self, *args, **kwargs):
        first = next(value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor))
        self.calls.append((args, kwargs, first.clone()))
        return self.forward(*args, **kwargs)

    @property
    def rows(self):
        return [len(first) for *_, first in self.calls]

    def masked_forwards(self, x):
        """The calls with anything else than rows of `x` as they are."""
        return [first for *_, first in self.calls if not all(any(torch.equal(row, own) for own in x) for row in first)]


def record(model):
    """The calls of a model's forward, whose signature stays what it was."""
    calls, forward = [], model.forward

    @functools.wraps(forward)
    def recording(*args, **kwargs):
        calls.append((args, kwargs))
        return forward(*args, **kwargs)

    model.forward = recording
    return calls
