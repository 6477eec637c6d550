import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from utils.pictures import (
    class_folders,
    fit_square,
    list_pictures,
    read_picture,
    read_pictures,
    wrong_layout,
)

PHOTO = data.cat()[:60, :90]  # [60, 90, 3] uint8


def encoded(array, suffix, **options):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, {"jpg": "JPEG", "pgm": "PPM"}.get(suffix, suffix), **options)
    return stream.getvalue()


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else encoded(content, name.rsplit(".")[-1]))
        return path

    return write


def by_pillow(path, mode="RGB"):
    array = np.array(Image.open(path).convert(mode))
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm"])
def test_lossless_files_come_back_as_they_were(write, suffix):
    image = read_picture(write(f"a.{suffix}", PHOTO))
    assert image.dtype == torch.uint8 and image.shape == (3, 60, 90)
    assert torch.equal(image, torch.from_numpy(PHOTO.copy()).permute(2, 0, 1))


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"quality": 30}], ids=str)
def test_jpegs_are_what_pillow_reads(write, options):
    path = write("a.jpg", encoded(PHOTO, "jpg", **options))
    assert torch.equal(read_picture(path), by_pillow(path))


def test_modes(write):
    grey = write("grey.pgm", PHOTO[..., 0])
    assert torch.equal(read_picture(grey, "L")[0], torch.from_numpy(PHOTO[..., 0].copy()))
    assert torch.equal(read_picture(grey), read_picture(grey, "L").expand(3, -1, -1))
    jpeg = write("grey.jpg", PHOTO[..., 0])
    assert torch.equal(read_picture(jpeg), by_pillow(jpeg, "L").expand(3, -1, -1))
    cmyk = grey.with_name("cmyk.jpg")
    Image.fromarray(PHOTO).convert("CMYK").save(cmyk)
    assert (read_picture(cmyk).int() - by_pillow(cmyk).int()).abs().max() <= 2
    clear = np.dstack([PHOTO, np.full(PHOTO.shape[:2], 128, np.uint8)])
    assert torch.equal(
        read_picture(write("clear.png", clear), "RGBA"), torch.from_numpy(clear).permute(2, 0, 1)
    )
    clear[..., 3] = 255
    assert read_picture(write("opaque.png", clear)).shape == (3, 60, 90)


def test_pictures_stand_upright(write):
    for suffix in ("jpg", "png"):  # the two decoders
        exif = Image.Exif()
        exif[274] = 6  # a quarter turn clockwise makes it upright
        turned = read_picture(write(f"turned.{suffix}", encoded(PHOTO, suffix, exif=exif)))
        plain = read_picture(write(f"plain.{suffix}", PHOTO))
        assert torch.equal(turned, plain.rot90(-1, (1, 2)))


def deep():
    return encoded((np.arange(4096).reshape(64, 64) * 16).astype(np.uint16), "png")


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (b"", "RGB", "is empty"),
        (b"not a picture", "RGB", "is no picture"),
        (encoded(PHOTO, "tga"), "RGB", "is no picture in a format of BMP"),
        (encoded(PHOTO, "jpg")[:900], "RGB", "broken"),
        (encoded(PHOTO, "jpg")[:-2], "RGB", "broken"),
        (encoded(PHOTO, "png")[:5000], "RGB", "broken"),
        (encoded(PHOTO[..., 0], "pgm")[:-1], "L", "broken"),
        (deep(), "RGB", "8 bits"),
        (deep(), "L", "8 bits"),
        (encoded(PHOTO, "jpg"), "L", "colour"),
        (encoded(np.dstack([PHOTO, PHOTO[..., 0]]), "png"), "RGB", "transparent"),
        (encoded(PHOTO, "png"), "CMYK", "one of L, RGB, RGBA"),
    ],
)
def test_what_is_not_a_whole_picture_is_named(write, content, mode, message):
    path = write("odd.jpg", content)
    with pytest.raises(ValueError, match=message) as raised:
        read_picture(path, mode)
    assert mode == "CMYK" or str(path) in str(raised.value)


@pytest.mark.parametrize("at", range(2, 40))
def test_no_cut_jpeg_passes(write, at):
    whole = encoded(PHOTO, "jpg")
    with pytest.raises(ValueError, match="cut.jpg"):
        read_picture(write("cut.jpg", whole[: at * len(whole) // 40]))


def test_a_decoder_that_fills_gaps_does_not_get_a_cut_jpeg(write, monkeypatch):
    monkeypatch.setattr("utils.pictures.cv2.imdecode", lambda content, flags: np.zeros((60, 90, 3), np.uint8))
    with pytest.raises(ValueError, match="broken"):
        read_picture(write("cut.jpg", encoded(PHOTO, "jpg")[:900]))


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / "missing.jpg")


def test_many_keep_their_order(write):
    paths = [write(f"{n}.png", np.full((2, 3, 3), n, np.uint8)) for n in (3, 1, 2)]
    images = read_pictures(paths)
    assert images.shape == (3, 3, 2, 3) and images.is_contiguous()
    assert images[:, 0, 0, 0].tolist() == [3, 1, 2]
    assert torch.equal(read_pictures(paths[:1]), images[:1])
    assert read_pictures([write("g.png", PHOTO[..., 0])], "L").shape == (1, 1, 60, 90)
    with pytest.raises(ValueError, match="at least one"):
        read_pictures([])


def test_all_bad_files_are_named(write):
    paths = [write("a.jpg", PHOTO), write("b.jpg", b""), write("c.jpg", PHOTO), write("d.gif", b"text")]
    with pytest.raises(ValueError, match="2 of 4") as raised:
        read_pictures(paths)
    assert [path.name in str(raised.value) for path in paths] == [False, True, False, True]


def test_sizes_differ(write):
    paths = [
        write("a.png", PHOTO),
        write("b.png", PHOTO[:50]),
        write("c.png", PHOTO),
        write("d.png", PHOTO[:9]),
    ]
    with pytest.raises(ValueError, match="most pictures are 90x60") as raised:
        read_pictures(paths)
    assert [path.name in str(raised.value) for path in paths] == [False, True, False, True]
    assert "b.png is 90x50" in str(raised.value)
    assert torch.equal(read_pictures(paths, size=30)[1], fit_square(read_picture(paths[1]), 30))


def test_fit_square():
    image = torch.from_numpy(PHOTO.copy()).permute(2, 0, 1)
    assert torch.equal(fit_square(image, 60), image[:, :, 15:75])
    tall = image.transpose(1, 2)
    assert torch.equal(fit_square(tall, 60), tall[:, 15:75])
    by_pillow = torch.from_numpy(np.array(Image.fromarray(PHOTO).resize((45, 30), Image.BILINEAR)))
    difference = fit_square(image, 30).int() - by_pillow.permute(2, 0, 1)[:, :, 7:37].int()
    shifted = fit_square(image, 30).int() - by_pillow.permute(2, 0, 1)[:, :, 8:38].int()
    assert min(difference.abs().max(), shifted.abs().max()) <= 1  # 15 columns too many: 7 or 8 on the left
    assert fit_square(image, 100).shape == (3, 100, 100)
    for shape, size in (((3, 5, 0), 4), ((3, 5, 5), 0)):
        with pytest.raises(ValueError, match=r"pixels in it|at least 1"):
            fit_square(torch.zeros(shape, dtype=torch.uint8), size)


def test_folders_are_listed_by_name(write, tmp_path):
    for name in ("b.png", "a.JPG", ".DS_Store", "Thumbs.db", "notes.txt"):
        write(name, b"")
    assert [path.name for path in list_pictures(tmp_path)] == ["a.JPG", "b.png", "notes.txt"]
    (tmp_path / "more").mkdir()
    with pytest.raises(ValueError, match=r"folder\(s\) more"):
        list_pictures(tmp_path)
    with pytest.raises(ValueError, match="is not there"):
        list_pictures(tmp_path / "missing")
    with pytest.raises(ValueError, match="empty"):
        list_pictures(tmp_path / "more")


def test_class_folders(tmp_path):
    for name in ("b/2.png", "b/1.png", "a/9.png", "a/odd.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    files, labels = class_folders(tmp_path, ["b", "a"], [tmp_path / "a" / "odd.csv"])
    assert [str(path.relative_to(tmp_path)) for path in files] == ["b/1.png", "b/2.png", "a/9.png"]
    assert labels.tolist() == [0, 0, 1] and labels.dtype == torch.int64
    with pytest.raises(ValueError, match="found no c, a"):
        class_folders(tmp_path, ["b", "c"])
    with pytest.raises(ValueError, match="found no a, no b"):
        class_folders(tmp_path / "missing", ["a", "b"])
    with pytest.raises(ValueError, match="a, found none"):
        class_folders(tmp_path, ["a", "b"], list((tmp_path / "a").iterdir()))


def test_an_unknown_layout_is_described(tmp_path):
    for number in range(10):
        (tmp_path / f"{number}.txt").touch()
    message = str(wrong_layout(tmp_path, "the folder train", "the file x"))
    assert "the folder train or the file x" in message and "0.txt" in message and "7.txt, ..." in message
    assert "8.txt" not in message
