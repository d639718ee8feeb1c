"""Reports of each kind of result."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from torch import Tensor

from captum_lkn._common.arguments import checked
from captum_lkn._common.formats import shortened
from captum_lkn._common.html import Html, element
from captum_lkn._common.messages import count_of
from captum_lkn.interactions import Interactions
from captum_lkn.interactions.about import About, class_line
from captum_lkn.interactions.batch import AnyBatch, SampledBatch
from captum_lkn.interactions.ranges import EffectRanges
from captum_lkn.interactions.rendering import BATCH_TEXTS, SampleReport, batch_rows, certificate_lines
from captum_lkn.interactions.sampled import AnyInteractions
from captum_lkn.interactions.sampled_rendering import SampledReport, count_lines, r_squared_lines
from captum_lkn.knowledge import KnowledgeChange, rendering
from captum_lkn.plot.accessors import CHANGE, INTERACTIONS, INTERACTIONS_BATCH, SAMPLED
from captum_lkn.plot.canvas import Picture
from captum_lkn.plot.depth import depth_of
from captum_lkn.report.checks import check_ranges, images_of
from captum_lkn.report.explorer import Sample, cell, explorer, panels
from captum_lkn.report.figures import figure
from captum_lkn.report.page import check_page, page, section, sortable, write_page
from captum_lkn.report.regions import is_image

__all__ = ["LARGEST", "report_batch", "report_change", "report_sample"]

LARGEST: Final = 150_000
"""Bytes of a page without the user's images.

What would make it larger is left out: samples and interactions first, until pictures fit beside the rest, then
pictures, the last ones first. One sample with eight interactions is always there, and so can pass the limit alone:
hundreds of states, or an image whose parts are many and ragged.
"""

_ROWS = 60  # interactions of one sample
_ALL_ROWS = 160  # of all samples together
_FEWEST = 8
_EXPLORED = 24  # samples whose interactions are shown
_LISTED = 200  # samples in the table
_TEXT = 160  # columns of a text there
_FRAME = 800  # bytes around the sections
_PICTURES = 0.28  # share of the page that is kept for pictures
_TRIES = 6


class _Drawing(NamedTuple):
    name: str
    draw: Callable[[], Picture]
    caption: str


@checked("path", "ranges")
def report_sample(
    found: AnyInteractions,
    path: str | os.PathLike[str],
    *,
    image: Tensor | None = None,
    ranges: EffectRanges | None = None,
) -> None:
    """Write a page about one sample: its words or image, its interactions as a table, and pictures.

    The page is one file that loads nothing, so that it can be sent and kept. Rows of the table sort and filter, and one
    that is pointed at lights up its words or parts of the image. Long texts are
    cut and pictures left out so that it has at most 150 KB without the image (``LARGEST``).

    Args:
        found: The interactions.
        path: The file, which must end in ``.html`` or ``.htm``; an older one is replaced.
        image: The image that was explained, ``[C, H, W]``: uint8, or floating of any range. None shows the outlines of
            its parts alone.
        ranges: What :meth:`Interactions.effect_ranges` gave, for two more columns.

    Raises:
        OSError: The file cannot be written.
        TypeError: `image` is not a tensor.
        ValueError: `path` has another ending, `image` does not fit the interactions, or `ranges` are those of others.

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
    check_ranges(found, ranges)
    sample = Sample({"output": found}, images_of([found], None if image is None else [image])[0], ranges)
    about, contents = found.about, found.contents(0)
    unit = found.provenance.get("unit")
    score = f"{contents.ends[0]} \u2192 {contents.ends[1]}{f' {unit}' if unit else ''}"
    known = [
        *_question(about),
        ("score, v(\u2205) \u2192 v(N)", score),
        *about.origin,
        *_quality(contents),
    ]
    strongest = panels(found, sample.image, "image-0") if is_image(found) else None

    def parts(share: float) -> list[Html]:
        shown = explorer([sample], ["output"], _count(1, share))
        return [shown] if strongest is None else [shown, section("The strongest interactions", strongest)]

    pictures = INTERACTIONS if isinstance(found, Interactions) else SAMPLED
    drawings = [
        _Drawing(name, _call(pictures[name], found), text) for name, text in _OF_SAMPLE.items() if name in pictures
    ]
    title = about.text or ("One image" if is_image(found) else ", ".join(found.labels))
    kind = f"Interactions of {count_of(found.n_players, 'player')}"
    _write(path, kind, title, known, parts, drawings[is_image(found) :])


@checked("images", "path")
def report_batch(
    batch: AnyBatch, path: str | os.PathLike[str], *, images: Tensor | Sequence[Tensor] | None = None
) -> None:
    """Write a page about several samples: a table of them, their interactions, and pictures over the data set.

    Args:
        batch: The interactions.
        path: As in :func:`report_sample`.
        images: The image of each sample.

    Raises:
        OSError: As there, like all others.
        TypeError: An image is not a tensor.
        ValueError: There are not as many images as samples, or one does not fit its interactions.
    """
    check_page(path)
    if len(batch) == 1:
        report_sample(batch[0], path, image=images_of(batch, images)[0])
        return
    each = images_of(batch, images)
    several: list[AnyInteractions] = [*batch]
    samples = [Sample({"output": one}, image) for one, image in zip(several, each, strict=True)][:_EXPLORED]

    def parts(share: float) -> list[Html]:
        explored = samples[: _part(len(samples), share)]
        return [
            _sample_table(batch, len(explored), share),
            explorer(explored, ["output"], _count(len(explored), share)),
        ]

    drawings = [_Drawing(name, _call(INTERACTIONS_BATCH[name], batch), text) for name, text in _OF_BATCH.items()]
    kind, title = "Interactions of a data set", count_of(len(batch), "sample")
    _write(path, kind, title, [*_shared([one.about for one in batch])], parts, drawings)


@checked("images", "path")
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
        ValueError: There are not as many images as samples, or one does not fit its interactions.
    """
    check_page(path)
    depth, contents = depth_of(change), change.contents()
    batch = change.interactions[change.reference]
    each, notes = images_of(batch, images), _state_notes(change)
    drawn = change.salient(change.reference) if change.noise_ceiling else []
    samples = [
        Sample(
            {label: change.interactions[label][place] for label in depth.labels},
            image,
            frequencies={one[:2]: one.selection_frequency or 0.0 for one in (drawn[place] if drawn else ())},
            notes=notes,
        )
        for place, image in enumerate(each[:_EXPLORED])
    ]
    known = [
        *_shared(contents.about),
        ("compared with", change.reference),
        ("comparison", rendering.options_line(contents)),
    ]
    captions = {name: text.format(noun=change.noun) for name, text in _OF_CHANGE.items()}
    flow, *others = [_Drawing(name, _call(CHANGE[name], change), text) for name, text in captions.items()]
    first = section(f"From {change.noun} to {change.noun}", figure(*flow))

    def parts(share: float) -> list[Html]:
        explored = samples[: _part(len(samples), share)]
        return [
            *([_sample_table(batch, len(explored), share)] if len(batch) > 1 else []),
            explorer(explored, list(depth.names), _count(len(explored), share), change.noun),
            _change_tables(contents),
        ]

    title = count_of(len(batch), "sample") if len(batch) > 1 else batch[0].about.text or "One sample"
    kind = f"{count_of(len(change), change.noun)} against {depth.reference}"
    _write(path, kind, title, known, parts, others, first)


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
    "beeswarm": "The same combinations, sample by sample.",
    "bars": "The same combinations, by class.",
}
_OF_CHANGE: Final = {
    "flow": "What each {noun} shares with the reference fills the box; what the reference does not use hangs below. "
    "Rows are interactions that stay or are forgotten.",
    "completeness": "Completeness and redundancy, by order.",
    "heatmap": "The strongest interactions at every {noun}, in units of the score.",
    "matrix": "Knowledge that any two {noun}s share.",
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
    parts: Callable[[float], list[Html]],
    drawings: Sequence[_Drawing],
    first: Html | None = None,
) -> None:
    """Write a page with as many samples, interactions and pictures as fit.

    Args:
        path: The file.
        kind: As in :func:`page`, like the next two.
        title: The heading.
        known: What is known about the whole.
        parts: Returns the sections with this share of the samples and interactions.
        drawings: The pictures below them.
        first: A picture above them, which is always there.
    """
    above = [] if first is None else [first]
    allowed = min(LARGEST - _FRAME, (1 - _PICTURES) * LARGEST + sum(len(one.encode()) for one in above))
    share = 1.0
    for _ in range(_TRIES):
        sections = [*above, *parts(share)]
        size = len(page(kind, title, known, sections).encode()) - sum(map(_size_of_image, sections))
        if size <= allowed:
            break
        share *= min(0.8, allowed / size)
    write_page(path, page(kind, title, known, [*sections, _figures(drawings, LARGEST - size - _FRAME)]))


def _size_of_image(part: str) -> int:
    return sum(len(piece.partition('"')[0]) for piece in part.split('href="data:image/')[1:])


# ---------------------------------------------------------------- tables and facts


def _sample_table(batch: AnyBatch, explored: int, share: float) -> Html:
    listed = _part(min(_LISTED, len(batch)), share)
    shown = batch_rows([one.contents(1) for one in batch[:listed]])
    if isinstance(batch, SampledBatch):
        worst = [f"{one.worst_r_squared:.3f}" for one in batch[:listed]]
        shown = {**shown, "R^2": worst}  # last, since the style of columns is by their place
    rows = [
        element("tr", *(_sample_cell(place < explored, name, text) for name, text in zip(shown, cells, strict=True)))
        for place, cells in enumerate(zip(*shown.values(), strict=True))
    ]
    title = f"{count_of(len(batch), 'sample')}{f', the first {listed}' if len(batch) > listed else ''}"
    table = sortable(title, list(shown), rows, BATCH_TEXTS, filtered="find samples ", id_="samples")
    note = "Choose a sample to see its interactions below."
    if len(batch) > explored:
        note += f" Those of the first {'one' if explored == 1 else explored} are in this page; save() keeps all."
    return section("Samples", table, note=note)


def _sample_cell(chosen: bool, name: str, text: str) -> Html:
    if name in BATCH_TEXTS:
        return element("td", shortened(text, _TEXT), dir="auto")
    content: str = text
    if name == "sample" and chosen:
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
    if about.explained and not about.continuation:
        yield "explained", f"{about.explained}{', which the model predicts' if about.predicted else ''}"
    if about.continuation:
        yield "continuation", about.continuation


def _quality(contents: SampleReport | SampledReport) -> Iterator[tuple[str, str]]:
    """Yield how well the effects reproduce the values."""
    if isinstance(contents, SampledReport):
        yield "how well", " ".join(r_squared_lines(contents))
        yield "effects", " ".join(count_lines(contents))
        return
    salient, *certificate = certificate_lines(contents)
    name, _, count = salient.partition(": ")
    yield name, count
    yield "exactness", " ".join(certificate)


def _shared(several: Sequence[About]) -> Iterator[tuple[str, str]]:
    """Yield the classes of several samples, and what these have in common."""
    name, _, classes = class_line(several).partition(": ")
    if classes:
        yield name, classes
    yield from (part for part in several[0].origin if all(part in one.origin for one in several))


def _part(count: int, share: float) -> int:
    return max(1, int(count * share))


def _count(samples: int, share: float) -> int:
    """Return the number of interactions of each sample."""
    return max(_FEWEST, min(_part(_ROWS, share), _part(_ALL_ROWS, share) // samples))
