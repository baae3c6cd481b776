"""The notebook learns from images without labels."""

import re
import shutil

from notebook_runs import TWO_EPOCHS, run


def test_notebook_trains_in_rounds_on_unlabelled_images(project, image_folder, shipped, tmp_path):
    more = tmp_path / "more"
    more.mkdir()
    for path in shipped[:20]:
        shutil.copy(path, more / f"IMG_{path.name}")
    labelled = {path.name for path in image_folder.iterdir()}
    expected = sum(path.name not in labelled for path in shipped[:20])
    settings = {"OCR_DATA_DIR": str(image_folder), "OCR_UNLABELLED_DIR": str(more), "OCR_EPOCHS": "7"}
    settings |= {"OCR_BASE_READER": "auto", "OCR_UNLABELLED_ROUNDS": "1"}
    settings |= {"OCR_IMAGE_WIDTH": "200", "OCR_IMAGE_HEIGHT": "50", "OCR_MIN_STEPS_PER_EPOCH": "30"}
    code, output = run("ipython", project, project, **TWO_EPOCHS | settings)
    assert code == 0, output
    assert f"{expected} unlabelled images; 0 files skipped, {20 - expected} copies left out" in output
    (joined,) = re.findall(r"(?m)^round 1: (\d+) unlabelled images join the training$", output)
    assert f"{joined} of {expected} unlabelled images are read with confidence" in output
    assert len(re.findall(r"(?m)^round 1: the validation loss (falls|rises) by \d\.\d{3} nats$", output)) == 1
    assert 0 < int(joined) <= expected
    run_dir = project / "runs" / "tiny run"
    (round_dir,) = run_dir.glob("round_1_*")
    histories = [(folder / "history.csv").read_text() for folder in (run_dir, round_dir)]
    assert (histories[0] == histories[1]) == ("loss falls" in output)  # the history of the kept training
    assert (run_dir / "reader.onnx").is_file()
