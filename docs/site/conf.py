"""How Sphinx makes the site.  `make docs` assembles its sources and calls it."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tools"), str(HERE.parents[1])]

import tutorial_lib  # noqa: E402

REPOSITORY = os.environ.get("REPOSITORY", "")  # owner/name on GitHub, or nothing
STATIC = os.environ["SITE_STATIC"]  # the folder of the scripts that come from npm

version = tutorial_lib.__version__
project = "Diffusion models from first principles"
author = "The Diffusion Tutorial authors"
copyright = "2026, The Diffusion Tutorial authors. Code: MIT. Text and figures: CC BY 4.0"
language = "en"
extensions = ["myst_nb", "sphinx.ext.viewcode", "pages"]
repository = REPOSITORY  # a setting of `pages`

# notebooks are shown as they are stored; nothing runs
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "dollarmath", "html_image"]
myst_dmath_double_inline = True
myst_dmath_allow_labels = False
myst_heading_anchors = 4
myst_links_external_new_tab = False

python_maximum_signature_line_length = 80
python_display_short_literal_types = True
add_module_names = False
toc_object_entries = False
viewcode_follow_imported_members = False

# formulas are drawn by a script that lies beside the pages
mathjax_path = "mathjax/tex-mml-chtml.js"
mathjax3_config = {"options": {"enableMenu": False}}

html_theme = "sphinx_book_theme"
html_title = project
html_favicon = str(HERE / "static" / "favicon.svg")
html_static_path = [str(HERE / "static"), STATIC]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_baseurl = "https://{}.github.io/{}/".format(*REPOSITORY.split("/")) if REPOSITORY else ""
html_show_sphinx = False
html_context = {"default_mode": "auto"}  # without it each page complains that it has no mode
html_theme_options = {
    "home_page_in_toc": True,
    "show_toc_level": 2,
    "navbar_persistent": [],
    "navigation_with_keys": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "extra_footer": "",
}
if REPOSITORY:
    html_theme_options |= {
        "repository_url": f"https://github.com/{REPOSITORY}",
        "repository_branch": "main",
        "use_repository_button": True,
        "use_issues_button": True,
    }
