"""GPT-2 from Hugging Face's format: a folder with `model.safetensors` (the tensors), `config.json` (the sizes),
`vocab.json` and `merges.txt` (the tokenizer), or `tokenizer.json` in place of these two.

The tensors' names are those of GPT2LMHeadModel in transformers (models/gpt2/modeling_gpt2.py), with or without the
prefix `transformer.`; matrices are input-first, as OpenAI's. The library `safetensors` reads tensors from a memory map.
A folder that isn't GPT-2's, or isn't complete, is reported as CheckpointError.
"""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from weights.errors import CheckpointError
from weights.sizes import VOCAB_SIZE
from weights.transfer import network_in_words

WEIGHTS = "model.safetensors"
FILES = ("config.json", "vocab.json", "merges.txt", WEIGHTS)
TOKENIZER = "tokenizer.json"  # can replace vocab.json and merges.txt
SIZES = {  # {key of OpenAI's hparams.json: key of config.json}
    "n_vocab": "vocab_size", "n_ctx": "n_positions", "n_embd": "n_embd", "n_head": "n_head", "n_layer": "n_layer",
}
ARCHITECTURE = {  # what config.json may say; the first is the default, which a missing key means
    "model_type": ("gpt2",), "activation_function": ("gelu_new", "gelu_pytorch_tanh"), "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,), "add_cross_attention": (False,),
    "tie_word_embeddings": (True,), "vocab_size": (VOCAB_SIZE,),
}
EXPECTED_FILES = (
    f"it needs {', '.join(FILES)} ({TOKENIZER} can replace vocab.json and merges.txt). If its weights are in several "
    "files or in another format, save them as one such file first, for instance with transformers' "
    "save_pretrained(folder, max_shard_size='99GB')"
)
MASK_NAMES = re.compile(r"h\.\d+\.attn\.(masked_)?bias")  # constants that older versions of transformers stored, too
VOCABULARY_SHA256 = "189a8db8c2678d0d6b7eebf20882214d46b7cce5c56cc1ea3f8008e710f8fcbd"  # see check_vocabulary
PUBLISHED_SHA256 = {  # of model.safetensors; only where several independent copies agree
    "openai-community/gpt2": "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
}


def download_from_hub(repository, folder=None):
    """Download a repository of Hugging Face's hub, such as distilbert/distilgpt2, and return the folder with its FILES.

    `huggingface_hub` downloads what isn't there yet, into its cache or into `folder`. Its environment variables, such
    as HF_ENDPOINT, HF_TOKEN and HF_HOME, work as it documents them. Raises CheckpointError when the files can't be
    downloaded, or the weights aren't the published ones.
    """
    from huggingface_hub import snapshot_download  # only here: importing it takes a while
    from huggingface_hub.utils import httpx  # the HTTP library that this version uses, whose errors it passes on
    try:
        folder = Path(snapshot_download(repository, allow_patterns=[*FILES, TOKENIZER], local_dir=folder))
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, ImportError) as error:
        # ValueError: a bad name, no JSON, a proxy of an unknown kind. ImportError: a proxy that needs another library.
        raise CheckpointError(f"could not download {repository!r} from Hugging Face: {error}. Check the name and "
                              f"{network_in_words()}; HF_ENDPOINT can name another host") from error
    if missing_files(folder):
        raise CheckpointError(f"{repository!r} on Hugging Face has no {missing_files(folder)}, or can't be reached; "
                              + EXPECTED_FILES)
    if repository in PUBLISHED_SHA256:
        path = (folder / WEIGHTS).resolve()  # in the cache, the name is a link
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != PUBLISHED_SHA256[repository]:
            path.unlink()  # or huggingface_hub would take it for complete the next time
            raise CheckpointError(f"{path} wasn't the published file of {repository} (wrong sha256), so it was "
                                  "deleted: run this again to download it again")
    return folder


def missing_files(folder):
    """The names of the files that a folder lacks, as one text; "" if it has all that are needed."""
    needed = ("config.json", WEIGHTS) if Path(folder, TOKENIZER).exists() else FILES
    return ", ".join(name for name in needed if not Path(folder, name).exists())


def read_sizes(folder):
    """The sizes in a folder's `config.json`, by the names of OpenAI's `hparams.json`. Raises CheckpointError when a
    file is missing, and when the architecture or the tokenizer isn't GPT-2's."""
    if missing_files(folder):
        raise CheckpointError(f"{folder} has no {missing_files(folder)}; {EXPECTED_FILES}")
    path = Path(folder, "config.json")
    config = read_json(path)
    allowed = ARCHITECTURE | {"n_inner": (None, 4 * config["n_embd"] if type(config.get("n_embd")) is int else None)}
    for key, values in allowed.items():
        if config.get(key, values[0]) not in values:
            raise CheckpointError(f"{path} is not GPT-2's: {key} is {config[key]!r}, not "
                                  + " or ".join(map(repr, values)))
    check_vocabulary(folder)
    return {openai: config.get(hub) for openai, hub in SIZES.items()}


def read_json(path):
    """The object in a JSON file, a dictionary. Raises CheckpointError when there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"can't read {path}: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return content


def check_vocabulary(folder):
    """Raise CheckpointError unless `vocab.json` and `merges.txt`, or in their absence `tokenizer.json`, have GPT-2's
    tokens and merges, in whatever layout."""
    in_two_files = all(Path(folder, name).exists() for name in ("vocab.json", "merges.txt"))
    vocabulary = read_vocabulary(folder) if in_two_files else read_tokenizer(Path(folder, TOKENIZER))
    content = json.dumps(vocabulary, sort_keys=True)
    if hashlib.sha256(content.encode()).hexdigest() != VOCABULARY_SHA256:
        files = "vocab.json, merges.txt" if in_two_files else TOKENIZER
        raise CheckpointError(f"{folder} has another vocabulary than GPT-2's ({files}), but the tokenizer here is "
                              "always GPT-2's")


def read_vocabulary(folder):
    """The tokens, {text: id}, in `vocab.json` and the merges in `merges.txt`."""
    path = Path(folder, "merges.txt")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"can't read {path}: {error}") from error
    return read_json(Path(folder, "vocab.json")), [line for line in lines if line and not line.startswith("#version")]


def read_tokenizer(path):
    """The tokens and merges in a `tokenizer.json`, as `read_vocabulary` returns them. The library `tokenizers` writes
    such files. Raises CheckpointError if one splits texts in another way than GPT-2's tokenizer."""
    content = read_json(path)
    try:
        model, pre_tokenizer = content["model"], content["pre_tokenizer"]
        if content["normalizer"] or pre_tokenizer["type"] != "ByteLevel" or pre_tokenizer["add_prefix_space"]:
            raise CheckpointError(f"{path} prepares texts in another way than GPT-2's tokenizer, the only one here")
        added = {token["content"]: token["id"] for token in content["added_tokens"] if token["id"] < VOCAB_SIZE}
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
        return model["vocab"] | added, merges
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a tokenizer's: {error!r}") from error


def map_tensors(folder, names):
    """The tensors of `model.safetensors` by OpenAI's `names`, as float32 arrays in OpenAI's shapes: {name: array}.

    OpenAI stores a linear layer as a convolution of width 1, whose matrix has a first dimension of size 1. Float32
    tensors are views of the mapped file; writing to them changes memory, never the file. Other types are converted.
    Tensors that are none of `names` keep their own name. Raises CheckpointError when the file is damaged, or has an
    output head of its own.
    """
    path, openai_name = Path(folder, WEIGHTS), {huggingface_name(name): name for name in names}
    tensors = {}
    try:
        with safe_open(path, framework="pt") as file:
            for full_name in file.keys():  # noqa: SIM118  `file` isn't a dictionary
                name = full_name.removeprefix("transformer.")
                if not MASK_NAMES.fullmatch(name):
                    array = file.get_tensor(full_name).to(torch.float32).numpy()
                    name = openai_name.get(name, name)
                    tensors[name] = array[None] if name.endswith("/w") else array
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.resolve()} is damaged or not a safetensors file ({error}): delete it and "
                              "download it again") from error
    head = tensors.pop("lm_head.weight", None)
    if head is not None:
        embedding = tensors.setdefault("wte", head)  # some programs write the head alone, since both are the same
        if not np.array_equal(head, embedding):
            raise CheckpointError(f"{path} has an output head, lm_head.weight, that differs from the token embedding; "
                                  "in GPT-2 they are one")
    return tensors


def huggingface_name(name):
    """Hugging Face's name of a tensor, from OpenAI's: h.0.attn.c_attn.weight from h0/attn/c_attn/w."""
    *path, kind = re.sub(r"^h(\d+)", r"h/\1", name).split("/")
    return ".".join([*path, {"w": "weight", "g": "weight", "b": "bias"}.get(kind, f"{kind}.weight")])
