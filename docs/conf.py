"""The site of these pages, built by `make docs` with Sphinx and MyST."""

import re
from pathlib import Path

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

import hf_primaldual

project, author, release = "hf_primaldual", "The hf_primaldual contributors", hf_primaldual.__version__
copyright = "the hf_primaldual contributors, Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme, html_title = "furo", "hf_primaldual"
html_copy_source = False
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath"]
# Links to sections of a page, by GitHub's names of them.
myst_heading_anchors = 4

# Docstrings are in transformers' dialect: names, types and shapes stand in single backticks.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_use_rtype = napoleon_use_param = False


def fences_to_directives(app, what, name, obj, options, lines):
    """Makes the Markdown of a docstring, its code blocks, links to classes and bars of norms, what Sphinx reads."""
    text = re.sub(r"\[(`[^`]*`)\](?!\()", r"\1", "\n".join(lines))
    text = re.sub(r"(`[^`]*`)|\|", lambda found: found[1] or r"\|", text)
    blocks = re.compile(r"^( *)```python\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
    text = blocks.sub(lambda found: f"{found[1]}::\n\n{re.sub(r'(?m)^(?=.)', '    ', found[2])}", text)
    lines[:] = text.split("\n")


def links_out_of_the_pages(app, docname, source):
    """Makes links to other files of the repository downloads, and links to its folders plain text."""

    def rewritten(link):
        path = Path(app.srcdir, link[2])
        if path.is_dir():
            return link[1]
        return f"[{link[1]}](path:{link[2]})" if path.is_file() else link[0]

    source[0] = re.sub(r"(?<!!)\[([^\]]*)\]\((\.\./[^)]+)\)", rewritten, source[0])


def lists_to_toctrees(app, docname, source):
    """Makes each list of pages on the first page, after the name that it begins with, a part of the site's sidebar."""
    if docname != "index":
        return
    for caption, pages in re.findall(r"^- ([^:]+): ((?:.+\n?(?!- ))+)", source[0], re.MULTILINE):
        names = "\n".join(re.findall(r"\]\(([\w-]+)\.md\)", pages))
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{names}\n```\n"


def inline_math(translator, node):
    translator.body.append(tex2mathml(node.astext()))
    raise SkipNode


def display_math(translator, node):
    translator.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise SkipNode


def setup(app):
    # Formulas are MathML, which browsers draw without a script from elsewhere.
    app.add_html_math_renderer("mathml", (inline_math, None), (display_math, None))
    app.connect("source-read", links_out_of_the_pages)
    app.connect("source-read", lists_to_toctrees)
    app.connect("autodoc-process-docstring", fences_to_directives, priority=400)
