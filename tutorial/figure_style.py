"""What the tutorial's figures have in common: colours, fonts, texts that fit, and boxes.

A colour has one meaning in all figures. A figure's own texts go through `label`, which translates them; texts from data
are drawn as they are, never as markup. A figure of coloured texts takes three functions: `flow` lays them out in lines,
`text_axes` makes axes of the size that these need, and `cell` draws each.
"""

import textwrap
from functools import cache
from unicodedata import east_asian_width

from engine.texts import marked, translate
from tutorial.messages import shorten

PROMPT = "#abcbf3"   # blue: only read; these four are the page's, too
ANSWER = "#bfe7aa"   # green: counts in the loss
END = "#f9b766"      # orange: the end of the text
PADDING = "#e4e4e2"  # grey: ignored
WRONG = "#d79a9a"    # red: wrong
INK, SLATE, SILVER, MIST = "#26323f", "#8797a8", "#c3ced9", "#e6ebf0"  # without a meaning, from dark to light
SHADES = "#f3f6f8", "#8397ab", "#23405c"  # a number, from low to high
LUMA = 0.3, 0.59, 0.11  # the weights of red, green and blue in a colour's brightness, after ITU-R BT.601
LIGHT = 0.54  # the brightness above which a colour gets dark text
MEANINGS = {PROMPT: marked("only read"), ANSWER: marked("counts in the loss"), END: marked("end of text"),
            PADDING: marked("ignored"), WRONG: marked("wrong")}
CJK_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "PingFang SC",
             "Hiragino Sans", "Microsoft YaHei", "SimHei", "Malgun Gothic", "Arial Unicode MS")
WIDTH = 7         # inches, at 100 dots each: what fits beside the contents of a page of 1,000 pixels
LINE = 89         # characters of a monospaced text of 9 points, the smallest, that fit this width


# --- Fonts ---


@cache
def cjk_fonts():
    """The names of those CJK_FONTS that are installed."""
    from matplotlib import font_manager
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in CJK_FONTS if name in installed]


def monospaced():
    """The names of a monospaced font and of those that replace it for the characters it lacks."""
    import matplotlib.pyplot as plt
    return ["DejaVu Sans Mono", *plt.rcParams["font.family"]]


def label(text):
    """A figure's own text in the reader's language; in English if that has Chinese characters and no font for them."""
    translation = translate(text)
    return translation if columns(translation) == len(translation) or cjk_fonts() else text


# --- Texts ---


def drawable(text, otherwise, longest=40):
    """A text as one short line for a figure, with line ends and tabs as ↵ and \\t. If no font has all of its
    characters, `otherwise` instead, a text or a number."""
    import matplotlib.pyplot as plt
    from matplotlib import font_manager
    fonts = [font_manager.get_font(font_manager.findfont(name)) for name in plt.rcParams["font.family"]]
    text = text.replace("\n", "↵").replace("\t", "\\t")
    known = (any(font.get_char_index(ord(character)) for font in fonts) for character in text)
    if "\ufffd" in text or not text.isprintable() or not all(known):
        text = str(otherwise)
    return shorten(text, longest)


def columns(text):
    """The width of a text in a monospaced font, in characters: Chinese ones count twice."""
    return len(text) + sum(east_asian_width(character) in "FW" for character in text)


def fitted(text, longest):
    """A text from data as one line of at most `longest` columns; of at least one, for the …."""
    longest = max(longest, 1)
    text = drawable(text, label("(not drawable)"), longest)
    while columns(text) > longest:
        text = text.removesuffix("…")[:-1] + "…"
    return text


def wrapped(text, longest):
    """A text in lines of at most `longest` columns."""
    if columns(text) <= longest:
        return text
    has_wide = columns(text) > len(text)  # textwrap counts characters; Chinese ones take two columns
    return "\n".join(textwrap.wrap(text, longest // 2 if has_wide else longest))


def percent(share):
    """A share, 0 to 1, as percent; never 0% or 100% unless it is."""
    if 0 < share < 0.0005 or 0.9995 <= share < 1:
        return "<0.1%" if share < 0.5 else ">99.9%"
    return f"{share:.1%}" if 0 < share < 0.0995 or 0.995 <= share < 1 else f"{share:.0%}"


def rounded(probability):
    """A probability with two decimals; a smaller one as a power of ten, such as 3e-4."""
    return f"{probability:.0e}".replace("e-0", "e-") if 0 < probability < 0.005 else f"{probability:.2f}"


# --- Shapes ---


@cache
def shades():
    """The colour map from low to high."""
    from matplotlib.colors import LinearSegmentedColormap
    return LinearSegmentedColormap.from_list("shades", SHADES)


def empty_axes(width, height, figsize):
    """A figure with nothing but axes without lines, `width` by `height` units from the upper left corner: (figure,
    axes)."""
    import matplotlib.pyplot as plt
    fig = plt.figure(figsize=figsize)
    ax = fig.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    ax.axis("off")
    return fig, ax


def text_axes(width, height, row_height=0.28):
    """Empty axes for texts of 9 points: `width` columns of a monospaced text by `height` rows, each of `row_height`
    inches: (figure, axes)."""
    return empty_axes(width, height, (WIDTH * width / LINE, row_height * height))


def flow(widths, indent=0, gap=0):
    """Lay out boxes of these widths, in columns, from left to right, in lines that begin at `indent` and end at LINE:
    ([(x, number of the line) of each box], right end of the longest line, number of lines)."""
    places, x, line, longest = [], indent, 0, indent
    for width in widths:
        if x > indent and x + width > LINE:
            x, line = indent, line + 1
        places.append((x, line))
        longest = max(longest, x + width)
        x = x + width + gap
    return places, longest, line + 1


def box(ax, x, y, width, height, text, colour, **style):
    """Draw a coloured rectangle with a centred text; (x, y) is its upper left corner."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle
    ax.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor="white", linewidth=1.5))
    brightness = sum(part * weight for part, weight in zip(to_rgb(colour), LUMA))
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", color=INK if brightness > LIGHT else "white",
            **style)


def cell(ax, x, y, width, text, colour, height=1):
    """Draw a box with a monospaced text, such as a token or a number."""
    box(ax, x, y, width, height, text, colour, family=monospaced())


def draw_key(ax, colours, meanings=MEANINGS):
    """Write below the axes what the colours mean, if they have a meaning."""
    from matplotlib.patches import Patch
    handles = [Patch(color=colour, label=label(meaning)) for colour, meaning in meanings.items() if colour in colours]
    if handles:
        ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, 0), ncols=len(handles), handlelength=1,
                  borderaxespad=0.3, borderpad=0)


def arrow(ax, start, end):
    """Draw an arrow between two points, (x, y)."""
    ax.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "-|>", "color": SLATE, "shrinkA": 0, "shrinkB": 0})
