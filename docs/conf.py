"""Sphinx configuration. Build: ``python -m sphinx -W -b html docs docs/_build/html`` (offline)."""

import os
import sys
from pathlib import Path

import optlib

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
os.environ.setdefault("MPLBACKEND", "agg")

project = "optlib"
author = "The optlib developers"
project_copyright = "2026, The optlib developers"
release = version = optlib.__version__

extensions = [
    "sphinx_gallery.gen_gallery",
    "registries",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "mathml",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_design",
]
exclude_patterns = ["_build", "examples", "guide/benchmarks.md", "**/GALLERY_HEADER.rst"]
templates_path = ["_templates"]
default_role = "py:obj"

autodoc_typehints = "none"
autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "/plot_",
    "ignore_pattern": "/_",
    "abort_on_example_error": True,
    "show_signature": False,
    "min_reported_time": 60,
    "write_computation_times": False,
    "capture_repr": (),
    "download_all_examples": False,
    "notebook_extensions": set(),
}
suppress_warnings = ["config.cache"]  # sphinx-gallery's settings are not picklable

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "optlib"
html_static_path = ["_static"]
html_css_files = ["optlib.css"]
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": False,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
