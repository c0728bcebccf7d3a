#!/usr/bin/env bash
# Trains a tiny model through a trainer's own entry point, in an environment with that trainer's own pins. Called by
# `make test-integrations`; minutes for each trainer, and hundreds of megabytes at its first time.
#
#   run.sh [NAME…]       axolotl, …: folders beside this file; all of them when none is named
#
# A folder holds trainer.txt (the trainer's requirement and the module that it is imported as), cpu.txt (what of its
# dependencies a CPU run needs, at its pins) and run.py, which is given an empty folder to work in.
# PYTHON, TORCH and TORCH_INDEX name another interpreter, release of torch, and index to fetch it from.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
all=$root/.venv-integrations
python=${PYTHON:-python3}
torch=${TORCH:-torch==2.13.0}
index=(${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"})
export PIP_DISABLE_PIP_VERSION_CHECK=1
# Nothing is fetched from the Hub, and nothing told to anyone.
export HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 WANDB_MODE=disabled DO_NOT_TRACK=1 TOKENIZERS_PARALLELISM=false
export CUDA_VISIBLE_DEVICES="" OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
unset PYTHONPATH
mkdir -p "$all"

environment() { # environment FOLDER WHAT…: a fresh one, unless it was made from the same requirements
  local venv=$1 wanted
  shift
  wanted=$("$python" --version; printf '%s\n' "$torch" "$@")
  [ "$(cat "$venv/made-from" 2>/dev/null)" = "$wanted" ] && return
  rm -rf "$venv"
  "$python" -m venv "$venv"
  # torch first: what names it later finds it there, and brings no CUDA.
  "$venv/bin/pip" install -q "${index[@]}" "$torch"
  "$venv/bin/pip" install -q "${index[@]}" "$torch" -r "$cpu"
  "$venv/bin/pip" install -q --no-deps "$requirement"
  printf '%s' "$wanted" >"$venv/made-from"
}

prove() { # prove NAME: the trainer with all of its dependencies, and our wheel with all of its, as one set
  local resolved=$all/$1.resolved.txt
  printf '%s\n' "$requirement" "hbo @ file://$wheel" |
    "$all/tools/bin/uv" pip compile -q --no-annotate --no-header --python-version \
      "$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" -o "$resolved" - ||
    { echo "error: $requirement and hbo can't be installed together" >&2; return 1; }
  echo "$requirement and $(basename "$wheel") resolve together, to $(grep -c '' "$resolved") packages; among them:"
  grep -iE "^(${requirement%%[=<>]*}|hbo|torch|transformers|trl|peft|accelerate|datasets|tokenizers)( @|==)" "$resolved" |
    sed 's/^/  /'
}

check() { # check NAME
  local name=$1 folder=$here/$1 venv=$all/$1 work=$all/runs/$1 requirement module cpu
  cpu=$folder/cpu.txt
  read -r requirement module <"$folder/trainer.txt"
  echo "== $requirement"
  environment "$venv" "$requirement" "$(cat "$cpu")"
  # With its dependencies: what the trainer's pins don't allow stops here.
  "$venv/bin/pip" install -q --force-reinstall --no-deps "$wheel"
  # pip complains of what else the trainer would have, and of that only.
  "$venv/bin/pip" install -q "${index[@]}" "$torch" -r "$cpu" "$wheel" 2>"$venv/pip.log" || { cat "$venv/pip.log" >&2; exit 1; }
  prove "$name"
  (cd / && "$venv/bin/python" -W ignore -c "import $module, hbo, hbo.training.callback; print('both are imported together')")
  rm -rf "$work"
  mkdir -p "$work"
  PYTHONPATH=$here "$venv/bin/python" "$folder/run.py" "$work"
}

[ -x "$all/tools/bin/uv" ] || { "$python" -m venv "$all/tools" && "$all/tools/bin/pip" install -q uv; }
rm -rf "$all/wheels"
"$all/tools/bin/pip" wheel -q --no-deps -w "$all/wheels" "$root"
wheel=$(echo "$all"/wheels/hbo-*.whl)
[ $# -gt 0 ] || set -- $(cd "$here" && for each in */trainer.txt; do dirname "$each"; done)
failed=
for name in "$@"; do
  [ -f "$here/$name/trainer.txt" ] || { echo "error: no trainer '$name' in $here" >&2; exit 2; }
  # Its first failure ends the subshell, and the others are still run; in an `if` it wouldn't end.
  set +e
  (set -e; check "$name")
  status=$?
  set -e
  if [ $status -eq 0 ]; then echo "== $name: well"; else failed="$failed $name"; echo "== $name: failed"; fi
done
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
