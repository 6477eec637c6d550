"""The data sets of the course, one function each, and what splits and loads them."""

from utils.data.classification import (
    FASHION_CLASSES,
    cats_dogs,
    cifar10,
    cifar100,
    fashion_mnist,
    gtsrb,
    hymenoptera,
    mnist,
    tree_patches,
)
from utils.data.dataset import DetectionSet, ImageSet, PairedSet, SceneSet
from utils.data.dense import IGNORE, camvid, rgbd_indoor
from utils.data.detection import bccd, coco128, trees
from utils.data.generated import articles, scenes
from utils.data.keypoints import (
    POSE_JOINTS,
    POSE_MIRROR,
    face_keypoints,
    leeds_sports,
)
from utils.data.loading import make_loader, select, split, take
from utils.data.portraits import faces, utkface
from utils.data.rendering import EASY, HARD, STANDARD, Difficulty
from utils.data.single_images import (
    cards,
    emoji,
    pedestrians,
    photos,
    rgbd,
    samples,
    stereo,
    textures,
    voc_sample,
)
from utils.data.stand_in import load_or_stand_in

__all__ = [
    "EASY",
    "FASHION_CLASSES",
    "HARD",
    "IGNORE",
    "POSE_JOINTS",
    "POSE_MIRROR",
    "STANDARD",
    "DetectionSet",
    "Difficulty",
    "ImageSet",
    "PairedSet",
    "SceneSet",
    "articles",
    "bccd",
    "camvid",
    "cards",
    "cats_dogs",
    "cifar10",
    "cifar100",
    "coco128",
    "emoji",
    "face_keypoints",
    "faces",
    "fashion_mnist",
    "gtsrb",
    "hymenoptera",
    "leeds_sports",
    "load_or_stand_in",
    "make_loader",
    "mnist",
    "pedestrians",
    "photos",
    "rgbd",
    "rgbd_indoor",
    "samples",
    "scenes",
    "select",
    "split",
    "stereo",
    "take",
    "textures",
    "tree_patches",
    "trees",
    "utkface",
    "voc_sample",
]
