#!/bin/bash
# A stage on one machine, queued again when its time is up and continued where it stopped.
# Usage: sbatch examples/cluster/slurm.sh search search_fbnetv2 --set run.devices=4 --out runs/large
# Slurm sends USR1 to this script two minutes before the end. The stage then gets TERM, writes its
# checkpoint and ends; the job is queued again, and the same command goes on from there. Where Slurm
# takes the machine away (TERM), the stage stops in the same way and --requeue queues it again.
#SBATCH --job-name=dcsnas
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
time_is_up=
dcsnas "$@" &
stage=$!
trap 'time_is_up=yes; kill -TERM "$stage"' USR1
trap 'kill -TERM "$stage"' TERM
# a signal ends wait, not the stage
until wait "$stage"; status=$?; ! kill -0 "$stage" 2> /dev/null; do :; done
if [ "$time_is_up" ] && [ "$status" -gt 128 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
