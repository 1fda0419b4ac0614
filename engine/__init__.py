"""The engine behind the textbook: what is faster than the plain form, and what keeps a run from being lost.

    fast            batches without padding, the loss, the linear layer for few rows, memory that is kept
    precision       bfloat16 and float16 where the hardware has them
    lora            low-rank adapters: added, trained, merged
    generation      the key/value cache, prompts of different lengths in one batch, sampling, streams of tokens
    training_log    what a run has noted so far, what it prints, and when it must stop
    distributed     a model in parts on several processes: dealt out, trained, saved and gathered
    checkpoints     saving and resuming a training run; files that are written whole or not at all
    entries         people's data files as checked entries; the scores of answers
    fetch           downloads that go on where they stopped
    tf_checkpoint   TensorFlow's checkpoint format, read by memory map
    huggingface     GPT-2 from and to Hugging Face's format
    params          OpenAI's nested weights: made, flattened, checked
    settings        settings that come from the environment
    figures         the tutorial's drawings

They import only each other, never the modules beside the notebook.
"""
