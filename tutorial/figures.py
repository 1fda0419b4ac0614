"""The tutorial's figures.

The functions named `draw_...` and `plot_...` return a matplotlib figure. `show` displays it in the notebook, with an
alternative text, and translates the figure's own texts. Texts from data are drawn as they are, never as markup.
"""

import io
import json
import logging
import textwrap
from pathlib import Path
from unicodedata import east_asian_width

from .data_files import shorten

CJK_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "PingFang SC",
             "Hiragino Sans", "Microsoft YaHei", "SimHei", "Malgun Gothic", "Arial Unicode MS")
WIDTH = 9  # inches, at 100 dots each: what fits a page of 1,000 pixels
GREY, BLUE, GREEN, ORANGE, RED = "#e4e4e4", "#bcd7ee", "#bfe3c0", "#f8cf9d", "#f2b8b5"
LABELS = {}  # {text of a figure: its translation}


def set_up_figures():
    """Have matplotlib draw texts such as "$x$" as they are, and use a font for Chinese, Japanese and Korean if one is
    installed."""
    import matplotlib.pyplot as plt  # in the functions: what imports this module without drawing doesn't wait for it
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # don't report a font without bold letters
    plt.rcParams["text.parse_math"] = False
    plt.rcParams["font.family"] = ["DejaVu Sans", *cjk_fonts()]


def cjk_fonts():
    """The names of those CJK_FONTS that are installed."""
    from matplotlib import font_manager
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in CJK_FONTS if name in installed]


def monospaced():
    """The names of a monospaced font and of those that replace it for the characters it lacks."""
    import matplotlib.pyplot as plt
    return ["DejaVu Sans Mono", *plt.rcParams["font.family"]]


def read_labels(path):
    """From now on, translate the figures' own texts by the `labels` of a translation, a JSON file."""
    LABELS.update(json.loads(Path(path).read_text(encoding="utf-8"))["labels"])


def label(text):
    """A figure's own text in the language of the labels that were read; any other text as it is."""
    return LABELS.get(text, text)


def translate_labels(fig):
    """Translate the titles, axis labels and legends of a figure. Other texts, which may be data, stay as they are."""
    for ax in fig.axes:
        legend = ax.get_legend()
        for text in (ax.title, ax.xaxis.label, ax.yaxis.label, *(legend.get_texts() if legend else ())):
            text.set_text(label(text.get_text()))


def show(fig, alt):
    """Display a figure in the notebook, translated, with an alternative text, and close it."""
    import matplotlib.pyplot as plt
    from IPython.display import Image, display
    translate_labels(fig)
    png = io.BytesIO()
    fig.savefig(png, format="png", dpi=100, bbox_inches="tight")
    plt.close(fig)
    display(Image(png.getvalue(), alt=alt))


def drawable(text, otherwise, longest=40):
    """A text as one short line for a figure, with line ends and tabs as \\n and \\t; `otherwise` if no font has all of
    its characters."""
    import matplotlib.pyplot as plt
    from matplotlib import font_manager
    fonts = [font_manager.get_font(font_manager.findfont(name)) for name in plt.rcParams["font.family"]]
    text = text.replace("\n", "\\n").replace("\t", "\\t")
    known = (any(font.get_char_index(ord(character)) for font in fonts) for character in text)
    if "\ufffd" in text or not text.isprintable() or not all(known):
        text = str(otherwise)
    return shorten(text, longest)


def empty_axes(width, height, figsize=None):
    """A figure without axis lines, with units of the same length in both directions: (figure, axes)."""
    import matplotlib.pyplot as plt
    fig, ax = plt.subplots(figsize=figsize or (WIDTH, WIDTH * height / width))
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.axis("off")
    return fig, ax


def box(ax, x, y, width, height, text, colour, **style):
    """Draw a coloured rectangle with a centred text; (x, y) is its upper left corner."""
    import matplotlib.pyplot as plt
    ax.add_patch(plt.Rectangle((x, y), width, height, facecolor=colour, edgecolor="white", linewidth=1.5))
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", **style)


# --- Progress ---

SECTIONS = ("result", "model", "prompt", "data", "base model", "batches", "inside GPT-2", "training", "before, after",
            "keep, ask", "from here", "exercises", "the end")


def show_progress(current):
    """Show the notebook's sections as a row of boxes: finished ones in green, the `current` one in orange."""
    fig, ax = empty_axes(len(SECTIONS), 0.5)
    for i, section in enumerate(SECTIONS):
        colour = GREEN if i < current else ORANGE if i == current else GREY
        box(ax, i, 0, 1, 0.5, label(section).replace(" ", "\n", 1), colour, fontsize=7,
            weight="bold" if i == current else "normal")
    show(fig, label("Section {} of {}: {}.").format(current, len(SECTIONS) - 1, label(SECTIONS[current])))


# --- Data, tokens and batches ---


def draw_data(asked, answered, tasks):
    """Two panels: histograms of the numbers of words in questions (`asked`) and answers (`answered`), and the number of
    entries of each task, from (task, entries) pairs, the first on top."""
    import matplotlib.pyplot as plt
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.2))
    longest = max(asked + answered)
    step = -(-longest // 20)  # a whole number of words, or some bins would be empty
    axes[0].hist([asked, answered], bins=range(0, longest + step + 1, step), label=["asked", "answered"])
    axes[0].set(xlabel="words", ylabel="entries", title="Length of question and answer")
    axes[0].legend()
    axes[1].barh(range(len(tasks)), [entries for _, entries in tasks])
    axes[1].set_yticks(range(len(tasks)), [drawable(task, label("(not drawable)")) for task, _ in tasks])
    axes[1].set(xlabel="entries", title="What is asked", ylim=(len(tasks) - 0.4, -0.6))
    fig.tight_layout()
    return fig


def draw_cells(tables):
    """Tables of coloured cells side by side: {title: rows of (text, colour)}."""
    import matplotlib.pyplot as plt
    columns, rows = sum(len(rows[0]) for rows in tables.values()), max(map(len, tables.values()))
    fig, axes = plt.subplots(1, len(tables), figsize=(min(WIDTH, 0.6 * columns), 0.42 * rows + 0.5), squeeze=False)
    for ax, (title, rows) in zip(axes[0], tables.items()):
        ax.set(xlim=(0, len(rows[0])), ylim=(len(rows), 0), title=title)
        ax.axis("off")
        for y, row in enumerate(rows):
            for x, (text, colour) in enumerate(row):
                box(ax, x, y, 1, 1, text, colour, fontsize=9)
    fig.tight_layout()
    return fig


def draw_tokens(rows, title, values=None, colours=None, low=0.0, high=1.0, line=105):
    """Texts as rows of coloured tokens, wrapped at `line` characters.

    rows: {name: token texts}. colours: {name: a colour for each token}; or values: {name: a number for each token},
    shown as a shade from red (`low`) to green (`high`).
    """
    from matplotlib import colormaps
    places, y = [], 0.0
    for name, tokens in rows.items():
        x, y = 0.0, y + 1.0
        places.append((0.0, y - 0.95, 0, name, None))
        for i, token in enumerate(tokens):
            width = max(len(token) + sum(east_asian_width(c) in "FW" for c in token), 1) + 0.8
            if x + width > line:
                x, y = 0.0, y + 1.0
            if values is None:
                colour = colours[name][i]
            else:
                share = min(max((values[name][i] - low) / (high - low), 0.0), 1.0)
                colour = colormaps["RdYlGn"](0.1 + 0.8 * share, alpha=0.75)
            places.append((x, y, width, token, colour))
            x += width
        y += 1.3
    fig, ax = empty_axes(line, y, figsize=(WIDTH, 0.24 * y + 0.3))
    ax.set_title(title, fontsize=10)
    for x, top, width, text, colour in places:
        if colour is None:
            ax.text(x, top + 0.45, text, va="center", fontsize=8.5, weight="bold")
        else:
            box(ax, x, top, width, 0.9, text, colour, fontsize=8, family=monospaced())
    return fig


def draw_probabilities(panels, highlight=None):
    """Bar charts of next-token probabilities, side by side: {title: [(token, probability), ...]}, the likeliest on top.
    The token `highlight` is orange."""
    import matplotlib.pyplot as plt
    rows = max(map(len, panels.values()))
    fig, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 0.26 * rows + 0.9), squeeze=False)
    for ax, (title, pairs) in zip(axes[0], panels.items()):
        tokens, probabilities = zip(*pairs)
        bars = ax.barh(range(len(pairs)), probabilities, color=["#f0a04b" if token == highlight else "#7fa8d1"
                                                                for token in tokens])
        ax.bar_label(bars, [f"{p:.1%}" if p < 0.0995 else f"{p:.0%}" for p in probabilities], padding=3, fontsize=8)
        ax.set_yticks(range(len(pairs)), tokens, fontsize=9)
        ax.set(xlim=(0, 1.18), ylim=(rows - 0.4, -0.6), title=title)
        ax.set_xticks([0, 0.5, 1])
        ax.spines[["top", "right"]].set_visible(False)
    fig.tight_layout()
    return fig


# --- The model ---


def parameter_shares(config):
    """The number of parameters in each part of a GPT-2 with this config: {part: number}. V is the vocabulary size, D
    the embedding width, L the number of blocks."""
    V, D, L = config["vocab_size"], config["emb_dim"], config["n_layers"]
    return {"token embedding": V * D, "position embedding": config["context_length"] * D,
            "blocks": L * (12 * D**2 + 13 * D), "final LayerNorm": 2 * D}


def draw_parameters(models):
    """Each part's share of the parameters, {model: {part: number}}, as one bar per model."""
    import matplotlib.pyplot as plt
    fig, ax = plt.subplots(figsize=(WIDTH, 0.45 * len(models) + 1.0))
    parts = list(next(iter(models.values())))
    for y, numbers in enumerate(models.values()):
        left, total = 0.0, sum(numbers.values())
        for part, colour in zip(parts, ("#f0a04b", "#f6d7a8", "#7fa8d1", "#b5b5b5")):
            share = numbers[part] / total
            ax.barh(y, share, left=left, color=colour, label=part if y == 0 else None)
            if share > 0.04:
                ax.text(left + share / 2, y, f"{share:.0%}", ha="center", va="center", fontsize=9)
            left += share
    ax.set_yticks(range(len(models)), [f"{name}: {sum(numbers.values()):,}" for name, numbers in models.items()],
                  fontsize=9)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xticks=[])
    ax.spines[:].set_visible(False)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(parts), frameon=False, fontsize=9)
    fig.tight_layout()
    return fig


def draw_architecture(B, T, cfg):
    """GPT-2 as a block diagram, from the ids at the bottom to the loss at the top, with the shapes of one batch."""
    D, V, nh, L = cfg["emb_dim"], cfg["vocab_size"], cfg["n_heads"], cfg["n_layers"]
    fig, ax = empty_axes(18, 12.4)
    main, inner = [  # name, shape after it, colour; from the top
        ("softmax and loss", label("one number"), RED),
        ("output head = token embedding, transposed", f"({B}, {T}, {V:,})", ORANGE),
        ("final LayerNorm", f"({B}, {T}, {D})", GREY),
        ("{} transformer blocks", f"({B}, {T}, {D})", BLUE),
        ("token embedding + position embedding", f"({B}, {T}, {D})", ORANGE),
        ("token ids", f"({B}, {T})", GREY),
    ], [
        ("+  add to what came in", f"({B}, {T}, {D})", GREEN),
        ("narrow: 4D → D", f"({B}, {T}, {D})", BLUE),
        ("GELU", f"({B}, {T}, {4 * D})", BLUE),
        ("widen: D → 4D", f"({B}, {T}, {4 * D})", BLUE),
        ("LayerNorm", f"({B}, {T}, {D})", GREY),
        ("+  add to what came in", f"({B}, {T}, {D})", GREEN),
        ("output projection", f"({B}, {T}, {D})", BLUE),
        ("weights · values", f"({B}, {nh}, {T}, {D // nh})", BLUE),
        ("mask, softmax", f"({B}, {nh}, {T}, {T})", BLUE),
        ("queries · keys / √(D/nh)", f"({B}, {nh}, {T}, {T})", BLUE),
        ("queries, keys, values", f"3 × ({B}, {nh}, {T}, {D // nh})", BLUE),
        ("LayerNorm", f"({B}, {T}, {D})", GREY),
    ]
    for boxes, x, step, height in ((main, 0.2, 2.0, 1.1), (inner, 10.2, 1.0, 0.72)):
        for i, (name, shape, colour) in enumerate(boxes):
            y = 0.2 + i * step
            box(ax, x, y, 4.9, height, "\n".join(textwrap.wrap(label(name).format(L), 28)), colour, fontsize=8.5)
            ax.text(x + 5.05, y + height / 2, shape, va="center", fontsize=8.5, family=monospaced())
            if i + 1 < len(boxes):
                ax.annotate("", xy=(x + 2.45, y + height), xytext=(x + 2.45, y + step),
                            arrowprops={"arrowstyle": "->"})
    for top, bottom in ((0.55, 5.05), (5.55, 11.9)):  # the two shortcuts
        ax.plot([10.2, 9.5, 9.5, 10.2], [top, top, bottom, bottom], color="green", linewidth=1.2)
    ax.plot([8.3, 9.2, 9.2, 9.35], [6.75, 6.75, 0.1, 0.1], color="grey", linewidth=0.8, linestyle=":")
    ax.plot([9.2, 9.2, 9.35], [6.75, 12.2, 12.2], color="grey", linewidth=0.8, linestyle=":")
    ax.text(12.6, -0.15, label("inside one block"), ha="center", fontsize=9, weight="bold")
    return fig


def draw_attention(heads, labels, ringed):
    """The attention weights of every head, (nh, T, T), for tokens with these labels: queries are rows, keys columns.
    `ringed`: (head, row, column) of the cell to mark. The colour shows the square root of the weight."""
    import matplotlib.pyplot as plt
    columns = min(2, len(heads))
    rows = -(-len(heads) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(WIDTH, WIDTH / 2 * rows), sharex=True, sharey=True, squeeze=False)
    for number, (ax, weights) in enumerate(zip(axes.flat, heads)):
        ax.imshow(weights ** 0.5, cmap="Blues", vmin=0, vmax=1)
        ax.set_title(label("head {}").format(number), fontsize=9)
        ax.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7.5)
        ax.set_yticks(range(len(labels)), labels, fontsize=7.5)
        if number == ringed[0]:
            ax.plot(ringed[2], ringed[1], "o", markersize=13, markerfacecolor="none", markeredgecolor="red",
                    markeredgewidth=2)
    fig.tight_layout()
    return fig


def plot_functions(functions):
    """Curves of functions from -4 to 4: {name: function of a tensor}."""
    import matplotlib.pyplot as plt
    import torch
    x = torch.linspace(-4, 4, 200)
    fig, ax = plt.subplots(figsize=(4.5, 2.2))
    for (name, function), style in zip(functions.items(), ("-", ":", "--")):
        ax.plot(x, function(x), linestyle=style, label=name)
    ax.legend()
    fig.tight_layout()
    return fig


# --- Training ---


def plot_learning(steps, curves):
    """How shares, {name: one for each step}, change in training; the axis of the steps is logarithmic from 1."""
    import matplotlib.pyplot as plt
    fig, ax = plt.subplots(figsize=(WIDTH * 0.75, 3))
    for (name, shares), marker in zip(curves.items(), "os^"):
        ax.plot(steps, shares, marker=marker, markersize=4, label=name)
    ax.set_xscale("symlog", linthresh=1)
    ax.set_xticks(steps, steps)
    ax.minorticks_off()
    ax.set(xlabel="training steps, logarithmic", ylim=(-0.03, 1.03))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    fig.tight_layout()
    return fig
