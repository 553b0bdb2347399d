from dpk_mm.models.pairing.inherit import inheritable
from dpk_mm.models.pairing.probe import Look


def look(kind='FCOS', task='detector', **parts):
    shapes = {f'{part}.weight': shape for part, shape in parts.items()}
    return Look(task, kind, (64, 64), None, shapes=shapes, children=tuple(parts))


def test_parts_of_equal_names_and_shapes():
    own = look(backbone=(4,), neck=(8,), bbox_head=(3,))
    assert inheritable(own, look(backbone=(4,), neck=(8,), bbox_head=(3,)), True) == [
        'neck',
        'bbox_head',
    ]
    assert inheritable(own, look(backbone=(4,), neck=(9,), bbox_head=(3,)), True) == ['bbox_head']


def test_no_head_of_other_classes():
    own = look(backbone=(4,), neck=(8,), rpn_head=(2,), bbox_head=(3,))
    assert inheritable(own, own, False) == ['neck', 'rpn_head']


def test_a_transformer_is_taken_whole_or_not_at_all():
    own = look('DINO', backbone=(4,), neck=(8,), encoder=(2,), decoder=(2,), bbox_head=(3,))
    other = look('DINO', backbone=(4,), neck=(8,), encoder=(2,), decoder=(2,), bbox_head=(5,))
    assert inheritable(own, own, True) == ['neck', 'encoder', 'decoder', 'bbox_head']
    assert inheritable(own, other, True) == ['neck']
    assert inheritable(own, own, False) == ['neck']


def test_classifiers_inherit_nothing():
    own = look('ImageClassifier', 'classifier', backbone=(4,), head=(3,))
    assert inheritable(own, own, True) == []


def test_parameters_beside_a_transformer_go_with_it():
    """Deformable DETR's embedding of the levels: what encoder and decoder have learnt is of no use without it."""
    parts = dict(neck=(8,), encoder=(2,), decoder=(2,), bbox_head=(3,))
    own, other = look('DINO', **parts), look('DINO', **parts)
    own.shapes['level_embed'] = other.shapes['level_embed'] = (4, 2)
    assert inheritable(own, other, True) == [*parts, 'level_embed']
    assert inheritable(own, other, False) == ['neck']
    other.shapes['level_embed'] = (5, 2)
    assert inheritable(own, other, True) == ['neck']
