"""Configuration of the site: `make docs` builds it into build/docs, warnings being errors."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from audiotok import __version__

project = "audiotok"
author = "audiotok developers"
copyright = author
version = release = __version__

extensions = [
    "myst_nb",  # Markdown, and the notebook, which is run
    "sphinx.ext.autodoc",
    "sphinx_gallery.gen_gallery",
    "generate",
    "api_types",
]
exclude_patterns = ["examples", "gallery/*.ipynb", "gallery/*.py"]
nitpicky = True

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "abort_on_example_error": True,
    "run_stale_examples": True,  # an example that is unchanged may fail since the package changed
    "show_memory": False,
    "min_reported_time": 1e9,  # times of the machine that builds say nothing
    "write_computation_times": False,
    "download_all_examples": False,
}

html_theme = "furo"
html_title = "audiotok"
html_extra_path = ["../egs/data/bench/report.html", "../egs/data/bench/listen.html"]
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False
