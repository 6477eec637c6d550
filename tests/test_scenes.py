import pickle

import pytest
import torch
from scene_helpers import PLAIN, SAMPLES, digest
from torchvision.ops import masks_to_boxes

from utils.loading import take
from utils.scenes import EASY, HARD, STANDARD, Difficulty, SceneSet, scenes


@pytest.fixture(autouse=True)
def _sample(monkeypatch):
    monkeypatch.setenv("CV_DATA", str(SAMPLES))


def test_boxes_are_the_tight_boxes_of_the_masks(standard):
    for dataset in standard:
        n = 0
        for index, (image, target) in enumerate(dataset):
            masks, n = target["masks"], n + len(target["masks"])
            assert image.shape == (3, 128, 128) and image.dtype == torch.uint8
            expected = masks_to_boxes(masks) + torch.tensor([0, 0, 1, 1])  # its x2, y2 are the last pixels
            assert torch.equal(target["boxes"], expected)
            assert target["boxes"].min() >= 0 and target["boxes"].max() <= 128
            assert torch.equal(target["area"], masks.sum((1, 2)).float())
            assert masks.sum(0).max() == 1 and target["image_id"] == index
        assert index == len(dataset) - 1 and n == len(dataset.objects["boxes"]) > 3 * len(dataset)


def test_targets_have_torchvisions_types(standard):
    _, target = standard[0][5]
    n = int(standard[0].counts[5])
    kinds = {
        name: (values.dtype, tuple(values.shape)) for name, values in target.items() if name != "image_id"
    }
    assert kinds == {
        "boxes": (torch.float32, (n, 4)),
        "labels": (torch.int64, (n,)),
        "masks": (torch.bool, (n, 128, 128)),
        "area": (torch.float32, (n,)),
        "visible": (torch.float32, (n,)),
        "iscrowd": (torch.int64, (n,)),
    }
    assert n > 0 and target["image_id"] == 5 and not target["iscrowd"].any()
    assert standard[0].classes[0] == "background" and standard[0].classes[1] == "T-shirt/top"
    assert len(standard[0].classes) == 11


def test_whatever_is_in_a_scene_counts(standard):
    for dataset in standard:
        assert dataset.objects["area"].min() >= 40
        assert dataset.objects["visible"].min() >= 0.3 and dataset.objects["visible"].max() <= 1
        assert 0.1 < (dataset.objects["visible"] < 0.95).float().mean() < 0.4  # some hide others
        assert dataset.counts.min() >= 1 and dataset.counts.max() == 6


def test_all_classes_come_about_as_often(standard):
    counts = standard[0].objects["labels"].bincount(minlength=11)
    assert counts[0] == 0 and counts[1:].min() > 0.6 * counts.sum() / 10


def test_semantic_masks_are_the_labels_of_the_masks(standard):
    dataset = standard[0]
    maps = dataset.semantic([4, 9, 2])
    assert (maps.shape, maps.dtype) == ((3, 128, 128), torch.int64)
    for one, index in zip(maps, [4, 9, 2], strict=True):
        target = dataset[index][1]
        assert torch.equal(one, (target["masks"] * target["labels"][:, None, None]).sum(0))
        assert torch.equal(one, dataset.semantic(index))
    assert torch.equal(dataset.semantic(-1), dataset.semantic([129])[0])
    assert dataset.semantic([]).shape == (0, 128, 128)


def test_one_scene_or_many(standard):
    dataset = standard[0]
    images, targets = dataset[[7, 0, -1]]
    assert torch.equal(images, dataset.images[[7, 0, 129]])
    assert [target["image_id"] for target in targets] == [7, 0, 129]
    for same in (dataset[torch.tensor([7, 0, 129])], [dataset[i] for i in (7, 0, 129)]):
        pairs = zip(targets, same[1] if len(same) == 2 else [t for _, t in same], strict=True)
        assert all(torch.equal(a["masks"], b["masks"]) for a, b in pairs)
    assert [target["image_id"] for target in dataset[2:6:2][1]] == [2, 4]
    assert dataset[torch.tensor(3)][1]["image_id"] == dataset[-127][1]["image_id"] == 3
    assert dataset[[]][0].shape == (0, 3, 128, 128) and dataset[[]][1] == []
    assert len(dataset) == 130
    for outside in (130, -131, [0, 130]):
        with pytest.raises(IndexError):
            dataset[outside]


def test_a_changed_target_leaves_the_others_as_they_were(standard):
    dataset = pickle.loads(pickle.dumps(standard[1]))
    assert digest(dataset) == digest(standard[1])
    dataset[0][1]["masks"].zero_()
    assert digest(dataset) == digest(standard[1])


def test_a_scene_shows_its_articles_where_the_masks_are(rectangles):
    dataset, _ = scenes(64, 1, difficulty=Difficulty((1, 1), (40, 40), **PLAIN))
    distances = []
    for image, target in dataset:
        (mask,) = target["masks"]
        inner = -torch.nn.functional.max_pool2d(-mask[None].float(), 3, 1, 1)[0] > 0
        outer = torch.nn.functional.max_pool2d(mask[None].float(), 3, 1, 1)[0] > 0
        tint, ground = image[:, inner].int(), image[:, ~outer].int()
        assert (tint == tint[:, :1]).all() and (ground - ground[:, :1]).abs().max() <= 1
        distances.append((tint[:, 0] - ground[:, 0]).float().norm())
    assert torch.tensor(distances).quantile(0.05) > 0.4 * 255 and min(distances) > 0.25 * 255  # it stands out


def test_a_tint_is_chosen_for_the_ground_about_the_article(rectangles, monkeypatch):
    seen = []

    def bright_on_the_right(n, size, clutter, generator):
        return (torch.arange(size) >= size // 2).float().expand(n, 3, size, size).contiguous()

    def spy(ground, brightness, generator):
        seen.append((ground, brightness))
        return ground

    monkeypatch.setattr("utils.scenes.grounds", bright_on_the_right)
    monkeypatch.setattr("utils.scenes.tints", spy)
    dataset, _ = scenes(64, 1, difficulty=Difficulty((1, 1), (24, 24), **PLAIN))
    ground, brightness = seen[0]
    x = (dataset.objects["boxes"][:, 0] + dataset.objects["boxes"][:, 2]) / 2
    assert ground.shape == (64, 3) and 20 < (x < 64).sum() < 44
    clear = (x - 64).abs() > 1
    assert torch.equal(ground[clear], (x > 64).float()[clear, None].expand(-1, 3))
    torch.testing.assert_close(brightness, torch.ones(64))


def plain_sets(**changes):
    """Scenes of squares that are easy except for the changes."""
    base = {"articles": (1, 1), "sizes": (30, 30), **PLAIN}
    return scenes(128, 1, difficulty=Difficulty(**{**base, **changes}))[0]


def roughness(dataset):
    """The mean difference between neighbouring values of the ground, of 255."""
    steps = dataset.images.float().diff(dim=3).abs().mean(1)
    ground = (dataset.numbers[:, :, 1:] == 0) & (dataset.numbers[:, :, :-1] == 0)
    return steps[ground].mean().item()


def test_difficulty_does_what_it_says(rectangles):
    assert plain_sets(articles=(4, 4), overlap=0.0, sizes=(20, 20)).counts.unique().tolist() == [4]
    assert plain_sets(articles=(2, 5), overlap=0.0, sizes=(20, 20)).counts.unique().tolist() == [2, 3, 4, 5]
    small, large = (plain_sets(sizes=(side, side)) for side in (20, 50))
    sides = [part.objects["boxes"][:, 2] - part.objects["boxes"][:, 0] for part in (small, large)]
    assert (sides[0] - 20).abs().max() <= 1 and (sides[1] - 50).abs().max() <= 1
    hidden = [
        1 - plain_sets(articles=(6, 6), overlap=overlap).objects["visible"].mean() for overlap in (0, 0.3, 1)
    ]
    assert hidden[0] < 0.02 < hidden[1] < 0.7 * hidden[2]
    upright, turned = (plain_sets(rotation=angle) for angle in (0.0, 45.0))
    fills = []
    for part in (upright, turned):
        boxes = part.objects["boxes"]
        fills.append((part.objects["area"] / (boxes[:, 2:] - boxes[:, :2]).prod(1)).mean())
    assert fills[0] > 0.99 and fills[1] < 0.8
    clutter = [roughness(plain_sets(clutter=value)) for value in (0.0, 0.3, 1.0)]
    assert clutter[0] < 0.1 and 1 < 2 * clutter[1] < clutter[2]
    noise = [roughness(plain_sets(noise=value)) for value in (0.0, 0.05, 0.1)]
    expected = 255 * 0.05 * 2 / torch.pi**0.5  # of the difference of two normal numbers
    assert noise[1] == pytest.approx(expected, rel=0.1) and noise[2] == pytest.approx(2 * expected, rel=0.15)
    light = [plain_sets(light=value).images.float().std((2, 3)).mean() for value in (0.0, 0.8)]
    assert light[1] > light[0] + 5


def test_presets_rise_in_difficulty():
    sets = [scenes(64, 1, difficulty=difficulty)[0] for difficulty in (EASY, STANDARD, HARD)]
    for measure in (lambda s: s.counts.float().mean(), lambda s: -s.objects["visible"].mean(), roughness):
        values = [float(measure(part)) for part in sets]
        assert values == sorted(values) and len(set(values)) == 3


def test_scenes_may_be_empty(rectangles):
    empty, _ = scenes(3, 1, difficulty=Difficulty(articles=(0, 0)))
    image, target = empty[2]
    shapes = {name: tuple(values.shape) for name, values in target.items() if name != "image_id"}
    assert shapes == {
        "boxes": (0, 4),
        "labels": (0,),
        "masks": (0, 128, 128),
        "area": (0,),
        "visible": (0,),
        "iscrowd": (0,),
    }
    assert image.float().std() > 1 and not empty.semantic([0, 1, 2]).any() and not empty.numbers.any()
    some, _ = scenes(64, 1, difficulty=Difficulty(articles=(0, 1)))
    assert 15 < int((some.counts == 0).sum()) < 49
    for index in range(64):
        assert len(some[index][1]["boxes"]) == some.counts[index] == some.numbers[index].max()
        assert (some.semantic(index) > 0).any() == (some.counts[index] > 0)


@pytest.mark.parametrize(("size", "sizes"), [(50, (20, 40)), (97, (30, 70)), (256, (24, 60))])
def test_other_sizes_of_scenes(rectangles, size, sizes):
    dataset, _ = scenes(5, 1, size=size, difficulty=Difficulty(sizes=sizes))
    assert dataset.images.shape == (5, 3, size, size) and dataset.numbers.shape == (5, size, size)
    for _, target in dataset:
        assert torch.equal(target["boxes"], masks_to_boxes(target["masks"]) + torch.tensor([0, 0, 1, 1]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_train": 0}, "n_train=0"),
        ({"n_test": -1}, "n_test=-1"),
        ({"seed": -1}, "from 0 on"),
        ({"size": 60}, "73 px at least.* got 60"),
        ({"difficulty": Difficulty(sizes=(24, 91), rotation=45.0)}, "129 px at least"),
    ],
)
def test_scenes_refuse_what_makes_no_sense(arguments, message):
    with pytest.raises(ValueError, match=message):
        scenes(**{"n_train": 1, "n_test": 1, **arguments})


@pytest.mark.parametrize("name", ["boxes", "labels", "visible"])
def test_a_scene_set_refuses_what_does_not_belong_together(standard, name):
    part = standard[1]
    given = (part.images, part.numbers, part.counts)
    with pytest.raises(ValueError, match="66 images, 65 maps"):
        SceneSet(given[0], given[1][:-1], given[2], part.objects, part.classes)
    with pytest.raises(ValueError, match=r"promise \d+ objects"):
        SceneSet(*given, {**part.objects, name: part.objects[name][1:]}, part.classes)


def test_a_sample_by_class_is_refused_since_a_scene_has_no_class(standard):
    with pytest.raises(TypeError, match="neither .labels nor .targets"):
        take(standard[1], 10)
