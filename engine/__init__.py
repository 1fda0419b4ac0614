"""The engine: faster and safer forms of what the textbook, `previous_chapters.py`, does. Each is called by name.

    fast            packed_loss for calc_loss_batch: batches without padding
    comparison      whether a fast form computes what the textbook computes, for this very model
    layers          oneDNN's product in linear layers; weights in rows, and memory that is kept
    generation      generate for generate: a key/value cache, prompts of different lengths, sampling, streams of tokens
    trainer         train for train_model_simple: the full loop, for one process and many; evaluate for calc_loss_loader
    checkpoints     saving and resuming a training run
    randomness      the random generators of a run, saved and restored
    distributed     a model in parts on several processes
    devices         whether a GPU computes what the CPU computes
    precision       bfloat16 and float16 where the hardware has them
    lora            low-rank adapters: added, trained, merged
    texts           what engine and tutorial say to a reader, in the reader's language

`fast` and `generation` compare themselves with the textbook first, and take the plain form where they differ. The
modules import each other, the textbook and `weights/`.
"""
