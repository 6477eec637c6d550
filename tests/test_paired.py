import pytest
import torch

from utils.paired import PairedSet, expect_files, expect_same, read_numbers, read_table


def images(n):
    return torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 3, 2, 2)


def test_indexing_gives_one_example_or_a_batch():
    dataset = PairedSet(images(5), torch.arange(5) * 10, list("abcde"), ["x"])
    image, target = dataset[3]
    assert (image.shape, int(image[0, 0, 0]), int(target)) == ((3, 2, 2), 3, 30)
    for index in ([4, 1], torch.tensor([4, 1]), slice(4, 0, -3)):
        if isinstance(index, slice):
            index = list(range(5))[index]
        batch, targets = dataset[index]
        assert (batch[:, 0, 0, 0].tolist(), targets.tolist()) == ([4, 1], [40, 10])
    assert dataset[1:3][1].tolist() == [10, 20]
    assert (len(dataset), dataset.names[2], dataset.classes) == (5, "c", ["x"])
    with pytest.raises(IndexError):
        dataset[5]


def test_several_annotations_come_as_a_dict():
    dataset = PairedSet(images(3), {"age": torch.tensor([5, 6, 7]), "gender": torch.tensor([0, 1, 0])})
    assert {key: int(value) for key, value in dataset[1][1].items()} == {"age": 6, "gender": 1}
    assert dataset[[2, 0]][1]["age"].tolist() == [7, 5]
    assert dataset.names is None and dataset.classes == []


@pytest.mark.parametrize(
    ("pictures", "targets", "names", "message"),
    [
        (images(2).float(), torch.zeros(2), None, "uint8"),
        (images(2)[:, 0], torch.zeros(2), None, r"\[N, C, H, W\]"),
        (images(2), torch.zeros(3), None, "targets must be 2"),
        (images(2), {"age": torch.zeros(2), "gender": torch.zeros(1)}, None, "gender must be 2"),
        (images(2), torch.zeros(2), ["a"], "names must be 2"),
    ],
)
def test_what_does_not_belong_together_is_refused(pictures, targets, names, message):
    with pytest.raises(ValueError, match=message):
        PairedSet(pictures, targets, names)


def test_expect_files_names_what_is_missing(tmp_path):
    (tmp_path / "a").touch()
    (tmp_path / "b").mkdir()
    expect_files(tmp_path, ["a", "b"])
    expect_files(tmp_path, [])
    with pytest.raises(ValueError, match="expected c, d, e, f, g and 2 more in"):
        expect_files(tmp_path, list("abcdefghi"))


@pytest.mark.parametrize(
    ("pictures", "annotated", "message"),
    [
        ("ab", "a", "no annotation for b"),
        ("a", "ab", "no picture for b"),
        ("aab", "ab", "a more than once"),
        ("ab", "abb", "b more than once"),
        ("", "", "found none"),
    ],
)
def test_expect_same_names_what_has_no_partner(tmp_path, pictures, annotated, message):
    expect_same("ab", "ba", tmp_path)
    with pytest.raises(ValueError, match=f"here: .*{message}"):
        expect_same(list(pictures), list(annotated), tmp_path / "here")


def test_a_table_is_read_with_its_header(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('file,x\n"a, b.jpg",1.5\nc.jpg,-2\n')
    rows = read_table(path, ["file", "x"])
    assert rows == [["a, b.jpg", "1.5"], ["c.jpg", "-2"]]
    numbers = read_numbers(path, rows)
    assert numbers.dtype == torch.float64 and torch.equal(numbers, torch.tensor([[1.5], [-2]]).double())
    path.write_text("file,x\n")
    assert read_table(path, ["file", "x"]) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected 2 columns \(file, x\), got 0 columns"),
        ("file,y\na,1\n", r"got 2 columns \(file, y\)"),
        ("file,x\na,1\nb\n", "line 3: expected 2 columns, got 1"),
        ("file,x\na,1,2\n", "line 2: expected 2 columns, got 3"),
        ("file,x\na,1\nb,one\n", "line 3: .*'one'"),
        ("file,x\na,nan\n", "line 2: not all numbers are finite"),
    ],
)
def test_a_bad_table_is_named_with_the_line(tmp_path, text, message):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"a.csv.*{message}"):
        read_numbers(path, read_table(path, ["file", "x"]))


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"expected .*a\.csv, not there"):
        read_table(tmp_path / "a.csv", ["file"])
