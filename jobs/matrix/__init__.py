"""The matrix: a YAML file that names experiments -> the jobs that it means.

    version: 1
    name: quickstart
    defaults:                          # sections: model, method, task, train, engine
      model: {family: decoder, config: {n_layer: 2, n_embd: 64}}
      method: {name: lora, rank: 8, alpha: 16}
      task: {name: tsv, path: "package:quickstart"}
      train: {steps: 60, global_batch: 8, lr: 1e-3}
    matrix: {train.lr: [1e-3, 3e-3]}   # one grid over dotted keys; or a list of blocks:
    # - grid: {train.lr: [1e-3, 3e-3]}       every combination
    #   zip: {method.rank: [4, 8], method.alpha: [8, 16]}      row by row
    #   set: {train.steps: 100}              the same in the whole block
    #   exclude: [{train.lr: 3e-3, seed: 2}] combinations to leave out
    #   when: {train.lr: [1e-3]}             keep only cells where this holds
    derive: {method.alpha: 2 * method.rank}   # what follows from other fields of a cell
    seeds: [1, 2]                      # or how many: 3 means 0, 1, 2; default: 0
    resources: {memory_gb: 2, time_limit_minutes: 30}
    save: {every_steps: 20}
    retry: {}
    grace_seconds: 30
    rehearsal: {at_step: 25, jobs: 1}  # preempt the first job once, to see it come back
    max_cells: 10000                   # more cells than this are refused, unexpanded

A cell may be any program instead (docs/command-jobs.md); its section is `command`:

    defaults:
      command: {argv: [python, train.py, --lr, "{lr}"], params: {lr: 1e-3}, code: [train.py]}
    matrix: {command.params.lr: [1e-3, 3e-3]}

A dotted key names any field of a cell (`train.lr`, `model.config.n_layer`, `resources.memory_gb`,
`seed`) or a whole section (`method`). A block that names `seed` is not crossed with `seeds`.
"""

from jobs.matrix.loading import Matrix, load_matrix
from jobs.matrix.outline import MAX_CELLS

__all__ = ["MAX_CELLS", "Matrix", "load_matrix"]
