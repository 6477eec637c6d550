"""The guard of numbers: what it finds, where it looks, and what it does not look up."""

import pytest
import sample
from text_numbers import unfounded


def missing(text, printed="", code="step = 1", after=""):
    """Return the numbers that are not founded in a notebook of one text cell."""
    above = sample.code(code, outputs=[sample.printed(printed)] if printed else [])
    nb = sample.new_notebook(cells=[above, sample.text(text)])
    if after:
        nb.cells.append(sample.code("1", outputs=[sample.printed(after)]))
    return [found.partition(" in: ")[0] for found in unfounded(nb)]


@pytest.mark.parametrize(
    ("text", "printed", "expected"),
    [
        # sentences that stood in notebooks, with what was printed above them
        (
            "The intercept falls to −334 without the outlier.",
            "intercept -336.4, slope 949.4",
            ["−334"],
        ),
        (
            "Test accuracies of other variants (0.925 to 0.933) had been seen.",
            "test accuracy 0.9314 (0.926 to 0.936)",
            ["0.925", "0.933"],
        ),
        (
            "Ours equals theirs, but for six of 451,584 numbers.",
            "largest difference 1 grey level",
            ["451,584"],
        ),
        (
            "Two more survive; their scores, 0.33 and 0.26, tell them apart.",
            "48 boxes, 6 kept",
            ["0.33", "0.26"],
        ),
    ],
)
def test_sentences_that_no_output_shows(text, printed, expected):
    assert missing(text, printed) == expected


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("It reaches 0.93.", "accuracy 0.9314"),
        ("It reaches 93 %.", "accuracy 0.9314"),
        ("It reaches 93.1 %.", "accuracy: 93.14%"),
        ("It reaches 0.931.", "accuracy: 93.14%"),
        ("It loses 0.05.", "change -0.0512"),
        ("It changes by −0.05.", "change -0.0512"),
        ("It changes by −0.05.", "change \N{MINUS SIGN}0.0512"),
        ("There are 60,000 of them.", "60000 images"),
        ("There are 60,000 of them.", "60,000 images"),
        ("A difference of 3e-16.", "largest 3.1e-16"),
        ("Inputs of 28×28 pixels.", "shape [60000, 28, 28]"),
        ("It is 4.9 times as fast.", "4.94x"),
        ("From 0.25 to 0.5, and 17-fold.", "0.25 0.5 17"),
    ],
)
def test_a_number_is_found_as_it_is_rounded(text, printed):
    assert missing(text, printed) == []
    assert missing(text) != []
    assert missing(text, after=printed) != []  # below the text is too late


@pytest.mark.parametrize(
    ("text", "printed", "expected"),
    [
        ("It reaches 0.932.", "accuracy 0.9314", ["0.932"]),
        ("It reaches 0.9314.", "accuracy 0.931", ["0.9314"]),
        ("It changes by −0.05.", "change 0.05", ["−0.05"]),
        ("It is 41 %.", "41", []),
        ("It is 41 %.", "0.42", ["41 %"]),
        ("There are 13 of 14.", "14 in all", ["13"]),
        ("See it in 1952 images, and 1,952.", "1953", ["1,952"]),
        ("It is 3.2, and 3.4 is a notebook.", "", ["3.2"]),
        ("A size of 2.5 MB.", "in 2.5", []),
    ],
)
def test_another_number_is_not_it(text, printed, expected):
    assert missing(text, printed) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Twelve, 12 and 7 are small; in 1998 and 2,3 also.",
        "A formula $x = 0.37$, a block $$0.41 \\cdot 3$$ and `code 0.93`.",
        "```\nresult 0.93\n```",
        "[The text](page-0.93.html) at https://example.org/0.93.",
        "As 6.3 shows, and notebooks 2.14 and 3.9; (6.2); 7.2 (planned) too.",
        "They say so. 3.6 measures it.",
        "## 4.2 A heading of 27 words\n\n20. A long list.",
        "ResNet-18 and float32, conv2d of CIFAR-10, int8.",
        "He finds 3.57 % of errors (He et al., 2016).",
        "| see | tensors | 31 seconds on 2 cores of a CPU, 17 MB, once |",
        "**Your turn** (15 minutes, \N{BLACK STAR}). Add.",
        "## References\n\n- A. Author, *On 0.93*, 88(2), 303-338, 2010.",
    ],
)
def test_what_is_not_looked_up(text):
    assert missing(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("That is 0.717 − 0.356 = 0.361.", ["0.717", "0.356"]),
        ("That is 17 × 3 = 51, a third of 153.", ["17", "153"]),
        ("It is $0.5 \\cdot 0.26 = 0.13$, so 0.13 or 13 %.", ["13 %"]),
        ("It is $60{,}000 / 128 \\approx 468.75$: 468.75 steps.", []),
        ("That is 6 / 0 = 19.", ["19"]),
    ],
)
def test_a_number_may_be_derived_beside_it(text, expected):
    assert missing(text) == expected


def test_a_number_may_stand_in_the_code():
    assert missing("It has 1,000 units, 28×28.", code="HIDDEN = 1000\nside = 28") == []
    assert missing("A rate of 0.05.", code="rates = [5e-2]\n%config X = 1") == []
    assert missing("A rate of 0.05.", code="rates = [0.051]") == ["0.05"]
    assert missing("In 512 of them.", code="print('512 of them')") == []
