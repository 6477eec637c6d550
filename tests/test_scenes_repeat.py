import subprocess
import sys

import pytest
import torch
from scene_helpers import PLAIN, ROOT, SAMPLES, digest, source

from utils.loading import ImageSet
from utils.scenes import Difficulty, scenes


@pytest.fixture(autouse=True)
def _sample(monkeypatch):
    monkeypatch.setenv("CV_DATA", str(SAMPLES))


def test_fewer_scenes_are_the_first_of_more(standard):
    for few in (1, 63, 64, 65):
        for short, long in zip(scenes(few, max(1, few // 2)), standard, strict=True):
            n = int(short.counts.sum())
            assert torch.equal(short.images, long.images[: len(short)])
            assert torch.equal(short.numbers, long.numbers[: len(short)])
            assert all(torch.equal(values, long.objects[name][:n]) for name, values in short.objects.items())


def test_the_same_seed_gives_the_same_bytes_in_another_process_and_on_any_number_of_threads(standard):
    expected, threads = digest(*standard), torch.get_num_threads()
    code = (
        "import torch; torch.set_num_threads(3); torch.rand(3); from tests.scene_helpers import *; "
        "print(digest(*scenes(130, 66)))"
    )
    other = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == expected
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            torch.manual_seed(number)
            assert digest(*scenes(130, 66)) == expected
    finally:
        torch.set_num_threads(threads)


def test_no_two_scenes_are_alike_whatever_the_batch_the_part_or_the_seed(monkeypatch):
    parts = source(50), source(50)
    monkeypatch.setattr("utils.scenes.fashion_mnist", lambda: parts)
    images = torch.cat([part.images for seed in (0, 1) for part in scenes(70, 70, seed=seed)])
    layouts = torch.cat([part.numbers for seed in (0, 1) for part in scenes(70, 70, seed=seed)])
    assert len(images[:, :, ::16, ::16].flatten(1).unique(dim=0)) == len(images) == 280
    assert len(layouts.flatten(1).unique(dim=0)) == 280


def test_scenes_do_not_touch_the_global_generator():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    scenes(1, 1, seed=5)
    assert torch.equal(torch.rand(3), expected)


def test_test_scenes_hold_only_test_articles(rectangles):
    train, test = scenes(40, 40, difficulty=Difficulty((1, 1), (24, 24), **PLAIN))
    for part, dataset, labels in zip(rectangles, (train, test), (range(1, 6), range(6, 11)), strict=True):
        chosen = dataset.objects["articles"]
        assert 0 <= chosen.min() and chosen.max() < len(part) and len(chosen.unique()) > 10
        assert torch.equal(dataset.objects["labels"], part.labels[chosen] + 1)
        assert set(dataset.objects["labels"].tolist()) == set(labels)
    sides = [part.objects["boxes"][:, 2:] - part.objects["boxes"][:, :2] for part in (train, test)]
    assert (sides[0] - 24).abs().max() <= 1  # squares in all training scenes
    assert (sides[1] - torch.tensor([12, 24])).abs().max() <= 1  # halves in all test scenes


def test_an_article_is_the_picture_of_its_index(monkeypatch):
    images = torch.zeros(20, 1, 28, 28, dtype=torch.uint8)
    for i in range(20):
        images[i, :, :, : 8 + i] = 255  # its width tells its index
    marked = ImageSet(images, torch.arange(20) % 10, [str(c) for c in range(10)])
    monkeypatch.setattr("utils.scenes.fashion_mnist", lambda: (marked, marked))
    dataset, _ = scenes(60, 1, difficulty=Difficulty((2, 2), (56, 56), overlap=0.0, **PLAIN), size=256)
    boxes, chosen = dataset.objects["boxes"], dataset.objects["articles"]
    assert (dataset.objects["visible"] == 1).float().mean() > 0.95
    alone = dataset.objects["visible"] == 1
    assert ((boxes[:, 2] - boxes[:, 0])[alone] - 2 * (8 + chosen[alone])).abs().max() <= 1
    assert torch.equal(dataset.objects["labels"], chosen % 10 + 1)
