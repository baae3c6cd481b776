"""A page to try a reader on, in a browser on this machine.

    python -m tools.page MODEL [--port 7860]

Drop, choose or paste images; the page shows what is read, how sure the reader
is, what else it might be, and where each character was read. It listens on
loopback only: no other machine can reach it, and nothing is sent anywhere.
Gradio is needed besides: `pip install -r requirements-page.txt -c constraints.txt`.
"""

import argparse
import os
import sys
from pathlib import Path

from snippet_ocr import output
from snippet_ocr.reader import Reader
from snippet_ocr.terminal import printable
from training import plots

LOOPBACK = "127.0.0.1"
TOP = 3
COLUMNS = ["number", "image", "text", "confidence", "remarks"]
INCHES = 6
KEPT_SECONDS = 3600
"""How long uploaded images are kept, and how often older ones are looked for."""


def read(reader, sources):
    """Reads what was given to the page.

    Args:
        reader: the `Reader`.
        sources: a list of the paths of images.

    Returns:
        A tuple: a list with a row of `COLUMNS` for each image, and the first
        source that could be read, or None.
    """
    rows, first = [], None
    for number, (source, reading) in enumerate(reader.read_each(sources, top=TOP), start=1):
        name = printable(Path(source).name)
        if isinstance(reading, ValueError):
            rows.append([number, name, "", "", f"cannot be read: it {reading}"])
            continue
        first = source if first is None else first
        remarks = [
            f"or {other.text or plots.EMPTY} ({other.confidence:.2%})" for other in reading.alternatives
        ]
        if reader.threshold is not None and reading.confidence < reader.threshold:
            remarks.insert(0, output.NEEDS_REVIEW)
        rows.append([number, name, reading.text, f"{reading.confidence:.1%}", ", ".join(remarks)])
    return rows, first


def build(reader, name):
    """Builds the page.

    Args:
        reader: the `Reader`.
        name: what the page calls it.

    Returns:
        A `gradio.Blocks`.
    """
    import gradio

    def show(sources):
        rows, first = read(reader, sources)
        return sources, rows, None if first is None else draw(first)

    def draw(source):
        try:
            return plots.character_positions(reader, [source], INCHES, TOP)
        except ValueError:  # its row says why
            return None

    def show_selected(sources, selected: gradio.SelectData):
        return draw(sources[int(selected.row_value[0]) - 1])  # the table may be sorted

    with gradio.Blocks(title="Reader", analytics_enabled=False, delete_cache=(KEPT_SECONDS,) * 2) as page:
        gradio.Markdown(
            f"# Read the text in images\n`{name}` knows the characters `{reader.alphabet.characters}`. "
            "Nothing leaves this machine."
        )
        with gradio.Row():
            files = gradio.File(label="Drop images here, or choose some", file_count="multiple", height=220)
            pasted = gradio.Image(
                label="Or paste one",
                sources=["clipboard"],
                # The file as it is: it becomes pixels in the one way that all images do.
                image_mode=None,
                type="filepath",
                height=220,
                buttons=[],
            )
        table = gradio.Dataframe(
            headers=COLUMNS, label="Click on a row to see where its characters were read", interactive=False
        )
        places = gradio.Plot(label="Where each character was read", format="png")
        sources = gradio.State([])
        files.change(lambda paths: show(paths or []), files, [sources, table, places])
        pasted.change(lambda path: show([path] if path else []), pasted, [sources, table, places])
        table.select(show_selected, sources, places)
    return page


def main(arguments=None):
    """Runs the command line and returns the exit code."""
    parser = argparse.ArgumentParser(prog="page", description="A page to try a reader on.")
    parser.add_argument("model", metavar="MODEL", type=Path, help="a saved reader, .keras or .onnx")
    parser.add_argument("--port", type=int, help="of the page; a free one from 7860 on")
    options = parser.parse_args(arguments)
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    try:
        import gradio
    except ImportError:
        print(
            "Expected gradio to be installed: pip install -r requirements-page.txt -c constraints.txt",
            file=sys.stderr,
        )
        return 2
    try:
        page = build(Reader.load(options.model), options.model.name)
        # Gradio's own themes fetch their fonts from another machine.
        theme = gradio.themes.Default(font="sans-serif", font_mono="monospace")
        _, address, _ = page.launch(
            server_name=LOOPBACK,
            server_port=options.port,
            share=False,
            ssr_mode=False,
            prevent_thread_lock=True,
            quiet=True,
            show_error=True,
            footer_links=[],
            theme=theme,
        )
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"the page is at {address} until Ctrl+C", flush=True)
    page.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())
