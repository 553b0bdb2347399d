"""The value of test-time augmentation: the mean of the scores of an image and its mirror image."""

import pickle
import struct
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS

import dpk_mm  # noqa: F401
from dpk_mm.checkpoint.student_config import deployed
from dpk_mm.engine.runner.build import build_runner, evaluate_student
from dpk_mm.engine.runner.prepare import prepare_test_config

CONFIG = Path(__file__).parents[2] / 'configs' / 'mini' / 'fashion_cnn_none.py'


def test_scores_of_a_classifier(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (4, 28, 28), dtype=np.uint8)
    for split in ('train', 't10k'):
        header = struct.pack('>IIII', 2051, 4, 28, 28)
        (tmp_path / f'{split}-images-idx3-ubyte').write_bytes(header + images.tobytes())
        labels = struct.pack('>II', 2049, 4) + bytes(range(4))
        (tmp_path / f'{split}-labels-idx1-ubyte').write_bytes(labels)
    cfg = Config.fromfile(str(CONFIG))
    cfg.work_dir = str(tmp_path / 'work')
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False, batch_size=4)
    cfg.test_dataloader.dataset.update(data_root=str(tmp_path), indices=None)

    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    student = MODELS.build(cfg.model)
    student.init_weights()
    student.eval()

    runner = build_runner(prepare_test_config(cfg, tta=True))
    deployed(runner.model).load_state_dict(student.state_dict())
    evaluate_student(runner, str(tmp_path / 'a.pkl'))
    found = torch.stack(
        [torch.as_tensor(s['pred_score']) for s in pickle.loads((tmp_path / 'a.pkl').read_bytes())]
    )

    def predict(views):
        inputs = [torch.from_numpy(view.copy())[None].expand(1, 28, 28) for view in views]
        return torch.stack([s.pred_score for s in student.test_step(dict(inputs=inputs))])

    expected = (predict(images) + predict(images[:, :, ::-1])) / 2
    assert torch.allclose(found, expected, atol=1e-6)
    assert not torch.allclose(found, predict(images), atol=1e-4)
