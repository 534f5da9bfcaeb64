#!/usr/bin/env bash
# Shows launch/slurm.sbatch on a SLURM of its own: Debian's, one node, which is this machine. As root:
#
#   VENV=/path/to/venv bash tests/launch/slurm.sh      exit 0: shown, 77: skipped, why is in the last line
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/schedulers.sh"

folder=$(mktemp -d /tmp/slurm.XXXXXX)
daemons=() # pid files
cleanup() {
  scancel --user=root >/dev/null 2>&1
  for file in "${daemons[@]}"; do
    [ -s "$file" ] && kill "$(cat "$file")" && while kill -0 "$(cat "$file")"; do sleep 0.1; done
  done 2>/dev/null
  rm -rf "$folder"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
export JAX_COMPILATION_CACHE_DIR=$folder/compiled

need_packages slurmctld slurmd slurm-client munge
host=$(hostname -s)
getent hosts "$host" >/dev/null || skip "the name of this machine, $host, has no address"

say "starting munged, slurmctld and slurmd"
mkdir "$folder"/{munge,state,spool}
chmod 700 "$folder/munge"
(umask 077 && head -c 1024 /dev/urandom >"$folder/munge/key")
munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
  --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" ||
  fail "munged did not start: $(cat "$folder/munge/log")"
daemons+=("$folder/munge/pid")
# Two tasks on a machine with a single core, too; no control groups; and a job that is queued again
# starts after five seconds (cred_expire) and not two minutes.
cat >"$folder/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthInfo=socket=$folder/munge/socket,cred_expire=5
SlurmctldPort=26817
SlurmdPort=26818
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
KillWait=10
MinJobAge=3600
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES
END
export SLURM_CONF=$folder/slurm.conf
daemons+=("$folder/slurmctld.pid" "$folder/slurmd.pid")
{ slurmctld && slurmd; } || fail "a daemon did not start: $(cat "$folder"/slurm*.log)"
for _ in {1..100}; do
  sinfo --noheader --format=%T 2>/dev/null | grep -q idle && break
  sleep 0.2
done
sinfo || fail "slurmctld does not answer: $(cat "$folder"/slurm*.log)"

submit() { # NAME [flags of training]: prints the number of the job
  local name=$1
  shift
  WORKDIR=$folder/$name VENV=$venv GRACE=5 sbatch --parsable --nodes=1 --ntasks-per-node=2 --cpus-per-task=1 \
    --gpus-per-node=0 --output="$folder/$name.log" "$root/launch/slurm.sbatch" "${flags[@]}" "$@" ||
    fail "sbatch refused the script"
}
ended() { # NUMBER STATE RESTARTS
  local until=$((SECONDS + 180)) job
  until job=$(scontrol show job "$1") && [[ $job == *JobState=[CF]* && $job != *=COMPLETING* ]]; do
    [ "$SECONDS" -lt "$until" ] || fail "job $1 does not end: $job"
    sleep 0.2
  done
  [[ $job == *"JobState=$2 "* && $job == *"Restarts=$3 "* ]] || fail "job $1 must be $2 after $3 restarts: $job"
}

say "two tasks train together"
job=$(submit straight) || exit 1
wait_for 'evaluate with' "$folder/straight.log" 180
ended "$job" COMPLETED 0
check_together "$folder/straight.log" 1
check_finished "$folder/straight"
show "$folder/straight.log"

say "the warning of a time limit: saved, queued again, resumed, finished"
job=$(submit warned) || exit 1
wait_for '^first step' "$folder/warned.log" 180
scancel --signal=USR1 "$job" # as --signal=USR1@120 has it sent
wait_for 'saved step' "$folder/warned.log" 60
wait_for 'resuming from the checkpoint of step' "$folder/warned.log" 180
ended "$job" COMPLETED 1
check_together "$folder/warned.log" 2
check_finished "$folder/warned"
cmp <(final_evaluation "$folder/straight") <(final_evaluation "$folder/warned") ||
  fail "the interrupted run ends with another result than the unbroken one"
show "$folder/warned.log"

say "a task is killed: queued again, resumed from the newest checkpoint, finished"
job=$(submit killed) || exit 1
wait_for '^step     40' "$folder/killed.log" 180
kill_newest "$folder/killed"
wait_for 'resuming from the checkpoint of step' "$folder/killed.log" 180
ended "$job" COMPLETED 1
check_finished "$folder/killed"
show "$folder/killed.log"

say "a mistake: not queued again"
job=$(submit mistaken --config.model.featuress=8) || exit 1
ended "$job" FAILED 0
grep -q 'exit code 2: not started again' "$folder/mistaken.log" || fail "$(cat "$folder/mistaken.log")"
show "$folder/mistaken.log"

say "shown"
