"""Pages of the site: each is in the table of contents, links and anchors exist, pictures have a text.

`make docs` checks more, with Sphinx; these tests need nothing and take no time.
"""

import pathlib
import re

import pytest

import captum_lkn
from captum_lkn.plot import accessors

ROOT = pathlib.Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("captum_lkn/**/*.md"), *ROOT.glob("benchmarks/**/*.md")]
)
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
TOCTREE = re.compile(r"```\{toctree\}\n(.*?)```", re.DOTALL)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
CODE = re.compile(r"^```.*?^```|``.*?``|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def text_of(page):
    return page.read_text(encoding="utf-8")


def listed_in(text, folder):
    """Return the pages that the tables of contents of a text name, as files."""
    lines = [
        line for block in TOCTREE.findall(text) for line in block.splitlines() if line and not line.startswith(":")
    ]
    patterns = [str((folder / re.sub(r".* <(.+)>", r"\1", line)).relative_to(ROOT)) for line in lines]
    return {found for pattern in patterns for found in ROOT.glob(f"{pattern}.*") if found.suffix in (".md", ".ipynb")}


def anchors_of(page):
    """Return the anchors of a page's headings, formed as where repositories are hosted."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_contents():
    listed = listed_in(text_of(ROOT / "docs" / "conf.py"), ROOT)
    listed |= {found for page in listed for found in listed_in(text_of(page), page.parent)}
    pages = {*PAGES, *ROOT.glob("tutorials/*.ipynb")}
    assert sorted(pages - listed - {ROOT / "README.md"}) == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_relative_links_and_their_anchors_exist(page):
    for _, _, target in LINK.findall(CODE.sub("", text_of(page))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors_of(file), target


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_picture_has_a_text(page):
    text = text_of(page)
    pictures = [(target, words) for image, words, target in LINK.findall(text) if image]
    pictures += [(tag, " ".join(re.findall(r'alt="([^"]+)"', tag))) for tag in re.findall(r"<img[^>]*>", text)]
    assert [target for target, words in pictures if len(words.split()) < 3] == []


def documented():
    """Return the names that the reference has, as users import them."""
    names, module = set(), ""
    for page in sorted((ROOT / "docs" / "api").glob("*.md")):
        for word, name in re.findall(r"^\.\. (\w+):: ([\w.]+)$", text_of(page), re.MULTILINE):
            if word == "currentmodule":
                module = name
            elif word.startswith("auto"):
                names.add(name if word == "automodule" else f"{module}.{name}")
    return names


def packages():
    """Return the public packages of the library by name."""
    folders = sorted(path.parent.name for path in (ROOT / "captum_lkn").glob("*/__init__.py"))
    return {name: getattr(captum_lkn, name) for name in folders if not name.startswith("_")}


def test_the_reference_has_every_public_name():
    there = documented()
    missing = [name for name in captum_lkn.__all__ if name != "__version__" and f"captum_lkn.{name}" not in there]
    for package, module in packages().items():
        for name in getattr(module, "__all__", []):
            places = {f"captum_lkn.{name}", f"captum_lkn.{package}.{name}"}
            # scores are one table, and the command line has its own help
            if not places & there and name not in captum_lkn.outputs.SCORES and package != "cli":
                missing.append(f"{package}.{name}")
    assert missing == []


def test_the_reference_has_every_picture():
    tables = [getattr(accessors, name) for name in accessors.__all__]
    functions = [function for table in tables for function in table.values()]
    there = documented()
    assert [f.__name__ for f in functions if f"{f.__module__}.{f.__name__}" not in there] == []


def test_every_picture_is_shown_with_its_code():
    shown = text_of(ROOT / "docs" / "gallery.md") + text_of(ROOT / "docs" / "states.md")
    pictures = {name for table in accessors.__all__ for name in getattr(accessors, table)}
    assert [name for name in sorted(pictures) if f".plot.{name}(" not in shown] == []
