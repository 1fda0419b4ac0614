"""The weight loader: which files a GPT-2 has, where they come from and what they hold; `load_gpt2` makes the model.

A model folder, such as gpt2/124M, holds six files: `hparams.json` (the sizes), `encoder.json` and `vocab.bpe` (the
tokenizer), and a TensorFlow V2 checkpoint: `checkpoint` (its name), `model.ckpt.index` (where each tensor is stored)
and `model.ckpt.data-00000-of-00001` (the tensors' bytes, one after another). The data file is mapped into memory. The
first load verifies its checksums; after that, a 6 GB model opens instantly, without a copy.

Folders in Hugging Face's format, with `model.safetensors` and `config.json`, are read as well. Whatever is wrong with
a folder's files, or with a download, is reported as `CheckpointError`. Downloading and parsing are in `weights/`.
"""

import json
import os
from pathlib import Path

import numpy as np

from previous_chapters import load_weights_into_gpt, mismatch
from weights import huggingface
from weights.empty import empty_model
from weights.errors import CheckpointError, SourceError
from weights.sizes import MODELS, OPENAI_SIZES, gpt_config, openai_settings
from weights.tf_checkpoint import map_tensors
from weights.tokenizer import END_OF_TEXT, load_tokenizer  # noqa: F401  for callers: a model comes with its tokenizer
from weights.transfer import download_from_first

BASE_URL = "https://openaipublic.blob.core.windows.net/gpt-2/models"
MIRROR = "https://f001.backblazeb2.com/file/LLMs-from-scratch/gpt2"  # the same files, kept for the book's readers
FILES = ("hparams.json", "encoder.json", "vocab.bpe", "checkpoint", "model.ckpt.index",
         "model.ckpt.data-00000-of-00001")
# Far above any GPT-2's: a file with larger numbers is damaged, or something else.
HPARAMS_LIMITS = {"n_vocab": 10**6, "n_ctx": 10**6, "n_embd": 10**5, "n_head": 10**4, "n_layer": 10**3}


# --- Getting the files ---


def model_folder(model_size, models_dir):
    """The folder of a model: `models_dir`/`model_size`. A model `hf:<owner>/<name>` is downloaded first, unless it is
    there: its folder is in Hugging Face's cache."""
    if model_size.startswith("hf:"):
        return huggingface.download_from_hub(model_size.removeprefix("hf:"))
    return Path(models_dir, model_size)


def download_missing(model_size, model_dir):
    """Download the files that are missing in a folder, in the format that it has; in OpenAI's, if it has none. Raises
    CheckpointError when that fails."""
    if not is_huggingface(model_dir):
        download_openai_files(model_size, model_dir)
    elif model_size in OPENAI_SIZES and huggingface.missing_files(model_dir):  # a download that was interrupted
        huggingface.download_from_hub(OPENAI_SIZES[model_size], model_dir)


def download_openai_files(model_size, model_dir):
    """Download the files of OpenAI's that are missing in a folder, from OpenAI or else from a mirror. Prints which
    source each file came from, and which sources failed.

    The environment variable GPT2_MIRROR replaces the mirror: base addresses, separated by spaces. If no source has all
    files, the same weights are downloaded from Hugging Face, in its format. Raises CheckpointError when that fails,
    too, or for a `model_size` that isn't one of OpenAI's.
    """
    sources = [BASE_URL, *os.environ.get("GPT2_MIRROR", MIRROR).split()]
    for name in FILES:
        if (model_dir / name).exists():
            continue
        if model_size not in OPENAI_SIZES:
            raise CheckpointError(f"{model_dir / name} is missing, and {model_size!r} is none of OpenAI's sizes "
                                  f"{', '.join(OPENAI_SIZES)}, so it can't be downloaded. (In Hugging Face's format a "
                                  f"folder has the files {', '.join(huggingface.FILES)}.)")
        urls = [f"{source.rstrip('/')}/{model_size}/{name}" for source in sources]
        try:
            number = urls.index(download_from_first(urls, model_dir / name))
        except SourceError as error:
            print(error)
            print(f"Falling back to {OPENAI_SIZES[model_size]} on Hugging Face")
            huggingface.download_from_hub(OPENAI_SIZES[model_size], model_dir)
            return
        sources = sources[number:]  # those that failed aren't asked for the next file
        print(f"{name} came from {sources[0]}")


# --- The sizes ---


def load_settings(model_dir):
    """The sizes in a folder's `hparams.json`, or `config.json` in Hugging Face's format: a dictionary with n_vocab,
    n_ctx, n_embd, n_head and n_layer. Raises CheckpointError for a file that isn't GPT-2's."""
    path = Path(model_dir, "hparams.json")
    try:
        if is_huggingface(model_dir):
            path = Path(model_dir, "config.json")
            settings = huggingface.read_sizes(model_dir)
        else:
            settings = json.loads(path.read_text(encoding="utf-8"))
        for name, limit in HPARAMS_LIMITS.items():
            if type(settings[name]) is not int or not 0 < settings[name] <= limit:
                raise ValueError(f"{name} is {settings[name]!r}, expected a whole number from 1 to {limit}")
        if settings["n_embd"] % settings["n_head"]:
            raise ValueError(f"n_head {settings['n_head']} does not divide n_embd {settings['n_embd']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not GPT-2's {path.name} ({error!r}): delete it to download it "
                              "again") from error
    return settings


def is_huggingface(model_dir):
    """Whether a folder is in Hugging Face's format rather than in OpenAI's."""
    weights, hub, openai = (Path(model_dir, name).exists()
                            for name in (huggingface.WEIGHTS, "config.json", "hparams.json"))
    return weights or (hub and not openai)


# --- The weights ---


def tensor_shapes(settings):
    """The tensors in OpenAI's checkpoint of a GPT-2 of these sizes: {name without "model/": shape}."""
    V, T, D = settings["n_vocab"], settings["n_ctx"], settings["n_embd"]
    shapes = {"wte": (V, D), "wpe": (T, D), "ln_f/g": (D,), "ln_f/b": (D,)}
    for i in range(settings["n_layer"]):
        for layer, d_in, d_out in (("attn/c_attn", D, 3 * D), ("attn/c_proj", D, D), ("mlp/c_fc", D, 4 * D),
                                   ("mlp/c_proj", 4 * D, D)):
            # Linear layers are stored as convolutions of width 1, which is their matrices' first dimension.
            shapes |= {f"h{i}/{layer}/w": (1, d_in, d_out), f"h{i}/{layer}/b": (d_out,)}
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"h{i}/{norm}/g": (D,), f"h{i}/{norm}/b": (D,)}
    return shapes


def load_gpt2_params_from_tf_ckpt(ckpt_path, settings):
    """A checkpoint's weights as float32 arrays in the nested dictionary that `load_weights_into_gpt` takes.

    {"wte": (n_vocab, D), "wpe": (n_ctx, D), "g": (D,), "b": (D,),
     "blocks": [{"attn": {"c_attn": {"w": (D, 3D), "b": (3D,)}, "c_proj": ...}, "mlp": {"c_fc": ..., "c_proj": ...},
                 "ln_1": {"g": (D,), "b": (D,)}, "ln_2": ...}, ...]}, with the arrays' shapes, where D is n_embd.

    Float32 tensors are views of the mapped file; float16 tensors are converted. Raises CheckpointError when the files
    are damaged or don't hold the tensors of a GPT-2 with these `settings`.
    """
    tensors = {name.removeprefix("model/"): array for name, array in map_tensors(ckpt_path).items()}
    return to_params(tensors, settings, ckpt_path)


def to_params(tensors, settings, path):
    """Tensors, {name as in `tensor_shapes`: array}, as that nested dictionary of float32 arrays. Raises
    CheckpointError, which names the `path` they came from, unless they are a GPT-2's with these `settings`."""
    if wrong := mismatch(tensors, tensor_shapes(settings)):
        raise CheckpointError(f"{path} {wrong}: is it of another model than the settings beside it? Delete the file "
                              "that is wrong")
    return nest_params({name: array.astype(np.float32, copy=False) for name, array in tensors.items()},
                       settings["n_layer"])


def nest_params(tensors, n_layer):
    """Arrays by their names in OpenAI's checkpoints, such as h0/attn/c_attn/w, as the nested dictionary that
    `load_gpt2_params_from_tf_ckpt` describes. Matrices lose their first dimension, of size 1."""
    params = {"blocks": [{} for _ in range(n_layer)]}
    for name, array in tensors.items():
        *path, last = name.removeprefix("ln_f/").split("/")  # such as h0, attn, c_attn and w; or wte alone
        place = params
        if path:
            block_number = int(path.pop(0).removeprefix("h"))
            place = params["blocks"][block_number]
        for key in path:
            place = place.setdefault(key, {})
        place[last] = array[0] if array.ndim == 3 else array
    return params


def check_name_file(path):
    """Raise CheckpointError unless a checkpoint's name file, `checkpoint`, names model.ckpt."""
    content = path.read_text(errors="replace")
    if not content.startswith('model_checkpoint_path: "model.ckpt"\n'):
        raise CheckpointError(f"{path} doesn't name model.ckpt: delete it to download it again")


def download_and_load_gpt2(model_size, models_dir):
    """The sizes and weights of a model: (settings, params).

    The model's folder is `models_dir`/`model_size`, in OpenAI's or Hugging Face's format. If `model_size` is one of
    OpenAI's (124M, 355M, 774M, 1558M), missing files are downloaded first; when all are there, no network is used.
    `hf:<owner>/<name>` downloads a repository of Hugging Face's hub into the cache of `huggingface_hub`.

    `settings` is what `load_settings` returns, `params` what `load_gpt2_params_from_tf_ckpt` returns. Raises
    CheckpointError for anything wrong with the files or the download.
    """
    model_dir = model_folder(model_size, models_dir)
    try:
        download_missing(model_size, model_dir)
        settings = load_settings(model_dir)
        if is_huggingface(model_dir):  # perhaps only since the download
            tensors = huggingface.map_tensors(model_dir, tensor_shapes(settings))
            return settings, to_params(tensors, settings, model_dir / huggingface.WEIGHTS)
        check_name_file(model_dir / "checkpoint")
        return settings, load_gpt2_params_from_tf_ckpt(model_dir / "model.ckpt", settings)
    except OSError as error:
        raise CheckpointError(f"can't read the files in {model_dir}: {error}") from error


def load_gpt2(name, models_dir, drop_rate=0.0):
    """A pretrained GPTModel on the CPU, in evaluation mode, and its config: (model, config).

    `name` is a key of `weights.sizes.MODELS`, such as "gpt2-small (124M)", or a `model_size` as
    `download_and_load_gpt2` takes it; that function finds or downloads the files. Float32 weights aren't copied: they
    are views of the mapped file. Raises CheckpointError as that function does, and for a folder whose sizes aren't
    those of `name` in MODELS.
    """
    model_size = MODELS[name].model_size if name in MODELS else name
    settings, params = download_and_load_gpt2(model_size, models_dir)
    config = gpt_config(settings, drop_rate)
    if name in MODELS and config != (expected := MODELS[name].config(drop_rate)):
        raise CheckpointError(f"{model_size} in {models_dir} holds another model than {name}: its sizes are "
                              f"{openai_settings(config)}, not {openai_settings(expected)}. Move that folder away to "
                              "download the model, or load it by the folder's name")
    model = empty_model(config)
    load_weights_into_gpt(model, params)
    return model.eval(), config
