# ---- orch: the same for every submission; its values stand in the lines above ----------------
# Slurm signals only the ranks at the start of the grace time; this shell hears SIGTERM at its end.
# It must outlive that signal: it is the one who asks for the job to be brought back.
orch_task="${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
export OMP_NUM_THREADS="$orch_threads" SRUN_CPUS_PER_TASK="$orch_cpus"
if [ -n "$orch_caches" ]; then
    export HF_HOME="$orch_caches/huggingface" TORCH_EXTENSIONS_DIR="$orch_caches/torch_extensions"
fi

orch_cell() { # one cell of a packed allocation: its ranks, until nothing is left to do here
    trap : TERM # a subshell has no traps; it, too, must outlive the signal
    orch_launch=0
    while :; do
        orch_launch=$((orch_launch + 1))
        srun "${orch_share[@]}" --job-name="cell-$1" --open-mode=append \
            --output="$orch_submission/cells/$(printf %05d "$1").out" \
            --export=ALL --kill-on-bad-exit=0 --wait="$orch_wait" \
            "${orch_python[@]}" -P -m worker --submission "$orch_submission" --index "$1"
        orch_code=$?
        "${orch_python[@]}" -P -m jobs.packed left --submission "$orch_submission" --index "$1" \
            --restarts "${SLURM_RESTART_COUNT:-0}" --launch "$orch_launch" --code "$orch_code"
        orch_code=$?
        [ "$orch_code" = 3 ] || return "$orch_code" # 3: it left for itself alone
        sleep 1
    done
}

if [ "$orch_pack" -gt 1 ]; then
    orch_cells=$("${orch_python[@]}" -P -m jobs.packed begin --submission "$orch_submission" \
        --allocation "$SLURM_ARRAY_TASK_ID" --restarts "${SLURM_RESTART_COUNT:-0}") || exit
fi
if [ "$orch_heard" = 1 ]; then
    orch_code=143 # preempted while the site's own lines ran
elif [ "$orch_pack" -gt 1 ]; then
    orch_pids=()
    for orch_index in $orch_cells; do
        orch_cell "$orch_index" &
        orch_pids+=($!)
    done
    orch_code=0 # 75 if any cell is unfinished, else how the last one ended that has no result
    for orch_pid in "${orch_pids[@]}"; do
        while :; do
            orch_heard=0
            wait "$orch_pid"
            orch_one=$?
            [ "$orch_heard" = 1 ] || break
        done
        [ "$orch_code" = 75 ] || [ "$orch_one" = 0 ] || orch_code=$orch_one
        [ "$orch_one" != 75 ] || orch_code=75
    done
else
    # In the background, since a foreground command delays the trap. A rank that leaves must not
    # take the others along: they are saving. --export=ALL: this script was submitted with NONE.
    srun --export=ALL --kill-on-bad-exit=0 --wait="$orch_wait" \
        "${orch_python[@]}" -P -m worker --submission "$orch_submission" &
    orch_srun=$!
    while :; do
        orch_heard=0
        wait "$orch_srun"
        orch_code=$?
        [ "$orch_heard" = 1 ] || break # `wait` returned for the signal, not for srun
    done
fi

case "$orch_code" in
    # 75: saved, run me again. 138, 140, 143: USR1, USR2, TERM before the handlers stood.
    75 | 138 | 140 | 143) ;;
    *) exit "$orch_code" ;;
esac

# Is there progress? And did a person cancel the task? (`scontrol requeue` would undo that.)
scontrol --oneliner show job "$orch_task" 2>&1 |
    "${orch_python[@]}" -P -m orchestrator.schedulers.slurm_again \
        --submission "$orch_submission" --index "$SLURM_ARRAY_TASK_ID" \
        --restarts "${SLURM_RESTART_COUNT:-0}" || exit 75
for orch_try in 1 2 3 4 5; do
    # Always ARRAY_TASK: the raw id of an array's last task addresses the whole array.
    scontrol requeue "$orch_task" && break
    sleep 2
done
exit 75
