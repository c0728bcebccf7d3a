"""Several grids of the same recipe in one comparison: prints `comparison.md` for all their runs.

python results/together.py results/fresh-*/results.jsonl > results/fresh.md
"""

import json
import sys
from pathlib import Path

from hbo.compare.markdown import markdown
from hbo.compare.table import tabulate


def main() -> None:
    """Prints the tables."""
    lines = [line for file in sys.argv[1:] for line in Path(file).read_text(encoding="utf-8").splitlines()]
    print(markdown(tabulate([json.loads(line) for line in lines])))


if __name__ == "__main__":
    main()
