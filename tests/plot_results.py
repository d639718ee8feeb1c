"""Results made by hand, whose pictures do not depend on a solver or on its options."""

from dataclasses import replace

import torch

from captum_lkn import Interactions, InteractionsBatch, KnowledgeChange
from captum_lkn.decomposition.effects import Effects
from captum_lkn.interactions import InputLayout
from captum_lkn.knowledge import NoiseCeiling

WORDS = ("not", "a", "single", "good", "scene")
OUTPUT = [
    ("and", (0,), 2.2), ("and", (0, 3), 2.0), ("and", (3,), -1.1), ("or", (0, 3), -1.0), ("and", (2,), 0.5),
    ("or", (0, 2), 0.4), ("and", (0, 3, 4), 0.35), ("and", (0, 1), 0.3), ("and", (0, 4), 0.25), ("and", (4,), -0.2),
    ("and", (0, 1, 2, 3), -0.15), ("or", (1, 2, 4), 0.1), ("and", (1, 2), -0.05), ("and", (2, 3), 0.04),
]  # fmt: skip
CLASSES = ("negative (0)", "positive (1)")
ABOUT = {"unit": "log-odds", "score": "log_odds", "explained": "negative (0)", "predicted": True}


def found_of(words, effects, constant=-0.8, **about):
    made = Effects.of(len(words), effects, constant=constant)
    return Interactions(tuple(words), made, made.reconstruction, kappa=0.0, gap=0.0, provenance=ABOUT | about)


def scaled(effects, *factors):
    """Return the effects, the first ones times their factors; the others are left out."""
    return [(kind, members, effect * f) for (kind, members, effect), f in zip(effects, factors, strict=False)]


def scaled_effects(effects, factor):
    """Return the effects, those of one player times a factor and the others times its square."""
    return replace(effects, values=effects.values * torch.where(effects.orders == 1, factor, factor**2))


def sentence():
    return found_of(WORDS, OUTPUT, text="not a single good scene")


def batch():
    texts = {
        "not a good film": [("and", (0,), 1.5), ("and", (0, 2), 2.5), ("and", (2,), -1.5), ("or", (0, 2), -0.5)],
        "not one good joke": [("and", (0,), 1.0), ("and", (0, 2), 1.5), ("and", (2,), -1.0), ("and", (3,), -0.2)],
        "a good film": [("and", (1,), -2.0), ("and", (2,), -0.1), ("or", (1, 2), -0.4)],
        "a dull film": [("and", (1,), 2.4), ("and", (1, 2), 0.4)],
        "not dull": [("and", (0,), -0.9), ("and", (0, 1), -2.6), ("and", (1,), 1.7)],
        "good and good": [("and", (0,), -1.2), ("and", (2,), -1.1), ("or", (0, 2), 0.4)],
    }
    return InteractionsBatch(
        found_of(text.split(), effects, 0.1, text=text, explained=CLASSES[place % 2])
        for place, (text, effects) in enumerate(texts.items())
    )


def change(ceiling=False):
    own = [("and", (1, 3), 1.0), ("or", (1, 4), -0.8)]
    layers = {
        "encoder.0": [*scaled(OUTPUT, 0.9, 0.1, 1.2), *own],
        "encoder.1": [*scaled(OUTPUT, 0.8, 0.3, 1.1, 0.2, 1.5), *scaled(own, 0.7, 1.0)],
        "encoder.2": [*scaled(OUTPUT, 3.0, 2.6, 4.5, -2.0), *scaled(own, 2.0), ("and", (3, 4), -2.5)],
        "encoder.3": scaled(OUTPUT, 1.1, 1.2, 1.0, 0.9, 0.8, 0.5, 1.0),
        "output": OUTPUT,
    }
    constants = {"encoder.2": -2.0}
    made = KnowledgeChange(
        {
            label: InteractionsBatch([found_of(WORDS, effects, constants.get(label, -0.8), layer=label)])
            for label, effects in layers.items()
        }
    )
    if not ceiling:
        return made
    shaken = {
        label: (tuple(scaled_effects(batch[0].effects, factor) for factor in (0.8, 1.15)),)
        for label, batch in made.interactions.items()
    }
    return replace(made, noise_ceiling=NoiseCeiling(shaken, seed=0, value_noise=None, jitter=0.0))


PICTURE = torch.linspace(0, 1, 3 * 12 * 12).reshape(3, 12, 12).roll(5, 2)


def quarters():
    """Return interactions of the quarters of a picture of 12 x 12 pixels."""
    rows = torch.arange(12)[:, None] // 6 * 2 + torch.arange(12) // 6
    layout = InputLayout((rows.expand(3, 12, 12),), False, (torch.float32,), torch.device("cpu"))
    found = found_of(["top left", "top right", "low left", "low right"], [
        ("and", (0,), 1.5), ("and", (0, 3), -1.0), ("or", (1, 3), 0.8), ("or", (0, 1, 2, 3), -0.5),
    ])  # fmt: skip
    return replace(found, layout=layout)
