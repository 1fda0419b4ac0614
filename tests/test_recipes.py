"""Recipes: what they say of a model, and how the given values replace theirs."""

import json
import shutil

import pytest

from tests.helpers import tokenizer_source
from tutorial.recipes import MINIATURE, PUBLISHED, recipe_for


@pytest.fixture
def on_hub(tmp_path, monkeypatch):
    """Puts a model with this context length on the hub, under any name."""
    def put(context_length):
        sizes = {"vocab_size": 50257, "n_positions": context_length, "n_embd": 8, "n_head": 2, "n_layer": 2}
        (tmp_path / "config.json").write_text(json.dumps(sizes))
        (tmp_path / "model.safetensors").touch()
        for source, name in (("encoder.json", "vocab.json"), ("vocab.bpe", "merges.txt")):
            shutil.copy(tokenizer_source(source), tmp_path / name)
        monkeypatch.setattr("weights.huggingface.download_from_hub", lambda name: tmp_path)
    return put


@pytest.mark.parametrize("of_model, of_recipe", [(512, 512), (1024, 1024), (2048, 1024)])
def test_a_recipe_asks_for_no_more_tokens_than_a_model_reads(on_hub, of_model, of_recipe):
    on_hub(of_model)
    assert recipe_for("hf:somebody/short") == PUBLISHED | {"context_length": of_recipe}


def test_given_values_replace_the_recipes():
    assert recipe_for("gpt2-mini (7M)") == MINIATURE and recipe_for("gpt2-xl (1558M)") == PUBLISHED
    given = recipe_for("gpt2-mini (7M)", "mine.json", num_epochs=3, lora_rank=4)
    assert given == MINIATURE | {"data_file": "mine.json", "num_epochs": 3, "learning_rate": 2.5e-3}
    assert recipe_for("gpt2-mini (7M)", learning_rate=1e-3, lora_rank=4)["learning_rate"] == 1e-3
    with pytest.raises(ValueError, match="unknown model 'gpt3': expected gpt2-mini"):
        recipe_for("gpt3")
