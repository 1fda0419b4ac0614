"""The tutorial's drawings. What is drawn from data is text, never markup, and always fits."""

CJK_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "PingFang SC",
             "Hiragino Sans", "Microsoft YaHei", "SimHei", "Malgun Gothic", "Arial Unicode MS")


def set_up_figures():
    """Have matplotlib draw texts as they are, also "$x$", and in a font for Chinese, Japanese and Korean if there is
    one."""
    import matplotlib.pyplot as plt
    from matplotlib import font_manager
    there = {font.name for font in font_manager.fontManager.ttflist}
    plt.rcParams["text.parse_math"] = False
    plt.rcParams["font.family"] = ["DejaVu Sans", *(name for name in CJK_FONTS if name in there)]


def drawable(text, otherwise, longest=40):
    """A text as one short line for a figure, with line ends and tabs as \\n and \\t; `otherwise` where no font has all
    of its characters."""
    import matplotlib.pyplot as plt
    from matplotlib import font_manager
    fonts = [font_manager.get_font(font_manager.findfont(name)) for name in plt.rcParams["font.family"]]
    text = text.replace("\n", "\\n").replace("\t", "\\t")
    known = (any(font.get_char_index(ord(character)) for font in fonts) for character in text)
    if "\ufffd" in text or not text.isprintable() or not all(known):
        text = str(otherwise)
    return text if len(text) <= longest else text[:longest - 1] + "…"


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
