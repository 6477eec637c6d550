"""`utils.datasheet`: DATA.md says what the catalog says, and shows every set that may be shown."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from utils import datasheet
from utils.catalog import catalog
from utils.datasheet_pictures import GAP, HEIGHT, STRIPS, WIDTH, strip

ROOT = Path(__file__).parents[1]


def test_data_md_is_up_to_date():
    assert datasheet.main(["--check"]) == 0


def test_a_stale_file_is_found(tmp_path, capsys):
    assert datasheet.main(["--check"], tmp_path) == 1 and "make data" in capsys.readouterr().err
    assert datasheet.main([], tmp_path) == 0 and datasheet.main(["--check"], tmp_path) == 0
    text = (tmp_path / "DATA.md").read_text()
    (tmp_path / "DATA.md").write_text(text.replace("MIT", "GPL", 1))
    assert datasheet.main(["--check"], tmp_path) == 1


def test_every_set_has_its_picture_and_no_private_face_has():
    shown = re.findall(r"!\[.*?\]\((.*?)\)", (ROOT / "DATA.md").read_text(encoding="utf-8"))
    sets = {name for name, entry in catalog().items() if not entry.get("weights")}
    assert {Path(path).stem for path in shown} == sets - datasheet.PRIVATE == set(STRIPS)
    assert {"utkface", "face_keypoints"} <= datasheet.PRIVATE
    for path in shown:
        with Image.open(ROOT / path) as picture:
            width, height = picture.size
        assert height == HEIGHT and 0 < width <= WIDTH


@pytest.mark.parametrize("word", ["licence", "citation"])
def test_every_licence_and_citation_is_there(word):
    text = (ROOT / "DATA.md").read_text(encoding="utf-8")
    assert all(entry[word] in text for entry in catalog().values())


def test_a_strip():
    red = torch.zeros(3, 10, 20, dtype=torch.uint8)
    red[0] = 255
    ghost = torch.zeros(4, HEIGHT, HEIGHT, dtype=torch.uint8)  # wholly transparent: white
    grey = torch.full((1, HEIGHT, HEIGHT), 7, dtype=torch.uint8)
    drawn = strip([red, ghost, grey])
    assert drawn.shape == (3, HEIGHT, 2 * HEIGHT + GAP + HEIGHT + GAP + HEIGHT)
    assert (drawn[:, :, : 2 * HEIGHT].flatten(1).float().mean(1) == torch.tensor([255.0, 0, 0])).all()
    assert (drawn[:, :, 2 * HEIGHT + GAP : 3 * HEIGHT + GAP] == 255).all() and (
        drawn[:, :, -HEIGHT:] == 7
    ).all()
    assert strip([grey] * 50).shape[2] <= WIDTH
