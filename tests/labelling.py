"""Folders of drawn images, and decisions about them, for the tests of labelling."""

from PIL import Image, ImageDraw, ImageFont

FILES = [f"{number}.png" for number in range(6)]
TEXTS = {file: f"{1000 + 7 * number}" for number, file in enumerate(FILES)}


def draw_images(folder, texts=TEXTS):
    folder.mkdir(exist_ok=True)
    for file, text in texts.items():
        image = Image.new("L", (14 * len(text) + 20, 32), 200)
        ImageDraw.Draw(image).text((8, 4), text, fill=0, font=ImageFont.load_default(20))
        image.save(folder / file)
    return folder


def decision(file, text="", decision="label", **others):
    """A decision as the page sends it."""
    facts = {"file": file, "seen": 0, "decision": decision, "text": text, "shown": "", "kind": "ranked"}
    facts |= {"mode": "one", "round": 0, "action": file, "window": "a"}
    return facts | others
