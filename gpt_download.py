"""OpenAI's GPT-2 weights: which files a model has, where they come from, and what they hold.

A model folder, such as gpt2/124M, holds six files: `hparams.json` (the sizes), `encoder.json` and `vocab.bpe` (the
tokenizer), and a TensorFlow V2 checkpoint: `checkpoint` (its name), `model.ckpt.index` (which tensor lies where) and
`model.ckpt.data-00000-of-00001` (the tensors' bytes, one after another). The data file is mapped into memory, so that
opening 6 GB takes no time and no copy.

Folders in Hugging Face's format, with `model.safetensors` and `config.json`, are read as well. Whatever is wrong with
a folder's files, or with getting them, is reported as `CheckpointError`. How files are fetched, and how both formats
are read, stands in `engine/fetch.py`, `engine/tf_checkpoint.py` and `engine/huggingface.py`.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks

from engine import huggingface
from engine.fetch import CheckpointError, SourceError, download_file
from engine.params import misfit, nest_params
from engine.tf_checkpoint import map_tensors, read_with_tensorflow

BASE_URL = "https://openaipublic.blob.core.windows.net/gpt-2/models"
MIRROR = "https://f001.backblazeb2.com/file/LLMs-from-scratch/gpt2"  # the same files, kept for the book's readers
OPENAI_SIZES = {  # and the same weights on Hugging Face's hub
    "124M": "openai-community/gpt2", "355M": "openai-community/gpt2-medium", "774M": "openai-community/gpt2-large",
    "1558M": "openai-community/gpt2-xl",
}
FILES = ("hparams.json", "encoder.json", "vocab.bpe", "checkpoint", "model.ckpt.index",
         "model.ckpt.data-00000-of-00001")
TOKENIZER_SHA256 = {  # the same for every size; tiktoken pins the same two
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}
READERS = {"memmap": map_tensors, "tensorflow": read_with_tensorflow}
END_OF_TEXT = 50256  # GPT-2's only special token, which stands between the documents of its pretraining text
# Far above any GPT-2's: a file that says more is damaged, or something else.
HPARAMS_LIMITS = {"n_vocab": 10**6, "n_ctx": 10**6, "n_embd": 10**5, "n_head": 10**4, "n_layer": 10**3}


# --- Getting the files ---


def download_missing(model_size, model_dir):
    """Fetch those of OpenAI's files that a folder lacks: from OpenAI, else from a mirror, and say from where.

    GPT2_MIRROR may name other mirrors, base addresses with spaces in between. When none of these has the files, the
    same weights come from Hugging Face, in its format. Prints what fails; raises CheckpointError when all have failed.
    """
    sources = [BASE_URL, *os.environ.get("GPT2_MIRROR", MIRROR).split()]
    for name in FILES:
        if (model_dir / name).exists():
            continue
        if model_size not in OPENAI_SIZES:
            raise CheckpointError(f"{model_dir / name} is missing, and {model_size!r} is none of OpenAI's sizes "
                                  f"{', '.join(OPENAI_SIZES)}, so it can't be downloaded. (In Hugging Face's format a "
                                  f"folder has the files {', '.join(huggingface.FILES)}.)")
        for source in list(sources):
            try:
                download_file(f"{source.rstrip('/')}/{model_size}/{name}", model_dir / name)
                print(f"{name} came from {source}")
                break
            except SourceError as error:
                print(error)
                sources.remove(source)  # the next file isn't asked for where this one couldn't be had
        else:
            print(f"Falling back to {OPENAI_SIZES[model_size]} on Hugging Face")
            huggingface.download_from_hub(OPENAI_SIZES[model_size], model_dir)
            return


# --- The sizes and the tokenizer ---


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
        raise CheckpointError(f"{path} is not GPT-2's {path.name} ({error!r}): delete it to fetch it again") from error
    return settings


def is_huggingface(model_dir):
    """Whether a folder is in Hugging Face's format rather than in OpenAI's."""
    has = {name: Path(model_dir, name).exists() for name in ("hparams.json", "config.json", huggingface.WEIGHTS)}
    return has[huggingface.WEIGHTS] or (has["config.json"] and not has["hparams.json"])


def load_tokenizer(model_dir):
    """GPT-2's tokenizer, built from the `encoder.json` and `vocab.bpe` of a model folder without any network.

    Equal to `tiktoken.get_encoding("gpt2")`. Raises CheckpointError when a file is missing or isn't GPT-2's.
    """
    paths = {name: str(Path(model_dir, name)) for name in TOKENIZER_SHA256}
    for name, path in paths.items():
        try:
            digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        except OSError as error:
            raise CheckpointError(f"can't read {path}: {error}") from error
        if digest != TOKENIZER_SHA256[name]:
            raise CheckpointError(f"{path} is damaged (wrong sha256): delete it to fetch it again")
    ranks = data_gym_to_mergeable_bpe_ranks(paths["vocab.bpe"], paths["encoder.json"], TOKENIZER_SHA256["vocab.bpe"],
                                            TOKENIZER_SHA256["encoder.json"])
    # How GPT-2 cuts text before merging, as a pattern: contractions, then words, numbers and signs, each with a space
    # before it if there is one, then the remaining space. Source: OpenAI's gpt-2, src/encoder.py.
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    return tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks,
                             special_tokens={"<|endoftext|>": END_OF_TEXT})


# --- The weights ---


def tensor_shapes(settings):
    """The tensors of OpenAI's GPT-2 checkpoints: {name below "model/": shape}. D is the width, n_embd."""
    V, T, D = settings["n_vocab"], settings["n_ctx"], settings["n_embd"]
    shapes = {"wte": (V, D), "wpe": (T, D), "ln_f/g": (D,), "ln_f/b": (D,)}
    for i in range(settings["n_layer"]):
        for layer, d_in, d_out in (("attn/c_attn", D, 3 * D), ("attn/c_proj", D, D), ("mlp/c_fc", D, 4 * D),
                                   ("mlp/c_proj", 4 * D, D)):
            # Linear layers are stored as convolutions of width 1, that first dimension included.
            shapes |= {f"h{i}/{layer}/w": (1, d_in, d_out), f"h{i}/{layer}/b": (d_out,)}
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"h{i}/{norm}/g": (D,), f"h{i}/{norm}/b": (D,)}
    return shapes


def load_gpt2_params_from_tf_ckpt(ckpt_path, settings, reader="memmap"):
    """A checkpoint's weights as float32 arrays in the nested dictionary that `load_weights_into_gpt` takes.

    {"wte" (n_vocab, D), "wpe" (n_ctx, D), "g" (D,), "b" (D,), "blocks": [{"attn": {"c_attn": {"w" (D, 3D), "b" (3D,)},
    "c_proj": ...}, "mlp": {"c_fc": ..., "c_proj": ...}, "ln_1": {"g", "b"}, "ln_2": ...}, ...]}, where D is n_embd.
    Float32 tensors are views of the mapped file, float16 ones are converted. `reader` is one of READERS. Raises
    ValueError for another one, and CheckpointError when the files are damaged or don't hold the tensors that `settings`
    asks for.
    """
    check_reader(reader)
    tensors = {name.removeprefix("model/"): array for name, array in READERS[reader](ckpt_path).items()}
    return to_params(tensors, settings, ckpt_path)


def check_reader(reader):
    """Raise ValueError unless it is one of READERS."""
    if reader not in READERS:
        raise ValueError(f"reader is {reader!r}: want {' or '.join(READERS)}")


def to_params(tensors, settings, path):
    """Tensors by their names in `tensor_shapes` as float32 arrays in the nested dictionary. Raises CheckpointError,
    with the `path` they came from, unless they are those that `settings` asks for."""
    if fault := misfit(tensors, tensor_shapes(settings)):
        raise CheckpointError(f"{path} {fault}: it is no GPT-2 of the size in its settings")
    return nest_params({name: array.astype(np.float32, copy=False) for name, array in tensors.items()},
                       settings["n_layer"])


def download_and_load_gpt2(model_size, models_dir, reader="memmap"):
    """The sizes and weights of a model: (settings, params).

    The model lies in the folder `models_dir`/`model_size`, in OpenAI's or Hugging Face's format; if `model_size` is one
    of OpenAI's, 124M, 355M, 774M or 1558M, files that are missing are downloaded first, and when all are there, no
    network is used. `hf:<owner>/<name>` fetches a repository of Hugging Face's hub into the cache of `huggingface_hub`.
    `settings` is as `load_settings` gives it, `params` as `load_gpt2_params_from_tf_ckpt` does, which `reader`, for
    OpenAI's format, is for. Raises ValueError for a reader that isn't one of READERS, and CheckpointError for anything
    wrong with the files or the download.
    """
    check_reader(reader)
    if model_size.startswith("hf:"):
        model_dir = huggingface.download_from_hub(model_size.removeprefix("hf:"))
    else:
        model_dir = Path(models_dir, model_size)
    try:
        if not is_huggingface(model_dir):
            download_missing(model_size, model_dir)
        elif model_size in OPENAI_SIZES and huggingface.missing_files(model_dir):
            huggingface.download_from_hub(OPENAI_SIZES[model_size], model_dir)
        settings = load_settings(model_dir)
        if is_huggingface(model_dir):
            tensors = huggingface.map_tensors(model_dir, tensor_shapes(settings))
            return settings, to_params(tensors, settings, model_dir / huggingface.WEIGHTS)
        named = (model_dir / "checkpoint").read_text(errors="replace")
        if not named.startswith('model_checkpoint_path: "model.ckpt"\n'):
            raise CheckpointError(f"{model_dir / 'checkpoint'} doesn't name model.ckpt: delete it to fetch it again")
        return settings, load_gpt2_params_from_tf_ckpt(model_dir / "model.ckpt", settings, reader)
    except OSError as error:
        raise CheckpointError(f"can't read the files in {model_dir}: {error}") from error
