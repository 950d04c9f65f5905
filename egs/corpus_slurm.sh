#!/usr/bin/env bash
# A token corpus of any size on a Slurm cluster: each task builds a part, the last job joins them.
#   LISTING=s3://bucket/talks.jsonl OUT=/shared/tokens egs/corpus_slurm.sh [PARTS] [CODEC]
# A task that is preempted, killed or out of time is queued again and goes on where it was; submit
# the whole again, and what is done is left alone.
set -euo pipefail
parts=${1:-64} codec=${2:-speech}
: "${LISTING:?what to encode}" "${OUT:?a folder that all nodes see}"
case $OUT in *://*) echo "OUT=$OUT: parts are joined in a folder, not behind a URL" >&2; exit 2 ;; esac
mkdir -p "$OUT.parts"

array=$(sbatch --parsable --job-name=tokens --array=0-$((parts - 1)) --requeue \
  --cpus-per-task="${CPUS:-16}" --mem-per-cpu=2G --time=24:00:00 --open-mode=append \
  --output="$OUT.parts/%a.log" ${SBATCH_MORE:-} --wrap \
  "audiotok corpus build '$LISTING' -o '$OUT.parts/'\$SLURM_ARRAY_TASK_ID --codec '$codec' \
     --shard \$SLURM_ARRAY_TASK_ID/$parts --jobs \$SLURM_CPUS_PER_TASK --accept-missing ${BUILD_MORE:-}")

# Parts in the order of their numbers; shards are linked, not copied.
sbatch --job-name=tokens-merge --dependency="afterok:$array" --output="$OUT.parts/merge.log" --wrap \
  "audiotok corpus merge \$(seq -f '$OUT.parts/%.0f' 0 $((parts - 1))) -o '$OUT' &&
   audiotok corpus verify '$OUT'"
