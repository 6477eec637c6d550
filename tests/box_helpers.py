"""Boxes for the tests of `utils.boxes`."""

import torch


def close(a, b):
    torch.testing.assert_close(a, b, equal_nan=True)


def random_boxes(n, *, seed=0, scale=100.0, size=40.0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator) * scale
    return torch.cat([corner, corner + torch.rand(n, 2, generator=generator) * size * scale / 100], 1)


ODD = torch.tensor(
    [
        [0, 0, 10, 10],
        [10, 0, 20, 10],  # touches the first at an edge
        [10, 10, 20, 20],  # at a corner
        [2, 2, 4, 4],  # inside it
        [5, 5, 5, 5],  # a point
        [5, 5, 5, 9],  # a line
        [1, 7, 8, 7],
        [-30, -20, -10, 0],
        [0, 0, 1e6, 1e6],
        [1e15, 1e15, 3e15, 2e15],
    ]
)
