import numpy as np
import torch

from dpk_mm.engine.metrics import numbers


def test_lists_are_left_out():
    given = dict(by_class=[1.0, 2.0], top1=3, a=np.float32(0.5), b=torch.tensor([2.0]), text='x')
    found = numbers(dict(given, c=torch.zeros(2), d=np.zeros(3)))
    assert found == dict(top1=3.0, a=0.5, b=2.0)
    assert all(type(value) is float for value in found.values())


def test_no_metrics():
    assert numbers(None) == numbers({}) == {}
