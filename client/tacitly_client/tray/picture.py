"""How the indicator and its menu look. States differ by shape and by word, not by colour alone."""

import math
from functools import cache
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from tacitly_client.tray.shown import Showing

_BACK, _EDGE, _HOVER = "#23272e", "#6b7280", "#3b4252"
_TEXT, _QUIET = "#f3f4f6", "#b6bcc6"
_COLOURS: Final = {
    Showing.CAPTURING: "#ff5a52",
    Showing.TRAINING: "#58a6ff",
    Showing.PAUSED: "#f5c04a",
    Showing.NOT_RECEIVING: "#b6bcc6",
    Showing.OFF: "#b6bcc6",
}
_FONTS: Final = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "NotoSans-Regular.ttf")
_POINT: Final = 13  # pixels at scale 1
_FINE: Final = 4  # drawn so much larger, then made smaller: smooth edges


def chip(showing: Showing, text: str, scale: float) -> Image.Image:
    """The small window: symbol and words."""
    font = _font(round(_POINT * scale))
    height, gap = round(26 * scale), round(8 * scale)
    side = round(14 * scale)
    width = 3 * gap + side + math.ceil(font.getlength(text))
    picture = Image.new("RGB", (width, height), _BACK)
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 0, width - 1, height - 1), outline=_EDGE)
    picture.paste(symbol(showing, side), (gap, (height - side) // 2))
    pen.text((2 * gap + side, height / 2), text, _TEXT, font, anchor="lm")
    return picture


def symbol(showing: Showing, side: int) -> Image.Image:
    """The state as a shape: a disc, two bars, a ring with a disc, a dash, a ring."""
    large = side * _FINE
    picture = Image.new("RGB", (large, large), _BACK)
    pen, colour = ImageDraw.Draw(picture), _COLOURS[showing]
    low, high, line = large * 0.08, large * 0.92, max(1, round(large * 0.13))
    match showing:
        case Showing.CAPTURING:
            pen.ellipse((low, low, high, high), colour)
        case Showing.TRAINING:
            pen.ellipse((low, low, high, high), outline=colour, width=line)
            pen.ellipse((large * 0.34, large * 0.34, large * 0.66, large * 0.66), colour)
        case Showing.PAUSED:
            for left in (0.2, 0.58):
                pen.rectangle((large * left, low, large * (left + 0.22), high), colour)
        case Showing.NOT_RECEIVING:
            pen.rectangle((low, large * 0.43, high, large * 0.57), colour)
        case Showing.OFF:
            pen.ellipse((low, low, high, high), outline=colour, width=line)
    return picture.resize((side, side), Image.Resampling.LANCZOS)


def icon(showing: Showing, side: int) -> Image.Image:
    """What a tray shows: the symbol in a square."""
    inner = max(1, round(side * 0.7))
    picture = Image.new("RGB", (side, side), _BACK)
    picture.paste(symbol(showing, inner), ((side - inner) // 2, (side - inner) // 2))
    return picture


def menu(title: str, entries: tuple[str, ...], hovered: int | None, scale: float) -> Image.Image:
    """The menu: a line that says how it is, and the entries below it."""
    font = _font(round(_POINT * scale))
    row, gap = row_height(scale), round(12 * scale)
    longest = max(font.getlength(text) for text in (title, *entries))
    width, height = 2 * gap + math.ceil(longest), row * (len(entries) + 1)
    picture = Image.new("RGB", (width, height), _BACK)
    pen = ImageDraw.Draw(picture)
    pen.text((gap, row / 2), title, _QUIET, font, anchor="lm")
    for number, text in enumerate(entries, start=1):
        if number - 1 == hovered:
            pen.rectangle((0, row * number, width, row * (number + 1)), _HOVER)
        pen.text((gap, row * (number + 0.5)), text, _TEXT, font, anchor="lm")
    pen.line((0, row, width, row), _EDGE)
    pen.rectangle((0, 0, width - 1, height - 1), outline=_EDGE)
    return picture


def row_height(scale: float) -> int:
    """Of a menu's line, in pixels."""
    return round(30 * scale)


@cache
def _font(pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for name in _FONTS:
        try:
            return ImageFont.truetype(name, pixels)
        except OSError:
            continue
    return ImageFont.load_default(pixels)
