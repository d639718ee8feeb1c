"""The static site that `make docs` builds, by Sphinx.

The source is the root of the repository: so pages, README and notebooks link to one another by the same relative paths
here, in an editor and where the repository is hosted, and Sphinx checks each of them. Nothing is fetched.
"""

import importlib.metadata
import pathlib
import re
from typing import Any

import latex2mathml.converter
import ziamath
from docutils import nodes

from captum_lkn import __version__

ROOT = pathlib.Path(__file__).parents[1]

project = "captum-lkn"
author = importlib.metadata.metadata("captum-lkn")["Author"]
copyright = author
version = release = __version__
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]

# ---------------------------------------------------------------- pages

root_doc = "README"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/**.md",
    "tutorials/**",
    "captum_lkn/demo/assets/*.md",
    "benchmarks/results/*.md",
]
exclude_patterns = ["build", "dist", ".*", "**/.ipynb_checkpoints"]

myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # the notebooks keep the outputs of their last run, which `make tutorials` checks

# The README is the home page. It cannot hold the table of contents, which other viewers would show as code.
CONTENTS = """

```{toctree}
:hidden:
:caption: First

docs/start
docs/reading
docs/gallery
```

```{toctree}
:hidden:
:caption: Tutorials

tutorials/README
tutorials/1_first_interactions
tutorials/2_layers_of_a_bert
tutorials/3_images
tutorials/4_causal_language_model
tutorials/5_columns
tutorials/6_with_captum
tutorials/7_how_to_read
```

```{toctree}
:hidden:
:caption: Coming from

docs/captum
docs/hugging-face
docs/tables
docs/shapiq
docs/features
```

```{toctree}
:hidden:
:caption: In detail

docs/models
docs/many-players
docs/layers
docs/states
docs/studies
docs/errors
docs/reliability
docs/method
docs/comparison
docs/reproduction
docs/api/index
```

```{toctree}
:hidden:
:caption: The project

docs/design
docs/design-models
CONTRIBUTING
SECURITY
CHANGELOG
Card of the demo's adapter <captum_lkn/demo/assets/sentiment_minilm>
Card of its probes <captum_lkn/demo/assets/sentiment_minilm_probes>
Card of its photo <captum_lkn/demo/assets/espresso>
benchmarks/results/planted
benchmarks/results/exactness
benchmarks/results/decomposition
benchmarks/results/large
benchmarks/results/overhead
benchmarks/results/many
benchmarks/results/ranks
benchmarks/results/short
```
"""


def prepare(app: Any, page: str, source: list[str]) -> None:
    """Append the table of contents to the home page, and cut the empty line that ends examples for doctest."""
    source[0] = source[0].replace("\n\n```\n", "\n```\n")
    if page == app.config.root_doc:
        source[0] += CONTENTS


# ---------------------------------------------------------------- reference

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
nitpicky = True
# The documentation of other libraries is elsewhere, and its index would have to be fetched. The names of our own that
# are here are types, which signatures show.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!captum_lkn\b)[A-Za-z_]+\..+"),
    (r"py:class", r"Tensor|PreTrainedTokenizerBase|BertForSequenceClassification|InterpretableInput|InteractionValues"),
    (r"py:class", r"(files\.)?JSON|Units|Messages|Kind|Count|Positive|captum_lkn\.\w+\.\w+\.\w+"),
    (r"py:class", r"InputsOrList|Baselines|TargetLike|FeatureMask|PlayerNames|SampledFit"),  # of overloads
]


def find_again(app: Any, env: Any, node: Any, content: nodes.Node) -> nodes.Node | None:
    """Find what a reference means by the last parts of its name: pages document a name where users import it."""
    if node.get("refdomain") != "py":
        return None
    domain, parts = env.domains["py"], node["reftarget"].split(".")
    for end in (".".join(["", *parts[-2:]]), f".{parts[-1]}"):
        places = {entry.node_id: name for name, entry in domain.objects.items() if name.endswith(end)}
        if len(places) == 1:
            (place,) = places.values()
            return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", place, node, content)
    return None


def keep_colons(app: Any, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    """Keep Napoleon from taking what stands before a colon for a type, by an empty comment before the first line."""
    if what in ("attribute", "data", "property") and lines and ": " in lines[0]:
        lines[:0] = ["..", ""]


def skip_fields(app: Any, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of named tuples, which the docstring of the class describes."""
    return True if type(member).__name__ == "_tuplegetter" else None


# ---------------------------------------------------------------- looks

html_theme = "furo"
html_title = f"captum-lkn {__version__}"
# The font of formulas comes from a package: browsers need one with a table of mathematics, which few systems have.
html_static_path = ["_static", str(pathlib.Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf")]
html_css_files = ["site.css"]
toc_object_entries_show_parents = "hide"
templates_path = ["_templates"]
html_additional_pages = {"index": "index.html"}
html_copy_source = False
html_show_sourcelink = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True


# The converter knows one kind of alignment, and takes the empty set and bars for operators, with space around them.
TIGHT = re.compile(r"<mo[^>]*>(&#x02205;|&#x0007C;)</mo>")


def mathml(display: str) -> tuple[Any, None]:
    """Return how a formula is written: as MathML, which browsers draw without a script."""

    def write(self: Any, node: nodes.Element) -> None:
        formula = node.astext().replace("{aligned}", "{align*}")
        written = TIGHT.sub(r"<mi>\1</mi>", latex2mathml.converter.convert(formula, display=display))
        self.body.append(re.sub(r'columnalign="(\w+)"', r'style="text-align: \1"', written))
        raise nodes.SkipNode

    return write, None


def setup(app: Any) -> None:
    """Connect the functions above."""
    app.connect("source-read", prepare)
    app.connect("missing-reference", find_again)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("autodoc-process-docstring", keep_colons, priority=400)  # before Napoleon
    app.add_html_math_renderer("mathml", inline_renderers=mathml("inline"), block_renderers=mathml("block"))


html_math_renderer = "mathml"
