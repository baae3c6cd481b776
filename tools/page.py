"""Serves a page to try a reader in the browser: drop, choose or paste images.

The page shows each text with its confidence and its alternatives, and where each character was read.
It listens on the loopback address only: other machines cannot reach it, and nothing is sent anywhere.
"""

import argparse
import os
import sys
from pathlib import Path

from snippet_ocr import Reader, output
from snippet_ocr.terminal import printable

TOP = 3  # texts per image
COLUMNS = ["number", "image", "text", "confidence", "remarks"]
MAX_AGE = 3600  # seconds after which uploaded images are deleted; also the interval between two checks


def read(reader, paths):
    """Returns a list with a row of `COLUMNS` per image, and the first path that can be read, or None."""
    from training.plots import EMPTY

    rows, first = [], None
    for number, (path, reading) in enumerate(reader.read_each(paths, top=TOP), start=1):
        name = printable(Path(path).name)
        if isinstance(reading, ValueError):
            rows.append([number, name, "", "", f"cannot be read: it {reading}"])
            continue
        first = first or path
        remarks = [f"or {other.text or EMPTY} ({other.confidence:.2%})" for other in reading.alternatives]
        if reader.threshold is not None and reading.confidence < reader.threshold:
            remarks.insert(0, output.NEEDS_REVIEW)
        rows.append([number, name, reading.text, f"{reading.confidence:.1%}", ", ".join(remarks)])
    return rows, first


def build(reader, name):
    """Builds the page, a `gradio.Blocks`, for a `Reader` and its name."""
    import gradio

    from training import plots

    def show(paths):
        rows, first = read(reader, paths)
        return paths, rows, draw(first) if first else None

    def draw(path):
        try:
            return plots.character_positions(reader, [path], inches=6, top=TOP)
        except ValueError:  # the reason is in the table
            return None

    def show_selected(paths, selected: gradio.SelectData):
        return draw(paths[int(selected.row_value[0]) - 1])  # the table may be sorted differently

    with gradio.Blocks(title="Reader", analytics_enabled=False, delete_cache=(MAX_AGE, MAX_AGE)) as page:
        gradio.Markdown(
            f"# Read the text in images\n`{name}` knows the characters `{reader.alphabet.characters}`. "
            "Nothing leaves this machine."
        )
        with gradio.Row():
            files = gradio.File(label="Drop or choose images", file_count="multiple", height=220)
            pasted = gradio.Image(
                label="Or paste one",
                sources=["clipboard"],
                image_mode=None,  # the file as it is: only `images` turns files into pixels
                type="filepath",
                height=220,
                buttons=[],
            )
        table = gradio.Dataframe(
            headers=COLUMNS, label="Click on a row to see where its characters were read", interactive=False
        )
        positions = gradio.Plot(label="Where each character was read", format="png")
        paths = gradio.State([])
        files.change(lambda found: show(found or []), files, [paths, table, positions])
        pasted.change(lambda path: show([path] if path else []), pasted, [paths, table, positions])
        table.select(show_selected, paths, positions)
    return page


def main(arguments=None):
    """Runs the command line and returns the exit code."""
    example = "Example: python -m tools.page runs/meters-1/reader.onnx"
    parser = argparse.ArgumentParser("python -m tools.page", description=__doc__, epilog=example)
    parser.add_argument("reader", metavar="READER", type=Path, help="the reader, a .keras or .onnx file")
    parser.add_argument("--port", type=int, help="port of the page (default: the first free one from 7860)")
    parser.add_argument("--trust", action="store_true", help="open the reader without checks: it is your own")
    options = parser.parse_args(arguments)
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    try:
        import gradio
    except ImportError:
        install = "pip install -r requirements-page.txt -c constraints.txt"
        print(f"Expected gradio to be installed: {install}", file=sys.stderr)
        return 2
    try:
        page = build(Reader.load(options.reader, options.trust), options.reader.name)
        _, address, _ = page.launch(
            server_name="127.0.0.1",
            server_port=options.port,
            share=False,
            ssr_mode=False,
            prevent_thread_lock=True,
            quiet=True,
            show_error=True,
            footer_links=[],
            # Gradio's own fonts would be fetched from another machine.
            theme=gradio.themes.Default(font="sans-serif", font_mono="monospace"),
        )
    except (ValueError, OSError, OverflowError) as error:  # OverflowError: of a port
        print(error, file=sys.stderr)
        return 2
    print(f"the page is at {address} until Ctrl+C", flush=True)
    page.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())
