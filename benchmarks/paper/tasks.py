"""A data set and a network: what is explained, by which layers, and with which probes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.paper import networks, texts
from benchmarks.paper.data import Rows, Sentences, load
from benchmarks.paper.settings import TASKS, TaskSpec, players_of
from benchmarks.paper.store import Store
from benchmarks.paper.training import accuracy, batches_of, train
from captum_lkn import LinearProbes, Players, image_players, players_as_embeddings, table_players, text_players
from captum_lkn.models.layers import find_layers
from captum_lkn.models.model import Model
from captum_lkn.probes import MEMORY_LIMIT
from captum_lkn.probes.features import FeatureStore, read_features
from captum_lkn.probes.labelled import labelled_batches

__all__ = ["Task"]

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
_INK = 0.15
"""Patches that are brighter on average are foreground."""
_BATCH = 64
_MOST_TOKENS = 64
_TESTED = 1000
"""The most test samples of which the accuracy is measured."""


@dataclass
class Task:
    """A task of a run.

    Attributes:
        name: A name in :data:`benchmarks.paper.settings.TASKS`; ``@1`` behind it takes another start of training.
        store: The files of the run.
    """

    name: str
    store: Store

    def __post_init__(self) -> None:
        base, _, seed = self.name.partition("@")
        self.spec: TaskSpec = TASKS[base]
        self.seed = int(seed or 0)
        self.data: Rows | Sentences = load(self.spec.data)
        known = networks.LAYERS.get(self.spec.network) or texts.LAYERS[self.spec.network]
        self.layers: list[str] = list(known)

    @property
    def size(self) -> Any:
        """The size of the run."""
        return self.store.size

    @property
    def is_text(self) -> bool:
        """True if the samples are sentences."""
        return isinstance(self.data, Sentences)

    # ------------------------------------------------------------ the network

    def build(self, seed: int, *, random: bool = False) -> nn.Module:
        """Make the network before training; `random` also replaces weights that come with it."""
        if isinstance(self.data, Sentences):
            return texts.build_text(self.spec.network, self.tokenizer, self.size.width, seed, random=random).to(DEVICE)
        classes = int(self.data.train_labels.max()) + 1
        shape = self.data.train.shape[1:]
        return networks.build(self.spec.network, shape, classes, self.size.width, seed).to(DEVICE)

    @cached_property
    def model(self) -> Any:
        """The trained network, in eval mode."""
        model = self.build(self.seed)
        if self.spec.epochs == 0:  # it comes trained
            return model
        epochs = max(1, round(self.spec.epochs * self.size.epochs))
        path = self.store.work / f"{self.name}.pt"
        return train(model, self._training, epochs, self.spec.rate, path, device=DEVICE)

    def accuracy(self) -> float:
        """Return the share of right answers on the test set."""
        return accuracy(self.model, self._batches(*self._test, seed=None))

    # ------------------------------------------------------------ batches

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of a network for sentences."""
        return texts.tokenizer_for(self.spec.network, self.size.width)

    @property
    def _train(self) -> tuple[Any, Tensor]:
        if isinstance(self.data, Sentences):
            return [text for text, _ in self.data.train], torch.tensor([label for _, label in self.data.train])
        return self.data.train, self.data.train_labels

    @property
    def _test(self) -> tuple[Any, Tensor]:
        if isinstance(self.data, Sentences):
            test = self.data.test[:_TESTED]
            return [text for text, _ in test], torch.tensor([label for _, label in test])
        return self.data.test[:_TESTED], self.data.test_labels[:_TESTED]

    def _training(self, epoch: int) -> Iterator[tuple[Any, Tensor]]:
        x, y = self._train
        return self._batches(x[: self.size.rows], y[: self.size.rows], seed=1000 * self.seed + epoch)

    def _batches(self, x: Any, y: Tensor, seed: int | None) -> Iterator[tuple[Any, Tensor]]:
        if not self.is_text:
            yield from batches_of(x, y, _BATCH, seed)
            return
        order = torch.arange(len(y))
        if seed is not None:
            order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
        for rows in order.split(_BATCH // 2):
            yield self._encoded([x[i] for i in rows.tolist()]), y[rows]

    def _encoded(self, sentences: list[str]) -> Any:
        return self.tokenizer(sentences, padding=True, truncation=True, max_length=_MOST_TOKENS, return_tensors="pt")

    def probe_batches(self, *, shuffle_labels: bool = False) -> list[Any]:
        """Return labelled batches of the training set for the probes, with shuffled labels as a control."""
        x, y = self._train
        x, y = x[: self.size.probe_rows], y[: self.size.probe_rows]
        if shuffle_labels:
            y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
        return self._labelled(x, y)

    def _labelled(self, x: Any, y: Tensor) -> list[Any]:
        batches = list(self._batches(x, y, seed=None))
        if self.is_text:
            return [{**{k: v.to(DEVICE) for k, v in x.items()}, "labels": y.to(DEVICE)} for x, y in batches]
        return [(x.to(DEVICE), y.to(DEVICE)) for x, y in batches]

    def probes(self, model: Any = None, *, shuffle_labels: bool = False) -> LinearProbes:
        """Fit the probes of the layers, of the trained network unless another is given."""
        path = self.store.work / f"{self.name}.probes.safetensors"
        own = model is None and not shuffle_labels
        if own and path.exists():
            return LinearProbes.load(path)
        batches = self.probe_batches(shuffle_labels=shuffle_labels)
        found = LinearProbes.fit(self.model if model is None else model, self.layers, batches)
        if own:
            found.save(path)
        return found

    def probe_accuracy(self) -> list[float]:
        """Return the share of right answers of each probe on the test set, which neither they nor the network saw."""
        probes, model = self.probes(), Model(self.model)
        layers = find_layers(model, self.layers)
        batches = labelled_batches(model, self._labelled(*self._test), _BATCH)
        with FeatureStore(len(layers), MEMORY_LIMIT) as features:
            labels, _ = read_features(model, layers, batches, features)
            return [
                float((probe.predict(rows) == labels).double().mean())
                for probe, rows in zip(probes.values(), features.tensors(), strict=True)
            ]

    # ------------------------------------------------------------ samples and players

    @cached_property
    def samples(self) -> tuple[list[Players], list[int]]:
        """The explained samples of the test set with their true classes; the same for all networks of the data."""
        wanted = min(self.size.samples, self.spec.samples)
        n = players_of(self.spec, self.size)
        if isinstance(self.data, Sentences):
            return self._sentences(self.data, n, wanted)
        x, y = self.data.test[:wanted], self.data.test_labels[:wanted]
        baseline = self.data.train.mean(0)
        if self.data.columns is not None:
            names = [f"x{i}" for i in range(x.shape[1])]
            chosen = {label: [names[i] for i in members] for label, members in list(self.data.columns.items())[:n]}
            players = [
                table_players(one[None].to(DEVICE), baseline.to(DEVICE), columns=chosen, names=names, show_values=False)
                for one in x
            ]
        else:
            generator = torch.Generator().manual_seed(0)
            patch = 4 if x.shape[-1] == 32 else 3
            players = [
                image_players(
                    one[None].to(DEVICE),
                    patch_size=patch,
                    baseline=baseline.to(DEVICE),
                    foreground=_foreground(one, patch, n, generator),
                )
                for one in x
            ]
        return players, y.tolist()

    def _sentences(self, data: Sentences, n: int, wanted: int) -> tuple[list[Players], list[int]]:
        """Take the sentences of so many words; punctuation stays visible."""
        players, labels = [], []
        for text, label in data.test:
            if not n <= len(text.split()) <= n + 4:
                continue
            one = text_players(self.tokenizer, text, punctuation=False, device=DEVICE)
            if len(one.labels[0]) == n:
                players.append(one)
                labels.append(label)
            if len(players) == wanted:
                break
        return players, labels

    def noisy_samples(self) -> tuple[list[Players], list[int], float]:
        """Return samples whose inputs can get noise, their classes, and the standard deviation of the noise."""
        players, labels = self.samples
        some, classes = players[: self.size.noisy_samples], labels[: self.size.noisy_samples]
        if not self.is_text:
            return some, classes, 0.02
        embedded = [players_as_embeddings(self.model, one, self.tokenizer.mask_token_id) for one in some]
        weights = self.model.get_input_embeddings().weight
        return embedded, classes, float(f"{0.08 * float(weights.detach().std()):.2g}")


def _foreground(image: Tensor, patch: int, n: int, generator: torch.Generator) -> list[str]:
    """Choose n patches of the foreground at random; of a colour image those of its centre."""
    pooled = nn.functional.avg_pool2d(image.mean(0, keepdim=True)[None], patch, ceil_mode=True)[0, 0]
    rows, columns = pooled.shape
    if len(image) == 3:
        candidates = [(r, c) for r in range(1, rows - 1) for c in range(1, columns - 1)]
    else:
        order = pooled.flatten().argsort(descending=True).tolist()
        bright = [place for place in order if pooled.flatten()[place] > _INK]
        candidates = [divmod(place, columns) for place in (bright if len(bright) >= n else order[:n])]
    chosen = torch.randperm(len(candidates), generator=generator)[:n].tolist()
    return [f"r{candidates[i][0]}c{candidates[i][1]}" for i in sorted(chosen)]
