"""The engine: faster and safer paths for what the textbook, `previous_chapters.py`, does. Each is called by name.

    fast            packed_loss, in place of the textbook's calc_loss_batch: batches without padding
    generation      generate, in place of the textbook's: a key/value cache, prompts of different lengths, sampling,
                    streams of tokens
    packing         a batch without padding and repetitions, which `fast` and `generation` compute
    one_row         generation for a single row, in NumPy
    trainer         train and evaluate, in place of train_model_simple and calc_loss_loader: the full loop, for one
                    process and many
    training_log    the log of a run, with its printed lines and its bar
    comparison      whether a fast path computes what the textbook computes, for this very model
    structure       what a model is made of, and which parts aren't the textbook's
    probes          the tokens on which two paths are tried, and the results that are compared
    layers          linear layers with oneDNN's product
    memory          weights stored in rows, and freed memory that the process keeps during training
    models          a model's device, context length, dropout and mode
    checkpoints     saving and resuming a training run
    run_identity    whether a checkpoint is of the same run
    data_order      the order of the training batches, repeated when a run is resumed
    randomness      the random generators of a run, saved and restored
    distributed     a model sharded over several processes
    devices         whether a GPU computes what the CPU computes
    precision       bfloat16 and float16 where the hardware has them
    lora            low-rank adapters: added, trained, merged
    texts           what the project's modules print for a reader, in the reader's language

`fast` and `generation` compare themselves with the textbook first, and use the reference path, the textbook's own
functions, where they differ. The modules import each other, the textbook and `weights/`.
"""
