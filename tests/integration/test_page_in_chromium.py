"""The page that reads, in a real browser without a network."""

import base64
import csv
import os
import shutil

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from conftest import screenshot
from snippet_ocr import Reader, model_file, page

EXIF_ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    if shutil.which("npm") is None and "CI" not in os.environ:
        pytest.skip("npm is not installed: apt-get install npm")
    return page.write("base", tmp_path_factory.mktemp("page") / "base.html")


def drawn(generator, size):
    """An image of a random text in random colours, with noise."""
    text = "".join(
        generator.choice(list("0123456789ABCDEFHKMNPRTXYacehkmnrtu-/."))
        for _ in range(generator.integers(2, 11))
    )
    font = ImageFont.load_default(size)
    dark, light = (tuple(generator.integers(low, low + 80, 3).tolist()) for low in (0, 170))
    image = Image.new("RGB", (int(font.getlength(text)) + size, int(size * generator.uniform(1.3, 2))), light)
    ImageDraw.Draw(image).text((size // 2, size // 10), text, dark, font=font)
    image = image.filter(ImageFilter.GaussianBlur(size / 60))
    noise = generator.normal(0, 6, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype("uint8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Fifty images of mixed sizes, formats and modes, and one that is broken."""
    folder, generator = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number in range(50):
        image = drawn(generator, int(generator.integers(10, 120)))
        kind = number % 10
        path = (
            folder
            / f"{number:02}.{['png', 'png', 'png', 'png', 'jpg', 'jpg', 'webp', 'gif', 'bmp', 'jpg'][kind]}"
        )
        options = {}
        if kind == 1:
            image = image.convert("L")
        if kind == 2:  # partly transparent
            image.putalpha(Image.linear_gradient("L").resize(image.size))
        if kind == 3:
            image = image.convert("P")
        if kind == 5:
            image = image.convert("L")
        if kind == 9:  # as a phone saves it, which was held upright
            image, options["exif"] = image.transpose(Image.Transpose.ROTATE_90), Image.Exif()
            options["exif"][EXIF_ORIENTATION] = 6
        image.save(path, **options)
    (folder / "broken.png").write_bytes(b"nothing")
    return folder


@pytest.fixture
def opened(browser, written):
    """The page in a browser without a network."""
    context = browser.new_context(offline=True)
    page, requests, errors = context.new_page(), [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(written.as_uri())
    yield page
    context.close()
    assert errors == []
    assert {url.partition(":")[0] for url in requests} <= {"file", "blob", "data"}


def readings(page, count):
    """The readings on a page, by file, when there are `count`."""
    page.wait_for_function("count => document.querySelectorAll('#readings li').length === count", arg=count)
    items = page.locator("#readings li").evaluate_all("items => items.map(item => ({...item.dataset}))")
    return {item["file"]: item for item in items}


def test_texts_equal_those_of_python_on_fifty_images(opened, folder):
    paths = sorted(folder.iterdir())
    opened.set_input_files("#files", paths)
    found = readings(opened, 51)
    assert "broken.png is not an image" in opened.inner_text(".error")
    expected = dict(Reader.load("base").read_each(paths[:50]))
    wrong = {path.name for path in paths[:50] if found[path.name]["text"] != expected[path].text}
    assert wrong == set()
    differences = [
        abs(float(found[path.name]["confidence"]) - expected[path].confidence) for path in paths[:50]
    ]
    assert max(differences) < 1e-3
    assert len({reading.text for reading in expected.values()}) > 40


DROP = """([text, kind]) => {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const transfer = new DataTransfer(), name = {drop: "dataTransfer", paste: "clipboardData"}[kind];
  transfer.items.add(new File([bytes], `${kind}.png`, {type: "image/png"}));
  const event = new (kind === "drop" ? DragEvent : ClipboardEvent)(kind, {[name]: transfer, bubbles: true});
  document.body.dispatchEvent(event);
}"""


def test_dropped_and_pasted_images_are_read(opened, folder):
    content = base64.b64encode((folder / "00.png").read_bytes()).decode()
    for kind in ("drop", "paste"):
        opened.evaluate(DROP, [content, kind])
    expected = Reader.load("base").read(folder / "00.png").text
    assert {file: item["text"] for file, item in readings(opened, 2).items()} == {
        "drop.png": expected,
        "paste.png": expected,
    }


def test_chosen_part_of_an_image_is_read(opened, tmp_path):
    photo = Image.new("L", (900, 700), 230)  # a text in the middle of nothing
    font = ImageFont.load_default(60)
    ImageDraw.Draw(photo).text((400, 300), "48213", 20, font=font)
    photo.save(tmp_path / "photo.png")
    opened.set_input_files("#camera", tmp_path / "photo.png")
    opened.wait_for_function("() => document.querySelector('#stage img').clientWidth > 100")
    box = opened.locator("#stage").bounding_box()
    scale = box["width"] / 900
    opened.mouse.move(box["x"] + 380 * scale, box["y"] + 290 * scale)
    opened.mouse.down()
    opened.mouse.move(box["x"] + (400 + font.getlength("48213") + 20) * scale, box["y"] + 380 * scale)
    opened.mouse.up()
    opened.click("#read-part")
    assert readings(opened, 1)["photo"]["text"] == "48213"
    opened.click("#clear")
    assert opened.locator("#bar").is_hidden()


def test_saved_csv_and_the_threshold_are_those_of_python(browser, written, folder, tmp_path):
    path = tmp_path / "reader.onnx"
    shutil.copy(model_file.locate("base"), path)
    model_file.set_description(path, model_file.description(path) | {"threshold": 0.8})
    paths = sorted(folder.glob("[0-2]*"))
    expected = Reader.load("base").read(paths)
    context = browser.new_context(offline=True)
    opened = context.new_page()
    opened.goto(page.write(path).as_uri())
    opened.set_input_files("#files", paths)
    readings(opened, len(paths))
    reviews = opened.locator("li:has(.review)").evaluate_all("items => items.map(item => item.dataset.file)")
    unsure = {path.name for path, one in zip(paths, expected, strict=True) if one.confidence < 0.8}
    assert 0 < len(unsure) < len(paths)
    assert set(reviews) == unsure
    with opened.expect_download() as download:
        opened.click("#save")
    with download.value.path().open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["text"]) for row in rows] == [
        (path.name, one.text) for path, one in zip(paths, expected, strict=True)
    ]
    context.close()


@pytest.mark.parametrize(
    ("name", "size", "scheme"),
    [("light", (1366, 768), "light"), ("dark", (1366, 768), "dark"), ("phone", (390, 844), "dark")],
)
def test_page_fits_its_window(browser, written, folder, name, size, scheme):
    window = {"viewport": {"width": size[0], "height": size[1]}, "has_touch": name == "phone"}
    context = browser.new_context(color_scheme=scheme, is_mobile=name == "phone", **window)
    opened = context.new_page()
    opened.goto(written.as_uri())
    opened.set_input_files("#files", sorted(folder.iterdir())[-7:])
    readings(opened, 7)
    screenshot(opened, f"page {name}")
    assert opened.evaluate("document.documentElement.scrollWidth") <= size[0]
    opened.locator(".picture").first.click()
    opened.wait_for_function("() => document.querySelector('#stage img').clientWidth > 100")
    screenshot(opened, f"page {name}, part of an image")
    box = opened.locator("#read-part").bounding_box()
    assert box["y"] + box["height"] <= size[1]
    assert opened.locator("#photo").is_visible() == (name == "phone")
    context.close()
