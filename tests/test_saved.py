"""Our own file of a model, and files that are written whole or not at all."""

import errno
import os
import subprocess
import sys
from collections import namedtuple

import numpy as np
import pytest
import torch

from engine.lora import add_lora
from previous_chapters import GPTModel
from tests.helpers import truncate
from tests.small_models import CFG, equal, float32_model, instruction_batch, meta_model, our_model, train
from tutorial import ROOT
from weights.empty import empty_model
from weights.files import atomic_write
from weights.saved import load_model, save_model
from weights.sizes import MODELS
from weights.values import plain

# --- Saving and loading ---


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("build", [lambda: GPTModel(CFG), float32_model, meta_model])
def test_the_head_stays_tied_through_saving_and_loading(build, tmp_path):
    model = build()
    save_model(model, CFG, tmp_path / "model.pt")
    state = torch.get_rng_state()
    again, cfg = load_model(tmp_path / "model.pt")
    assert cfg == CFG and not again.training and torch.get_rng_state().equal(state)
    for one in (model, again):
        assert one.out_head.weight is one.tok_emb.weight
        assert sum(name.endswith(("tok_emb.weight", "out_head.weight")) for name, _ in one.named_parameters()) == 1
    inputs, _ = instruction_batch(0)
    assert again(inputs).equal(model.eval()(inputs))


def test_load_model_runs_no_code(tmp_path):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)
    torch.save({"config": CFG, "weights": Malicious()}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="model.pt is not a file that save_model wrote.*weights_only"):
        load_model(tmp_path / "model.pt")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("write, message", [
    (lambda path: torch.save(GPTModel(CFG).state_dict(), path), "bare state_dict"),
    (lambda path: torch.save({"model": {}, "optimizer": {}}, path), "a config and weights"),
    (lambda path: torch.save([1, 2], path), "a config and weights"),
    (lambda path: torch.save({"config": None, "weights": {}}, path), "a config and weights"),
    (lambda path: torch.save({"config": CFG, "weights": None}, path), "a config and weights"),
    (lambda path: torch.save({"config": CFG, "weights": {"tok_emb.weight": [1.0]}}, path), "a config and weights"),
    (lambda path: torch.save({"config": CFG, "weights": {"tok_emb.weight": torch.ones(1, dtype=int)}}, path),
     "a config and weights"),
    *((lambda path, wrong=wrong: torch.save({"config": CFG | wrong, "weights": {}}, path), "its config .* makes no GPT")
      for wrong in ({"emb_dim": "16"}, {"n_heads": 3}, {"n_heads": 0}, {"n_layers": None}, {"vocab_size": -1},
                    {"drop_rate": 2.0})),
    (lambda path: torch.save({"config": {"n_layer": 12}, "weights": {}}, path), "its config lacks context_length, dr"),
    *((lambda path, first=first: path.write_bytes(first + b"\x00safetensors"), "damaged")
      for first in (b"h", b"a", b"X", b"R")),
    (lambda path: path.write_bytes(b""), "damaged"), (lambda path: path.write_bytes(b"<html></html>"), "damaged"),
    (lambda path: [save_model(GPTModel(CFG), CFG, path), truncate(path, 5000)], "damaged")])
def test_a_file_that_save_model_did_not_write_is_named(write, message, tmp_path):
    write(tmp_path / "theirs.pth")
    with pytest.raises(ValueError, match=f"theirs.pth is not a file that save_model wrote.*{message}"):
        load_model(tmp_path / "theirs.pth")


def test_a_model_that_can_not_be_saved_leaves_the_old_file(tmp_path):
    save_model(GPTModel(CFG), CFG, tmp_path / "model.pt")
    before = (tmp_path / "model.pt").read_bytes()
    with pytest.raises(AttributeError):
        save_model(GPTModel(CFG), CFG | {"why": lambda: "a function can't be saved"}, tmp_path / "model.pt")
    assert (tmp_path / "model.pt").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def with_adapters():
    model = GPTModel(CFG)
    add_lora(model, rank=2, alpha=4)
    return model


def with_a_head_of_its_own():
    model = GPTModel(CFG)
    model.out_head = torch.nn.Linear(CFG["emb_dim"], CFG["vocab_size"], bias=False)
    return model


@pytest.mark.parametrize("build, cfg, fault", [
    (lambda: torch.nn.DataParallel(GPTModel(CFG)), CFG, "lacks the tensor tok_emb.weight"),
    (with_adapters, CFG, "lacks the tensor trf_blocks.0.att.qkv.weight"),
    (lambda: GPTModel(CFG), CFG | {"emb_dim": 32}, r"has tok_emb.weight of shape \(97, 16\), not \(97, 32\)"),
    (lambda: GPTModel(CFG), CFG | {"n_layers": 4}, "lacks the tensor trf_blocks.3.norm1.weight"),
    (with_a_head_of_its_own, CFG, "has an output head that differs from its token embedding")])
def test_only_what_load_model_can_read_is_saved(build, cfg, fault, tmp_path):
    with pytest.raises(ValueError, match=f"the model {fault}.*not a GPTModel of its config.*merge adapters and"):
        save_model(build(), cfg, tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())
    torch.save({"config": cfg, "weights": build().state_dict()}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=f"model.pt {fault}.*: its weights are not those of a GPTModel with") as error:
        load_model(tmp_path / "model.pt")
    assert "adapters" not in str(error.value)  # no advice on saving


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_16_bits_are_loaded_as_float32(tmp_path, dtype):
    model = float32_model().to(dtype)
    save_model(model, CFG, tmp_path / "model.pt")
    again, _ = load_model(tmp_path / "model.pt")
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}
    assert again.out_head.weight is again.tok_emb.weight
    assert all(value.equal(model.state_dict()[name].float()) for name, value in again.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_saved_in_16_bits_is_trained_as_one_in_float32(tmp_path, dtype):
    """With the learning rate of a fine-tuning, most steps would be too small for bfloat16."""
    def load_and_train(saved):
        save_model(saved, CFG, tmp_path / "model.pt")
        model, _ = load_model(tmp_path / "model.pt")
        losses = train(model, optimizer=torch.optim.AdamW(model.parameters(), lr=1e-4), precision="float32")
        return dict(model.state_dict()), losses
    weights, losses = load_and_train(float32_model().to(dtype))
    expected, expected_losses = load_and_train(float32_model().to(dtype).float())
    assert equal(weights, expected) and equal(losses, expected_losses)
    assert all(weight.dtype == torch.float32 for weight in weights.values())
    assert not equal(weights, {name: weight.to(dtype).float() for name, weight in weights.items()}), "in 16 bits?"


def test_weights_of_64_bits_keep_them(tmp_path, float64):
    model = our_model()
    save_model(model, CFG, tmp_path / "model.pt")
    again, _ = load_model(tmp_path / "model.pt")
    assert all(value.dtype == torch.float64 and value.equal(model.state_dict()[name])
               for name, value in again.state_dict().items())


def test_numbers_of_numpy_and_pytorch_in_the_config_become_plain(tmp_path):
    config = {"vocab_size": torch.tensor(97), "context_length": np.int64(24), "emb_dim": np.array(16),
              "n_heads": np.int32(2), "n_layers": np.uint8(3), "drop_rate": np.float64(0.0), "qkv_bias": np.True_}
    save_model(float32_model(), config, tmp_path / "model.pt")
    again, loaded = load_model(tmp_path / "model.pt")
    assert loaded == CFG and {key: type(value) for key, value in loaded.items()} == {
        key: type(value) for key, value in CFG.items()}
    assert equal(again.state_dict(), dict(float32_model().state_dict()))
    save_model(float32_model(), {np.str_(key): value for key, value in config.items()}, tmp_path / "model.pt")
    assert load_model(tmp_path / "model.pt")[1] == CFG


def test_a_compiled_model_can_be_saved(tmp_path):
    model = torch.compile(float32_model(), backend="eager")
    save_model(model, CFG, tmp_path / "model.pt")
    model = float32_model()
    model.trf_blocks[1] = torch.compile(model.trf_blocks[1], backend="eager")
    save_model(model, CFG, tmp_path / "parts.pt")
    for name in ("model.pt", "parts.pt"):
        again, _ = load_model(tmp_path / name)
        assert equal(again.state_dict(), dict(float32_model().state_dict()))


def test_a_folder_that_is_missing_is_made_and_a_missing_file_is_an_os_error(tmp_path):
    save_model(float32_model(), CFG, tmp_path / "new/folder/model.pt")
    assert load_model(tmp_path / "new/folder/model.pt")[1] == CFG
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "none.pt")


# --- Plain values, whole files, models without memory ---


def test_plain_values():
    Pair = namedtuple("Pair", "one other")
    value = {"a": [np.float32(0.5), (torch.tensor([1, 2]), "text")], "b": Pair(np.arange(2), None),
             "c": {np.int64(3): True, np.str_("d"): 1}}
    made = plain(value)
    assert made == {"a": [0.5, ([1, 2], "text")], "b": ([0, 1], None), "c": {3: True, "d": 1}}
    assert [type(key) for key in made["c"]] == [int, str]
    assert type(made["a"][0]) is float and type(made["b"]) is tuple and type(made["b"][0][0]) is int


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "result.json"
    with atomic_write(path) as unfinished:
        unfinished.write_text("old")
    with pytest.raises(KeyError), atomic_write(path) as unfinished:
        unfinished.write_text("new, but")
        raise KeyError
    assert path.read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_a_write_that_succeeds_makes_folders_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "new/folder/result.json"
    for text in ("old", "new"):
        with atomic_write(str(path)) as unfinished:
            unfinished.write_text(text)
            assert unfinished != path and path.exists() == (text == "new")
        assert path.read_text() == text and [file.name for file in path.parent.iterdir()] == ["result.json"]


def run_python(script, *arguments, **options):
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], cwd=ROOT, text=True, **options)


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_of_two_writers_of_one_path_the_file_is_always_ones_whole(tmp_path):
    """Two processes write 40 files of a megabyte each, one of the letter a, one of b, while this one reads."""
    script = """if True:
        import sys
        from weights.files import atomic_write
        for _ in range(40):
            with atomic_write(sys.argv[1]) as unfinished, open(unfinished, "wb", buffering=0) as file:
                for _ in range(16):
                    file.write(sys.argv[2].encode() * 65536)
        """
    path = tmp_path / "result"
    path.write_bytes(b"-" * 2**20)
    processes, seen = [run_python(script, path, letter) for letter in "ab"], set()
    while any(process.poll() is None for process in processes):
        content = path.read_bytes()
        assert len(content) == 2**20 and len(set(content)) == 1, "a mixture, or half a file"
        seen.add(content[:1])
    assert [process.returncode for process in processes] == [0, 0]
    assert {b"a", b"b"} <= seen and files_in(tmp_path) == ["result"]


def test_what_killed_writers_left_is_deleted_and_what_a_live_one_writes_is_not(tmp_path):
    script = """if True:
        import sys
        from weights.files import atomic_write
        with atomic_write(sys.argv[1]) as unfinished:
            unfinished.write_text("theirs")
            print("writing", flush=True)
            sys.stdin.readline()
        """
    path, others = tmp_path / "model[1].pt", ["model[1].pt.new.part", "model[1].pt.part"]  # of downloads
    for name in others:
        (tmp_path / name).write_text("of a download")
    live, *killed = [run_python(script, path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(3)]
    for process in (live, *killed):
        assert process.stdout.readline() == "writing\n"
    for process in killed:
        process.kill()
        process.wait()
    assert len(files_in(tmp_path)) == 3 + len(others)
    with atomic_write(path) as unfinished:
        unfinished.write_text("ours")
    assert path.read_text() == "ours" and len(files_in(tmp_path)) == 2 + len(others)  # the live one's is still there
    live.communicate("\n")
    assert live.returncode == 0 and path.read_text() == "theirs" and files_in(tmp_path) == sorted([path.name, *others])


def test_a_file_that_another_writer_took_for_a_leftover_is_not_written_to(tmp_path, monkeypatch):
    """It was there, but not locked yet: the other writer holds its lock, or has deleted it."""
    def locked(file):
        raise BlockingIOError
    def deleted(file):
        os.unlink(file.name)
    faults = [locked, deleted, lambda file: None]
    monkeypatch.setattr("weights.files.lock", lambda file: faults.pop(0)(file))
    with atomic_write(tmp_path / "result") as unfinished:
        unfinished.write_text("whole")
    assert not faults and (tmp_path / "result").read_text() == "whole"


def test_a_file_system_without_locks_will_do(tmp_path, monkeypatch):
    def no_locks(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")
    monkeypatch.setattr("fcntl.flock", no_locks)
    (tmp_path / "result.0123abcd.part").write_text("of a writer that may be alive")
    with atomic_write(tmp_path / "result") as unfinished:
        unfinished.write_text("whole")
    assert (tmp_path / "result").read_text() == "whole" and len(files_in(tmp_path)) == 2


FILL_THE_DISK = """if True:
    import pathlib, resource, sys, torch
    from safetensors.torch import save_file
    from weights.files import atomic_write
    folder, limit = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    tensors = {"a": torch.randn(1_000_000), "b": torch.randn(1_000_000)}
    writers = {"torch": lambda path: torch.save(tensors, path),
               "file": lambda path: torch.save(tensors, path.open("wb")),
               "rust": lambda path: save_file(tensors, path),
               "bytes": lambda path: path.write_bytes(bytes(10**7))}
    for name, write in writers.items():
        (folder / name).write_text("old")
        try:
            with atomic_write(folder / name) as unfinished:
                write(unfinished)
        except OSError as error:
            print((folder / name).read_text(), len(list(folder.iterdir())), error.errno, error)
    """


def check_full_disk(printed, number, folder):
    lines = printed.splitlines()
    assert len(lines) == 4, printed
    for count, (name, line) in enumerate(zip(("torch", "file", "rust", "bytes"), lines), start=1):
        assert line == (f"old {count} {number} [Errno {number}] no room for {folder / name} ({os.strerror(number)}). "
                        "What was there before is unharmed: free some space and save again")


def test_a_limit_on_the_size_of_files_is_named_and_the_old_file_stays(tmp_path):
    process = run_python(FILL_THE_DISK, tmp_path, 3_000_000, stdout=subprocess.PIPE)
    check_full_disk(process.communicate()[0], errno.EFBIG, tmp_path)


def test_a_full_disk_is_named_and_the_old_file_stays(tmp_path):
    """On a file system of 3 MB, which only the process has that mounts it."""
    mount = ["unshare", "--mount", "--map-root-user", "sh", "-c", 'mount -t tmpfs -o size=3m tmpfs "$0" && exec "$@"']
    try:
        subprocess.run([*mount, tmp_path, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    process = subprocess.run([*mount, tmp_path, sys.executable, "-c", FILL_THE_DISK, tmp_path, "0"], cwd=ROOT,
                             stdout=subprocess.PIPE, text=True)
    check_full_disk(process.stdout, errno.ENOSPC, tmp_path)


def test_an_error_of_another_kind_is_passed_on(tmp_path):
    for error in (RuntimeError("unexpected pos 768 vs 662"), PermissionError(errno.EACCES, "no")):
        with pytest.raises(type(error)) as raised, atomic_write(tmp_path / "result"):
            raise error
        assert raised.value is error


def test_an_empty_model_has_shapes_only_and_draws_nothing():
    state = torch.get_rng_state()
    model = empty_model(CFG)
    assert all(parameter.is_meta for parameter in model.parameters()) and torch.get_rng_state().equal(state)
    assert [(name, value.shape) for name, value in model.state_dict().items()] == [
        (name, value.shape) for name, value in GPTModel(CFG).state_dict().items()]
    assert model.out_head.weight is model.tok_emb.weight
    before = torch.nn.init.normal_(torch.empty(1000)).std()  # outside of it, weights are drawn as ever
    assert 0.8 < before < 1.2


def test_an_empty_model_does_not_import_pytorchs_compiler(tmp_path):
    """That takes seconds. A model that is built on the meta device in the ordinary way does."""
    script = ("import sys, torch, weights.empty, weights.sizes; before = set(sys.modules); "
              f"weights.empty.empty_model(weights.sizes.MODELS[{next(iter(MODELS))!r}].config()); "
              "new = set(sys.modules) - before; "
              "print(len(new), [name for name in ('torch._dynamo', 'torch._inductor') if name in sys.modules])")
    printed = subprocess.run([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    count, compilers = printed.stdout.split(maxsplit=1)
    assert int(count) < 10 and compilers.strip() == "[]", printed.stdout
