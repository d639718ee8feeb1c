"""The state of a model that an explanation must leave as it was."""

import torch


def state_of(net):
    """All that must not change: flags, weights, buffers, hooks, gradients."""
    return {
        "training": [module.training for module in net.modules()],
        "hooks": [
            len(hooks)
            for module in net.modules()
            for name, hooks in vars(module).items()
            if "hooks" in name and isinstance(hooks, dict)
        ],
        "requires_grad": [p.requires_grad for p in net.parameters()],
        "grad": [p.grad for p in net.parameters()],
        "tensors": [(name, t.clone(), t.dtype, t.device, t.data_ptr()) for name, t in net.state_dict().items()],
        "attributes": [sorted(vars(module)) for module in net.modules()],
    }


def assert_unchanged(before, net):
    after = state_of(net)
    for (name, tensor, *rest), (other, now, *others) in zip(before.pop("tensors"), after.pop("tensors"), strict=True):
        assert (name, rest) == (other, others)
        assert torch.equal(tensor, now)
    assert before == after
