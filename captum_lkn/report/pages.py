"""Reports of each kind of result."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from torch import Tensor

from captum_lkn._common.formats import shortened
from captum_lkn._common.html import Html, element
from captum_lkn._common.messages import count_of, kind_of
from captum_lkn.interactions import Interactions, InteractionsBatch
from captum_lkn.interactions.about import About, class_line
from captum_lkn.interactions.ranges import EffectRanges
from captum_lkn.interactions.rendering import BATCH_TEXTS, batch_rows, certificate_lines
from captum_lkn.knowledge import KnowledgeChange, rendering
from captum_lkn.plot.accessors import CHANGE, INTERACTIONS, INTERACTIONS_BATCH
from captum_lkn.plot.canvas import Picture
from captum_lkn.plot.depth import depth_of
from captum_lkn.report.explorer import Sample, cell, explorer, panels
from captum_lkn.report.figures import figure
from captum_lkn.report.page import check_page, page, section, sortable, write_page
from captum_lkn.report.regions import is_image

__all__ = ["LARGEST", "report_batch", "report_change", "report_sample"]

LARGEST: Final = 150_000
"""Bytes of a page without the user's images: pictures that would make it larger are left out, the last ones first."""

_ROWS = 60  # interactions of one sample
_ALL_ROWS = 160  # of all samples together
_FEWEST = 8
_EXPLORED = 24  # samples whose interactions are shown
_LISTED = 200  # samples in the table
_TEXT = 160  # columns of a text there
_FRAME = 800  # bytes around the sections


class _Drawing(NamedTuple):
    name: str
    draw: Callable[[], Picture]
    caption: str


def report_sample(
    found: Interactions,
    path: str | os.PathLike[str],
    *,
    image: Tensor | None = None,
    ranges: EffectRanges | None = None,
) -> None:
    """Write a page about one sample: its words or image, its interactions as a table, and pictures.

    The page is one file that loads nothing, so that it can be sent and kept. Rows of the table sort and filter, and one
    that is pointed at lights up its words or parts of the image. It has at most 150 KB without the image.

    Args:
        found: The interactions.
        path: The file, which must end in ``.html`` or ``.htm``; an older one is replaced.
        image: The image that was explained, ``[C, H, W]``: uint8, or floating of any range. None shows the outlines of
            its parts alone.
        ranges: What :meth:`Interactions.effect_ranges` gave, for two more columns.

    Raises:
        OSError: The file cannot be written.
        TypeError: `image` is not a tensor.
        ValueError: `path` has another ending, or `image` does not fit the interactions.

    Example:
        >>> import pathlib, tempfile, torch
        >>> from captum_lkn import decompose
        >>> v = torch.tensor([0.5, 0.5, 2.0, -1.0], dtype=torch.float64)
        >>> found = Interactions.from_decomposition(("not", "good"), v, decompose(v, noise=0.0, kind="and"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "found.html")
        ...     found.report(file)
        ...     "not &amp; good" in file.read_text(encoding="utf-8")
        True
    """
    check_page(path)
    sample = Sample({"output": found}, _checked(image), ranges)
    about, contents = found.about, found.contents(0)
    salient, *certificate = certificate_lines(contents)
    name, _, count = salient.partition(": ")
    unit = found.provenance.get("unit")
    score = f"{contents.ends[0]} \u2192 {contents.ends[1]}{f' {unit}' if unit else ''}"
    known = [
        *_question(about),
        ("score, v(\u2205) \u2192 v(N)", score),
        *about.origin,
        (name, count),
        ("exactness", " ".join(certificate)),
    ]
    parts = [explorer([sample], ["output"], _ROWS)]
    if is_image(found):
        parts.append(section("The strongest interactions", panels(found, sample.image, "image-0")))
    drawings = [_Drawing(name, _call(INTERACTIONS[name], found), text) for name, text in _OF_SAMPLE.items()]
    title = about.text or ", ".join(found.labels)
    kind = f"Interactions of {count_of(found.n_players, 'player')}"
    _write(path, kind, title, known, parts, drawings[is_image(found) :])


def report_batch(
    batch: InteractionsBatch, path: str | os.PathLike[str], *, images: Tensor | Sequence[Tensor] | None = None
) -> None:
    """Write a page about several samples: a table of them, their interactions, and pictures over the data set.

    Args:
        batch: The interactions.
        path: As in :func:`report_sample`.
        images: The image of each sample.

    Raises:
        OSError: As there, like all others.
        TypeError: An image is not a tensor.
        ValueError: There are not as many images as samples.
    """
    check_page(path)
    if len(batch) == 1:
        report_sample(batch[0], path, image=_images(images, 1)[0])
        return
    each = _images(images, len(batch))
    samples = [Sample({"output": one}, image) for one, image in zip(batch, each, strict=True)][:_EXPLORED]
    parts = [_sample_table(batch), explorer(samples, ["output"], _count(samples))]
    drawings = [_Drawing(name, _call(INTERACTIONS_BATCH[name], batch), text) for name, text in _OF_BATCH.items()]
    kind, title = "Interactions of a data set", count_of(len(batch), "sample")
    _write(path, kind, title, [*_shared([one.about for one in batch])], parts, drawings)


def report_change(
    change: KnowledgeChange, path: str | os.PathLike[str], *, images: Tensor | Sequence[Tensor] | None = None
) -> None:
    """Write a page about layers, or other states: what each knows of the reference, with a slider over them.

    Args:
        change: The comparison.
        path: As in :func:`report_sample`.
        images: As in :func:`report_batch`.

    Raises:
        OSError: As there, like all others.
        TypeError: An image is not a tensor.
        ValueError: There are not as many images as samples.
    """
    check_page(path)
    depth, contents = depth_of(change), change.contents()
    notes = _state_notes(change)
    drawn = change.salient(change.reference) if change.noise_ceiling else []
    samples = [
        Sample(
            {label: change.interactions[label][place] for label in depth.labels},
            image,
            frequencies={one[:2]: one.selection_frequency or 0.0 for one in (drawn[place] if drawn else ())},
            notes=notes,
        )
        for place, image in enumerate(_images(images, change.n_samples)[:_EXPLORED])
    ]
    batch = change.interactions[change.reference]
    known = [
        *_shared(contents.about),
        ("compared with", change.reference),
        ("comparison", rendering.options_line(contents)),
    ]
    flow, *others = [_Drawing(name, _call(CHANGE[name], change), text) for name, text in _OF_CHANGE.items()]
    parts = [
        section(f"From {change.noun} to {change.noun}", figure(*flow)),
        *([_sample_table(batch)] if len(batch) > 1 else []),
        explorer(samples, list(depth.names), _count(samples), change.noun),
        _change_tables(contents),
    ]
    title = count_of(len(batch), "sample") if len(batch) > 1 else batch[0].about.text or "One sample"
    kind = f"{count_of(len(change), change.noun)} against {depth.reference}"
    _write(path, kind, title, known, parts, others)


# ---------------------------------------------------------------- pictures

_OF_SAMPLE: Final = {
    "sentence": "Words that act together: AND effects above the words, OR effects below.",
    "waterfall": "From the score without players to that of the sample, effect by effect; the steps add up exactly.",
    "upset": "The strongest effects of any order: a column is an effect, a row a player.",
    "strength": "Sums of effects by order.",
    "fidelity": "Outputs that the strongest effects alone reproduce.",
    "network": "Players and their pairs.",
}
_OF_BATCH: Final = {
    "summary": "Combinations over all samples: mean, spread, and share of samples.",
    "beeswarm": "The same, sample by sample.",
    "bars": "The same, by class.",
}
_OF_CHANGE: Final = {
    "flow": "What each state shares with the reference fills the box; what the reference does not use hangs below. "
    "Rows are interactions that stay or are forgotten.",
    "completeness": "Completeness and redundancy, by order.",
    "heatmap": "The strongest interactions at every state, in units of the score.",
    "matrix": "Knowledge that any two states share.",
}


def _call(draw: Callable[..., Picture], result: object) -> Callable[[], Picture]:
    return lambda: draw(result)


def _figures(drawings: Sequence[_Drawing], room: int) -> Html:
    """Return the pictures that fit into so many bytes, in a section; nothing where none does."""
    made: list[Html] = []
    for one in drawings:
        html = figure(one.name, one.draw, one.caption)
        if room > (size := len(html.encode())):
            made.append(html)
            room -= size
    return section("Pictures", *made) if made else Html()


def _write(
    path: str | os.PathLike[str],
    kind: str,
    title: str,
    known: Sequence[tuple[str, str]],
    parts: Sequence[Html],
    drawings: Sequence[_Drawing],
) -> None:
    """Write a page with as many pictures as there is room for."""
    bare = page(kind, title, known, parts)
    images = sum(_size_of_image(part) for part in parts)
    room = LARGEST - (len(bare.encode()) - images) - _FRAME
    write_page(path, page(kind, title, known, [*parts, _figures(drawings, room)]))


def _size_of_image(part: str) -> int:
    return sum(len(piece.partition('"')[0]) for piece in part.split('href="data:image/')[1:])


# ---------------------------------------------------------------- tables and facts


def _sample_table(batch: InteractionsBatch) -> Html:
    shown = batch_rows([one.contents(1) for one in batch[:_LISTED]])
    rows = [
        element("tr", *(_sample_cell(place, name, text) for name, text in zip(shown, cells, strict=True)))
        for place, cells in enumerate(zip(*shown.values(), strict=True))
    ]
    title = f"{count_of(len(batch), 'sample')}{f', the first {_LISTED}' if len(batch) > _LISTED else ''}"
    table = sortable(title, list(shown), rows, BATCH_TEXTS, filtered="find samples ", id_="samples")
    note = "Choose a sample to see its interactions below."
    if len(batch) > _EXPLORED:
        note += f" Those of the first {_EXPLORED} are in this page; save() keeps all."
    return section("Samples", table, note=note)


def _sample_cell(place: int, name: str, text: str) -> Html:
    if name in BATCH_TEXTS:
        return element("td", shortened(text, _TEXT), dir="auto")
    content: str = text
    if name == "sample" and place < _EXPLORED:
        content = element("button", text, type="button", class_="pick", data_sample=text, aria_pressed="false")
    return cell(content)


def _change_tables(contents: rendering.Report) -> Html:
    made = []
    for table in rendering.tables(contents):
        rows = [element("tr", element("td", name), *map(cell, cells)) for name, *cells in table.rows]
        made.append(sortable(table.title, table.header, rows, table.header[:1]))
    return section("Completeness and redundancy", *made)


def _state_notes(change: KnowledgeChange) -> dict[str, str]:
    """Return by state its completeness and redundancy over all orders."""
    notes: dict[str, str] = {}
    for row in change.rows():
        if row.order == 1:
            whole, unused = row.completeness_all_orders, row.redundancy_all_orders
            shares = [rendering.shown_number(share, ".2f") for share in (whole, unused)]
            before = f"{notes[row.state]}; " if row.state in notes else "\u00b7 "
            notes[row.state] = f"{before}{row.kind.upper()}: completeness {shares[0]}, redundancy {shares[1]}"
    return notes


def _question(about: About) -> Iterator[tuple[str, str]]:
    if about.explained:
        yield "explained", f"{about.explained}{', which the model predicts' if about.predicted else ''}"
    if about.continuation:
        yield "continuation", about.continuation


def _shared(several: Sequence[About]) -> Iterator[tuple[str, str]]:
    """Yield the classes of several samples, and what these have in common."""
    name, _, classes = class_line(several).partition(": ")
    if classes:
        yield name, classes
    yield from (part for part in several[0].origin if all(part in one.origin for one in several))


def _count(samples: Sequence[Sample]) -> int:
    """Return the number of interactions of each sample."""
    return max(_FEWEST, min(_ROWS, _ALL_ROWS // len(samples)))


def _images(images: Tensor | Sequence[Tensor] | None, count: int) -> list[Tensor | None]:
    if images is None:
        return [None] * count
    if len(images) != count:
        raise ValueError(f"images must be one for each sample, of which there are {count}; got {len(images)}")
    return [_checked(image) for image in images]


def _checked(image: Tensor | None) -> Tensor | None:
    given: object = image
    if given is not None and not isinstance(given, Tensor):
        raise TypeError(f"image must be a tensor [C, H, W]; got {kind_of(given)}")
    return image
