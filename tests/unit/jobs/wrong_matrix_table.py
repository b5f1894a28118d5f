"""What each file of `wrong_matrices/` is told: line, column, key, parts of message and fix."""

from __future__ import annotations

Expected = tuple[int, int, str, str, str]

EXPECTED: dict[str, list[Expected]] = {
    "alias_bomb": [
        (14, 4, "", "anchor &a", "write the value out; no anchors"),
        (15, 4, "", "anchor &b", "write the value out; no anchors"),
        (16, 4, "", "anchor &c", "write the value out; no anchors"),
        (17, 4, "", "anchor &d", "write the value out; no anchors"),
        (18, 4, "", "anchor &e", "write the value out; no anchors"),
        (19, 4, "", "anchor &f", "write the value out; no anchors"),
        (20, 4, "", "anchor &g", "write the value out; no anchors"),
        (21, 4, "", "anchor &h", "write the value out; no anchors"),
        (22, 4, "", "anchor &i", "write the value out; no anchors"),
    ],
    "alias_without_anchor": [
        (
            6,
            27,
            "defaults.task",
            "alias *data",
            "write the value out; quote a text that begins with *",
        ),
    ],
    "axis_is_no_list": [
        (12, 13, "matrix.train.lr", "must be a list, not 0.001", "write a list: [0.001]"),
    ],
    "axis_named_seeds": [
        (12, 3, "matrix.seeds", "`seeds` is no field of a cell", "write `seed`"),
    ],
    "axis_of_no_field": [
        (
            12,
            3,
            "matrix.train.rate",
            "`train.rate` names no field",
            "known: adam_betas, adam_epsilon, best_metric, evaluate_every",
        ),
    ],
    "axis_value_of_wrong_type": [
        (12, 20, "matrix.train.lr[1]", "must be a number, not the text `fast`", "write a number"),
    ],
    "axis_without_section": [
        (12, 3, "matrix.lr", "`lr` names no field", "did you mean `train.lr`?"),
    ],
    "bad_indentation": [
        (
            9,
            4,
            "",
            "not YAML: while parsing a block mapping, expected <block end>, but fou",
            "check the indentation of this line",
        ),
    ],
    "bad_utf8": [
        (2, 9, "", "not UTF-8 (byte 0xf6)", "save the file as UTF-8"),
    ],
    "betas_of_three": [
        (11, 17, "defaults.train.adam_betas", "must have 2 items", "write a list of 2"),
    ],
    "block_words_in_mapping": [
        (
            12,
            3,
            "matrix.grid",
            "`grid` belongs into a block",
            "write `matrix:` as a list: put `- ` before the first key of ",
        ),
    ],
    "config_dropout_of_one": [
        (
            4,
            50,
            "defaults.model.config.resid_pdrop",
            "must be less than 1, not 1.0",
            "write a value less than 1",
        ),
    ],
    "config_key_is_a_list": [
        (
            4,
            46,
            "defaults.model.config.n_layer",
            "must be a whole number, not a list",
            "write a whole number; several values to try belong below `ma",
        ),
    ],
    "config_key_of_wrong_type": [
        (
            4,
            46,
            "defaults.model.config.n_layer",
            "must be a whole number, not 2.5",
            "write a whole number",
        ),
    ],
    "control_character": [
        (8, 17, "", "control character '\\x1b'", "remove it"),
    ],
    "control_character_in_path": [
        (6, 27, "defaults.task.path", "an escaped control character", "remove it"),
    ],
    "dash_in_front_of_name": [
        (
            2,
            7,
            "name",
            "`-rf` is no name",
            "use 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digi",
        ),
    ],
    "directive": [
        (1, 1, "", "a % directive", "remove the line"),
    ],
    "dotted_default": [
        (3, 1, "defaults.train.steps", "is required", "add `steps:`"),
        (
            7,
            3,
            "defaults.train.steps",
            "unknown key `train.steps`",
            "write it nested: `train:` with `steps:` inside",
        ),
    ],
    "duplicate_key": [
        (11, 5, "defaults.train.steps", "duplicate key `steps`, first on line 8", "keep one"),
    ],
    "empty_axis": [
        (
            12,
            13,
            "matrix.train.lr",
            "is an empty list",
            "write at least one value, or remove the axis",
        ),
    ],
    "empty_file": [
        (1, 1, "", "the file is empty", "write keys: version, name, defaults, matrix, seeds"),
    ],
    "empty_matrix": [
        (
            11,
            9,
            "matrix",
            "is empty",
            "write axes such as `train.lr: [1e-3, 3e-3]`, or leave it out",
        ),
    ],
    "empty_section": [
        (5, 10, "defaults.method", "is empty; it must be a mapping", "write a value"),
    ],
    "empty_seeds": [
        (13, 8, "seeds", "is an empty list", "write at least one seed"),
    ],
    "empty_value": [
        (10, 8, "defaults.train.lr", "is empty; it must be a number", "write a value"),
    ],
    "escape_in_name": [
        (2, 7, "name", "an escaped control character", "remove it"),
    ],
    "evaluation_never_happens": [
        (
            11,
            27,
            "defaults.train.evaluate_every_steps",
            "100 is more than train.steps 60: it would never happen",
            "write at most 60, or remove it (the end is always evaluated)",
        ),
    ],
    "exclude_is_a_mapping": [
        (13, 14, "matrix[0].exclude", "must be a list of conditions", "write `- {train.lr: 1e-3}`"),
    ],
    "exclude_leaves_nothing": [
        (12, 5, "matrix[0]", "no cell is left", "loosen `exclude` or `when`"),
    ],
    "exclude_matches_nothing": [
        (14, 20, "matrix[0].exclude[0].train.lr", "matches no cell", "the cells have 0.001, 0.003"),
    ],
    "family_without_support": [
        (
            4,
            19,
            "defaults.model.family",
            "method lora cannot tune family seq2seq",
            "supported: decoder",
        ),
    ],
    "field_given_twice": [
        (
            13,
            11,
            "matrix[0].set.train.lr",
            "`train.lr` is given twice in this block, first on line 12",
            "keep one",
        ),
    ],
    "fraction_of_steps": [
        (8, 12, "defaults.train.steps", "must be a whole number, not 60.5", "write a whole number"),
    ],
    "grace_exceeds_time_limit": [
        (
            15,
            16,
            "grace_seconds",
            "60 s is as long as the time limit of 1 min",
            "lower it, or raise resources.time_limit_minutes",
        ),
    ],
    "heads_do_not_divide": [
        (
            4,
            57,
            "defaults.model.config.n_embd",
            "`n_embd` 66 is not a multiple of `n_head` 4",
            "make n_embd a multiple of n_head",
        ),
    ],
    "home_in_model_path": [
        (
            4,
            34,
            "defaults.model.path",
            "`~/models/x`: `~` is not expanded; write the whole path",
            "give a directory, relative to the matrix file or below model",
        ),
    ],
    "huge_integer": [
        (
            8,
            12,
            "defaults.train.steps",
            "the whole number has more than 64 bits",
            "write at most 9223372036854775807",
        ),
    ],
    "indivisible_batch": [
        (
            10,
            19,
            "defaults.train.global_batch",
            "8 is not a multiple of engine.ranks 3",
            "write 9, or change engine.ranks",
        ),
    ],
    "indivisible_micro_batch": [
        (
            10,
            18,
            "defaults.train.micro_batch",
            "train.global_batch 8 is not a multiple of micro_batch × ranks = 3 × 1",
            "write a divisor of 8",
        ),
    ],
    "keep_1": [
        (14, 14, "save.keep", "must be at least 2, not 1", "write a value at least 2"),
    ],
    "key_of_another_method": [
        (
            5,
            24,
            "defaults.method.rank",
            "`rank` does not belong to method `full`",
            "remove it, or replace the whole `method`",
        ),
        (
            5,
            33,
            "defaults.method.alpha",
            "`alpha` does not belong to method `full`",
            "remove it, or replace the whole `method`",
        ),
    ],
    "length_exceeds_positions": [
        (
            6,
            61,
            "defaults.task.max_length",
            "256 exceeds the model's n_positions 128",
            "write at most 128, or raise model.config.n_positions",
        ),
    ],
    "list_as_key": [
        (10, 7, "defaults.train", "a list or mapping as a key", "use a word as the key"),
    ],
    "list_at_root": [
        (1, 1, "", "the file is a list", "write keys: version, name, defaults, matrix, seeds"),
    ],
    "list_without_axis": [
        (
            10,
            9,
            "defaults.train.lr",
            "must be a number, not a list",
            "write a number; several values to try belong below `matrix:`",
        ),
    ],
    "memory_cap_below_memory": [
        (
            15,
            24,
            "retry.max_memory_gb",
            "4 is less than resources.memory_gb 8",
            "write at least 8, or remove it",
        ),
    ],
    "merge_key": [
        (8, 5, "defaults.train", "merge key <<", "write the keys out"),
    ],
    "method_without_name": [
        (5, 3, "defaults.method.name", "is required", "add `name:`, one of lora, full"),
    ],
    "missing_version": [
        (1, 1, "version", "is required", "add `version: 1`"),
    ],
    "name_is_a_number": [
        (2, 7, "name", "must be text, not 2024", 'quote it, e.g. "2024"'),
    ],
    "name_too_long": [
        (
            2,
            7,
            "name",
            "`xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx… is no nam",
            "use 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digi",
        ),
    ],
    "negative_memory": [
        (
            14,
            24,
            "resources.memory_gb",
            "must be greater than 0, not -2",
            "write a value greater than 0",
        ),
    ],
    "negative_seed": [
        (13, 12, "seeds[1]", "must be a whole number of at least 0, not -2", "write 0, 1, 2, …"),
    ],
    "negative_steps": [
        (
            8,
            12,
            "defaults.train.steps",
            "must be greater than 0, not -5",
            "write a value greater than 0",
        ),
    ],
    "neither_path_nor_config": [
        (4, 10, "defaults.model", "give exactly one of `path` and `config`", "change one of them"),
    ],
    "newline_in_name": [
        (
            2,
            7,
            "name",
            "`wrong\\n#SBATCH --wrap=true` is no name",
            "use 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digi",
        ),
    ],
    "newline_in_path": [
        (6, 27, "defaults.task.path", "has a control character", "remove it"),
    ],
    "no_defaults": [
        (1, 1, "defaults.method", "is required", "add `method:`"),
        (1, 1, "defaults.model", "is required", "add `model:`"),
        (1, 1, "defaults.task", "is required", "add `task:`"),
        (1, 1, "defaults.train.steps", "is required", "add `steps:`"),
    ],
    "no_name": [
        (1, 1, "name", "is required", "add `name:`"),
    ],
    "no_task": [
        (3, 1, "defaults.task", "is required", "add `task:`"),
    ],
    "nodes_do_not_divide_ranks": [
        (
            14,
            20,
            "resources.nodes",
            "engine.ranks 1 is not a multiple of nodes 2",
            "give each node the same number of ranks",
        ),
    ],
    "not_finite": [
        (10, 9, "defaults.train.lr", "`.inf` is not a finite number", "write a finite number"),
    ],
    "octal": [
        (
            8,
            12,
            "defaults.train.steps",
            "`010` is octal to some readers and decimal to others",
            'write 10, or quote it: "010"',
        ),
    ],
    "only_a_comment": [
        (1, 1, "", "the file is empty", "write keys: version, name, defaults, matrix, seeds"),
    ],
    "parent_in_name": [
        (
            2,
            7,
            "name",
            "`../../etc` is no name",
            "use 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digi",
        ),
    ],
    "parent_in_package_task": [
        (
            6,
            27,
            "defaults.task.path",
            "no task `../data/quickstart` is shipped",
            "shipped: quickstart",
        ),
    ],
    "path_and_config": [
        (
            4,
            79,
            "defaults.model.path",
            "give exactly one of `path` and `config`",
            "change one of them",
        ),
    ],
    "prompt_runs_attribute": [
        (
            6,
            57,
            "defaults.task.prompt",
            "must have the field {input} once and no other",
            'write e.g. "Input: {input} Output: "',
        ),
    ],
    "quoted_number": [
        (
            10,
            9,
            "defaults.train.lr",
            "must be a number, not the text `1e-4`",
            "write 1e-4 without quotes",
        ),
    ],
    "quoted_number_in_axis": [
        (
            12,
            20,
            "matrix.train.lr[1]",
            "must be a number, not the text `1e-4`",
            "write 1e-4 without quotes",
        ),
    ],
    "rank_0": [
        (
            5,
            30,
            "defaults.method.rank",
            "must be greater than 0, not 0",
            "write a value greater than 0",
        ),
    ],
    "rehearsal_after_the_end": [
        (
            14,
            22,
            "rehearsal.at_step",
            "60 is not before the last step, train.steps 60",
            "write at most 59",
        ),
    ],
    "rehearsal_of_too_many": [
        (14, 32, "rehearsal.jobs", "5 is more than the 4 jobs of this matrix", "write at most 4"),
    ],
    "rehearsal_typo": [
        (14, 1, "rehearsal.at_step", "is required", "rename `at_steps` to `at_step`"),
        (14, 13, "rehearsal.at_steps", "unknown key `at_steps`", "did you mean `at_step`?"),
    ],
    "repeated_seed": [
        (13, 15, "seeds[2]", "seed 1 stands twice", "remove one of them"),
    ],
    "right_to_left_in_path": [
        (6, 27, "defaults.task.path", "an escaped control character", "remove it"),
    ],
    "run_section_in_defaults": [
        (7, 3, "defaults.resources", "`resources` is no default", "move it to the outermost level"),
    ],
    "same_job_two_ways": [
        (
            14,
            32,
            "matrix[1].set.resources.memory_gb",
            "this cell is the same job as lr=0.001-memory_gb=2.0-seed=1, but differ",
            "give both the same, or remove one of them",
        ),
        (
            14,
            32,
            "matrix[1].set.resources.memory_gb",
            "this cell is the same job as lr=0.001-memory_gb=2.0-seed=2, but differ",
            "give both the same, or remove one of them",
        ),
    ],
    "saves_never_happen": [
        (
            14,
            21,
            "save.every_steps",
            "500 is more than train.steps 60: nothing would be saved on the way",
            "write at most 60, or remove it",
        ),
    ],
    "section_outside_defaults": [
        (14, 1, "engine", "unknown key `engine`", "put `engine` below `defaults:`"),
    ],
    "seeds_zero": [
        (
            13,
            8,
            "seeds",
            "must be a list, not 0",
            "write a list such as [1, 2, 3], or how many (3 means 0, 1, 2",
        ),
    ],
    "steps_true": [
        (
            8,
            12,
            "defaults.train.steps",
            "must be a whole number, not the text `yes`",
            "write a whole number",
        ),
    ],
    "tabs": [
        (
            8,
            1,
            "",
            "not YAML: while scanning for the next token, found character '\\t' that",
            "indent with spaces, not with tabs",
        ),
    ],
    "tag": [
        (
            8,
            12,
            "defaults.train",
            "tag `tag:yaml.org,2002:python/object/apply:os.system`",
            "remove the tag",
        ),
    ],
    "task_without_files": [
        (
            6,
            27,
            "defaults.task.path",
            "has no train.tsv",
            "a task needs train.tsv, dev.tsv, test.tsv",
        ),
    ],
    "text_at_root": [
        (
            1,
            1,
            "",
            "the file is not a mapping",
            "write keys: version, name, defaults, matrix, seeds",
        ),
    ],
    "three_problems": [
        (
            5,
            30,
            "defaults.method.rank",
            "must be greater than 0, not 0",
            "write a value greater than 0",
        ),
        (
            10,
            9,
            "defaults.train.lr",
            "must be a number, not the text `1e-4`",
            "write 1e-4 without quotes",
        ),
        (13, 1, "sedes", "unknown key `sedes`", "did you mean `seeds`?"),
    ],
    "too_deep": [
        (
            14,
            27,
            "retry[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]",
            "nested deeper than 20 levels",
            "flatten it",
        ),
    ],
    "too_large_number": [
        (10, 9, "defaults.train.lr", "the number is too large", "write a number below 1e308"),
    ],
    "too_many_cells": [
        (11, 1, "matrix", "2,000,000 cells, the limit is 10,000", "remove values"),
    ],
    "two_documents": [
        (14, 1, "", "a second document", "keep one matrix in a file; remove `---`"),
    ],
    "unclosed_quote": [
        (
            6,
            28,
            "",
            "not YAML: while parsing a block mapping, expected <block end>, but fou",
            "check the quotes of this line and of those above",
        ),
    ],
    "underscored_number": [
        (
            8,
            12,
            "defaults.train.steps",
            "must be a whole number, not the text `1_000`",
            "write 1000 without quotes and `_`",
        ),
    ],
    "unknown_architecture": [
        (
            4,
            42,
            "defaults.model.architecture",
            "unknown architecture `gpt3` of family decoder",
            "did you mean `gpt2`?",
        ),
    ],
    "unknown_block_key": [
        (12, 5, "matrix[0].grids", "unknown key `grids`", "did you mean `grid`?"),
    ],
    "unknown_config_key": [
        (
            4,
            37,
            "defaults.model.config.num_layers",
            "unknown key `num_layers` of architecture gpt2",
            "did you mean `n_layer`?",
        ),
    ],
    "unknown_family": [
        (
            4,
            19,
            "defaults.model.family",
            "`decoders` is not one of decoder, seq2seq, encoder",
            "did you mean `decoder`?",
        ),
    ],
    "unknown_hub_model": [
        (
            4,
            34,
            "defaults.model.path",
            "`nobody/nothing-1b` is neither a directory nor in the hub's cache",
            "fetch it first (`hf download nobody/nothing-1b`), or put it ",
        ),
    ],
    "unknown_key": [
        (
            10,
            5,
            "defaults.train.learning_rate",
            "unknown key `learning_rate`",
            "did you mean `lr`?",
        ),
    ],
    "unknown_key_typo": [
        (
            9,
            5,
            "defaults.train.globel_batch",
            "unknown key `globel_batch`",
            "did you mean `global_batch`?",
        ),
    ],
    "unknown_lora_target": [
        (
            5,
            43,
            "defaults.method.targets[0]",
            "gpt2 has no module `q_proj` to adapt",
            "did you mean `c_proj`?",
        ),
    ],
    "unknown_method": [
        (5, 18, "defaults.method.name", "`loar` is not one of lora, full", "did you mean `lora`?"),
    ],
    "unknown_model_path": [
        (
            4,
            34,
            "defaults.model.path",
            "`./models/none`: no such directory",
            "give a directory, relative to the matrix file or below model",
        ),
    ],
    "unknown_package_task": [
        (6, 27, "defaults.task.path", "no task `quikstart` is shipped", "shipped: quickstart"),
    ],
    "unknown_schedule": [
        (
            11,
            15,
            "defaults.train.schedule",
            "`cosin` is not one of linear, cosine, constant",
            "did you mean `cosine`?",
        ),
    ],
    "unknown_task_path": [
        (
            6,
            27,
            "defaults.task.path",
            "`data/none`: no such directory",
            "give a directory, relative to the matrix file or below data_",
        ),
    ],
    "unknown_tokenizer": [
        (
            4,
            91,
            "defaults.model.tokenizer.path",
            "`./none`: no such directory",
            "give a directory, relative to the matrix file or below model",
        ),
    ],
    "unknown_top_level_key": [
        (13, 1, "sedes", "unknown key `sedes`", "did you mean `seeds`?"),
    ],
    "version_2": [
        (
            1,
            10,
            "version",
            "must be 1, not 2",
            "write `version: 1`, or use the orch that this file was writt",
        ),
    ],
    "vocabulary_in_config": [
        (
            4,
            37,
            "defaults.model.config.vocab_size",
            "`vocab_size` cannot be set here",
            "it is taken from the tokenizer; set model.tokenizer.vocab_si",
        ),
    ],
    "warmup_exceeds_steps": [
        (
            11,
            19,
            "defaults.train.warmup_steps",
            "`warmup_steps` 100 exceeds `steps` 60",
            "change one of them",
        ),
    ],
    "warmup_exceeds_steps_of_axis": [
        (
            11,
            19,
            "defaults.train.warmup_steps",
            "`warmup_steps` 50 exceeds `steps` 40",
            "change one of them",
        ),
    ],
    "when_never_holds": [
        (13, 18, "matrix[0].when.seed", "matches no cell", "the cells have 1, 2"),
    ],
    "wrong_type": [
        (
            8,
            12,
            "defaults.train.steps",
            "must be a whole number, not the text `sixty`",
            "write a whole number",
        ),
    ],
    "zero_ranks": [
        (7, 19, "defaults.engine.ranks", "must be at least 1, not 0", "write a value at least 1"),
    ],
    "zero_stage_4": [
        (
            7,
            24,
            "defaults.engine.zero_stage",
            "must be at most 3, not 4",
            "write a value at most 3",
        ),
    ],
    "zip_of_two_lengths": [
        (
            14,
            20,
            "matrix[0].zip.method.rank",
            "has 3 values, `train.lr` has 2",
            "give all lists of a `zip` one length",
        ),
    ],
}
