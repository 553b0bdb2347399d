"""Files that onnxruntime runs, compared with the models as mmdet and mmpretrain run them."""

import numpy as np
import pytest
import torch
from mmengine.config import Config

from dpk_mm.analysis import onnx_export
from dpk_mm.analysis.onnx_export import TOLERANCE, export_onnx
from dpk_mm.errors import UsageError
from tests.helpers.small_runs import build, classifier, distilled, yolox

onnxruntime = pytest.importorskip('onnxruntime')
onnx = pytest.importorskip('onnx')


def saved(folder, model_cfg, scope):
    """A config, its model and a checkpoint of it."""
    model = build(model_cfg).eval()
    for module in model.modules():  # else a normalisation does nothing
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    file = folder / 'model.pth'
    torch.save(dict(meta={}, state_dict=model.state_dict()), file)
    return Config(dict(model=model_cfg, default_scope=scope)), model, file


def run(file, pixels):
    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {'pixels': pixels.numpy()}), strict=True))


def pixels(count, side=64):
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator).float()


@pytest.mark.parametrize('to_rgb', [False, True])
@pytest.mark.parametrize('distil', [False, True], ids=['student', 'distillation'])
def test_a_classifier_has_the_logits_of_pixels(tmp_path, to_rgb, distil):
    student = classifier()
    student['data_preprocessor'].update(mean=[10.0, 100.0, 200.0], std=[50.0, 60.0, 70.0])
    student['data_preprocessor']['to_rgb'] = to_rgb
    whole = distilled(student, classifier(16)) if distil else student
    cfg, model, file = saved(tmp_path, whole, 'mmpretrain')
    done = export_onnx(cfg, file, tmp_path / 'student.onnx', (64, 64))
    assert done.outputs == {'logits': (1, 5)} and done.shape == (3, 64, 64) and done.note == ''
    assert done.difference <= TOLERANCE
    student = getattr(model, 'student', model)
    for count in (1, 3):  # the size of the batch is free
        images = pixels(count)
        with torch.no_grad():
            inputs = student.data_preprocessor(dict(inputs=images))['inputs']
            expected = student(inputs, mode='tensor')
        found = run(tmp_path / 'student.onnx', images)['logits']
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
        # the classes that mmpretrain predicts
        labels = [int(sample.pred_label) for sample in student(inputs, mode='predict')]
        assert found.argmax(1).tolist() == labels
    onnx.checker.check_model(onnx.load(tmp_path / 'student.onnx'))


def test_a_detector_has_the_raw_outputs_of_its_head(tmp_path):
    cfg, model, file = saved(tmp_path, yolox(), 'mmdet')
    done = export_onnx(cfg, file, tmp_path / 'student.onnx', (64, 96))
    assert 'NMS' in done.note
    sizes = [(8, 12), (4, 6), (2, 3)]
    assert done.outputs == {
        f'{name}_{level}': (1, channels, *size)
        for name, channels in (('cls_scores', 5), ('bbox_preds', 4), ('objectnesses', 1))
        for level, size in enumerate(sizes)
    }
    images = torch.cat([pixels(2), pixels(2)[..., :32]], dim=3)
    with torch.no_grad():
        inputs = model.data_preprocessor(dict(inputs=list(images)))['inputs']
        expected = model.bbox_head(model.extract_feat(inputs))
    found = run(tmp_path / 'student.onnx', images)
    for name, values in zip(('cls_scores', 'bbox_preds', 'objectnesses'), expected, strict=True):
        for level, value in enumerate(values):
            scale = value.abs().max().item()
            np.testing.assert_allclose(
                found[f'{name}_{level}'], value, rtol=1e-3, atol=1e-3 * scale
            )


def test_a_file_that_computes_something_else_is_not_kept(tmp_path, monkeypatch):
    cfg, _, file = saved(tmp_path, classifier(), 'mmpretrain')
    preprocessed = onnx_export._preprocessed
    monkeypatch.setattr(
        onnx_export, '_preprocessed', lambda model, x: 1.1 * preprocessed(model, x) + 0.1
    )
    (tmp_path / 'student.onnx').write_text('older')
    with pytest.raises(UsageError, match='differ from those of the model by'):
        export_onnx(cfg, file, tmp_path / 'student.onnx', (64, 64), force=True)
    assert (tmp_path / 'student.onnx').read_text() == 'older'


def test_what_cannot_be_exported_is_one_sentence(tmp_path, monkeypatch):
    cfg, _, file = saved(tmp_path, classifier(), 'mmpretrain')
    out = tmp_path / 'student.onnx'

    def refuse(*args, **kwargs):
        raise RuntimeError('no symbolic for deform_conv2d\nand more')

    monkeypatch.setattr(torch.onnx, 'export', refuse)
    with pytest.raises(UsageError, match=r'ImageClassifier cannot be exported \(no symbolic for d'):
        export_onnx(cfg, file, out, (64, 64))
    with pytest.raises(
        UsageError, match=r'student\.pth: the name of an ONNX file, ending in \.onnx'
    ):
        export_onnx(cfg, file, tmp_path / 'student.pth', (64, 64))
    out.write_text('there')
    with pytest.raises(UsageError, match='exists already'):
        export_onnx(cfg, file, out, (64, 64))
    out.unlink()
    monkeypatch.setattr(onnx_export, 'find_spec', lambda name: None)
    with pytest.raises(UsageError, match='needs onnx and onnxruntime: pip install -r'):
        export_onnx(cfg, file, out, (64, 64))
    assert not out.exists()


def test_sizes_that_would_be_padded_are_refused(tmp_path):
    cfg, _, file = saved(tmp_path, yolox(), 'mmdet')
    with pytest.raises(UsageError, match='--shape 60 64: two sizes divisible by 32'):
        export_onnx(cfg, file, tmp_path / 'student.onnx', (60, 64))


def test_models_of_other_kinds_are_refused(tmp_path, monkeypatch):
    from torch import nn

    cfg, _, file = saved(tmp_path, classifier(), 'mmpretrain')
    monkeypatch.setattr(onnx_export, 'build_student', lambda *args: nn.Conv2d(3, 1, 1))
    with pytest.raises(UsageError, match='a Conv2d cannot be exported: of classifiers the logits'):
        export_onnx(cfg, file, tmp_path / 'student.onnx', (64, 64))
