import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from tools.gpu_suites.images import augment, make_images, read_images


def folder(path, sides=(6, 6)):
    for part, count in (('train', 3), ('test', 1)):
        for label, name in enumerate(('cat', 'dog')):
            (path / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.full((sides[i % 2], 6, 3), 10 * label + i, dtype=np.uint8)
                Image.fromarray(pixels).save(path / part / name / f'{i}.png')
    return path


def test_a_folder_and_a_tar_file_give_the_same(tmp_path):
    source = folder(tmp_path / 'data')
    with tarfile.open(tmp_path / 'data.tar.xz', 'w:xz') as archive:
        archive.add(source / 'train', 'set/train')
        archive.add(source / 'test', 'set/test')
    for path in (source, tmp_path / 'data.tar.xz'):
        found, classes = read_images(path)
        assert classes == ['cat', 'dog']
        train = found['train']
        assert train.pixels.shape == (6, 3, 6, 6) and train.pixels.dtype == torch.uint8
        values = {(int(p[0, 0, 0]), int(label)) for p, label in zip(*train, strict=True)}
        assert values == {(0, 0), (1, 0), (2, 0), (10, 1), (11, 1), (12, 1)}
        assert len(found['test'].labels) == 2


def test_what_does_not_fit_is_said(tmp_path):
    with pytest.raises(ValueError, match='images of 2 sizes in train'):
        read_images(folder(tmp_path / 'sizes', sides=(6, 7)))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='has no train/CLASS/IMAGE'):
        read_images(tmp_path / 'empty')


def test_generated_classes_can_be_told_apart_and_a_seed_gives_the_same():
    first, again, other = (make_images(40, 4, seed) for seed in (1, 1, 2))
    assert torch.equal(first.pixels, again.pixels) and not torch.equal(first.pixels, other.pixels)
    assert first.labels.bincount().tolist() == [10] * 4
    # the spectrum does not see the shift
    x, y = (images.pixels.float().mean(1) for images in (first, other))
    x, y = (torch.fft.rfft2(part - part.mean((1, 2), True)).abs().flatten(1) for part in (x, y))
    nearest = (
        torch.cdist(y, torch.stack([x[first.labels == c].mean(0) for c in range(4)]))
    ).argmin(1)
    assert (nearest == other.labels).float().mean() > 0.9


def test_crops_are_windows_of_the_padded_image_and_half_are_flipped():
    torch.manual_seed(0)
    image = torch.arange(1, 37, dtype=torch.uint8).view(1, 1, 6, 6).expand(64, -1, -1, -1)
    padded = torch.nn.functional.pad(image[0, 0], (2,) * 4)
    windows = {
        tuple(part.flatten().tolist()): flipped
        for top in range(5)
        for left in range(5)
        for flipped, part in enumerate(
            (padded[top : top + 6, left : left + 6], padded[top : top + 6, left : left + 6].flip(1))
        )
    }
    found = [windows[tuple(x.flatten().tolist())] for x in augment(image, 2)]
    assert 16 < sum(found) < 48
