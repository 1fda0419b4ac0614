"""Write the pretrained miniature as OpenAI wrote GPT-2: a TensorFlow checkpoint of float16 variables, in gpt2/7M.

    python -m miniature.export          # after miniature.pretrain

Tokens that the pretraining text never used get the row they shared in pretraining, with a little noise, so that
fine-tuning can tell them apart.
"""

import numpy as np
import torch

from engine.tf_checkpoint import write_with_tensorflow
from miniature.pretrain import RESULT, SETTINGS
from scripts.export import openai_tensors
from scripts.tutorial import MINIATURE_DIR, ROOT

NOISE = 0.02


def full_embedding(rows, types):
    """The rows of the corpus's own tokens, put in their places among all of GPT-2's."""
    noise = NOISE * torch.randn(SETTINGS["n_vocab"], rows.shape[1], generator=torch.Generator().manual_seed(123))
    embedding = rows[-1] + noise  # (V, D)
    embedding[types] = rows[:-1]
    return embedding


def openai_variables(weights, types):
    """The weights as OpenAI's variables, in float16."""
    weights = weights | {"tok_emb.weight": full_embedding(weights["tok_emb.weight"], types)}
    return {f"model/{name}": array.astype(np.float16) for name, array in openai_tensors(weights, SETTINGS).items()}


if __name__ == "__main__":
    result = torch.load(RESULT)
    write_with_tensorflow(MINIATURE_DIR / "model.ckpt", openai_variables(result["weights"], result["types"]))
    size = sum(file.stat().st_size for file in MINIATURE_DIR.iterdir())
    print(f"wrote {size / 1e6:.1f} MB to {MINIATURE_DIR.relative_to(ROOT)}")
