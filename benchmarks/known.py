"""Is a method right where everybody can say what a balancer should do? The mixtures of recipes/known/, run and judged.

Every mixture is a grid of `hbo compare` in a folder of its own, so a finished run is left alone and the same command
goes on where it stopped. The static methods that the rules compare with are run as well. docs/known.md has what came
out, and the rules, which stand in benchmarks/support/known_rules.py.

    python benchmarks/known.py --methods hbo,mos+ --seeds 0,1,2
    python benchmarks/known.py --methods hbo --vary balance.global_reward=my_rewards:surprise --mixtures useless,length
    python benchmarks/known.py --methods hbo,uniform --judge-only --page docs/known.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from support.known_judge import Judged, finished, judged, section, summary
from support.known_rules import KNOWN

from hbo.compare.grid import Cell, cells, seed_numbers
from hbo.compare.publish import publish_results
from hbo.compare.runner import run_grid
from hbo.errors import HBOError

_RECIPES = Path(__file__).parents[1] / "recipes" / "known"
_METHODS = "hbo,uniform,proportional,multidds,mos,loss_softmax,exp3"
_BEGIN, _END = "<!-- figures -->\n", "<!-- end of figures -->\n"


def grid(name: str, methods: Sequence[str], seeds: Sequence[int], vary: Sequence[str], output: Path) -> list[Cell]:
    """The runs of one recipe: those of its static references, then all others.

    Raises:
        ConfigError: As `hbo compare`.
    """
    recipe, folder = _RECIPES / f"{name}.yaml", output / name
    static = KNOWN[name].static if name in KNOWN else ()
    found = cells(recipe, static, seeds, (), folder) if static else []
    found += cells(recipe, methods, seeds, vary, folder)
    return list({cell.folder: cell for cell in found}.values())


def recipes_of(names: Sequence[str]) -> list[str]:
    """The mixtures with these names, each followed by the companion that its rules need."""
    return [recipe for name in names for recipe in (name, KNOWN[name].once) if recipe]


def verdicts(names: Sequence[str], grids: dict[str, list[Cell]]) -> dict[str, list[Judged]]:
    """Mixture → a judgement for every method that has been run on it."""
    found = {}
    for name in names:
        once = KNOWN[name].once
        found[name] = judged(KNOWN[name], finished(grids[name]), finished(grids[once]) if once else None)
    return found


def page(results: dict[str, list[Judged]]) -> str:
    """All tables."""
    return "\n".join([summary(results), *(section(name, judgements) for name, judgements in results.items())])


def put_into(file: Path, text: str) -> None:
    """Replaces what stands between the two marks of a page."""
    before, _, rest = file.read_text(encoding="utf-8").partition(_BEGIN)
    _, mark, after = rest.partition(_END)
    assert mark, f"{file} has no {_BEGIN.strip()} … {_END.strip()}"
    file.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}", encoding="utf-8")


def main(words: Sequence[str] | None = None) -> int:
    """The exit code: 1 if a run failed, 2 if a word of the command can't be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=_METHODS, help="as of hbo compare")
    parser.add_argument("--seeds", default="0", help="as of hbo compare")
    parser.add_argument("--vary", action="append", default=[], help="as of hbo compare; may be given again")
    parser.add_argument("--mixtures", default=",".join(KNOWN), help="which of them")
    parser.add_argument("--output", type=Path, default=Path("grids/known"), help="folder of a grid for each mixture")
    parser.add_argument("--jobs", type=int, default=1, help="as of hbo compare")
    parser.add_argument("--judge-only", action="store_true", help="run nothing, judge what is finished")
    parser.add_argument("--page", type=Path, help="a page whose figures are replaced")
    given = parser.parse_args(words)
    names = given.mixtures.split(",")
    if unknown := [name for name in names if name not in KNOWN]:
        parser.error(f"--mixtures {unknown[0]}: choose of {', '.join(KNOWN)}")
    try:
        seeds, methods = seed_numbers(given.seeds), given.methods.split(",")
        grids = {name: grid(name, methods, seeds, given.vary, given.output) for name in recipes_of(names)}
        failed = 0
        for name, runs in grids.items() if not given.judge_only else ():
            folder = given.output / name
            print(f"{name}:", flush=True)
            finish, say = partial(publish_results, runs, folder), partial(print, flush=True)
            failed += run_grid(runs, folder, finish, say, jobs=given.jobs)
        text = page(verdicts(names, grids))
    except HBOError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "known.md").write_text(text, encoding="utf-8")
    if given.page:
        put_into(given.page, text)
    print(f"\n{text}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
