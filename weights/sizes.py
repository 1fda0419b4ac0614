"""The table of GPT-2's models: their names, their sizes, and where their weights are published."""

from typing import NamedTuple

VOCAB_SIZE = 50257
SIZE_NAMES = {  # {key of a GPTModel's config: key of OpenAI's hparams.json}
    "vocab_size": "n_vocab", "context_length": "n_ctx", "emb_dim": "n_embd", "n_heads": "n_head", "n_layers": "n_layer",
}


class Model(NamedTuple):
    """One row of the table."""

    model_size: str  # as `gpt_download.download_and_load_gpt2` takes it: a folder's name, or hf:<owner>/<name>
    hub: str         # the repository on Hugging Face's hub with the same weights as OpenAI's files; "" if there is none
    n_layers: int
    emb_dim: int
    n_heads: int
    context_length: int = 1024

    def config(self, drop_rate=0.0):
        """The config of this model, as GPTModel takes it."""
        return gpt_config({"n_vocab": VOCAB_SIZE, "n_ctx": self.context_length, "n_embd": self.emb_dim,
                           "n_head": self.n_heads, "n_layer": self.n_layers}, drop_rate)


MODELS = {
    "gpt2-mini (7M)": Model("7M", "", 4, 128, 4, 256),
    "distilgpt2 (82M)": Model("hf:distilbert/distilgpt2", "", 6, 768, 12),
    "gpt2-small (124M)": Model("124M", "openai-community/gpt2", 12, 768, 12),
    "gpt2-medium (355M)": Model("355M", "openai-community/gpt2-medium", 24, 1024, 16),
    "gpt2-large (774M)": Model("774M", "openai-community/gpt2-large", 36, 1280, 20),
    "gpt2-xl (1558M)": Model("1558M", "openai-community/gpt2-xl", 48, 1600, 25),
}
OPENAI_SIZES = {  # the models that OpenAI published, in its own format: {model_size: repository on the hub}
    model.model_size: model.hub for model in MODELS.values() if model.hub
}


def is_miniature(config):
    """Whether a config has the miniature's sizes."""
    return config | {"drop_rate": 0.0} == MODELS["gpt2-mini (7M)"].config()


def gpt_config(settings, drop_rate=0.0):
    """A GPTModel's config from OpenAI's `settings`, the contents of `hparams.json`."""
    return {ours: settings[theirs] for ours, theirs in SIZE_NAMES.items()} | {"drop_rate": drop_rate, "qkv_bias": True}


def openai_settings(config):
    """OpenAI's `settings`, as `hparams.json` has them, from a GPTModel's config."""
    return {theirs: config[ours] for ours, theirs in SIZE_NAMES.items()}
