"""`utils.catalog` and `catalog.toml`: where things lie, and that what is said of each set is whole."""

import re
from pathlib import Path

import pytest
import torch
from platformdirs import user_cache_path

from utils import catalog
from utils.sources import SOURCES, archive_names

ENTRIES = catalog.catalog()
FETCHED = {name: entry for name, entry in ENTRIES.items() if "sources" in entry}


def test_data_root(monkeypatch, tmp_path):
    monkeypatch.setenv("CV_DATA", str(tmp_path))
    assert catalog.data_root() == tmp_path
    monkeypatch.delenv("CV_DATA")
    assert catalog.data_root() == Path(__file__).parents[1] / "data"
    monkeypatch.setattr(catalog, "REPOSITORY", tmp_path)  # as in site-packages: no pyproject.toml beside it
    assert catalog.data_root() == user_cache_path("cv-pytorch-course", appauthor=False)


@pytest.mark.parametrize("variables", [{}, {"TORCH_HOME": "~/t"}, {"XDG_CACHE_HOME": "/x"}])
def test_weights_lie_where_torch_looks_for_them(monkeypatch, variables):
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert catalog.weights_root() == Path(torch.hub.get_dir()) / "checkpoints"


def is_hash(text: str) -> bool:
    return re.fullmatch("[0-9a-f]{64}", text) is not None


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_says_what_a_reader_needs(name):
    entry = ENTRIES[name]
    assert all(entry[key] for key in ("title", "licence", "citation", "used_for"))
    if name not in FETCHED:
        assert entry["made_by"] and set(entry["made_from"]) <= FETCHED.keys()
        assert entry["made_from"] or entry["comes_with"]


@pytest.mark.parametrize("name", FETCHED)
def test_every_layout_can_be_checked(name):
    entry = ENTRIES[name]
    for layout in catalog.layouts(entry):
        assert not Path(layout["folder"]).is_absolute()
        for file in layout.get("files", []):
            assert not Path(file["path"]).is_absolute() and ".." not in Path(file["path"]).parts
            assert file["bytes"] > 0 and is_hash(file["sha256"])
        if "tree" in layout:
            assert layout["needs"] and layout["tree"]["bytes"] > 0
    assert catalog.layout_of(entry, {}) is entry
    assert "files" in entry or is_hash(entry["tree"]["sha256"])


@pytest.mark.parametrize("name", FETCHED)
def test_every_source_is_pinned(name):
    """By the hash of each archive, or by those of the files in it."""
    entry = ENTRIES[name]
    for source in entry["sources"]:
        assert source["kind"] == "mirror" or source["kind"] in SOURCES
        archives = source.get("archives", [])
        for archive in archives:
            assert archive["bytes"] > 0
            assert is_hash(archive.get("sha256", "")) or re.fullmatch("[0-9a-f]{32}", archive["md5"])
        layout = catalog.layout_of(entry, source)
        assert archives or ("files" in layout and "convert" not in source)
        names = archive_names(name, entry, source)
        suffixes = (".whl", ".deb", ".gz", ".xz", ".zip", ".pth", ".avi")
        assert names and all(Path(archive).suffix in suffixes for archive in names)


def test_an_unknown_name():
    with pytest.raises(
        ValueError, match="no data set 'fashion_mnits'. Did you mean 'fashion_mnist'.*mnist, "
    ):
        catalog.entry_of("fashion_mnits")


def test_names_that_need_no_internet():
    """What the README promises of a machine that reaches a package index only."""
    kinds = {name: {source["kind"] for source in entry["sources"]} for name, entry in FETCHED.items()}
    offline = {name for name, kind in kinds.items() if kind & {"pypi", "debian"}}
    assert offline == {
        *("mnist", "fashion_mnist", "trees", "faces", "emoji", "cards", "rgbd", "imagenet_samples"),
        *("voc_sample", "pedestrians", "mobilenet_v2", "efficientnet_lite0", "mtcnn", "hed_vgg16", "u2netp"),
    }
