"""The tutorial's drawings."""


def plot_losses(epochs_seen, tokens_seen, train_losses, val_losses):
    """Training and validation loss over epochs (lower axis) and real tokens (upper axis). Returns the figure."""
    import matplotlib.pyplot as plt  # only here: a third of a second that loading a model need not wait for
    from matplotlib.ticker import MaxNLocator
    fig, ax = plt.subplots(figsize=(6, 3.5))
    ax.plot(epochs_seen, train_losses, label="training")
    ax.plot(epochs_seen, val_losses, linestyle="--", label="validation")
    ax.set(xlabel="epochs", ylabel="loss per scored token (nats)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    tokens_axis = ax.twiny()
    tokens_axis.plot(tokens_seen, train_losses, alpha=0)  # invisible: it only gives the upper axis its range
    tokens_axis.set_xlabel("tokens read, without padding")
    fig.tight_layout()
    return fig
