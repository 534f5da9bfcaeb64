# Sourced by slurm.sh and mpirun.sh: what both need to show a real scheduler at work.
# shellcheck disable=SC2034,SC2154  # they set `folder`, and use the rest

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv=${VENV:-$root/.venv}
steps=150
# A small net on the built-in digits; every step is quick, so that a stop comes in between.
flags=(
  --config.model.features=8 --config.model.steps=1 --config.batch_size=32 --config.epochs=0
  "--config.steps=$steps" --config.evaluate_every=75 --config.checkpoint_every=20
  --config.log_every=20
)
export JAX_PLATFORMS=cpu JAX_DISABLE_MOST_OPTIMIZATIONS=1 # most of the time is the compiler's

say() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }
skip() {
  echo "skipped: $*"
  exit 77
}
fail() {
  echo "error: $*" >&2
  exit 1
}

# Installs Debian packages where they are missing, without starting any daemon.
need_packages() {
  [ "$(id -u)" = 0 ] || skip "needs root, to install $*"
  dpkg -s "$@" >/dev/null 2>&1 && return
  command -v apt-get >/dev/null || skip "needs apt-get, to install $*"
  say "installing $*"
  { apt-get update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } \
    >"$folder/apt.log" 2>&1 || skip "could not install $*: $(tail -n 1 "$folder/apt.log")"
}

# Waits until a file has a line with a text: wait_for TEXT FILE SECONDS.
wait_for() {
  local until=$((SECONDS + $3))
  until grep -qs "$1" "$2"; do
    [ "$SECONDS" -lt "$until" ] || { cat "$2"; fail "no '$1' in $2 after $3 s"; }
    sleep 0.2
  done
}

# A run has taken all its steps: the checkpoint and the last line of metrics are there, once each.
check_finished() {
  [ -d "$1/checkpoints/$steps" ] || fail "there is no checkpoint of step $steps in $1"
  [ "$(final_evaluation "$1" | wc -l)" = 1 ] ||
    fail "step $steps was not evaluated once: $(tail -n 3 "$1/metrics.jsonl")"
}

# Two processes were one job, in which a single one wrote.
check_together() {
  [ "$(grep -c '^first step' "$1")" = "$2" ] || fail "not one process alone reported its first step in $1"
  grep -q '2 processes' "$1" || fail "no word of 2 processes in $1"
}

# Kills the process of a job that was started last: kill_newest WORKDIR.
kill_newest() { kill -KILL "$(pgrep --newest --full "python -m rcnn_jax.train .*--workdir=$1 ")"; }

# A log without what is long.
show() { grep -vE '^(step|conv|rcl|head|parameter|-)|\[Gloo\]' "$1"; }

# The numbers of the last evaluation; training lines average since the last start.
final_evaluation() { grep "\"step\": $steps, .*\"split\"" "$1/metrics.jsonl"; }
