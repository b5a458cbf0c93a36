#!/usr/bin/env bash
# Build, test and measure on a machine with a CUDA device: everything that a machine without one cannot do.
#
#   bench/gpu_check.sh                         in an environment that has torch and the test extra
#   WHEELS=dir OUT=dir bench/gpu_check.sh      where packages are missing: a folder of wheels to install first
#   STEPS="build tests limits" QUICK=1 LIMIT=100 bench/gpu_check.sh
#                                              some steps, the short benchmarks, each step stopped after 100 seconds
#
# Writes logs and JSON to OUT (default bench/results). Fails if anything fails, after having run all of it.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "${OUT:-$root/bench/results}"
out=$(cd "${OUT:-$root/bench/results}" && pwd)
python=${PYTHON:-python3}
failed=()

step() { # name, command...: runs it with its output in a log as well
  local name=$1 start=$SECONDS
  shift
  [[ " ${STEPS:-$name} " == *" $name "* ]] || return 0
  echo "==== $name"
  timeout "${LIMIT:-0}" "$@" 2>&1 | tee "$out/gpu_check_$name.log"
  [ "${PIPESTATUS[0]}" -eq 0 ] || failed+=("$name")
  echo "==== $name took $((SECONDS - start)) s"
}

if [ -n "${WHEELS:-}" ]; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  "$python" -m pip install --quiet --no-index --no-deps --target "$site" "$WHEELS"/*.whl || exit 1
  export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}" PATH="$site/bin:$PATH"
fi

cd "$root" || exit 1
step build env LESIONCORE_CUDA=ON "$python" -m pip install --no-build-isolation --no-deps .
# Away from the root, or the source folder would stand in for the installed package.
cd "$out" || exit 1
step info "$python" -c "from lesioncore.cli.installation import format_info, info; print(format_info(info(full=True)))"
step tests env LESIONCORE_REQUIRE_CUDA=1 "$python" -m pytest -m needs_cuda -c "$root/pyproject.toml" \
  --rootdir "$root" -p no:cacheprovider "$root/tests"
quick=(${QUICK:+--quick})
step limits "$python" "$root/bench/speed/machine_limits.py" --device cuda --precision tf32 "${quick[@]}" --out "$out"
for script in map_speed op_speed scaling; do
  step "$script" "$python" "$root/bench/speed/$script.py" --device cuda "${quick[@]}" --out "$out"
done
# PARTS="steps_tf32 volumes" measures these alone.
read -ra parts <<<"${PARTS:-}"
step restore_speed "$python" "$root/bench/restore_speed.py" --device cuda "${quick[@]}" ${PARTS:+--parts "${parts[@]}"} \
  --out "$out"
step number_formats "$python" "$root/bench/quality/number_formats.py" --device cuda --threads "$(nproc)" --out "$out"
step training_speed "$python" "$root/bench/speed/training_speed.py" --device cuda --batch-size 64 --updates 40 --out "$out"

if [ "${#failed[@]}" -gt 0 ]; then
  echo "failed: ${failed[*]}"
  exit 1
fi
echo "all passed"
