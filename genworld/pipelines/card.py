"""The card of an evaluation: results.json, card.md, and a card.html that stands alone."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from genworld.data.synthetic import from_bytes
from genworld.ops.pictures import contact_sheet
from genworld.pipelines.catalogue import FOREIGN
from genworld.pipelines.comparison import FORMAT
from genworld.pipelines.evaluation import Evaluation
from genworld.pipelines.measures import BLIND
from genworld.train.log import read_losses

ARROWS = {"higher": "↑", "lower": "↓", "": ""}


def write_card(evaluation: Evaluation, results: Path, provenance: Mapping[str, Any]) -> list[Path]:
    """Write results.json, and beside it the cards and the pictures of card.md.

    Args:
        evaluation: what was measured.
        results: the file; a folder gets a results.json.
        provenance: command, version, machine and so on.

    Returns:
        The files.
    """
    if results.suffix != ".json":
        results = results / "results.json"
    results.parent.mkdir(parents=True, exist_ok=True)
    record = {"format": FORMAT, **evaluation.record, "provenance": dict(provenance)}
    results.write_text(json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n", "utf-8")
    stem = "" if results.name == "results.json" else f"{results.stem}-"
    pictures = {name: picture for name, picture in _pictures(evaluation).items() if picture is not None}
    files = [results]
    for name, (_, picture) in pictures.items():
        files.append(results.parent / f"{stem}{name}.png")
        files[-1].write_bytes(picture)
    links = {name: (title, f"{stem}{name}.png") for name, (title, _) in pictures.items()}
    files.append(results.parent / f"{stem}card.md")
    files[-1].write_text(markdown(record, links), "utf-8")
    embedded = {
        name: (title, "data:image/png;base64," + base64.b64encode(picture).decode())
        for name, (title, picture) in pictures.items()
    }
    files.append(results.parent / f"{stem}card.html")
    files[-1].write_text(page(record, embedded), "utf-8")
    return files


# ---- what both say ----


def is_foreign(entry: Mapping[str, Any]) -> bool:
    """Whether a number is of clips that its encoder knows nothing of: its name says so wherever it stands."""
    return any(warning.startswith(FOREIGN) for warning in entry.get("warnings", ()))


def title_of(record: Mapping[str, Any]) -> str:
    """Of what it is a card."""
    subject = record["subject"]
    return Path(subject["run"]).name if "run" in subject else Path(subject["videos"]).name


def rows_of(record: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Metric, value, interval, what it is to be read against, and number of videos, as text; without bins of time."""
    rows = []
    for name, entry in _whole(record).items():
        unit = f" {entry['unit']}" if entry.get("unit") else ""
        interval = entry.get("interval")
        span = f"{_number(interval['low'])} … {_number(interval['high'])}" if interval else "-"
        beside = "; ".join(f"{key} {_number(value)}" for key, value in entry.get("beside", {}).items()) or "-"
        arrow = ARROWS[entry.get("better", "")]
        name = f"{name} ({FOREIGN.lower()})" if is_foreign(entry) else name
        rows.append((f"{name} {arrow}".strip(), f"{_number(entry['value'])}{unit}", span, beside, str(entry["num"])))
    return rows


def bins_of(record: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The flow loss by shape and bin of time: the heads of columns, and rows of `loss (blind loss)`."""
    table: dict[str, dict[str, str]] = {}
    for name, entry in record["metrics"].items():
        if "/t" in name and name.startswith("flow/"):
            shape, _, time = name.removeprefix("flow/").rpartition("/t")
            blind = entry.get("beside", {}).get(BLIND)
            table.setdefault(shape, {})[time] = _number(entry["value"]) + (f" ({blind:.2f})" if blind else "")
    times = sorted({time for row in table.values() for time in row}, key=float)
    return ["t", *times], [[shape, *(row.get(time, "-") for time in times)] for shape, row in table.items()]


def _whole(record: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers that are not of one bin of time."""
    return {name: entry for name, entry in record["metrics"].items() if not (name.startswith("flow/") and "/t" in name)}


def facts_of(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was measured, with what, where, and how long it took."""
    clips, origin = record["clips"], record["provenance"]
    facts = [(key, str(value)) for key, value in record["subject"].items() if value is not None]
    facts.append(("clips", f"{clips['num']} {clips['kind']}, {clips['shape']}"))
    facts += [("prompts sha256", clips["prompts_sha256"]), ("pixels sha256", clips["pixels_sha256"])]
    if "real_clips" in record:
        real = record["real_clips"]
        facts.append(("real clips", f"{real['num']}, pixels sha256 {real['pixels_sha256']}"))
    if "benchmark" in record:
        each = record["benchmark"]
        facts.append(("world benchmark", f"suite {each['suite']} {each['suite_sha256']}, cases {each['cases_sha256']}"))
    if "seeds" in record:
        facts.append(("seeds", f"first {record['seeds']['first']}; {record['seeds']['rule']}"))
    facts += [(key, _settings(value)) for key, value in record["settings"].items()]
    facts += [(key, str(value)) for key, value in origin.items()]
    seconds = ", ".join(f"{key} {value:.1f} s" for key, value in record["seconds"].items())
    facts.append(("time", f"{seconds} (process with the most); {record['processes']} process(es)"))
    return facts


def conventions_of(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How each number is computed; those of one convention together."""
    groups: dict[str, list[str]] = {}
    for name, entry in record["metrics"].items():
        method = (entry.get("interval") or {}).get("method")
        words = entry["convention"] + (f" (interval: 95 %, {method})" if method else "")
        groups.setdefault(words, []).append(name)
    return [(", ".join(names), words) for words, names in groups.items()]


def notes_of(record: Mapping[str, Any]) -> list[str]:
    """Warnings, what was skipped and what was left out."""
    notes = list(record["warnings"])
    notes += [f"skipped {each['clip']}: {each['reason']}" for each in record["skipped"][:10]]
    if len(record["skipped"]) > 10:
        notes.append(f"and {len(record['skipped']) - 10} more: see results.json")
    notes += [f"left out {name}: {reason}" for name, reason in record["left_out"].items()]
    reasons = record.get("benchmark", {}).get("not_asked", {})
    return notes + [f"world benchmark, {name} not asked: {reason}" for name, reason in reasons.items()]


# ---- for people with a terminal ----


def lines_of(record: Mapping[str, Any]) -> list[str]:
    """The numbers and the notes, in columns."""
    rows = [("metric", "value", "95 % interval", "beside", "videos"), *rows_of(record)]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    table = [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]}  (of {row[4]})"
        for row in rows[1:]
    ]
    heads, bins = bins_of(record)
    lines = [
        "flow loss by time (in brackets: blind to the clip)",
        *("  ".join(f"{cell:>16}" for cell in row) for row in [heads, *bins]),
    ]
    return [*table, *(lines if bins else []), *(f"note: {note}" for note in notes_of(record))]


def markdown(record: Mapping[str, Any], pictures: Mapping[str, tuple[str, str]]) -> str:
    """card.md."""
    parts = [f"# Evaluation of {_cell(title_of(record))}", ""]
    parts += [f"> **{_cell(note)}**" if note in record["warnings"] else f"> {_cell(note)}" for note in notes_of(record)]
    parts += ["", "| metric | value | 95 % interval | beside | videos |", "| --- | ---: | --- | --- | ---: |"]
    parts += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows_of(record)]
    heads, bins = bins_of(record)
    for name, (title, link) in pictures.items():
        parts += ["", f"## {title}", "", f"![{name}]({link})"]
        if name == "flow":
            parts += ["", f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
            parts += [f"| {' | '.join(map(_cell, row))} |" for row in bins]
    parts += ["", "## How each number is computed", ""]
    parts += [f"- **{_cell(names)}**: {_cell(words)}" for names, words in conventions_of(record)]
    parts += ["", "## Where it comes from", "", "| | |", "| --- | --- |"]
    parts += [f"| {_cell(name)} | {_cell(value)} |" for name, value in facts_of(record)]
    return "\n".join(parts) + "\n"


def page(record: Mapping[str, Any], pictures: Mapping[str, tuple[str, str]]) -> str:
    """card.html: one file, no script, nothing fetched."""
    name = html.escape(title_of(record))
    warnings = set(record["warnings"])
    notes = "".join(
        f"<li{' class=loud' if note in warnings else ''}>{html.escape(note)}</li>" for note in notes_of(record)
    )
    rows = "".join(_row(row, entry) for row, entry in zip(rows_of(record), _whole(record).values(), strict=True))
    figures = "".join(
        f'<figure><figcaption>{html.escape(title)}</figcaption><img src="{link}" alt="{html.escape(title)}">'
        f"{_bins(record) if kind == 'flow' else ''}</figure>"
        for kind, (title, link) in pictures.items()
    )
    words = "".join(f"<dt>{html.escape(a)}</dt><dd>{html.escape(b)}</dd>" for a, b in conventions_of(record))
    facts = "".join(f"<dt>{html.escape(a)}</dt><dd><code>{html.escape(b)}</code></dd>" for a, b in facts_of(record))
    clips, origin = record["clips"], record["provenance"]
    sub = (
        f"{clips['num']} videos ({clips['kind']}), {clips['shape']} · commit {origin['commit']} · {origin['date'][:10]}"
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Evaluation of {name}</title><style>{STYLE}</style></head><body><main>
<header><h1>{name}</h1><p>{html.escape(sub)}</p></header>
{f"<ul class=notes>{notes}</ul>" if notes else ""}
<table><thead><tr><th>metric</th><th class=n>value</th><th>95 % interval</th><th>read it against</th>
<th class=n>videos</th></tr></thead><tbody>{rows}</tbody></table>
{figures}
<h2>How each number is computed</h2><dl class=words>{words}</dl>
<h2>Where it comes from</h2><dl class=facts>{facts}</dl>
</main></body></html>
"""


STYLE = """
:root{--ink:#1c1f23;--soft:#5d6670;--line:#e3e6e9;--paper:#fff;--wash:#f6f7f8;--loud:#8a3b12;--glow:#fdf3ec;--mark:#2f6f8f}
@media (prefers-color-scheme:dark){:root{--ink:#e4e7ea;--soft:#98a2ac;--line:#30363c;--paper:#16191c;--wash:#1e2226;
--loud:#f0a77f;--glow:#2b201a;--mark:#7db8d4}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:40px 24px 64px}header{margin-bottom:20px}
h1{font-size:26px;font-weight:600;margin:0;letter-spacing:-.01em}header p{color:var(--soft);margin:4px 0 0}
h2{font-size:16px;font-weight:600;margin:40px 0 8px}
.notes{list-style:none;padding:10px 14px;margin:0 0 24px;background:var(--wash);border-left:3px solid var(--line);
font-size:14px;overflow-wrap:anywhere}.notes .loud{color:var(--loud);font-weight:600}
.notes:has(.loud){background:var(--glow);border-color:var(--loud)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th{font-weight:500;color:var(--soft);font-size:13px;text-align:left}
th,td{padding:6px 12px 6px 0;border-bottom:1px solid var(--line);vertical-align:top}
td.v{font-weight:600}.n,td.v{text-align:right;white-space:nowrap}td.i,td.b{color:var(--soft);font-size:14px}
td.i{white-space:nowrap}.bins{font-size:13.5px;margin-top:8px}.bins th,.bins td{padding:3px 0}
.arrow{color:var(--mark)}
figure{margin:36px 0 0}figcaption{font-size:16px;font-weight:600;margin-bottom:8px}
img{max-width:100%;height:auto;border:1px solid var(--line);background:#fff}
dl{display:grid;grid-template-columns:minmax(140px,1fr) 3fr;gap:4px 20px;font-size:13.5px;margin:0}
dt{color:var(--soft);overflow-wrap:anywhere}dd{margin:0;overflow-wrap:anywhere}
code{font:12.5px ui-monospace,Menlo,Consolas,monospace}
@media (max-width:640px){dl{grid-template-columns:1fr}dd{margin-bottom:8px}td.b{min-width:150px}
table{display:block;overflow-x:auto}}
@media print{body{background:#fff}main{padding:0}}
"""


def _row(row: Sequence[str], entry: Mapping[str, Any]) -> str:
    name, value, span, beside, num = map(html.escape, row)
    arrow = ARROWS[entry.get("better", "")]
    if arrow:
        name = f'{name.removesuffix(arrow)}<span class=arrow title="{entry["better"]} is better">{arrow}</span>'
    return (
        f"<tr><td>{name}</td><td class=v>{value}</td><td class=i>{span}</td><td class=b>"
        f"{beside.replace('; ', '<br>')}</td><td class=n>{num}</td></tr>"
    )


def _bins(record: Mapping[str, Any]) -> str:
    heads, bins = bins_of(record)
    head = "".join(f"<th{'' if i == 0 else ' class=n'}>{html.escape(cell)}</th>" for i, cell in enumerate(heads))
    body = "".join(
        "<tr>"
        + "".join(f"<td{'' if i == 0 else ' class=n'}>{html.escape(cell)}</td>" for i, cell in enumerate(row))
        + "</tr>"
        for row in bins
    )
    return f"<table class=bins><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _number(value: float) -> str:
    """Four digits that count."""
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _settings(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_settings(item)}" for key, item in value.items())
    return str(value)


def _cell(text: str) -> str:
    """Markdown that shows a text as it is."""
    return html.escape(text.replace("\n", " "), quote=False).replace("|", "\\|").replace("*", "\\*").replace("[", "\\[")


# ---- pictures ----


def _pictures(evaluation: Evaluation) -> dict[str, tuple[str, bytes] | None]:
    record = evaluation.record
    run = record["subject"].get("run")
    return {
        "samples": _samples(evaluation),
        "flow": _flow(record["metrics"]),
        "benchmark": _benchmark(evaluation.benchmark),
        "losses": None if run is None else _losses(Path(run) / "log" / "losses.csv"),
    }


def _samples(evaluation: Evaluation) -> tuple[str, bytes] | None:
    if not evaluation.videos:
        return None
    columns = list(evaluation.videos[0])
    clips = [from_bytes(videos[name]) for videos in evaluation.videos for name in columns]
    labels = [(f"{name}: {text}" if i == 0 else name) for text in evaluation.texts for i, name in enumerate(columns)]
    sheet = contact_sheet(clips, labels, columns=len(columns), num_frames=5, height=80)
    return ("Videos: " + ", ".join(columns), _png(sheet))


def _benchmark(sheet: Mapping[str, Any] | None) -> tuple[str, bytes] | None:
    if not sheet:
        return None
    columns = sheet["columns"]
    clips = [videos[i] for i in range(len(sheet["captions"])) for videos in columns.values()]
    labels = [(f"{name}: {text}" if i == 0 else name) for text in sheet["captions"] for i, name in enumerate(columns)]
    return "World benchmark: " + ", ".join(columns), _png(contact_sheet(clips, labels, len(columns), 5, 80))


def _flow(metrics: Mapping[str, Any]) -> tuple[str, bytes] | None:
    """Bars of the flow loss by bin with their intervals, and the bound of one who sees nothing of the clip."""
    shapes = [name for name in metrics if name.startswith("flow/") and "/t" not in name]
    if not shapes:
        return None
    figure = _new_figure(len(shapes), 3.2)
    for axes, name in zip(figure.subplots(1, len(shapes), squeeze=False)[0], shapes, strict=True):
        bins = [(key.rpartition("/t")[2], entry) for key, entry in metrics.items() if key.startswith(f"{name}/t")]
        places, values = range(len(bins)), [entry["value"] for _, entry in bins]
        axes.bar(places, values, width=0.7, color="#7aa6bd")
        for place, (_, entry) in zip(places, bins, strict=True):
            if entry.get("interval"):
                axes.plot([place] * 2, [entry["interval"]["low"], entry["interval"]["high"]], color="#1c1f23", lw=1.2)
        axes.plot(places, [entry["beside"][BLIND] for _, entry in bins], "o--", ms=3, lw=1, color="#b0552b")
        axes.set_xticks(list(places), [label for label, _ in bins])
        axes.set_title(name.removeprefix("flow/"), fontsize="medium")
        axes.set_xlabel("time (1 is noise)")
        axes.spines[["top", "right"]].set_visible(False)
    return "Held-out flow loss by time (dashed, and in brackets: one who is blind to the clip)", _figure_png(figure)


def _losses(table: Path) -> tuple[str, bytes] | None:
    """The loss of training and validation, where the run's log has it."""
    if not table.is_file():
        return None
    rows = read_losses(table)
    figure = _new_figure(1, 2.8)
    axes = figure.subplots()
    for split, colour in (("train", "#b9c3cb"), ("validation", "#2f6f8f")):
        points = [(step, value) for step, name, value in rows if name == f"{split}/loss"]
        if points:
            axes.plot(
                *zip(*points, strict=True), label=split, color=colour, lw=1.2, marker="." if len(points) < 30 else ""
            )
    if not axes.lines:
        return None
    axes.set_xlabel("step")
    values = [value for line in axes.lines for value in line.get_ydata()]
    if min(values) > 0 and max(values) > 3 * min(values):
        axes.set_yscale("log")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return "Loss while training", _figure_png(figure)


def _new_figure(columns: int, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(3.4 * columns, 6), height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _figure_png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, format="png")
    return buffer.getvalue()


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
