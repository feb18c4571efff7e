#!/bin/sh
# Score a folder on a shared file system with a Slurm array of 64 tasks, then join the parts.
#
#   sbatch --array=1-64 examples/slurm.sh /shared/photos /shared/scores
#
# A task that is cut off (time limit, preemption) goes on where it was when it is queued again:
#   sbatch --array=1-64 examples/slurm.sh ...          (complete parts end at once)
# When all are done:
#   blurgate merge /shared/scores/part-*.csv --out /shared/scores/all.csv
#
#SBATCH --job-name=blurgate
#SBATCH --cpus-per-task=4
#SBATCH --mem=4G
#SBATCH --time=04:00:00
#SBATCH --requeue
set -eu

photos=$1
out=$2
part=$(printf '%s/part-%05d.csv' "$out" "$SLURM_ARRAY_TASK_ID")
mkdir -p "$out"

# 4 means that some pictures could not be read: they have rows that say so.
code=0
srun blurgate score "$photos" --csv "$part" --resume --quiet \
  --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" \
  --workers "$SLURM_CPUS_PER_TASK" || code=$?
[ "$code" -eq 0 ] || [ "$code" -eq 4 ]
