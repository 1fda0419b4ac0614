"""OpenAI's weights as a nested dictionary, `params`: made from a checkpoint's tensors, flattened, and held against what
a model needs.

{"wte", "wpe", "g", "b", "blocks": [{"attn": {"c_attn": {"w", "b"}, "c_proj": ...}, "mlp": {"c_fc": ..., "c_proj": ...},
"ln_1": {"g", "b"}, "ln_2": ...}, ...]}
"""


def nest_params(tensors, n_layer):
    """Tensors by their names in OpenAI's checkpoints, such as h0/attn/c_attn/w, as `params`."""
    params = {"blocks": [{} for _ in range(n_layer)]}
    for name, array in tensors.items():
        *path, last = name.removeprefix("ln_f/").split("/")  # such as h0, attn, c_attn and w; or wte alone
        place = params["blocks"][int(path.pop(0)[1:])] if path else params
        for key in path:
            place = place.setdefault(key, {})
        place[last] = array[0] if array.ndim == 3 else array
    return params


def flatten_params(tree, prefix=""):
    """The arrays of `params`, each with its path: ("blocks/0/attn/c_attn/w", array), ..."""
    for key, value in enumerate(tree) if isinstance(tree, list) else tree.items():
        if isinstance(value, (dict, list)):
            yield from flatten_params(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def misfit(arrays, shapes):
    """What is wrong with arrays or tensors, {name: array}, that should have these shapes, {name: shape}: a text that
    names the first one missing, left over or of another shape, or None."""
    for name in shapes | arrays:
        if name not in arrays:
            return f"lacks the tensor {name}"
        if name not in shapes:
            return f"has an unexpected tensor {name}"
        if arrays[name].shape != shapes[name]:
            return f"has {name} of shape {tuple(arrays[name].shape)}, not {tuple(shapes[name])}"
    return None


def check_params(arrays, shapes):
    """Raise ValueError unless arrays, by their paths in `params`, have the shapes that the model needs."""
    if any(path.removeprefix("transformer.").startswith("h.0.") for path in arrays):
        raise ValueError("the tensors have Hugging Face's names, such as 'h.0.attn.c_attn.weight', which "
                         "GPT2LMHeadModel.from_pretrained of transformers takes; want those of download_and_load_gpt2")
    if fault := misfit(arrays, shapes):
        raise ValueError(f"the checkpoint {fault}: does the model's config fit it?")
