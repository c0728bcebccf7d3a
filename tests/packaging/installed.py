"""What must be true of an installed hbo, run by check_dist.sh outside the checkout."""

from importlib.metadata import distribution
from importlib.resources import files

import hbo

FILES = (
    "py.typed",
    "report/templates/frame.html",
    "report/templates/page.html",
    "report/templates/page.css",
    "report/templates/page.js",
    "compare/comparison.html",
    "watch/shell.html",
    "benchmarks/lm_eval_tasks/multifin_en.yaml",
    "recipe_files/tiny.yaml",
    "recipe_files/accelerate/8-gpus.yaml",
)

place = files("hbo")
assert "site-packages" in str(place), f"{place} is a checkout"
assert [name for name in FILES if not place.joinpath(name).is_file()] == []
assert distribution("hbo").version == hbo.__version__
for name in hbo.__all__:
    getattr(hbo, name)
