#!/usr/bin/env bash
# Builds wheel and sdist, installs each into an environment of its own and uses it outside the checkout: the demo's first
# step, the types, the data files. Called by `make dist-check`; takes minutes.
#
#   check_dist.sh PYTHON [FURTHER ARGUMENTS OF pip INSTALL]
set -euo pipefail
python=$1
shift
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
unset PYTHONPATH

"$python" -m venv "$work/build"
"$work/build/bin/pip" install -q build
"$work/build/bin/python" -m build --outdir "$work/dist" "$root" >"$work/build.log" || { cat "$work/build.log" >&2; exit 1; }

# What the tests and the docs refer to must be in the sdist.
tar -xzf "$work"/dist/*.tar.gz -C "$work"
sdist=$(echo "$work"/hbo-*/)
while IFS= read -r file; do
  [ -e "$sdist$file" ] || { echo "error: $file is not in the sdist; see tool.hatch.build.targets.sdist" >&2; exit 1; }
done < <(cd "$root" && git ls-files src tests docs examples benchmarks recipes ./*.md ./*.txt Makefile Dockerfile)

for archive in "$work"/dist/*.whl "$work"/dist/*.tar.gz; do
  echo "== $(basename "$archive")"
  cd "$work"
  rm -rf "$work/venv" "$work/elsewhere"
  mkdir "$work/elsewhere"
  "$python" -m venv "$work/venv"
  bin=$work/venv/bin
  "$bin/pip" install -q -c "$root/constraints.txt" "$@" "$archive[train]" mypy types-PyYAML
  cd "$work/elsewhere"
  "$bin/python" "$root/tests/packaging/installed.py"
  "$bin/mypy" --strict --ignore-missing-imports --follow-imports=silent --cache-dir "$work/mypy" "$root/tests/packaging/typed.py"
  "$bin/hbo" train recipes/multitask-qwen2.5-7b.yaml --dry-run
  "$bin/hbo" demo --steps 1 --output runs/demo
  test -s runs/demo/metrics.json -a -s runs/demo/report.html -a -s runs/demo/model/README.md
done
echo "wheel and sdist can be installed and used"
