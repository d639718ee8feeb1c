"""Sizes of a run, its tasks and pairs of networks, and the readings of the paper that are compared."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["CONVENTIONS", "IOU_ONLY", "PAIRS", "SIZES", "TASKS", "VIEWS", "Size", "TaskSpec", "View", "players_of"]


@dataclass(frozen=True)
class Size:
    """Sizes of a run.

    Attributes:
        name: The name, also of the folder of results.
        samples: The number of explained samples.
        players: The largest number of players of a sample; a task may have fewer.
        rows: The most training samples of a network.
        probe_rows: The most training samples of the probes.
        epochs: A factor of each network's epochs.
        width: The share of each network's full width.
        draws: The number of draws of noise on the inputs.
        noisy_samples: The number of samples that get it.
        ceiling_draws: The number of draws of the noise ceiling.
        resamples: The number of resamples of the bootstrap.
        tasks: The tasks; empty takes all whose data are there.
    """

    name: str
    samples: int
    players: int
    rows: int
    probe_rows: int
    epochs: float
    width: float
    draws: int
    noisy_samples: int
    ceiling_draws: int
    resamples: int = 1000
    tasks: tuple[str, ...] = ()

    def key(self) -> dict[str, Any]:
        """Return the settings that a result depends on."""
        return {name: value for name, value in asdict(self).items() if name not in ("name", "tasks")}


SIZES = {
    size.name: size
    for size in (
        Size("tiny", 3, 4, 200, 200, 0.2, 0.05, 2, 2, 1, 100, ("wine-mlp7",)),
        Size("small", 10, 8, 6000, 1000, 1.0, 0.25, 10, 6, 2),
        Size("full", 100, 12, 1 << 30, 10_000, 4.0, 1.0, 20, 30, 5, 2000),
    )
}


@dataclass(frozen=True)
class TaskSpec:
    """A data set and a network.

    Attributes:
        data: The name of the data set.
        network: The name of the network.
        players: The paper's number of players, for tables that of the columns.
        samples: The paper's number of samples.
        epochs: Of the small run.
        rate: The learning rate.
        scratch: Whether the network is trained here from a random start, so that untrained ones and other seeds exist.
    """

    data: str
    network: str
    players: int
    samples: int
    epochs: float
    rate: float = 2e-3
    scratch: bool = True


TASKS = {
    "mnist-mlp7": TaskSpec("mnist", "mlp7", 10, 100, 8, 1e-3),
    "mnist-vgg11": TaskSpec("mnist", "vgg11", 10, 100, 4),
    "mnist-resnet20": TaskSpec("mnist", "resnet20", 10, 100, 4),
    "fashion-resnet20": TaskSpec("fashion", "resnet20", 10, 100, 5),
    "fashion-resnet32": TaskSpec("fashion", "resnet32", 10, 100, 5),
    "cifar10-mlp7": TaskSpec("cifar10", "mlp7", 12, 30, 20, 1e-3),
    "cifar10-vgg11": TaskSpec("cifar10", "vgg11", 12, 30, 20),
    "cifar10-resnet20": TaskSpec("cifar10", "resnet20", 12, 30, 20),
    "cifar10-resnet32": TaskSpec("cifar10", "resnet32", 12, 30, 20),
    "cancer-mlp7": TaskSpec("cancer", "mlp7", 10, 100, 40, 1e-3),
    "wine-mlp7": TaskSpec("wine", "mlp7", 10, 100, 60, 1e-3),
    "census-mlp7": TaskSpec("census", "mlp7", 10, 100, 20, 1e-3),
    "commercials-mlp7": TaskSpec("commercials", "mlp7", 10, 100, 20, 1e-3),
    "movies-minilm": TaskSpec("movies", "minilm", 10, 50, 0, scratch=False),
    "movies-distilbert": TaskSpec("movies", "distilbert", 10, 50, 3, 3e-4),
    "movies-bert": TaskSpec("movies", "bert", 10, 50, 3, 3e-4),
    "movies-xlnet": TaskSpec("movies", "xlnet", 10, 50, 3, 3e-4),
    "sst2-distilbert": TaskSpec("sst2", "distilbert", 10, 50, 2, 5e-5),
    "sst2-bert": TaskSpec("sst2", "bert", 10, 50, 2, 5e-5),
    "sst2-xlnet": TaskSpec("sst2", "xlnet", 10, 50, 2, 5e-5),
}

IOU_ONLY = ("resnet32", "xlnet")
"""Networks that the paper compares with others, and whose layers it does not read."""

PAIRS = (
    ("mnist-mlp7", "mnist-resnet20"),
    ("mnist-vgg11", "mnist-resnet20"),
    ("fashion-resnet20", "fashion-resnet32"),
    ("cifar10-mlp7", "cifar10-resnet20"),
    ("cifar10-resnet20", "cifar10-resnet32"),
    ("cancer-mlp7", "cancer-mlp7@1"),
    ("wine-mlp7", "wine-mlp7@1"),
    ("census-mlp7", "census-mlp7@1"),
    ("commercials-mlp7", "commercials-mlp7@1"),
    ("movies-minilm", "movies-distilbert"),
    ("movies-distilbert", "movies-xlnet"),
    ("movies-bert", "movies-xlnet"),
    ("sst2-distilbert", "sst2-xlnet"),
    ("sst2-bert", "sst2-xlnet"),
)
"""Pairs of networks for one task; ``@1`` is the same network from another start."""


def players_of(spec: TaskSpec, size: Size) -> int:
    """Return the number of players of a task."""
    return min(spec.players, size.players)


CONVENTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "default, free ends": {"pin_ends": False},
    "the paper's program": {"order_weight": 0.0, "or_weight": 1.0, "ridge": 0.0, "pin_ends": False},
    "its program, pinned ends": {"order_weight": 0.0, "or_weight": 1.0, "ridge": 0.0},
    "kappa 0.03": {"noise": 0.03},
    "kappa 0.05": {"noise": 0.05},
}
"""Options of the decomposition by name."""


@dataclass(frozen=True)
class View:
    """A convention of the decomposition with a reading of the comparison.

    Attributes:
        convention: A name in :data:`CONVENTIONS`.
        refit: Whether salient effects are fitted anew.
        options: Of :meth:`captum_lkn.KnowledgeChange.compare`.
        kind: 0 takes AND effects alone, 1 OR effects, None both.
    """

    convention: str = "default"
    refit: bool = False
    options: tuple[tuple[str, Any], ...] = ()
    kind: int | None = None


VIEWS = {
    "default": View(),
    "the paper's program": View("the paper's program"),
    "its program, pinned ends": View("its program, pinned ends"),
    "refit": View(refit=True),
    "free ends": View("default, free ends"),
    "threshold per sample": View(options=(("scope", "sample"),)),
    "Eq. 6 literal": View(options=(("literal_eq6", True),)),
    "mean of ratios": View(options=(("ratio", "mean"),)),
    "AND alone": View(kind=0),
    "OR alone": View(kind=1),
}
"""The readings that are compared. The first decides the verdict, the others tell what it depends on."""
