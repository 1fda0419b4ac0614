"""The tokens on which two paths through a model are tried, and the results that are compared."""

import torch


def repeated_to(tokens, length):
    """The tokens, repeated and cut to this length: (N,) -> (length,)."""
    return tokens.repeat(-(-length // len(tokens)))[:length]


def with_other_end(tokens):
    """Tokens with the same first third, the rest reversed: (N,) -> (N,). So two rows share a prefix, as prompts do."""
    prefix = len(tokens) // 3
    return torch.cat((tokens[:prefix], tokens[prefix:].flip(0)))


def loss_and_gradients(compute_loss, model):
    """[loss, every gradient], or [loss] alone where gradients aren't computed. The parameters keep their `grad`."""
    # Collected before the step: FSDP2 swaps parameters during it.
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loss = compute_loss()
    if not loss.requires_grad:
        return [loss]
    if not torch.distributed.is_initialized():
        grads = torch.autograd.grad(loss, trainable, allow_unused=True)
    else:  # FSDP's hooks average only gradients that backward() accumulates
        before = [parameter.grad for parameter in trainable]
        try:
            for parameter in trainable:
                parameter.grad = None
            loss.backward()
            grads = [parameter.grad for parameter in trainable]
        finally:
            for parameter, grad in zip(trainable, before):
                parameter.grad = grad
    grads = [torch.zeros_like(parameter) if grad is None else grad for parameter, grad in zip(trainable, grads)]
    return [loss.detach(), *(grad.to_local() if hasattr(grad, "to_local") else grad for grad in grads)]
