#!/usr/bin/env bash
# Trains on all workers of a Cloud TPU VM, from the machine where `gcloud` is set up. Not run here.
#
#   export TPU=my-tpu ZONE=us-central2-b
#   bash launch/tpu_vm.sh install
#   bash launch/tpu_vm.sh train --config=rcnn_cifar10 --workdir=/mnt/runs/rcnn --data_dir=/mnt/data
#   bash launch/tpu_vm.sh stop      # all processes save and end; `train` again goes on
#
# The workdir lies on a file system that every worker mounts (Filestore, NFS): process 0 writes the
# logs, and all write their part of a checkpoint. jax finds the workers by itself. `install` takes the
# workers' python3, which must be 3.11 or newer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage="usage: TPU=name ZONE=zone bash launch/tpu_vm.sh install | train [flags...] | stop"
if [ -z "${TPU:-}" ] || [ -z "${ZONE:-}" ] || [ $# -lt 1 ]; then
  echo "$usage" >&2
  exit 2
fi
what=$1
shift

on() { # WORKER COMMAND
  gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker="$1" --command="$2"
}

case $what in
  install)
    on all "mkdir -p rcnn_jax_source"
    gcloud compute tpus tpu-vm scp --recurse --zone="$ZONE" --worker=all \
      rcnn_jax configs pyproject.toml hatch_build.py README.md LICENSE "$TPU:rcnn_jax_source/"
    on all "python3 -m venv rcnn_jax_venv && rcnn_jax_venv/bin/pip install --quiet './rcnn_jax_source[tpu]'"
    ;;
  train)
    # A session of its own: the run outlives this connection. `tail` shows it until it has ended.
    on all "setsid env PYTHONUNBUFFERED=1 rcnn_jax_venv/bin/python -m rcnn_jax.train $(printf '%q ' "$@") \
      </dev/null >>rcnn_jax.log 2>&1 & echo \$! >rcnn_jax.pid; tail --pid=\$! --lines=0 --follow rcnn_jax.log"
    ;;
  stop)
    # A signal to one process is a signal to all.
    on 0 "kill -USR1 \$(cat rcnn_jax.pid)"
    ;;
  *)
    echo "$usage" >&2
    exit 2
    ;;
esac
