"""Pictures in space for the report: a canvas that is turned with the mouse, by a few lines of script.

In: a `Scene`. Out: HTML that holds its numbers and, once a page, the script that draws them. Nothing is
loaded, and the script reads nothing but those numbers. Without scripts the page shows the static plots.
"""

from __future__ import annotations

import json
from html import escape

from nnspec.compiler.passes.analysis import Dots, Scene

_DIGITS = 5  # significant digits of a coordinate


def scene(given: Scene) -> str:
    """Return the HTML of a scene, without its script."""
    data = {
        "axes": list(given.axes),
        "value": given.value,
        "dots": [_dots(dots) for dots in given.dots],
    }
    numbers = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    colours = {dots.name: dots.colour for dots in given.dots if not dots.values}
    legend = "".join(
        f'<span><i style="background:{escape(colour)}"></i>{escape(name)}</span>'
        for name, colour in colours.items()
    )
    caption = f"{escape(given.name)}: drag to turn, scroll to come closer"
    return (
        f'<figure class="small space"><canvas width="960" height="760"></canvas><div class="key">{legend}</div>'
        f'<script type="application/json">{numbers}</script><figcaption>{caption}</figcaption></figure>'
    )


def _dots(dots: Dots) -> dict[str, object]:
    return {
        "points": [[_short(number) for number in point] for point in dots.points],
        "values": [_short(value) for value in dots.values],
        "colour": dots.colour,
        "size": dots.size,
        "joined": dots.joined,
    }


def _short(number: float) -> float:
    return float(f"{number:.{_DIGITS}g}")


STYLE = """
.space canvas { width: 30rem; max-width: 100%; height: auto; touch-action: none; cursor: grab; }
.space canvas:active { cursor: grabbing; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font: .78rem system-ui, sans-serif; color: var(--faint); }
.key i { display: inline-block; width: .6rem; height: .6rem; border-radius: 50%; margin-right: .3rem; }
"""

SCRIPT = """
"use strict";
for (const figure of document.querySelectorAll("figure.space")) {
  const canvas = figure.querySelector("canvas"), pen = canvas.getContext("2d");
  const given = JSON.parse(figure.querySelector("script").textContent);
  const all = given.dots.flatMap(d => d.points), values = given.dots.flatMap(d => d.values);
  const low = [0, 1, 2].map(i => all.reduce((a, p) => Math.min(a, p[i]), Infinity));
  const high = [0, 1, 2].map(i => all.reduce((a, p) => Math.max(a, p[i]), -Infinity));
  const least = values.reduce((a, v) => Math.min(a, v), Infinity), most = values.reduce((a, v) => Math.max(a, v), -Infinity);
  const stops = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
  let turn = -0.9, tilt = 0.5, zoom = 1, held = null;
  const unit = p => p.map((x, i) => high[i] > low[i] ? 2 * (x - low[i]) / (high[i] - low[i]) - 1 : 0);
  const seen = u => {
    const x = u[0] * Math.cos(turn) - u[1] * Math.sin(turn), y = u[0] * Math.sin(turn) + u[1] * Math.cos(turn);
    const depth = y * Math.cos(tilt) - u[2] * Math.sin(tilt), up = u[2] * Math.cos(tilt) + y * Math.sin(tilt);
    const near = 215 * zoom / (1 + 0.12 * depth);
    return [480 + near * x, 350 - near * up, depth];
  };
  const colour = v => {
    const t = most > least ? 4 * (v - least) / (most - least) : 2, i = Math.min(3, Math.floor(t)), f = t - i;
    return `rgb(${stops[i].map((c, k) => Math.round(c + f * (stops[i + 1][k] - c)))})`;
  };
  const line = (a, b, style, width) => {
    pen.strokeStyle = style; pen.lineWidth = width;
    pen.beginPath(); pen.moveTo(a[0], a[1]); pen.lineTo(b[0], b[1]); pen.stroke();
  };
  function draw() {
    pen.clearRect(0, 0, 960, 760);
    const css = getComputedStyle(document.documentElement);
    const faint = css.getPropertyValue("--faint"), rule = css.getPropertyValue("--line");
    const corners = [...Array(8).keys()].map(k => [k & 1 ? 1 : -1, k & 2 ? 1 : -1, k & 4 ? 1 : -1]);
    for (const a of corners) for (const b of corners)
      if (a.filter((x, i) => x < b[i]).length === 1 && a.every((x, i) => x <= b[i])) line(seen(a), seen(b), rule, 1.5);
    pen.fillStyle = faint; pen.font = "22px system-ui, sans-serif"; pen.textAlign = "center";
    [[0, -1.25, -1], [1.25, 0, -1], [-1, -1, 0]].forEach((u, i) => {
      const [x, y] = seen(u);
      pen.textAlign = i === 2 ? "right" : "center";
      const inside = pen.measureText(given.axes[i]).width + 4;  // right of the border, however the scene is turned
      pen.fillText(given.axes[i], i === 2 ? Math.max(x - 20, inside) : x, y);
    });
    pen.font = "17px system-ui, sans-serif";
    [0, 1, 2].forEach(i => [-0.88, 0.88].forEach(end => {
      const [x, y] = seen([[end, -1.14, -1], [1.14, end, -1], [-1, -1, end]][i]);
      const number = low[i] + (end + 1) / 2 * (high[i] - low[i]);
      pen.textAlign = i === 2 ? "right" : "center";
      pen.fillText(Number(number.toPrecision(3)), i === 2 ? x - 12 : x, y);
    }));
    const marks = [];
    for (const d of given.dots) {
      const at = d.points.map(p => seen(unit(p)));
      if (d.joined) at.slice(1).forEach((b, i) => marks.push([(at[i][2] + b[2]) / 2, () => line(at[i], b, d.colour, 2.5)]));
      else at.forEach((p, i) => marks.push([p[2], () => {
        pen.fillStyle = d.values.length ? colour(d.values[i]) : d.colour;
        pen.beginPath(); pen.arc(p[0], p[1], 2 * d.size * Math.sqrt(zoom) / (1 + 0.12 * p[2]), 0, 7); pen.fill();
      }]));
    }
    marks.sort((a, b) => b[0] - a[0]).forEach(mark => mark[1]());
    if (values.length) {
      for (let i = 0; i < 200; i++) {
        pen.fillStyle = colour(least + (most - least) * i / 199);
        pen.fillRect(380 + i, 728, 1.5, 12);
      }
      pen.fillStyle = faint; pen.textAlign = "right"; pen.fillText(Number(least.toPrecision(3)), 370, 740);
      pen.textAlign = "left"; pen.fillText(`${Number(most.toPrecision(3))}   ${given.value}`, 590, 740);
    }
  }
  canvas.addEventListener("pointerdown", e => { held = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId); });
  canvas.addEventListener("pointerup", () => { held = null; });
  canvas.addEventListener("pointermove", e => {
    if (!held) return;
    turn += 0.01 * (e.clientX - held[0]);
    tilt = Math.max(-1.57, Math.min(1.57, tilt + 0.01 * (e.clientY - held[1])));
    held = [e.clientX, e.clientY];
    draw();
  });
  canvas.addEventListener("wheel", e => {
    e.preventDefault();
    zoom = Math.max(0.4, Math.min(6, zoom * Math.exp(-0.001 * e.deltaY)));
    draw();
  }, { passive: false });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
}
"""
