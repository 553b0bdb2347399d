import pytest
import torch
from mmengine.config import Config

from dpk_mm.analysis.calibration import expected_calibration_error
from dpk_mm.analysis.feature_similarity import image_loader
from dpk_mm.analysis.teacher_pass import measure_teacher, why_it_does_not_fit
from dpk_mm.errors import UsageError
from dpk_mm.functional.similarity import cka_from_sums, hsic_sums
from dpk_mm.models.teacher.resizing import TeacherResizing

from ..helpers.small_runs import Noise, build, classifier, distilled, yolox


def config(teacher, student=None, boxes=False, **more):
    collate = 'pseudo_collate' if boxes else 'default_collate'
    student = student or (yolox() if boxes else classifier())
    return Config(
        dict(
            model=dict(distilled(student, teacher), teacher_ckpt=None),
            default_scope='mmdet' if boxes else 'mmpretrain',
            val_dataloader=dict(
                dataset=dict(type=Noise, size=20, boxes=boxes),
                batch_size=2,
                collate_fn=dict(type=collate),
                sampler=dict(type='DefaultSampler', shuffle=False),
            ),
            val_evaluator=dict(type='Accuracy', topk=(1,)),
            **more,
        )
    )


def save(path, model, seed):
    network = build(model)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 4
    torch.save({'state_dict': network.state_dict()}, path)
    return network.eval()


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pair')
    cfg = config(classifier(12))
    cfg.model.teacher_ckpt = str(folder / 'teacher.pth')
    teacher = save(folder / 'teacher.pth', classifier(12), 1)
    student = save(folder / 'student.pth', classifier(), 2)
    return cfg, teacher, student, str(folder / 'student.pth')


def test_against_the_networks_themselves(pair):
    cfg, teacher, student, checkpoint = pair
    found = measure_teacher(cfg, checkpoint, images=16, batch_size=8)
    probabilities, labels, sums = [], [], {}
    with torch.no_grad():
        for batch in list(image_loader(cfg, 'val', 8))[:2]:
            inputs = batch['inputs'].flip(1).float() / 255  # to_rgb
            probabilities.append(teacher(inputs).softmax(1))
            labels += [sample.gt_label.item() for sample in batch['data_samples']]
            pairs = zip(student.backbone(inputs), teacher.backbone(inputs), strict=True)
            for index, features in enumerate(pairs):
                name = f'backbone[{index}]'
                sums[name] = sums.get(name, 0) + hsic_sums(*features)
    top, predicted = torch.cat(probabilities).max(1)
    correct = predicted == torch.tensor(labels)
    assert found.images == 16
    assert found.metrics['accuracy/top1'] == pytest.approx(100 * correct.float().mean().item())
    assert found.calibration_error == pytest.approx(
        expected_calibration_error(top.tolist(), correct.tolist()), abs=1e-5
    )
    assert found.cka == pytest.approx(
        {k: float(cka_from_sums(v)) for k, v in sums.items()}, abs=1e-4
    )
    assert found.parameters == sum(p.numel() for p in teacher.parameters())
    buffers = sum(b.numel() * b.element_size() for b in teacher.buffers())
    assert found.megabytes == pytest.approx((4 * found.parameters + buffers) / 1e6)
    assert found.milliseconds > 0 and found.peak_megabytes is None


def test_a_teacher_of_another_image_size(pair):
    cfg, teacher, student, checkpoint = pair
    cfg = Config(cfg.to_dict())
    cfg.model.teacher_input_size = (128, 32)
    found = measure_teacher(cfg, checkpoint, images=8, batch_size=8)
    resizing = TeacherResizing((128, 32))
    with torch.no_grad():
        batch = next(iter(image_loader(cfg, 'val', 8)))
        inputs = batch['inputs'].flip(1).float() / 255
        top, predicted = teacher(resizing.images(inputs)).softmax(1).max(1)
        theirs = resizing.back(teacher.backbone(resizing.images(inputs)), (64, 64))
        pairs = zip(student.backbone(inputs), theirs, strict=True)
        cka = {f'backbone[{i}]': float(cka_from_sums(hsic_sums(*p))) for i, p in enumerate(pairs)}
    correct = predicted == torch.tensor([int(s.gt_label) for s in batch['data_samples']])
    assert found.metrics['accuracy/top1'] == pytest.approx(100 * correct.float().mean().item())
    assert found.calibration_error == pytest.approx(
        expected_calibration_error(top.tolist(), correct.tolist()), abs=1e-5
    )
    assert found.cka == pytest.approx(cka, abs=1e-4)


def test_without_a_student_there_is_no_cka(pair):
    assert measure_teacher(pair[0], images=8, batch_size=8).cka == {}


@pytest.mark.parametrize(('own', 'images'), [(2, 4 * 2), (5, 5), (64, 9)])
def test_the_batch_size_is_that_of_the_validation_within_limits(pair, own, images):
    cfg = Config(pair[0].to_dict())
    cfg.val_dataloader.batch_size = own
    assert measure_teacher(cfg, images=9).images == images


def test_a_batch_is_not_larger_than_a_small_validation_set(pair):
    cfg = Config(pair[0].to_dict())
    cfg.val_dataloader.batch_size = 64
    assert measure_teacher(cfg).images == 20
    cfg.val_dataloader.dataset.size = 3
    with pytest.raises(UsageError, match='less than a batch of 4'):
        measure_teacher(cfg)


def test_too_few_images(pair):
    with pytest.raises(UsageError, match='no image was measured'):
        measure_teacher(pair[0], images=7, batch_size=8)


def test_a_pair_that_fits(pair):
    before = torch.get_rng_state()
    assert why_it_does_not_fit(pair[0]) is None
    assert torch.equal(torch.get_rng_state(), before)


def test_why_a_pair_does_not_fit(pair, tmp_path):
    cfg = config(classifier(8))
    assert 'the teacher has no checkpoint' in why_it_does_not_fit(cfg)
    cfg.model.teacher_ckpt = pair[0].model.teacher_ckpt  # twelve channels
    assert 'teacher.pth' in why_it_does_not_fit(cfg)
    cfg.model.teacher_ckpt = str(tmp_path / 'none.pth')
    assert 'none.pth' in why_it_does_not_fit(cfg)
    # the loss was made for a teacher of eight channels
    cfg = Config(pair[0].to_dict())
    cfg.model.distiller.distill_losses.loss_kd.transforms.last.teacher_channels = 64
    assert why_it_does_not_fit(cfg).endswith('.')


def test_a_teacher_of_other_classes_or_another_order(pair, tmp_path):
    cfg = Config(pair[0].to_dict())
    file = cfg.model.teacher_ckpt = str(tmp_path / 'teacher.pth')
    classes = list(reversed(Noise.metainfo['classes']))
    state = torch.load(pair[0].model.teacher_ckpt)
    torch.save(dict(state, meta=dict(dataset_meta=dict(classes=classes))), file)
    assert why_it_does_not_fit(cfg) is None  # features alone
    cfg.model.distiller.teacher_recorders.logits = dict(type='ModuleOutputs', source='head.fc')
    why = why_it_does_not_fit(cfg)
    assert 'number 0 is ring there and rectangle here' in why and 'looks at its head' in why


def test_a_detector_has_no_calibration_error_and_is_scored_on_its_images(tmp_path):
    from mmengine.evaluator import BaseMetric

    class OfImages(BaseMetric):
        img_ids = None

        def process(self, data_batch, data_samples):
            self.results += [sample['img_id'] for sample in data_samples]

        def compute_metrics(self, results):
            # drawn of all 20, the same ones for each teacher
            drawn = torch.randperm(20, generator=torch.Generator().manual_seed(0))[:8].tolist()
            return {'coco/bbox_mAP': float(results == self.img_ids == drawn)}

    cfg = config(yolox(16), boxes=True)
    cfg.val_evaluator = dict(type=OfImages)
    cfg.model.teacher_ckpt = str(tmp_path / 'teacher.pth')
    save(tmp_path / 'teacher.pth', yolox(16), 1)
    found = measure_teacher(cfg, images=8, batch_size=4)
    assert found.metrics == {'coco/bbox_mAP': 1.0}
    assert found.calibration_error is None
