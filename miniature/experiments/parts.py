"""Where in the model the change of a fine-tuning sits."""

import torch

from miniature.experiments.models import answers, fine_tuned, pretrained, right
from miniature.experiments.trainings import RANKS, rounded

PARTS = {  # part: what the names of its parameters have in them
    "token embedding": ("tok_emb", "out_head"), "position embedding": ("pos_emb",),
    **{f"block {i + 1}": (f"trf_blocks.{i}.",) for i in range(4)}, "final norm": ("final_norm",),
    "all blocks": ("trf_blocks",), "attention": (".att.",), "feed-forward": (".ff.",),
    "norms and biases": ("norm", "bias"),
}


def names_of(part, model):
    """The names of a part's parameters."""
    return [name for name in model.state_dict() if any(piece in name for piece in PARTS[part])]


def exchange(model, other, part):
    """The model with a part of another one."""
    weights = other.state_dict()
    model.load_state_dict({name: weights[name] for name in names_of(part, model)}, strict=False)
    return model


def size_of_change(base, tuned, part):
    """The norm of a part's change, as a fraction of the part's norm before."""
    before, after = base.state_dict(), tuned.state_dict()
    names = [name for name in names_of(part, base) if name != "out_head.weight"]  # which is the token embedding
    change = sum((after[name] - before[name]).square().sum() for name in names)
    return (change / sum(before[name].square().sum() for name in names)).sqrt().item()


def truncate(base, tuned, rank):
    """The base model with the fine-tuned change of its blocks' matrices, cut to a rank, and the fraction of that
    change's energy, its squared norm, that the rank holds: (GPTModel, float)."""
    before, after, total, kept = base.state_dict(), tuned.state_dict(), 0.0, 0.0
    for name, weight in before.items():
        if name.startswith("trf_blocks") and weight.dim() == 2:
            u, values, v = torch.linalg.svd(after[name] - weight, full_matrices=False)
            weight += (u[:, :rank] * values[:rank]) @ v[:rank]  # a view of the model's own
            total, kept = total + values.square().sum().item(), kept + values[:rank].square().sum().item()
    return base, kept / total


def parts(condition, seed):
    """What is answered rightly by the base model with one part of the fine-tuned one, and by the fine-tuned model with
    one part of the base; how much each part changed; what the change is at a low rank."""
    def score(model):
        return right(answers(model))
    tuned, ranks = fine_tuned(seed), {}
    for rank in (*RANKS, 128):
        model, energy = truncate(pretrained(), tuned, rank)
        ranks[rank] = {"energy": round(energy, 4), "right": score(model)}
    return {"only": {part: score(exchange(pretrained(), tuned, part)) for part in PARTS},
            "without": {part: score(exchange(fine_tuned(seed), pretrained(), part)) for part in PARTS},
            "change": dict(zip(PARTS, rounded(size_of_change(pretrained(), tuned, part) for part in PARTS))),
            "ranks": ranks}
