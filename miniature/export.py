"""Write the pretrained miniature as OpenAI wrote GPT-2: a TensorFlow checkpoint of float16 variables, in gpt2/7M.

    python miniature/export.py          # after miniature/pretrain.py

Tokens that the pretraining text never used get the row they shared in pretraining, with a little noise, so that
fine-tuning can tell them apart.
"""

import json

import numpy as np
import tensorflow.compat.v1 as tf
import torch

from pretrain import CONFIG, ROOT, STATE, VOCABULARY

FOLDER = ROOT / "gpt2/7M"
NOISE = 0.02


def full_embedding(rows, types):
    """The rows of the corpus's own tokens, put in their places among all of GPT-2's."""
    noise = NOISE * torch.randn(VOCABULARY, rows.shape[1], generator=torch.Generator().manual_seed(123))
    embedding = rows[-1] + noise  # (50257, D)
    embedding[types] = rows[:-1]
    return embedding


def openai_variables(weights, types):
    """Our names and (out, in) matrices become OpenAI's names and (1, in, out) matrices, as float16."""
    variables = {"wte": full_embedding(weights["tok_emb.weight"], types), "wpe": weights["pos_emb.weight"]}

    def norm(name, ours):
        variables[f"{name}/g"], variables[f"{name}/b"] = weights[f"{ours}.weight"], weights[f"{ours}.bias"]

    def linear(name, ours):
        variables[f"{name}/w"], variables[f"{name}/b"] = weights[f"{ours}.weight"].T[None], weights[f"{ours}.bias"]

    for i in range(CONFIG["n_layers"]):
        block = f"trf_blocks.{i}"
        norm(f"h{i}/ln_1", f"{block}.norm1")
        linear(f"h{i}/attn/c_attn", f"{block}.att.qkv")
        linear(f"h{i}/attn/c_proj", f"{block}.att.out_proj")
        norm(f"h{i}/ln_2", f"{block}.norm2")
        linear(f"h{i}/mlp/c_fc", f"{block}.ff.layers.0")
        linear(f"h{i}/mlp/c_proj", f"{block}.ff.layers.2")
    norm("ln_f", "final_norm")
    return {f"model/{name}": tensor.numpy().astype(np.float16) for name, tensor in variables.items()}


def save_checkpoint(variables, folder):
    """What OpenAI's files hold, written by the same tool."""
    with tf.Graph().as_default(), tf.Session() as session:
        for name, value in variables.items():
            tf.get_variable(name, initializer=value)
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver(write_version=tf.train.SaverDef.V2)
        saver.save(session, str(folder / "model.ckpt"), write_meta_graph=False)
    # the path relative to the folder, so that the folder can be moved
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt"\nall_model_checkpoint_paths: "model.ckpt"\n')


if __name__ == "__main__":
    state = torch.load(STATE)
    save_checkpoint(openai_variables(state["model"], state["types"]), FOLDER)
    (FOLDER / "hparams.json").write_text(json.dumps({
        "n_vocab": VOCABULARY, "n_ctx": CONFIG["context_length"], "n_embd": CONFIG["emb_dim"],
        "n_head": CONFIG["n_heads"], "n_layer": CONFIG["n_layers"]}) + "\n")
    print(f"wrote {sum(f.stat().st_size for f in FOLDER.iterdir()) / 1e6:.1f} MB to {FOLDER.relative_to(ROOT)}")
