"""This project's model file, which holds a model's config and its weights."""

import torch

from previous_chapters import mismatch
from weights.empty import empty_model
from weights.files import atomic_write
from weights.sizes import SIZE_NAMES
from weights.values import plain

CONFIG_KEYS = {*SIZE_NAMES, "drop_rate", "qkv_bias"}


def gpt_mismatch(weights, model):
    """How weights, {name: tensor}, differ from those of a GPTModel, in words that follow 'the model', such as 'lacks
    the tensor ...'; None if they fit."""
    if wrong := mismatch(weights, {name: weight.shape for name, weight in model.state_dict().items()}):
        return wrong
    head, embedding = weights["out_head.weight"], weights["tok_emb.weight"]
    if head.data_ptr() != embedding.data_ptr() and not head.equal(embedding):
        return "has an output head that differs from its token embedding, though GPT-2 has one parameter for both"
    return None


def save_model(model, config, path):
    """Write a GPTModel's config and weights to one file, which `load_model` reads; whole or not at all.

    Raises ValueError unless the weights have the names and shapes of a GPTModel of this config; those of a model with
    adapters don't. How they are used isn't saved: an attention of one's own is the textbook's when loaded.
    """
    config = plain(config)
    weights = {name.replace("_orig_mod.", ""): weight  # the prefix that torch.compile adds
               for name, weight in model.state_dict().items()}
    if wrong := gpt_mismatch(weights, empty_model(config)):
        raise ValueError(f"the model {wrong}, so it is not a GPTModel of its config. Before saving, merge adapters and "
                         "take the model out of wrappers such as DistributedDataParallel")
    with atomic_write(path) as unfinished:
        torch.save({"config": config, "weights": weights}, unfinished)


def load_model(path):
    """The GPTModel in a file that `save_model` wrote, on the CPU, in evaluation mode, with its config: (model, config).

    Weights of 16 bits become float32. The file can't run code (`weights_only=True`). Raises ValueError for a file that
    `save_model` didn't write or that is damaged, and OSError for one that can't be opened.
    """
    with open(path, "rb") as file:
        try:
            saved = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # on foreign bytes, PyTorch's unpickler can raise anything
            raise ValueError(f"{path} is not a file that save_model wrote: it is damaged, or holds more than weights, "
                             "which weights_only=True refuses to read") from error
    config, weights = (saved.get("config"), saved.get("weights")) if isinstance(saved, dict) else (None, None)
    if not (isinstance(config, dict) and isinstance(weights, dict)
            and all(torch.is_tensor(weight) and weight.is_floating_point() for weight in weights.values())):
        raise ValueError(f"{path} is not a file that save_model wrote, which holds a config and weights: if it is a "
                         "bare state_dict, load it into a GPTModel(cfg) with load_state_dict, and save that with "
                         "save_model")
    if missing := CONFIG_KEYS.difference(config):
        raise ValueError(f"{path} is not a file that save_model wrote: its config lacks {', '.join(sorted(missing))}")
    try:
        model = empty_model(config)
    except Exception as error:  # a bad value can raise anything
        raise ValueError(f"{path} is not a file that save_model wrote: its config {config} makes no GPTModel "
                         f"({error})") from error
    if wrong := gpt_mismatch(weights, model):
        raise ValueError(f"{path} {wrong}: its weights are not those of a GPTModel with its config")
    model.load_state_dict({name: weight.float() if weight.itemsize < 4 else weight for name, weight in weights.items()},
                          assign=True)
    model.tie_weights()  # `assign` has made two parameters of one
    return model.eval(), config
