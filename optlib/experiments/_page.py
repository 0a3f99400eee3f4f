"""Self-contained HTML pages: pieces are strings of HTML, pictures are data URIs, nothing is loaded from elsewhere.

Functions whose parameter is called ``html`` trust it; all other text is escaped.
"""

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

_COLOURS = {
    "light": {"ink": "#1b1f24", "soft": "#5b6570", "line": "#d8dde3"},
    "dark": {"ink": "#e8ebef", "soft": "#9aa5b1", "line": "#39424d"},
}
#: Line colours that read on light and dark ground.
CYCLE = ("#3b82c4", "#d9762b", "#3d9a6a", "#a35bb5", "#c8504f", "#8a8f33")

_CSS = """
:root { color-scheme: light dark; --ground: #f5f6f8; --card: #fff; --ink: #1b1f24; --soft: #5b6570; --line: #dfe3e8;
  --accent: #2a6cb0; --code: #f0f2f5; --good: #1d7a4a; --bad: #b3332f; --open: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --ground: #12151a; --card: #1b2027; --ink: #e8ebef; --soft: #9aa5b1;
  --line: #313943; --accent: #7db4ec; --code: #12161b; --good: #5fca93; --bad: #f08a85; --open: #e3b35c; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main, header, footer { max-width: 66rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.75rem; padding-bottom: .5rem; }
h1 { font-size: clamp(1.7rem, 4.5vw, 2.4rem); line-height: 1.15; letter-spacing: -.02em; margin: 0 0 .6rem; }
h2 { font-size: 1.3rem; line-height: 1.25; letter-spacing: -.01em; margin: 0 0 .5rem; }
h3 { font-size: 1rem; margin: 1.75rem 0 .5rem; }
p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--accent); }
header p { color: var(--soft); font-size: 1.08rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px; margin: 1.25rem 0;
  padding: clamp(1rem, 3.2vw, 1.9rem); }
.gallery { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr));
  margin: 1.1rem 0; }
figure { margin: 1.1rem 0; min-width: 0; }
.gallery figure { margin: 0; }
figure img { display: block; width: 100%; height: auto; border-radius: 8px; }
figure.plot img { border-radius: 0; }
figcaption { color: var(--soft); font-size: .88rem; line-height: 1.4; margin-top: .4rem; }
.facts { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 14.5rem), 1fr));
  margin: 1.1rem 0; padding: 0; }
.facts div { border: 1px solid var(--line); border-radius: 10px; padding: .7rem .9rem; }
.facts dt { color: var(--soft); font-size: .82rem; }
.facts dd { margin: 0; font-size: 1.2rem; font-weight: 600;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.facts dd small { display: block; color: var(--soft); font-size: .8rem; font-weight: 400; line-height: 1.35; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .4rem 1.4rem .4rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; }
pre { background: var(--code); border: 1px solid var(--line); border-radius: 10px; padding: .9rem 1rem;
  overflow-x: auto; font-size: .86rem; line-height: 1.5; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.badge { display: inline-block; border: 1px solid; border-radius: 99px; font-size: .8rem; font-weight: 600;
  padding: .05rem .65rem; white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--bad); } .open { color: var(--open); }
footer { color: var(--soft); font-size: .88rem; padding-top: .25rem; padding-bottom: 3rem; }
"""


def document(title: str, lead: str, sections: Iterable[str], footer: str) -> str:
    """Return the page: title and lead are text, sections and footer are HTML."""
    icon = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1 1'/%3E"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="{icon}">\n<style>{_CSS}</style>\n</head>\n<body>\n'
        f"<header><h1>{escape(title)}</h1><p>{escape(lead)}</p></header>\n<main>\n"
        + "\n".join(sections)
        + f"\n</main>\n<footer>{footer}</footer>\n</body>\n</html>\n"
    )


def section(title: str, *html: str) -> str:
    """Return a card with a heading."""
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(html) + "\n</section>"


def heading(text: str) -> str:
    """Return a heading inside a section."""
    return f"<h3>{escape(text)}</h3>"


def paragraph(html: str) -> str:
    """Return a paragraph."""
    return f"<p>{html}</p>"


def code(text: str) -> str:
    """Return a block of code."""
    return f"<pre><code>{escape(text.strip())}</code></pre>"


def table(rows: Iterable[Sequence[Any]], header: Sequence[str] = ()) -> str:
    """Return a table that scrolls sideways on a narrow screen."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    head = head and f"<thead><tr>{head}</tr></thead>"
    body = "".join("<tr>" + "".join(f"<td>{escape(str(v))}</td>" for v in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'


def facts(items: Iterable[tuple[str, str, str]]) -> str:
    """Return tiles of (name, value, remark)."""
    tiles = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(remark)}</small></dd></div>"
        for name, value, remark in items
    )
    return f'<dl class="facts">{"".join(tiles)}</dl>'


def badge(status: str) -> str:
    """Return the status of a claim as a coloured word."""
    colour = {"pass": "good", "fail": "bad"}.get(status, "open")
    return f'<span class="badge {colour}">{escape(status)}</span>'


def picture(content: bytes, mime: str, caption: str) -> str:
    """Return an image file as a figure."""
    return (
        f'<figure><img src="{_uri(content, mime)}" alt="{escape(caption)}" loading="lazy">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def gallery(*figures: str) -> str:
    """Return figures side by side, below each other on a narrow screen."""
    return f'<div class="gallery">{"".join(figures)}</div>'


def render(draw: Callable[[], dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """Draw matplotlib figures for the light and for the dark page.

    ``draw`` takes nothing and returns new figures by name; what comes back goes into `plot`.
    """
    light, dark = (_svgs(draw, colours) for colours in _COLOURS.values())
    return {name: (light[name], dark[name]) for name in light}


def plot(rendered: tuple[str, str], caption: str) -> str:
    """Return a plot that follows the page from light to dark."""
    light, dark = rendered
    return (
        f'<figure class="plot"><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{escape(caption)}"></picture><figcaption>{escape(caption)}</figcaption></figure>'
    )


def _svgs(draw: Callable[[], dict[str, Any]], colours: dict[str, str]) -> dict[str, str]:
    import matplotlib as mpl
    from cycler import cycler

    ink, soft, line = colours["ink"], colours["soft"], colours["line"]
    style = {
        "figure.figsize": (7.2, 3.6), "figure.constrained_layout.use": True, "figure.facecolor": "none",
        "axes.facecolor": "none", "savefig.facecolor": "none", "axes.edgecolor": line, "axes.labelcolor": soft,
        "axes.titlecolor": ink, "axes.titlesize": 11, "axes.titlelocation": "left", "axes.spines.top": False,
        "axes.spines.right": False, "axes.grid": True, "grid.color": line, "grid.linewidth": 0.6, "text.color": ink,
        "xtick.color": soft, "ytick.color": soft, "legend.frameon": False, "legend.fontsize": 9, "font.size": 10,
        "lines.linewidth": 1.8, "lines.markersize": 4.5, "axes.prop_cycle": cycler(color=CYCLE),
        "svg.hashsalt": "optlib",
    }  # fmt: skip
    found = {}
    with mpl.rc_context(style):
        for name, figure in draw().items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
            found[name] = _uri(buffer.getvalue(), "image/svg+xml")
    return found


def _uri(content: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"
