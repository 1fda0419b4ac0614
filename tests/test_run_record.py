"""The record of a run, and the comparison of two."""

import copy
import hashlib
import json

import numpy as np
import pytest
import torch

from scripts.compare import main
from tests.small_models import float32_model
from tutorial.run_record import hash_of_code, hash_of_weights, write_record

RUN = {"settings": {"learning_rate": 2.5e-4, "batch_size": 8}, "hashes": {"data": "ab" * 32, "weights": "cd" * 32},
       "losses": {1: 2.0, 2: 1.5, 3: 1.25, 4: 1.0}, "scores": {"exact": 0.9}}


def write(folder, name, **changes):
    write_record(folder / name, **(copy.deepcopy(RUN) | changes))
    return folder / name


@pytest.fixture
def compare(monkeypatch, capsys):
    """Runs scripts/compare.py in this process: what it prints."""
    def compare(*paths):
        monkeypatch.setattr("sys.argv", ["compare.py", *map(str, paths)])
        main()
        return capsys.readouterr().out
    return compare


def test_a_record_holds_what_made_the_result(tmp_path):
    path = write(tmp_path, "run.json", scores={"exact": np.float64(0.9)}, losses={1: torch.tensor(2.0)})
    record = json.loads(path.read_text())
    assert record["settings"] == RUN["settings"] and record["scores"] == {"exact": 0.9}
    assert record["losses"] == {"1": 2.0}
    assert record["versions"]["torch"] == torch.__version__ and record["versions"]["numpy"] == np.__version__
    assert record["hashes"] == RUN["hashes"] | {"code": hash_of_code()}


def test_equal_runs(tmp_path, compare):
    printed = compare(write(tmp_path, "a.json"), write(tmp_path, "b.json"))
    assert printed == "losses: equal in all of 4 steps\nscores: exact 0.9 and 0.9\n"


def test_what_differs_is_said(tmp_path, compare):
    other = {"settings": {"learning_rate": 5e-4, "batch_size": 8, "seed": 1},
             "losses": {1: 2.0, 2: 1.5, 3: 1.26, 4: 0.5, 5: 0.25},
             "scores": {"exact": 0.8}, "hashes": RUN["hashes"] | {"data": "ef" * 32}}
    printed = compare(write(tmp_path, "a.json"), write(tmp_path, "b.json", **other))
    assert printed.splitlines() == [
        "settings: learning_rate is 0.00025 and 0.0005", "settings: seed is None and 1",
        "hashes: data is 'abababababab' and 'efefefefefef'",
        "losses: they first differ in step 3: 1.25 and 1.26", "losses: 4 steps and 5 steps",
        "scores: exact 0.9 and 0.8"]


def test_a_run_that_went_on_from_a_checkpoint_is_compared_step_by_step(tmp_path, compare):
    printed = compare(write(tmp_path, "a.json"), write(tmp_path, "b.json", losses={3: 1.25, 4: 1.5}))
    assert printed.splitlines()[:2] == [
        "losses: they first differ in step 4: 1.0 and 1.5", "losses: 4 steps and 2 steps"]


def test_runs_without_a_step_in_common_have_no_equal_losses(tmp_path, compare):
    printed = compare(write(tmp_path, "a.json"), write(tmp_path, "b.json", losses={5: 1.25, 6: 1.0}))
    assert printed.splitlines()[:2] == ["losses: no step in common", "losses: 4 steps and 2 steps"]


@pytest.mark.parametrize("content", [None, "rubbish", "[]", '{"settings": {}}'])
def test_another_file_is_named(tmp_path, content, compare):
    if content:
        (tmp_path / "b.json").write_text(content)
    with pytest.raises(SystemExit, match=r"^[^\n]*b\.json[^\n]*$"):  # Python prints a text, and exits with status 1
        compare(write(tmp_path, "a.json"), tmp_path / "b.json")


def test_hashes_of_weights_tell_models_apart():
    model = float32_model()
    before = hash_of_weights(model)
    assert before == hash_of_weights(float32_model())
    digest = hashlib.sha256()
    for name, weight in float32_model().state_dict().items():
        digest.update(name.encode())
        digest.update(weight.numpy().tobytes())
    assert before == digest.hexdigest()
    with torch.no_grad():
        model.final_norm.bias[0] += 1e-6
    assert hash_of_weights(model) != before


@pytest.mark.parametrize("file", ["engine/a.py", "tutorial/a.py", "tutorial/page/a.py", "miniature/experiments/a.py",
                                  "weights/a.py", "a.py"])
def test_the_hash_of_the_code_covers_whatever_the_notebook_imports(tmp_path, monkeypatch, file):
    monkeypatch.setattr("tutorial.run_record.ROOT", tmp_path)
    before = hash_of_code()
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("x = 1")
    assert hash_of_code() != before


def test_the_hash_of_the_code_ignores_the_notebooks_outputs(tmp_path, monkeypatch):
    monkeypatch.setattr("tutorial.run_record.ROOT", tmp_path)

    def hash_with(source, outputs):
        cells = [{"cell_type": "code", "source": source, "outputs": outputs}]
        (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}))
        return hash_of_code()

    assert hash_with("x = 1", []) == hash_with("x = 1", ["1"]) != hash_with("x = 2", [])
