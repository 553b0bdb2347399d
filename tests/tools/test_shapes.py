import hashlib
import json

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from tools import shapes
from tools.shapes import SHAPES_CLASSES, generate_shapes, render_scene, shape_mask

RECTANGLE, ELLIPSE, TRIANGLE, CROSS, RING = range(5)


def scenes(split='train', count=200):
    return [render_scene(split, index) for index in range(count)]


def tree_digest(folder):
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


class TestShapeMask:
    @pytest.mark.parametrize('label', range(5))
    def test_spans_exactly_the_asked_extent(self, label):
        mask = shape_mask(label, (60, 50), (17, 11), 128)
        rows, columns = np.nonzero(mask)
        assert (columns.min(), columns.max()) == (60 - 17, 60 + 17)
        assert (rows.min(), rows.max()) == (50 - 11, 50 + 11)

    def test_areas_match_geometry(self):
        rx, ry = 20, 15
        area = [shape_mask(label, (64, 64), (rx, ry), 128).sum() for label in range(5)]
        box = (2 * rx + 1) * (2 * ry + 1)
        assert area[RECTANGLE] == box
        assert area[ELLIPSE] == pytest.approx(np.pi * (rx + 0.5) * (ry + 0.5), rel=0.03)
        assert area[TRIANGLE] == pytest.approx(box / 2, rel=0.05)
        # Two bars of 2*6+1 and 2*5+1 pixels that share their middle.
        assert area[CROSS] == 13 * 31 + 11 * 41 - 13 * 11
        inner = np.pi * (rx - 5 + 0.5) * (ry - 5 + 0.5)
        assert area[RING] == pytest.approx(area[ELLIPSE] - inner, rel=0.06)

    def test_a_ring_is_hollow_and_an_ellipse_is_not(self):
        assert not shape_mask(RING, (64, 64), (20, 15), 128)[64, 64]
        assert shape_mask(ELLIPSE, (64, 64), (20, 15), 128)[64, 64]

    def test_is_clipped_at_the_border(self):
        mask = shape_mask(RECTANGLE, (2, 126), (10, 10), 128)
        assert shapes.tight_box(mask) == (0, 116, 13, 12)


class TestRenderScene:
    def test_same_arguments_same_image(self):
        first, second = render_scene('val', 3, seed=5), render_scene('val', 3, seed=5)
        np.testing.assert_array_equal(first.image, second.image)
        assert [o.bbox for o in first.objects] == [o.bbox for o in second.objects]

    def test_the_set_is_the_one_that_results_were_measured_on(self):
        found = [(obj.label, obj.bbox) for obj in render_scene('val', 149).objects]
        assert found == [
            (2, (2, 58, 55, 29)),
            (3, (4, 45, 27, 43)),
            (3, (38, 5, 33, 47)),
            (3, (12, 85, 55, 41)),
        ]

    @pytest.mark.parametrize('other', [('train', 3, 5), ('val', 4, 5), ('val', 3, 6)])
    def test_split_index_and_seed_each_change_the_image(self, other):
        split, index, seed = other
        changed = render_scene(split, index, seed=seed).image
        assert not np.array_equal(render_scene('val', 3, seed=5).image, changed)

    def test_boxes_are_the_extent_of_the_masks(self):
        for scene in scenes(count=50):
            for obj in scene.objects:
                x, y, width, height = obj.bbox
                inside = np.zeros_like(obj.mask)
                inside[y : y + height, x : x + width] = True
                assert not (obj.mask & ~inside).any()
                # Not one row or column too many.
                assert obj.mask[y].any() and obj.mask[y + height - 1].any()
                assert obj.mask[:, x].any() and obj.mask[:, x + width - 1].any()

    def test_objects_stay_visible_and_do_not_share_pixels(self):
        for scene in scenes():
            shown = np.stack([obj.visible for obj in scene.objects])
            assert shown.sum(axis=0).max() == 1
            for obj in scene.objects:
                assert not (obj.visible & ~obj.mask).any()
                assert obj.visible.sum() >= 0.5 * obj.mask.sum()

    def test_some_objects_overlap(self):
        hidden = [(obj.mask & ~obj.visible).any() for scene in scenes() for obj in scene.objects]
        assert 0.1 < np.mean(hidden) < 0.6

    def test_counts_sizes_and_classes(self):
        made = scenes()
        counts = [len(scene.objects) for scene in made]
        assert (min(counts), max(counts)) == (2, 5)
        objects = [obj for scene in made for obj in scene.objects]
        sides = np.array([obj.bbox[2:] for obj in objects])
        # 21 to 55 pixels, and at most an eighth outside.
        assert sides.max() <= 55 and sides.min() >= 18
        share = np.bincount([obj.label for obj in objects], minlength=5) / len(objects)
        assert (share > 0.15).all() and (share < 0.25).all()

    def test_each_object_differs_from_its_background_in_the_picture(self):
        for scene in scenes(count=50):
            covered = np.any([obj.mask for obj in scene.objects], axis=0)
            background = np.median(scene.image[~covered], axis=0)
            for obj in scene.objects:
                colour = np.median(scene.image[obj.visible], axis=0)
                assert np.abs(colour - background).max() > 15

    def test_contrast_varies(self):
        contrast = []
        for scene in scenes():
            covered = np.any([obj.mask for obj in scene.objects], axis=0)
            background = np.median(scene.image[~covered], axis=0)
            for obj in scene.objects:
                colour = np.median(scene.image[obj.visible], axis=0)
                contrast.append(np.linalg.norm(colour - background))
        assert np.percentile(contrast, 10) < 70 and np.percentile(contrast, 90) > 120

    def test_no_image_is_in_both_splits(self):
        digests = {
            split: {scene.image.tobytes() for scene in scenes(split, 150)}
            for split in ('train', 'val')
        }
        assert len(digests['train']) == len(digests['val']) == 150
        assert not digests['train'] & digests['val']

    def test_refuses_bad_arguments(self):
        with pytest.raises(ValueError, match="got 'test'"):
            render_scene('test', 0)
        with pytest.raises(ValueError, match='image_size is 64 pixels'):
            render_scene('train', 0, image_size=64)


class TestGenerateShapes:
    def test_files_are_the_rendered_scenes(self, tmp_path):
        assert generate_shapes(tmp_path, 6, 3)
        for split, count in (('train', 6), ('val', 3)):
            coco = COCO(tmp_path / 'annotations' / f'{split}.json')
            assert len(coco.imgs) == count
            assert [c['name'] for c in coco.loadCats(coco.getCatIds())] == list(SHAPES_CLASSES)
            for index, image_id in enumerate(sorted(coco.imgs)):
                info, scene = coco.imgs[image_id], render_scene(split, index)
                image = cv2.imread(str(tmp_path / split / info['file_name']))
                np.testing.assert_array_equal(image, scene.image)
                assert (info['width'], info['height']) == (128, 128)
                found = coco.imgToAnns[image_id]
                assert [a['bbox'] for a in found] == [list(o.bbox) for o in scene.objects]
                assert [a['category_id'] - 1 for a in found] == [o.label for o in scene.objects]
                assert [a['area'] for a in found] == [o.mask.sum() for o in scene.objects]
                assert {a['iscrowd'] for a in found} == {0}

    def test_two_generations_are_equal_bit_by_bit(self, tmp_path):
        generate_shapes(tmp_path / 'a', 5, 2, seed=3)
        generate_shapes(tmp_path / 'b', 5, 2, seed=3)
        assert tree_digest(tmp_path / 'a') == tree_digest(tmp_path / 'b')

    def test_an_image_does_not_depend_on_the_number_asked_for(self, tmp_path):
        generate_shapes(tmp_path / 'few', 2, 1)
        generate_shapes(tmp_path / 'many', 5, 3)
        for name in ('train/000001.png', 'val/000000.png'):
            assert (tmp_path / 'few' / name).read_bytes() == (tmp_path / 'many' / name).read_bytes()

    def test_a_complete_set_is_not_made_again(self, tmp_path):
        assert generate_shapes(tmp_path, 3, 2)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
        assert not generate_shapes(tmp_path, 3, 2)
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')} == before

    def test_an_interrupted_generation_is_completed(self, tmp_path, monkeypatch):
        generate_shapes(tmp_path / 'whole', 5, 3)
        calls = []

        def stops_after_four(path, image):
            calls.append(path)
            if len(calls) > 4:
                raise KeyboardInterrupt
            return write(path, image)

        write = cv2.imwrite
        monkeypatch.setattr(cv2, 'imwrite', stops_after_four)
        with pytest.raises(KeyboardInterrupt):
            generate_shapes(tmp_path / 'cut', 5, 3)
        monkeypatch.undo()
        assert not (tmp_path / 'cut' / 'annotations').exists()
        assert generate_shapes(tmp_path / 'cut', 5, 3)
        assert tree_digest(tmp_path / 'cut') == tree_digest(tmp_path / 'whole')

    def test_a_lost_image_is_made_again(self, tmp_path):
        generate_shapes(tmp_path, 3, 2)
        before = tree_digest(tmp_path)
        (tmp_path / 'val' / '000001.png').unlink()
        assert generate_shapes(tmp_path, 3, 2)
        assert tree_digest(tmp_path) == before

    def test_other_parameters_are_refused_and_replaced_by_force(self, tmp_path):
        generate_shapes(tmp_path / 'a', 4, 2)
        with pytest.raises(ValueError, match='num_train is 4, asked for is 3.*force'):
            generate_shapes(tmp_path / 'a', 3, 2)
        assert generate_shapes(tmp_path / 'a', 3, 2, force=True)
        generate_shapes(tmp_path / 'b', 3, 2)
        assert tree_digest(tmp_path / 'a') == tree_digest(tmp_path / 'b')

    def test_a_foreign_dataset_is_left_alone(self, tmp_path):
        (tmp_path / 'annotations').mkdir()
        (tmp_path / 'annotations' / 'train.json').write_text('{}')
        with pytest.raises(FileExistsError, match='another dataset'):
            generate_shapes(tmp_path, 3, 2, force=True)
        assert (tmp_path / 'annotations' / 'train.json').read_text() == '{}'

    def test_a_spoilt_marker_is_refused(self, tmp_path):
        (tmp_path / 'shapes.json').write_text('[]')
        with pytest.raises(ValueError, match='not a description of a shapes set'):
            generate_shapes(tmp_path, 3, 2)

    @pytest.mark.parametrize(
        ('arguments', 'words'),
        [
            ({'num_train': 0}, 'at least 1, got 0 and 150'),
            ({'num_val': 0}, 'at least 1, got 500 and 0'),
            ({'seed': -1}, 'seed must not be negative, got -1'),
            ({'image_size': 20}, 'image_size is 20 pixels'),
        ],
    )
    def test_refuses_bad_numbers_before_writing(self, tmp_path, arguments, words):
        with pytest.raises(ValueError, match=words):
            generate_shapes(tmp_path / 'out', **arguments)
        assert not (tmp_path / 'out').exists()

    def test_annotations_name_their_origin(self, tmp_path):
        generate_shapes(tmp_path, 1, 1, seed=4)
        content = json.loads((tmp_path / 'annotations' / 'val.json').read_text())
        assert set(content) == {'info', 'licenses', 'images', 'annotations', 'categories'}
        assert content['info']['seed'] == 4 and content['info']['split'] == 'val'
