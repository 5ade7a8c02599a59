"""Augmentations: what they do to a sample, a draw for each sample, the same for all its steps, seeds, refusals."""

import re

import pytest
import torch

from lava_snnlearn import distributed
from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.data import PerSample, augmentation

SHAPE = (2, 8, 9)


def batch(samples=64):
    """Positive values, each sample with its own, so that zeros are those of the augmentation."""
    return torch.rand(samples, *SHAPE, generator=torch.Generator().manual_seed(0)) + 1


def shifted(image, down, right):
    """The image seen through a window that is moved by (down, right) over zeros."""
    found = torch.zeros_like(image)
    rows, columns = image.shape[-2:]
    for row in range(rows):
        for column in range(columns):
            if 0 <= row + down < rows and 0 <= column + right < columns:
                found[..., row, column] = image[..., row + down, column + right]
    return found


def test_flip_turns_some_samples_left_to_right():
    torch.manual_seed(1)
    x = batch()
    found = augmentation("flip", SHAPE)(x)
    turned = torch.tensor([not torch.equal(a, b) for a, b in zip(found, x, strict=True)])
    assert 10 < int(turned.sum()) < 54
    assert torch.equal(found[turned], x[turned].flip(-1))
    assert torch.equal(augmentation("flip", SHAPE, probability=1.0)(x), x.flip(-1))
    assert torch.equal(augmentation("flip", SHAPE, probability=0.0)(x), x)


def test_crop_is_a_shift_over_zeros():
    torch.manual_seed(2)
    x = batch()
    shifts = set()
    for image, found in zip(x, augmentation("crop", SHAPE, padding=2)(x), strict=True):
        (shift,) = [
            (down, right) for down in range(-2, 3) for right in range(-2, 3) if torch.equal(shifted(image, down, right), found)
        ]
        shifts.add(shift)
    assert len(shifts) > 15


@pytest.mark.parametrize("side, expected", [(3, 3), (None, 4)])
def test_cutout_sets_a_square_to_zero(side, expected):
    torch.manual_seed(3)
    x = batch()
    corners = set()
    for image, found in zip(x, augmentation("cutout", SHAPE, cutout=side)(x), strict=True):
        hole = (found == 0).all(0)
        rows, columns = hole.any(1).nonzero().flatten().tolist(), hole.any(0).nonzero().flatten().tolist()
        assert int(hole.sum()) == expected**2
        assert (len(rows), len(columns)) == (expected, expected)
        assert torch.equal(found, image * ~hole)
        corners.add((rows[0], columns[0]))
    assert len(corners) > 8


def test_all_steps_of_a_sequence_have_the_same_draw():
    torch.manual_seed(4)
    x = batch(32)
    sequence = x.expand(5, *x.shape)
    found = augmentation("crop_flip_cutout", SHAPE)(sequence)
    assert found.shape == sequence.shape
    assert torch.equal(found, found[:1].expand_as(found))
    assert len({image.numpy().tobytes() for image in found[0] - x}) == 32


def test_parts_are_applied_in_the_order_of_the_name():
    """A hole that is cut before the shift is moved by it; one that is cut after is whole."""
    torch.manual_seed(5)
    x = torch.ones(64, *SHAPE)
    whole = (augmentation("crop_cutout", SHAPE, padding=1)(x) == 0).all(1)
    assert all(int(hole.sum()) >= 16 for hole in whole)
    once = PerSample(augmentation("flip_crop", SHAPE, probability=1.0).transform.transforms[0])
    assert torch.equal(once(x), x)
    names = [type(part).__name__ for part in augmentation("flip_crop", SHAPE).transform.transforms]
    assert names == ["RandomHorizontalFlip", "RandomCrop"]


def test_draws_come_from_the_global_generator_alone():
    x, change = batch(), augmentation("crop_flip_cutout", SHAPE)
    torch.manual_seed(6)
    first, second = change(x), change(x)
    after = torch.rand(())
    torch.manual_seed(6)
    assert torch.equal(change(x), first)
    assert torch.equal(change(x), second)
    assert torch.rand(()) == after
    assert not torch.equal(first, second)


def test_a_sample_has_its_draw_whatever_the_others_are():
    """Its seed is drawn, not what is left of the draws of those before it."""
    x = batch(8)
    torch.manual_seed(7)
    expected = augmentation("crop", SHAPE)(x)
    greedy = PerSample(lambda sample: augmentation("crop", SHAPE).transform(sample) + 0 * torch.rand(100).sum())
    torch.manual_seed(7)
    assert torch.equal(greedy(x), expected)


def test_two_processes_draw_what_one_draws(monkeypatch):
    x, change = batch(8), augmentation("crop_flip_cutout", SHAPE)
    torch.manual_seed(8)
    whole = change(x)
    monkeypatch.setattr(distributed, "world", lambda: 2)
    parts = []
    for first, last in ((0, 3), (3, 8)):
        torch.manual_seed(8)
        with distributed.working_on(distributed.Share(first, last, 8)):
            parts.append(change(x[first:last]))
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_input_are_kept(dtype):
    x = batch().to(dtype)
    before = x.clone()
    assert augmentation("crop_flip_cutout", SHAPE)(x).dtype == dtype
    assert torch.equal(x, before)


def test_the_repr_tells_all_settings():
    one, same, other = (augmentation("crop_flip", SHAPE, padding=padding) for padding in (2, 2, 3))
    assert repr(one) == repr(same) != repr(other)
    assert not re.search("0x", repr(one))


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"name": "crop_flop"}, UnknownNameError, "unknown augmentation 'flop'.*Did you mean 'flip'"),
        ({"shape": None}, TypeError, "shape is None; give .channels, height, width."),
        ({"padding": 0}, ValueError, "padding is 0"),
        ({"padding": 1.5}, TypeError, r"padding is 1\.5"),
        ({"cutout": 8}, ValueError, r"cutout is 8; the side of the square must lie in 1\.\.7"),
        ({"cutout": 0}, ValueError, "cutout is 0"),
        ({"probability": 1.5}, ValueError, r"probability is 1\.5"),
        ({"probability": "half"}, TypeError, "probability is 'half'"),
    ],
)
def test_bad_settings_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        augmentation(**({"name": "crop_flip", "shape": SHAPE} | options))


def test_flat_batches_are_refused():
    with pytest.raises(ValueError, match=r"the batch has shape \(4, 144\).*shape="):
        augmentation("flip", SHAPE)(torch.zeros(4, 144))


@pytest.mark.parametrize("transform", [None, "flip", torch.nn.Identity])
def test_what_cannot_be_called_is_refused(transform):
    with pytest.raises(TypeError, match=r"transform is .*; pass a transform of torchvision"):
        PerSample(transform)
