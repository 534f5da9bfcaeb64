#!/usr/bin/env bash
# Runs one job as several processes under Open MPI 4 or 5. Flags of mpirun stand before `--`, the command
# behind it:
#
#   bash launch/mpirun.sh -n 2 -- python -m rcnn_jax.train --config=rcnn_digits --workdir=runs/two
#   bash launch/mpirun.sh -n 16 --hostfile hosts --map-by ppr:8:node -- .venv/bin/python -m rcnn_jax.train ...
#
# One process a GPU: jax gives each the device with its number on the node. SIGTERM, SIGUSR1 and
# Ctrl-C ask all processes to save and stop (143, 130); a second Ctrl-C ends them at once. Otherwise
# the exit code is that of the process that failed first. Then the same command goes on.
set -uo pipefail

flags=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  flags+=("$1")
  shift
done
if [ $# -lt 2 ]; then
  echo "error: there is no command: put it behind \`--\`, as in mpirun.sh -n 2 -- python -m ..." >&2
  exit 2
fi
shift
version=$(mpirun --version 2>/dev/null | head -n 1)
if [[ $version != *"(Open MPI) "[45].* ]]; then
  echo "error: mpirun must be of Open MPI 4 or 5, is: ${version:-not installed}" >&2
  exit 2
fi
if [[ $version == *"(Open MPI) 5."* ]] && [ -z "${JAX_COORDINATOR_ADDRESS:-}" ]; then
  # jax reads the job from OMPI_MCA_orte_hnp_uri, which Open MPI 5 no longer sets.
  if [[ " ${flags[*]} " =~ \ --?(host|hostfile|machinefile|H)[\ =] ]]; then
    echo "error: on several machines Open MPI 5 needs JAX_COORDINATOR_ADDRESS=HOST:PORT in the" \
      "environment: a free port of the machine that process 0 runs on" >&2
    exit 2
  fi
  JAX_COORDINATOR_ADDRESS=127.0.0.1:$(
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
  )
  export JAX_COORDINATOR_ADDRESS
fi
[ "$(id -u)" = 0 ] && flags+=(--allow-run-as-root)
# To other nodes mpirun takes along only what it is told to.
for name in $(compgen -e | grep -E '^(PATH|LD_LIBRARY_PATH|VIRTUAL_ENV|(JAX|XLA|TF|NCCL|RCNN_JAX)_.*)$'); do
  flags+=(-x "$name")
done

# mpirun answers SIGTERM and SIGINT by killing its processes a second later, but passes SIGUSR1 on.
# So it gets only that, and stands in a session of its own, where no Ctrl-C of a terminal reaches it.
# Its default of binding a process to one core would leave jax a single thread.
PYTHONUNBUFFERED=1 setsid mpirun --bind-to none -x PYTHONUNBUFFERED "${flags[@]}" "$@" </dev/null &
job=$!
interrupts=0
# shellcheck disable=SC2317  # called by trap
interrupt() {
  interrupts=$((interrupts + 1))
  if [ "$interrupts" = 1 ]; then kill -USR1 "$job"; else kill -TERM "$job"; fi
}
trap 'kill -USR1 "$job"' TERM USR1
trap interrupt INT
wait "$job"
while kill -0 "$job" 2>/dev/null; do # it was a signal that ended the wait
  wait "$job"
done
wait "$job" # bash remembers it
code=$?
if [ "$interrupts" -gt 1 ] || { [ "$interrupts" = 1 ] && [ "$code" = 143 ]; }; then code=130; fi
exit "$code"
