#!/bin/bash
# A stage on two machines with four GPUs each; run.devices is the number of one machine.
# Usage: sbatch examples/cluster/slurm_nodes.sh search search_fbnetv2 --set run.devices=4 --out DIR
# DIR lies where both machines can write. Slurm sends TERM to torchrun on both two minutes before
# the end, which passes it on; the same command submitted again continues.
#SBATCH --job-name=dcsnas
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun python -m dcsnas.torchrun --nnodes 2 --nproc-per-node 4 --rdzv-id "$SLURM_JOB_ID" \
  --rdzv-backend c10d --rdzv-endpoint "$first:29500" -m dcsnas "$@"
