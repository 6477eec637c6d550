import pytest
import torch
from PIL import Image

from utils import drawn
from utils.drawn import cards, emoji

SVG = '<svg viewBox="0 0 72 72" xmlns="http://www.w3.org/2000/svg">{}</svg>'
LEFT_HALF = SVG.format('<rect x="0" y="0" width="36" height="72" fill="#ff8000"/>')
UPPER_HALF = SVG.format('<rect x="0" y="0" width="72" height="36" fill="#0000ff" opacity="0.5"/>')


@pytest.fixture
def glyphs(tmp_path, monkeypatch):
    for code in ("1F431", "1F468-200D-1F33E", "2764-FE0F", "E08C", "E0C0"):
        (tmp_path / f"{code}.svg").write_text(LEFT_HALF)
    (tmp_path / "2764-FE0F.svg").write_text(UPPER_HALF)
    monkeypatch.setattr(drawn, "fetch", lambda name: {"emoji": tmp_path}[name])
    return tmp_path


def test_emoji_are_drawn_with_their_names(glyphs):
    images, names, codes = emoji(16)
    assert images.shape == (5, 4, 16, 16) and images.dtype == torch.uint8
    assert codes == ["1F431", "1F468-200D-1F33E", "2764-FE0F", "E08C", "E0C0"]
    assert names == ["CAT FACE", "MAN + EAR OF RICE", "HEAVY BLACK HEART", "U+E08C", "U+E0C0"]
    left = images[0]
    assert left[:, :, :8].flatten(1).unique(dim=1)[:, 0].tolist() == [255, 128, 0, 255]
    assert not left[3, :, 8:].any()
    upper = images[2]  # colour is not multiplied by opacity
    assert upper[2, 3, 3] == 255 and 126 <= int(upper[3, 3, 3]) <= 129 and not upper[3, 8:].any()


def test_emoji_have_64_pixels_by_default_and_any_size(glyphs):
    assert emoji(codes=["1F431"]).images.shape == (1, 4, 64, 64)
    assert emoji(1, codes=["1F431"]).images.shape == (1, 4, 1, 1)


def test_some_emoji_may_be_asked_for(glyphs):
    assert emoji(8, codes=["E08C", "1F431"]).codes == ["E08C", "1F431"]
    assert emoji(8, count=2).codes == ["1F431", "2764-FE0F"]
    assert emoji(8, count=5).codes == emoji(8).codes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"codes": ["1F431", "1F999"]}, r"expected 1F999\.svg"),
        ({"codes": []}, "give some codes"),
        ({"codes": ["1F431"], "count": 1}, "none of both"),
        ({"count": 6}, "asked for 6 of 5"),
        ({"count": 0}, "asked for 0 of 5"),
        ({"size": 0}, "at least 1 pixel"),
    ],
)
def test_what_is_not_there_is_refused(glyphs, arguments, message):
    with pytest.raises(ValueError, match=message):
        emoji(**arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be drawn"),
        ("<svg", "cannot be drawn"),
        (SVG.format(""), "draws nothing"),
        (LEFT_HALF.replace("72 72", "72 36"), "draws 16x8"),
    ],
)
def test_a_bad_svg_is_named(glyphs, text, message):
    (glyphs / "E08C.svg").write_text(text)
    with pytest.raises(ValueError, match=rf"E08C\.svg.*{message}"):
        emoji(16)


def test_a_folder_without_emoji_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(drawn, "fetch", lambda name: tmp_path)
    with pytest.raises(ValueError, match="expected SVG files in"):
        emoji()


@pytest.fixture
def deck(tmp_path, monkeypatch):
    for suit, name in enumerate(("Clubs", "Diamonds", "Hearts", "Spades")):
        for rank, sign in enumerate("A 2 3 4 5 6 7 8 9 10 J Q K".split()):
            Image.new("RGBA", (14, 19), (suit, rank, 0, 100)).save(tmp_path / f"card{name}{sign}.png")
    Image.new("RGBA", (14, 19)).save(tmp_path / "cardJoker.png")
    monkeypatch.setattr(drawn, "fetch", lambda name: {"cards": tmp_path}[name])
    return tmp_path


def test_cards_come_with_rank_and_suit(deck):
    images, ranks, suits = cards()
    assert images.shape == (52, 4, 19, 14) and images.dtype == torch.uint8
    assert torch.equal(images[:, 0, 0, 0].long(), suits) and torch.equal(images[:, 1, 0, 0].long(), ranks)
    assert (images[:, 3] == 100).all() and (ranks.dtype, suits.dtype) == (torch.int64, torch.int64)
    assert (drawn.SUITS[suits[51]], drawn.RANKS[ranks[51]]) == ("Spades", "K")


def test_a_missing_or_broken_card_is_named(deck):
    (deck / "cardHearts10.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"cardHearts10\.png"):
        cards()
    (deck / "cardHearts10.png").unlink()
    with pytest.raises(ValueError, match=r"expected cardHearts10\.png"):
        cards()
