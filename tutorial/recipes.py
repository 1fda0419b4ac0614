"""Recipes: which data a model is fine-tuned on, and with which settings."""

import torch

from engine.lora import add_lora
from gpt_download import load_settings, model_folder
from weights.sizes import MODELS

PUBLISHED = {  # the book's data and recipe, for OpenAI's models
    "data_file": "instruction-data.json",
    "urls": ("https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/"
             "ch07/01_main-chapter-code/instruction-data.json",
             "https://cdn.jsdelivr.net/gh/rasbt/LLMs-from-scratch@main/"  # the same file, where GitHub can't be reached
             "ch07/01_main-chapter-code/instruction-data.json"),
    "sha256": "7e09a9af353722ca15c18bc580f093f9c39d3178335a75177319cb1e1d163944",
    "learning_rate": 5e-5, "num_epochs": 2, "linear_decay": False, "max_norm": None,
    "mask_instruction": False, "context_length": 1024, "precision": "auto",
}
MINIATURE = {
    "data_file": "data/mini-instructions.json", "urls": (), "sha256": None,
    "learning_rate": 2.5e-4, "num_epochs": 2, "linear_decay": True, "max_norm": 1.0,
    "mask_instruction": True, "context_length": 256, "precision": "float32",
}


def recipe_for(model, data_file=None, num_epochs=None, learning_rate=None, lora_rank=0):
    """The recipe for a model, with the given values in place of its own.

    model: a key of MODELS, or hf:<owner>/<name>. A model of the second kind is downloaded, since its context may be
    shorter than the recipe's. Raises ValueError for an unknown model, CheckpointError if the download fails.
    """
    if model not in MODELS and not model.startswith("hf:"):
        raise ValueError(f"unknown model {model!r}: expected {', '.join(MODELS)}, or hf:<owner>/<name>")
    recipe = dict(MINIATURE if model == "gpt2-mini (7M)" else PUBLISHED)
    if model.startswith("hf:"):
        n_ctx = load_settings(model_folder(model, models_dir=""))["n_ctx"]  # the hub's cache has no models_dir
        recipe["context_length"] = min(recipe["context_length"], n_ctx)
    if data_file:
        recipe |= {"data_file": data_file, "urls": (), "sha256": None}
    if num_epochs is not None:
        recipe["num_epochs"] = num_epochs
    if learning_rate is not None:
        recipe["learning_rate"] = learning_rate
    elif lora_rank:
        recipe["learning_rate"] *= 10  # adapters need larger steps
    return recipe


def prepare_training(model, lora_rank=0):
    """The parameters for the optimiser: all of the model's or, with a rank above 0, those of adapters.

    Adapters are put into the model here. Their first values are the same each time, since PyTorch's generator is seeded
    for them.
    """
    if lora_rank:
        torch.manual_seed(123)
        add_lora(model, lora_rank)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
