from mmengine.config import Config

from dpk_mm.checkpoint.config_text import changed, settings


def text(**model):
    return Config(dict(lr=0.1, model=model)).pretty_text


def test_settings_by_dotted_keys():
    shown = text(
        type='A', teacher=None, losses=dict(kd=dict(tau=2.0)), stages=[dict(index=1)], size=(3, 4)
    )
    assert settings(shown, 'model') == {
        'model.type': "'A'",
        'model.teacher': 'None',
        'model.losses.kd.tau': '2.0',
        'model.stages.0.index': '1',
        'model.size': '(3, 4)',
    }
    assert settings(shown, 'lr') == {'lr': '0.1'}


def test_names_that_are_no_identifiers():
    assert settings(text(**{'a b': dict(c=1)}), 'model') == {'model.a b.c': '1'}


def test_what_is_no_config():
    assert settings('a = (', 'a') == {} and settings('', 'model') == {}


def test_nothing_is_run(tmp_path):
    file = tmp_path / 'made'
    assert settings(f'model = dict(a=open({str(file)!r}, "w"))', 'model')
    assert not file.exists()


def test_what_differs():
    before = text(teacher_ckpt='a.pth', losses=dict(kd=dict(tau=2.0)), same=1)
    after = text(teacher_ckpt='b.pth', losses=dict(sp=dict(weight=1.0)), same=1)
    assert changed(before, after, 'model') == {
        'model.teacher_ckpt': ("'a.pth'", "'b.pth'"),
        'model.losses.kd.tau': ('2.0', None),
        'model.losses.sp.weight': (None, '1.0'),
    }
    assert changed(before, before, 'model') == {} == changed('', after, 'model')
