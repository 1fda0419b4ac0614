"""The tutorial's figures.

The functions named `draw_...` and `plot_...` return a matplotlib figure. `show` displays it in the notebook, with its
caption.

What is translated, and where:

- A figure's own texts are literals in calls of `label`.
- Titles and names that a caller gives, the keys of rows, panels and curves, pass `label` as well.
- Data never do, and stay as they are: tokens, questions, tasks.

scripts/translate.py finds the literals in calls of `label` and `marked`. It also finds the strings that stand in a
notebook cell inside a call of a function named `draw_...` or `plot_...`: the prefix decides. A name that stands in
neither place has to be marked in `NAMES_FROM_ELSEWHERE`.
"""

import io
import logging
import math
import re
from itertools import accumulate, cycle, pairwise

import torch

from engine.texts import marked, read_translation
from previous_chapters import IGNORE_INDEX
from tutorial.figure_style import (
    ANSWER,
    END,
    INK,
    LINE,
    MIST,
    PADDING,
    PROMPT,
    SILVER,
    SLATE,
    WIDTH,
    WRONG,
    arrow,
    box,
    cell,
    cjk_fonts,
    columns,
    draw_key,
    drawable,
    empty_axes,
    fitted,
    flow,
    label,
    monospaced,
    percent,
    rounded,
    shades,
    text_axes,
    wrapped,
)
from tutorial.intervals import wilson
from weights.tokenizer import END_OF_TEXT

# Only marked for scripts/translate.py: what the textbook's `plot_losses` writes, and keys of results that the notebook
# gives to rows, or prints.
NAMES_FROM_ELSEWHERE = [
    marked("training"), marked("validation"), marked("epochs"), marked("loss per token (nats)"),
    marked("tokens read, without padding"), marked("before"), marked("after"), marked("any")]


def set_up_figures(translation=None):
    """The style of all figures. Texts such as "$x$" are drawn as they are; Chinese, Japanese and Korean have a font if
    one is installed. translation: a .po file, by which all that the tutorial says is translated from now on."""
    import matplotlib.pyplot as plt  # in the functions: what imports this module without drawing doesn't wait for it
    if translation:
        read_translation(translation)
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # don't report a font without bold letters
    plt.rcParams.update({
        "text.parse_math": False, "font.family": ["DejaVu Sans", *cjk_fonts()], "font.size": 9, "axes.labelsize": 9,
        "axes.titlesize": 10, "legend.fontsize": 9, "legend.frameon": False, "xtick.labelsize": 9, "ytick.labelsize": 9,
        "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": SLATE, "xtick.color": SLATE, "ytick.color": SLATE,
        "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.spines.top": False, "axes.spines.right": False,
        "axes.prop_cycle": plt.cycler(color=[INK, SLATE]), "hatch.color": SLATE, "hatch.linewidth": 0.6})


def translate_labels(fig):
    """Translate the axis labels and the legends of a figure, such as the textbook's `plot_losses`."""
    for ax in fig.axes:
        legend = ax.get_legend()
        for text in (ax.xaxis.label, ax.yaxis.label, *(legend.get_texts() if legend else ())):
            text.set_text(label(text.get_text()))


def show(fig, caption, live=None):
    """Display a figure in the notebook and, below it, its caption, and close it.

    The caption, a plain text, is the picture's alternative text as well. live: a bundle with data for the page's script
    (`tutorial.page.live`), which is put beside the picture.
    """
    import matplotlib.pyplot as plt
    from IPython.display import Image, Markdown, display
    from PIL.Image import open as read_picture
    translate_labels(fig)
    drawn, png = io.BytesIO(), io.BytesIO()
    fig.savefig(drawn, format="png", dpi=200, bbox_inches="tight")
    plt.close(fig)
    read_picture(drawn).convert("RGB").quantize().save(png, "png", optimize=True)  # 256 colours: a third of the bytes
    bundle, metadata = Image(png.getvalue(), retina=True, alt=caption)._repr_mimebundle_()  # retina: at half its size
    display(bundle | (live or {}), metadata=metadata, raw=True)
    display(Markdown("*" + re.sub(r"[\\`*_\[\]<>&$~]", lambda sign: f"&#{ord(sign[0])};", caption) + "*"))


# --- What the tutorial is about ---


def draw_map():
    """The three stages of training a language model, with an example text each; this tutorial is the second."""
    width, inner_width = 5.6, 5.2  # of a stage, and of the boxes in it
    pretraining, fine_tuning, preferences = 0.1, 6.2, 12.3  # the left edges of the stages
    stages = {
        pretraining: (label("pretraining"), label("text of any kind"), label("learns to guess the next token")),
        fine_tuning: (label("supervised fine-tuning"), label("questions with answers"),
                      label("learns what is asked, and how to answer")),
        preferences: (label("preference tuning"), label("pairs of answers (section 10)"),
                      label("learns which answer people prefer"))}
    fig, ax = empty_axes(preferences + width + 0.1, 5.6, (WIDTH, 2.8))
    for left, (name, reads, learns) in stages.items():
        middle = left + width / 2
        box(ax, left, 0.7, width, 4.9, "", MIST)
        ax.text(middle, 1.1, name, ha="center", va="center", fontsize=11, weight="bold")
        ax.text(middle, 1.65, reads, ha="center", va="center")
        ax.text(middle, 4.95, wrapped(learns, 32), ha="center", va="center")
    ax.text(fine_tuning + width / 2, 0.35, "▼ " + label("you are here"), ha="center", va="center", weight="bold")
    for left in (fine_tuning, preferences):
        arrow(ax, (left - 0.5, 3.1), (left, 3.1))
        box(ax, left + 0.2, 2.1, inner_width, 0.8, "What is the plural of glass?", PROMPT)
    box(ax, pretraining + 0.2, 2.1, inner_width, 2.2, "Anna has a glass. Many\nglasses are on the table.\n"
        "With glass in the plural\nyou write glasses. …", ANSWER)
    box(ax, fine_tuning + 0.2, 3, 3.8, 1.3, "The plural of glass\nis glasses.", ANSWER)
    box(ax, fine_tuning + 4, 3, 1.4, 1.3, wrapped(label("end of text"), 6), END)
    box(ax, preferences + 0.2, 3, inner_width / 2, 1.3, "✓ The plural\nis glasses.", ANSWER)
    box(ax, preferences + 0.2 + inner_width / 2, 3, inner_width / 2, 1.3, "✗ Look it up\nyourself.", WRONG)
    return fig


# --- Data, tokens and batches ---


def id_cells(table, colour, padding):
    """The cells of a tensor of ids, (rows, columns), for `draw_cells`: padding, an id, is grey, the end of text
    orange."""
    return [[(str(i), PADDING if i == padding else END if i == END_OF_TEXT else colour) for i in row]
            for row in table.tolist()]


def token_texts(ids, tokenizer):
    """The texts of ids for a figure; the end of text is ■."""
    return ["■" if i == tokenizer.eot_token else drawable(tokenizer.decode([i]), i) for i in ids]


def batch_strips(inputs, targets, tokenizer, rows=3):
    """The first rows of a batch, inputs and targets (B, T), for `draw_tokens`: ({row: texts}, {row: colours}). A token
    has the colour of an answer if it is a target that counts; all padding is one box."""
    texts, colours = {}, {}
    for number, (read, wanted) in enumerate(zip(inputs[:rows].tolist(), targets[:rows].tolist())):
        end = wanted.index(tokenizer.eot_token)                                 # the position of the last token
        ids = read[:end + 1] + [tokenizer.eot_token]
        counts = [False] + [target != IGNORE_INDEX for target in wanted[:end]]
        name, padding = label("row {}").format(number), label("{} × padding").format(len(read) - end - 1)
        texts[name] = token_texts(ids, tokenizer) + [padding]
        colours[name] = [ANSWER if count else PROMPT for count in counts] + [END, PADDING]
    return texts, colours


def draw_cells(tables):
    """Tables of coloured cells side by side, {title: rows of (text, colour)}, and below them what the colours mean.
    Tables that don't fit beside the others go on below."""
    cells = [pair for rows in tables.values() for row in rows for pair in row]
    sizes = [max(map(len, rows), default=1) for rows in tables.values()]  # cells in a row
    longest = max([4, *(columns(fitted(text, LINE)) for text, _ in cells)])
    width = min(longest + 0.6, LINE / max(sizes))  # of a cell: the widest table has to fit
    titles = [wrapped(label(title), size * width) for title, size in zip(tables, sizes)]
    head = 0.8 * max(title.count("\n") + 1 for title in titles)
    places, total, n_lines = flow([size * width for size in sizes], gap=2)
    heights = [0] * n_lines  # rows of the tallest table of each line
    for (_, line), rows in zip(places, tables.values()):
        heights[line] = max(heights[line], len(rows))
    *tops, bottom = accumulate((head + height + 0.5 for height in heights), initial=0)
    fig, ax = text_axes(total, bottom - 0.5)
    for (left, line), size, title, rows in zip(places, sizes, titles, tables.values()):
        top = tops[line] + head
        ax.text(left + size * width / 2, top - 0.1, title, ha="center", va="bottom", fontsize=10)
        for y, row in enumerate(rows):
            for x, (text, colour) in enumerate(row):
                cell(ax, left + x * width, top + y, width, fitted(text, math.ceil(width) - 1), colour)
    draw_key(ax, {colour for _, colour in cells})
    return fig


def draw_tokens(rows, colours=None, values=None):
    """Texts as rows of coloured tokens, broken into lines.

    rows: {name: token texts}. Give one of these two: colours, {name: a colour for each token}, whose meanings are
    written below; or values, {name: a number for each token, 0 to 1}, the darker the greater.
    """
    if values is not None:
        colours = {name: [shades()(value) for value in numbers] for name, numbers in values.items()}
    headings, boxes, y, total = [], [], 0.0, 1  # (y, text) and (x, y, width, text, colour)
    for name, tokens in rows.items():
        headings.append((y, fitted(label(name), LINE)))
        texts = [fitted(token, LINE - 1) for token in tokens]
        widths = [max(columns(text), 1) + 0.9 for text in texts]
        places, longest, n_lines = flow(widths)
        boxes += [(x, y + 1 + line, width, text, colour)
                  for (x, line), width, text, colour in zip(places, widths, texts, colours[name])]
        y, total = y + n_lines + 1.3, max(total, longest)
    fig, ax = text_axes(total, y, row_height=0.24)
    for top, text in headings:
        ax.text(0, top + 0.45, text, va="center", weight="bold")
    for x, top, width, text, colour in boxes:
        cell(ax, x, top, width, text, colour, height=0.9)
    draw_key(ax, {colour for *_, colour in boxes})
    return fig


def draw_probabilities(tokens, rows):
    """The tokens of a text and, below each, its probabilities, one row for each name: {name: a number for each token}.
    The darker, the more likely. A long text is broken into lines."""
    names = [fitted(label(name), 24) for name in rows]
    left = max(map(columns, names)) + 2
    tokens = [fitted(token, LINE - left - 1) for token in tokens]
    widths = [max(columns(token), 5) + 1 for token in tokens]
    places, total, n_lines = flow(widths, indent=left)
    step = len(rows) + 1.4  # from one line of tokens to the next
    fig, ax = text_axes(total, n_lines * step - 0.4)
    for line in range(n_lines):
        for y, name in enumerate(names, 1):
            ax.text(0, line * step + y + 0.5, name, va="center")
    for i, ((x, line), width, token) in enumerate(zip(places, widths, tokens)):
        cell(ax, x, line * step, width, token, MIST)
        for y, chances in enumerate(rows.values(), 1):
            cell(ax, x, line * step + y, width, rounded(chances[i]), shades()(chances[i]))
    return fig


def draw_next_token(panels, highlight=None, n=3):
    """The probabilities of the next token, panels side by side: {title: [(token, probability), ...]}, in falling order.

    A panel has a bar for each of the n likeliest tokens and one for the rest. The token `highlight` has the colour of
    the end of the text, and a bar in every panel that knows it, however unlikely it is.
    """
    import matplotlib.pyplot as plt
    shown = [pairs[:n] + [pair for pair in pairs[n:] if pair[0] == highlight] for pairs in panels.values()]
    rows = max(map(len, shown)) + 1  # and one for the rest
    name_width, title_width = 36 // len(panels), 78 // len(panels)  # columns beside and above the bars
    fig, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 0.28 * rows + 0.4), squeeze=False, layout="constrained")
    for ax, title, pairs in zip(axes[0], panels, shown):
        names = [fitted(token.replace("<|endoftext|>", "■"), name_width) for token, _ in pairs]
        names.append(label("the rest"))
        shares = [probability for _, probability in pairs]
        shares.append(max(1 - sum(shares), 0.0))
        bars = ax.barh(range(len(shares)), shares, height=0.7,
                       color=[END if token == highlight else SLATE for token, _ in pairs] + [SILVER])
        ax.bar_label(bars, map(percent, shares), padding=4)
        ax.set_yticks(range(len(shares)), names, family=monospaced())
        ax.set(xlim=(0, 1.2), ylim=(rows - 0.4, -0.6), xticks=[])
        ax.set_title(wrapped(label(title), title_width), loc="left")
        ax.spines["bottom"].set_visible(False)
        ax.tick_params(length=0)
    return fig


# --- The model ---


def draw_one_head(tokens, scores, weights):
    """How the last of at most 9 tokens attends to itself and the tokens before it, in one head: arcs as thick as the
    weights, and below them the numbers that the weights follow from.

    tokens: T texts. scores: T numbers, query · key / √(D/nh). weights: their softmax, T numbers from 0 to 1.
    """
    name_width, sum_width = 17, 7  # columns for the rows' names and for the sums
    top = 5  # the row of the tokens, below the arcs
    tokens = [fitted(token, 20) for token in tokens]
    widths = column_widths(tokens, LINE - name_width - sum_width)
    edges = list(accumulate(widths, initial=name_width))
    total = edges[-1] + sum_width
    fig, ax = text_axes(total, top + 4.1)
    draw_arcs(ax, [(left + right) / 2 for left, right in pairwise(edges)], top, weights)
    exps, unit = in_power_of_ten([math.exp(score) for score in scores])
    rows = [  # name, texts, sum, colours
        (label("score"), map("{:.2f}".format, scores), label("sum"), cycle(["#ffffff"])),
        (label("exp(score)") + unit, map("{:.4f}".format, exps), f"{sum(exps):.4f}", cycle(["#ffffff"])),
        (label("weight = exp / sum"), map("{:.2f}".format, weights), f"{sum(weights):.2f}", map(shades(), weights))]
    for y, (name, texts, sum_text, colours) in enumerate(rows, top + 1):
        ax.text(0, y + 0.5, name, va="center")
        ax.text(total - sum_width / 2, y + 0.5, sum_text, ha="center", va="center", family=monospaced(), weight="bold")
        for x, width, text, colour in zip(edges, widths, texts, colours):
            cell(ax, x, y, width, text, colour)
    for x, width, token, colour in zip(edges, widths, tokens, [MIST] * (len(tokens) - 1) + [INK]):
        cell(ax, x, top, width, fitted(token, width - 1), colour)
    return fig


def column_widths(texts, available):
    """The widths of columns for at most 9 texts, at least 7 each. Those of the longest texts are narrowed until all fit
    into `available` columns."""
    for longest in range(20, 5, -1):
        widths = [max(min(columns(text), longest), 6) + 1 for text in texts]
        if sum(widths) <= available:
            break
    return widths


def draw_arcs(ax, xs, bottom, weights):
    """Draw arcs from each of the points (x, bottom) to the last, as thick and as dark as the weights, 0 to 1. The last
    point has a small arc of its own."""
    angles = [k * math.pi / 60 for k in range(61)]  # of half an ellipse
    for i in sorted(range(len(xs)), key=weights.__getitem__):  # the thickest is drawn last
        start, stop = (xs[i], xs[-1]) if i < len(xs) - 1 else (xs[i] - 1.5, xs[i] + 1.5)
        height = 1 + (bottom - 1.5) * (stop - start) / (xs[-1] - xs[0] + 3)
        ax.plot([(start + stop - (stop - start) * math.cos(angle)) / 2 for angle in angles],
                [bottom - height * math.sin(angle) for angle in angles],
                color=shades()(0.3 + 0.7 * weights[i]), linewidth=0.5 + 9 * weights[i], solid_capstyle="butt")


def in_power_of_ten(numbers):
    """Positive numbers times that power of ten with which their sum is from 1 to 10, and its text: (numbers, text)."""
    power = -math.floor(math.log10(sum(numbers)))
    superscript = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return [number * 10.0 ** power for number in numbers], f" × 10{superscript}" if power else ""


def draw_attention(weights, labels):
    """The attention weights of one head, (T, T), for at most 16 tokens with these labels: row i has the weights with
    which token i looks at the tokens of the columns."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch, Rectangle
    T, names = len(labels), [fitted(text, 16) for text in labels]
    # 0.24 inches for a cell, and room for the names, the axis labels and the colour bar
    fig, ax = plt.subplots(figsize=(0.24 * T + 3.1, 0.24 * max(T, 4) + 1.8), layout="constrained")
    image = ax.imshow(weights, cmap=shades(), vmin=0, vmax=1)
    for row in range(T):  # what is hidden gets a white cell, hatched; all cells a white edge
        ax.add_patch(Rectangle((row + 0.5, row - 0.5), T - row - 1, 1, facecolor="white", hatch="////", linewidth=0))
    ax.vlines([i + 0.5 for i in range(T - 1)], -0.5, T - 0.5, color="white", linewidth=1)
    ax.hlines([i + 0.5 for i in range(T - 1)], -0.5, T - 0.5, color="white", linewidth=1)
    ax.set_xticks(range(T), names, rotation=90, family=monospaced())
    ax.set_yticks(range(T), names, family=monospaced())
    ax.set(xlabel=label("token it looks at"), ylabel=label("token that looks back"))
    ax.xaxis.set(ticks_position="top", label_position="top")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    fig.colorbar(image, label=label("attention weight"), ticks=[0, 0.5, 1], shrink=0.8).outline.set_visible(False)
    ax.legend(handles=[Patch(facecolor="white", hatch="////", label=label("later: hidden"))], loc="upper left",
              bbox_to_anchor=(0, 0), borderpad=0)
    return fig


def draw_architecture(B, T, cfg):
    """GPT-2 as a block diagram, from the ids at the bottom to the loss at the top, with the shapes of one batch. Parts
    with weights are darker."""
    D, V, nh, L = cfg["emb_dim"], cfg["vocab_size"], cfg["n_heads"], cfg["n_layers"]
    plain, learned = MIST, SILVER
    model = {  # part: text, shape after it, colour; from the top
        "loss": (label("softmax and loss"), label("one number"), plain),
        "head": (label("output head = token embedding, transposed"), f"({B}, {T}, {V:,})", learned),
        "norm": (label("final LayerNorm"), f"({B}, {T}, {D})", learned),
        "blocks": (label("{} transformer blocks").format(L), f"({B}, {T}, {D})", learned),
        "embedding": (label("token embedding + position embedding"), f"({B}, {T}, {D})", learned),
        "ids": (label("token ids"), f"({B}, {T})", plain)}
    block = {
        "add 2": (label("+  add to what came in"), f"({B}, {T}, {D})", plain),
        "narrow": (label("narrow: 4D → D"), f"({B}, {T}, {D})", learned),
        "gelu": ("GELU", f"({B}, {T}, {4 * D})", plain),
        "widen": (label("widen: D → 4D"), f"({B}, {T}, {4 * D})", learned),
        "norm 2": ("LayerNorm", f"({B}, {T}, {D})", learned),
        "add 1": (label("+  add to what came in"), f"({B}, {T}, {D})", plain),
        "projection": (label("output projection"), f"({B}, {T}, {D})", learned),
        "values": (label("attention weights · values"), f"({B}, {nh}, {T}, {D // nh})", plain),
        "softmax": (label("mask, softmax"), f"({B}, {nh}, {T}, {T})", plain),
        "scores": (label("queries · keys / √(D/nh)"), f"({B}, {nh}, {T}, {T})", plain),
        "qkv": (label("queries, keys, values"), f"3 × ({B}, {nh}, {T}, {D // nh})", learned),
        "norm 1": ("LayerNorm", f"({B}, {T}, {D})", learned)}
    shortcuts = {"norm 1": "add 1", "norm 2": "add 2"}  # from below the one to the other
    fig, ax = empty_axes(18, 12.7, (WIDTH, 6.35))
    top, lowest, width = 0.5, 12.6, 4.7  # of both columns: where they begin, the lowest line, the width of a part

    def draw_column(parts, left, bottom, height, longest):
        """Draw parts of one height evenly from `top` to `bottom`, their texts in lines of at most `longest` columns:
        {part: its vertical middle}."""
        step = (bottom - top - height) / (len(parts) - 1)
        middles = {part: top + height / 2 + i * step for i, part in enumerate(parts)}
        for part, (text, shape, colour) in parts.items():
            box(ax, left, middles[part] - height / 2, width, height, wrapped(text, longest), colour)
            ax.text(left + width + 0.15, middles[part], shape, va="center", family=monospaced())
        for upper, lower in pairwise(middles.values()):
            arrow(ax, (left + width / 2, lower - height / 2), (left + width / 2, upper + height / 2))
        return middles

    def draw_line(*points, **style):
        ax.plot(*zip(*points), color=SLATE, linewidth=1, **style)

    model_y = draw_column(model, left=0.1, bottom=12.4, height=1.1, longest=25)
    left, height = 9.3, 0.68  # of the parts of a block
    middle = left + width / 2
    block_y = draw_column(block, left, bottom=12.18, height=height, longest=26)
    arrow(ax, (middle, lowest), (middle, block_y["norm 1"] + height / 2))
    for start, end in shortcuts.items():
        below = block_y[start] + height / 2 + 0.19  # below the arrow's head
        draw_line((left, block_y[end]), (left - 0.3, block_y[end]), (left - 0.3, below), (middle, below))
    shape_end, bracket = 7.9, left - 0.7  # right of the shape of all blocks; the bracket around one of them
    for end in (0.3, lowest):
        draw_line((shape_end, model_y["blocks"]), (bracket, model_y["blocks"]), (bracket, end), (bracket + 0.15, end),
                  linestyle=":")
    draw_key(ax, {learned}, {learned: marked("has learned weights")})
    ax.text(middle, 0.15, label("inside one block"), ha="center", va="center", weight="bold")
    return fig


def plot_functions(functions):
    """Curves of up to six functions from -4 to 4, each in a style of its own: {name: function of a tensor}."""
    import matplotlib.pyplot as plt
    x = torch.linspace(-4, 4, 200)
    fig, ax = plt.subplots(figsize=(4.5, 2.2), layout="constrained")
    for (name, function), style in zip(functions.items(), cycle(("-", ":", "--"))):  # with two colours: six pairs
        ax.plot(x, function(x), linestyle=style, linewidth=2, label=label(name))
    ax.legend()
    return fig


def draw_lora(d_in, d_out, rank, factor):
    """LoRA: a frozen matrix W, d_out by d_in, plus a factor times the product of B, d_out by rank, and A, rank by d_in.
    The rectangles are to scale, except for sides that would be too thin to see."""
    unit, thinnest = 2 / max(d_in, d_out), 0.06  # inches: of a row or column, and what can be seen
    least_slot, gap = 1.4, 0.8  # inches: a matrix's texts need a slot of this width; the signs stand in the gaps
    matrices = [  # sign before it, name, kind, rows, columns, colour
        ("", "W", label("frozen"), d_out, d_in, MIST),
        (f"+ {factor} ×", "B", label("trained"), d_out, rank, SLATE),
        ("×", "A", label("trained"), rank, d_in, SLATE)]
    sides = [(max(n_columns * unit, thinnest), max(rows * unit, thinnest)) for *_, rows, n_columns, _ in matrices]
    slots = [max(width, least_slot) for width, _ in sides]
    tallest = max(height for _, height in sides)
    total, middle = sum(slots) + 2 * gap, 0.3 + tallest / 2
    fig, ax = empty_axes(total, tallest + 0.8, (total, tallest + 0.8))
    for i, ((width, height), (sign, name, kind, rows, n_columns, colour)) in enumerate(zip(sides, matrices)):
        x = sum(slots[:i]) + i * gap + slots[i] / 2
        above, below = middle - height / 2 - 0.08, middle + height / 2 + 0.08
        size = f"{rows:,} × {n_columns:,}\n" + label("{} parameters").format(f"{rows * n_columns:,}")
        box(ax, x - width / 2, middle - height / 2, width, height, "", colour)
        ax.text(x, above, label("{}, {}").format(name, kind), ha="center", va="bottom", weight="bold")
        ax.text(x, below, size, ha="center", va="top", linespacing=1.4)
        ax.text(x - slots[i] / 2 - gap / 2, middle, sign, ha="center", va="center", fontsize=16)
    return fig


# --- Training ---


def plot_learning(seen):
    """How a model learns: the share of questions that it answers exactly, and the probability of the end after right
    answers. seen: {step: what `observe.snapshot` gives then}. The axis of the steps is logarithmic from 1."""
    import matplotlib.pyplot as plt
    fig, ax = plt.subplots(figsize=(WIDTH, 3), layout="constrained")
    for name, text, marker, colour in (("exact", label("questions answered exactly"), "o", INK),
                                       ("stop", label("probability of the end after the right answer"), "s", END)):
        ax.plot(list(seen), [snapshot[name] for snapshot in seen.values()], marker=marker, markersize=5, color=colour,
                label=text)
    ax.set_xscale("symlog", linthresh=1)
    ax.set_xticks(list(seen), list(seen))
    ax.minorticks_off()
    ax.set(xlabel=label("training steps, logarithmic after 0"), ylim=(-0.03, 1.03))
    ax.yaxis.set_major_formatter("{x:.0%}")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return fig


def draw_answers_by_step(questions, seen):
    """How a model answers some questions in the course of its training: one row for each question, one column for
    each training step.

    questions: texts. seen: {step: what `observe.snapshot` gives then}, with the chances of the right answers, 0 to 1,
    and whether the greedy answers are right.
    """
    left = 33  # columns for a question, in up to three lines
    width = min((LINE - left) / len(seen), 8)
    fig, ax = text_axes(left + width * len(seen), len(questions) + 1.4, row_height=0.5)
    ax.text(left - 1.5, 0.4, label("training step"), ha="right", va="center")
    for y, question in enumerate(questions):
        ax.text(0, y + 1.3, wrapped(fitted(question, 90), left), va="center")
    for x, (step, snapshot) in enumerate(seen.items()):
        ax.text(left + (x + 0.5) * width, 0.4, step, ha="center", va="center")
        for y, (chance, right) in enumerate(zip(snapshot["chances"], snapshot["right"])):
            text = f"{chance:.2f}" + ("✓" if right else " ")
            cell(ax, left + x * width, y + 0.8, width, text, shades()(chance))
    ax.text(left, len(questions) + 1.1, "✓ " + label("the answer is exactly right"), va="center")
    return fig


def rows_of_shares(ax, names):
    """Name the rows of a figure, and give it a horizontal axis of shares from 0 to 1."""
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(axis="y", length=0)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
    ax.xaxis.set_major_formatter("{x:.0%}")


def draw_wordings(tasks):
    """Each task's share of right answers to questions in known and in new wordings as a pair of points: {task: ((right,
    number), (right, number))}. The last row, their sum, has Wilson's 95 % intervals."""
    import matplotlib.pyplot as plt
    rows = [(fitted(task, 30), pair) for task, pair in tasks.items()]
    rows.append((label("all"), [tuple(map(sum, zip(*counts))) for counts in zip(*tasks.values())]))
    hollow = {"markersize": 9, "markerfacecolor": "none", "color": SLATE, "markeredgewidth": 2}
    kinds = [  # name in the legend, name above the counts, where these stand (right of the shares), style of the points
        (label("known wordings"), label("known"), 1.1, {"markersize": 5, "color": INK}),
        (label("new wordings"), label("new"), 1.25, hollow)]
    fig, ax = plt.subplots(figsize=(WIDTH, 0.28 * len(rows) + 1), layout="constrained")
    for y, (_, pair) in enumerate(rows):
        is_sum = y == len(rows) - 1
        heights = (y - 0.2, y + 0.2) if is_sum else (y, y)  # apart, so that both intervals are seen
        shares = [right / number if number else math.nan for right, number in pair]
        if not is_sum:
            ax.plot(shares, heights, color=MIST, linewidth=4, zorder=1)
        for share, height, (right, number), (name, _, place, style) in zip(shares, heights, pair, kinds):
            ax.plot(share, height, marker="o", linestyle="none", label=name if is_sum else None, **style)
            ax.text(place, y, f"{right}/{number}", ha="center", va="center")
            if is_sum and number:
                ax.plot(wilson(right, number), (height, height), color=style["color"], linewidth=1.5)
    ax.axhline(len(rows) - 1.5, color=SLATE, linewidth=0.8)
    for _, heading, place, _ in kinds:
        ax.text(place, -0.8, heading, ha="center", va="center")
    rows_of_shares(ax, [name for name, _ in rows])
    ax.set(xlim=(-0.02, 1.02), ylim=(len(rows) - 0.4, -0.6))
    ax.spines["left"].set_visible(False)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(kinds), borderpad=0)
    return fig


def draw_shares(rows):
    """Shares as bars with Wilson's 95 % intervals: {name: {series: (right, number)}}. All rows have the same series, at
    most three."""
    import matplotlib.pyplot as plt
    series = list(next(iter(rows.values())))
    row_height = max(0.24 * len(series) + 0.12, 0.36)  # inches
    fig, ax = plt.subplots(figsize=(WIDTH, row_height * len(rows) + 0.7), layout="constrained")
    pitch = 0.8 / len(series)  # from one bar to the next, in rows
    for i, (one, colour) in enumerate(zip(series, (SLATE, SILVER, MIST))):
        heights = [y + (i - (len(series) - 1) / 2) * pitch for y in range(len(rows))]
        counts = [row[one] for row in rows.values()]
        ax.barh(heights, [right / number if number else 0 for right, number in counts], height=pitch * 0.9,
                color=colour, label=label(one))
        for height, (right, number) in zip(heights, counts):
            low, high = wilson(right, number) if number else (0, 0)
            ax.plot((low, high), (height, height), color=INK, linewidth=1.2)
            text = label("{} of {}").format(f"{right:.1f}".removesuffix(".0"), number)
            ax.text(high + 0.015, height, text, va="center")
    rows_of_shares(ax, [wrapped(fitted(label(name), 72), 36) for name in rows])
    ax.set(xlim=(0, 1.15), ylim=(len(rows) - 0.5, -0.5))
    ax.spines["bottom"].set_bounds(0, 1)
    if len(series) > 1:
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(series), borderpad=0)
    return fig


def draw_curves(curves):
    """Losses of up to ten training runs, {name: {step: loss}}, one panel each, with the same logarithmic axes."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator
    n_rows = math.ceil(len(curves) / 5)
    n_columns = math.ceil(len(curves) / n_rows)
    fig, axes = plt.subplots(n_rows, n_columns, figsize=(WIDTH, 1.7 * n_rows + 0.3), sharex=True, sharey=True,
                             squeeze=False, layout="constrained")
    for ax in axes.flat[len(curves):]:
        ax.set_visible(False)
    for ax, (name, losses) in zip(axes.flat, curves.items()):
        ax.plot(list(losses), list(losses.values()), color=INK)
        ax.set_title(wrapped(fitted(label(name), 60), 85 // n_columns), loc="left")  # 85 columns for all panels
        ax.set(xscale="log", yscale="log")
        ax.xaxis.set(major_locator=LogLocator(), major_formatter="{x:g}", minor_formatter="")
        ax.yaxis.set(major_locator=LogLocator(subs=(1, 3)), major_formatter="{x:g}", minor_formatter="")
        ax.grid(color=MIST, linewidth=0.8)
        ax.set_axisbelow(True)
    fig.supxlabel(label("training steps, logarithmic"), fontsize=9)
    fig.supylabel(label("loss per token (nats)"), fontsize=9)
    return fig
