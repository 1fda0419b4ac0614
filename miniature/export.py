"""Write the pretrained miniature as OpenAI wrote GPT-2: a TensorFlow checkpoint of float16 variables, in gpt2/7M.

    python -m miniature.export          # after miniature.pretrain

Tokens that don't occur in the pretraining text get the embedding that they shared in pretraining, with a little noise
so that fine-tuning can tell them apart.
"""

import numpy as np
import torch

from miniature.pretrain import CONFIG, RESULT
from scripts.export import openai_tensors
from tutorial import MINIATURE_DIR, ROOT
from weights.sizes import VOCAB_SIZE, openai_settings
from weights.tf_checkpoint import write_with_tensorflow

NOISE = 0.02


def full_embedding(rows, types):
    """The embedding of GPT-2's whole vocabulary, (V, D), from the rows of the P tokens `types` (P,) that the corpus
    has, and the one row that all others shared: (P + 1, D)."""
    noise = NOISE * torch.randn(VOCAB_SIZE, rows.shape[1], generator=torch.Generator().manual_seed(123))
    embedding = rows[-1] + noise                                                # (V, D)
    embedding[types] = rows[:-1]
    return embedding


def openai_variables(weights, types):
    """The weights as OpenAI's variables, in float16."""
    weights = weights | {"tok_emb.weight": full_embedding(weights["tok_emb.weight"], types)}
    tensors = openai_tensors(weights, openai_settings(CONFIG))
    return {f"model/{name}": array.astype(np.float16) for name, array in tensors.items()}


if __name__ == "__main__":
    result = torch.load(RESULT)
    write_with_tensorflow(MINIATURE_DIR / "model.ckpt", openai_variables(result["weights"], result["types"]))
    size = sum(file.stat().st_size for file in MINIATURE_DIR.iterdir())
    print(f"wrote {size / 1e6:.1f} MB to {MINIATURE_DIR.relative_to(ROOT)}")
