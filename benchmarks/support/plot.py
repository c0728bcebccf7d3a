"""A curve as a small SVG file, which is all that the plots of docs/performance.md need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

_WIDTH, _HEIGHT = 480, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 36, 48


def write_curve(
    path: Path, title: str, x_name: str, y_name: str, x: Sequence[float], y: Sequence[float], *, log_x: bool = False
) -> None:
    """Writes the curve through (x, y); y begins at 0, and so does x unless it is on a logarithmic scale."""
    places = [math.log10(value) if log_x else value for value in x]
    low = min(places) if log_x else 0.0
    x_scale = (_WIDTH - _LEFT - _RIGHT) / (max(places) - low)
    top = _rounded_up(max(y))
    y_scale = (_HEIGHT - _TOP - _BOTTOM) / top
    floor = _HEIGHT - _BOTTOM

    def at(place: float, value: float) -> tuple[float, float]:
        return _LEFT + (place - low) * x_scale, floor - value * y_scale

    points = [at(place, value) for place, value in zip(places, y, strict=True)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="sans-serif" font-size="12" fill="#333">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="20" font-size="14">{escape(title)}</text>',
    ]
    for tick in range(5):
        value = top * tick / 4
        _, height = at(low, value)
        parts += [
            f'<line x1="{_LEFT}" y1="{height:.1f}" x2="{_WIDTH - _RIGHT}" y2="{height:.1f}" stroke="#ddd"/>',
            f'<text x="{_LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{value:.3g}</text>',
        ]
    shown = -math.inf
    for (across, _), value in zip(points, x, strict=True):
        if across - shown > 36:  # labels of neighbours would overlap
            parts.append(f'<text x="{across:.1f}" y="{floor + 16}" text-anchor="middle">{_short(value)}</text>')
            shown = across
    line = " ".join(f"{across:.1f},{height:.1f}" for across, height in points)
    parts.append(f'<polyline points="{line}" fill="none" stroke="#1f77b4" stroke-width="2"/>')
    parts += [f'<circle cx="{across:.1f}" cy="{height:.1f}" r="3" fill="#1f77b4"/>' for across, height in points]
    middle = (_TOP + floor) / 2
    parts += [
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 10}" text-anchor="middle">{escape(x_name)}</text>',
        f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{escape(y_name)}</text>',
        "</svg>",
    ]
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")


def _rounded_up(value: float) -> float:
    unit = 10.0 ** math.floor(math.log10(value))
    return next(step * unit for step in (1, 2, 4, 6, 8, 10) if step * unit >= value)


def _short(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
