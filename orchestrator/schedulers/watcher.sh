# ---- orch watch as a job: the same for every state directory; its values stand above ----------
orch_task="${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
orch_restarts="${SLURM_RESTART_COUNT:-0}"
orch_watch=
# Preempted, or near the time limit: the watcher finishes its tick, and the job is brought back.
trap 'orch_heard=1; [ -z "$orch_watch" ] || kill -TERM "$orch_watch" 2>/dev/null' TERM USR2
export ORCH_HOME="$orch_home"
[ -z "$orch_site" ] || export ORCH_SITE="$orch_site"

orch_failures=0
while [ "$orch_heard" = 0 ]; do
    "$orch_python" -P -m orchestrator watch --until-idle --backend slurm &
    orch_watch=$!
    while :; do
        wait "$orch_watch"
        orch_code=$?
        kill -0 "$orch_watch" 2>/dev/null || break # `wait` returns for a signal, too
    done
    orch_watch=
    [ "$orch_heard" = 0 ] || break
    case "$orch_code" in
        0) exit 0 ;; # nothing is open any more, or it was asked to leave
        5) orch_failures=0 ;; # somebody else watches: stand by
        *)
            orch_failures=$((orch_failures + 1))
            [ "$orch_failures" -lt 20 ] || exit "$orch_code"
            ;;
    esac
    sleep 30 &
    wait $!
done

# A person's scancel must not be undone.
scontrol --oneliner show job "$orch_task" 2>&1 |
    "$orch_python" -P -m orchestrator.schedulers.slurm_again --restarts "$orch_restarts" || exit 75
for orch_try in 1 2 3 4 5; do
    # Always ARRAY_TASK: the raw id of an array's last task addresses the whole array.
    scontrol requeue "$orch_task" && break
    sleep 2
done
exit 75
