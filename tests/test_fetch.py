"""`utils.fetch`: what is used as it is, what is fetched, what is verified."""

from pathlib import Path

import pytest
from fetch_helpers import FILES
from torchvision import datasets

from utils import fetch


@pytest.mark.parametrize("kind", [datasets.FashionMNIST, datasets.MNIST])
def test_torchvision_reads_what_was_fetched(course, server, kind):
    course.describe(server.source, folder=kind.__name__)
    assert fetch.fetch("digits") == course.root / kind.__name__
    for train, part in ((True, "train"), (False, "t10k")):
        read = kind(course.root, train=train, download=False)
        assert read.data.numpy().tobytes() == FILES[f"raw/{part}-images-idx3-ubyte"][16:]
        assert bytes(read.targets.tolist()) == FILES[f"raw/{part}-labels-idx1-ubyte"][8:]


def test_a_second_call_asks_nobody(course, server):
    course.describe(server.source)
    course.succeeds()
    course.succeeds()
    assert len(server.requests) == len(FILES)


def test_what_is_there_is_used_as_it_is(course, server):
    """A smaller sample in the same layout, with other hashes: no network, no lock, no change."""
    course.describe(server.source)
    for path in FILES:
        (course.set / path).parent.mkdir(parents=True, exist_ok=True)
        (course.set / path).write_bytes(b"a sample")
    before = course.tree()
    assert fetch.fetch("digits") == course.set
    assert course.tree() == before and not server.requests and not (course.root / ".digits.lock").exists()


def test_a_torn_set_is_completed(course, server):
    course.describe(server.source)
    course.succeeds()
    first, second, *_ = FILES
    (course.set / first).unlink()
    (course.set / second).write_bytes(b"of another version: may not be mixed with the new files")
    course.succeeds()


def test_killed_while_files_are_renamed(course, server, monkeypatch):
    """The missing file comes last, so that a half-installed set is still seen to be torn."""
    course.describe(server.source)
    course.succeeds()
    first, *others = FILES
    (course.set / first).unlink()
    for path in others:
        (course.set / path).write_bytes(b"stale")
    replace, count = Path.replace, 0

    def stop_at_second(self, target):
        nonlocal count
        count += Path(target).is_relative_to(course.set)
        if count == 2:
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", stop_at_second)
        fetch.fetch("digits")
    course.succeeds()


def test_an_unknown_name():
    with pytest.raises(
        ValueError, match="no data set 'fashion_mnits'. Did you mean 'fashion_mnist'.*mnist, "
    ):
        fetch.fetch("fashion_mnits")


def test_verify_reads_every_file(course, server):
    course.describe(server.source)
    missing = fetch.verify("digits")
    assert len(missing) == len(FILES) and all("is missing" in problem for problem in missing)
    course.succeeds()
    assert fetch.verify("digits") == []
    first, second, *_ = FILES
    content = bytearray(FILES[first])
    content[-1] ^= 1
    (course.set / first).write_bytes(content)
    (course.set / second).write_bytes(FILES[second][:-1])
    changed, short = fetch.verify("digits")
    assert first in changed and "another content" in changed
    assert second in short and f"{len(FILES[second]) - 1} bytes" in short


def test_what_is_generated_is_not_fetched(course):
    course.describe(made_by="utils.digits.digits", made_from=[])
    with pytest.raises(ValueError, match="'digits' is not fetched: utils.digits.digits makes it"):
        fetch.fetch("digits")
