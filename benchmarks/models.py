"""Models with random weights, written in every format that is measured."""

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import CONFIGS, FOLDER, MEASURED
from gpt_download import END_OF_TEXT, load_gpt2
from scripts.export import chat_template
from tests.helpers import random_tensors, tokenizer_source, write_checkpoint
from weights.huggingface_export import write_model
from weights.sizes import openai_settings
from weights.tokenizer import TOKENIZER_SHA256


def write_huggingface(folder, size):
    """Write a model in Hugging Face's format: its sizes and tensors as OpenAI names them, (settings, tensors)."""
    settings = openai_settings(CONFIGS[size])
    tensors = random_tensors(settings, deviation=0.02)
    write_model(folder, tensors, settings, map(tokenizer_source, TOKENIZER_SHA256), END_OF_TEXT, chat_template())
    return settings, tensors


def write_models():
    """Write what bench.py measures in three formats, unless it exists."""
    from ctranslate2.converters import TransformersConverter  # only here: a worker decides how it is imported
    for size in MEASURED:
        folder = FOLDER / size
        if not (folder / "ctranslate2").exists():  # written last; for a new format, delete FOLDER
            write_checkpoint(folder, *write_huggingface(folder / "huggingface", size))
            with TemporaryDirectory(dir=folder) as unfinished:  # so that it is there whole or not at all
                TransformersConverter(str(folder / "huggingface")).convert(f"{unfinished}/ctranslate2")
                Path(unfinished, "ctranslate2").rename(folder / "ctranslate2")
        load_gpt2(size, FOLDER)  # verifies the checksums, now rather than while something is measured
