#!/usr/bin/env bash
# Shows launch/mpirun.sh with Debian's Open MPI and two processes on this machine. As root:
#
#   VENV=/path/to/venv bash tests/launch/mpirun.sh     exit 0: shown, 77: skipped, why is in the last line
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/schedulers.sh"

folder=$(mktemp -d /tmp/mpirun.XXXXXX)
job=
cleanup() {
  [ -n "$job" ] && kill "$job" 2>/dev/null && wait "$job"
  rm -rf "$folder"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
export JAX_COMPILATION_CACHE_DIR=$folder/compiled

need_packages openmpi-bin

start() { # NAME LOG
  bash "$root/launch/mpirun.sh" -n 2 --oversubscribe -- "$venv/bin/python" -m rcnn_jax.train \
    --config=rcnn_digits --workdir="$folder/$1" "${flags[@]}" >"$folder/$2" 2>&1 &
  job=$!
}
ended() { # CODE LOG
  wait "$job"
  local code=$?
  job=
  [ "$code" = "$1" ] || { cat "$folder/$2"; fail "exit code $code and not $1"; }
  show "$folder/$2"
  echo "exit code $code"
}

say "two processes train together"
start straight straight.log
ended 0 straight.log
check_together "$folder/straight.log" 1
check_finished "$folder/straight"

say "SIGTERM: saved, 143; the same command goes on to the same result"
start stopped stopped.log
wait_for '^first step' "$folder/stopped.log" 180
kill "$job"
ended 143 stopped.log
grep -q 'saved step' "$folder/stopped.log" || fail "nothing was saved"
start stopped resumed.log
ended 0 resumed.log
grep -q 'resuming from the checkpoint of step' "$folder/resumed.log" || fail "it began anew"
check_finished "$folder/stopped"
cmp <(final_evaluation "$folder/straight") <(final_evaluation "$folder/stopped") ||
  fail "the interrupted run ends with another result than the unbroken one"

say "a rank is killed: mpirun ends the other; the same command goes on"
start killed killed.log
wait_for '^step     40' "$folder/killed.log" 180
kill_newest "$folder/killed"
ended 137 killed.log
start killed again.log
ended 0 again.log
grep -q 'resuming from the checkpoint of step' "$folder/again.log" || fail "it began anew"
check_finished "$folder/killed"

say "shown"
