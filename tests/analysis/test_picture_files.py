import pytest

from dpk_mm.analysis.picture_files import check_picture
from dpk_mm.errors import UsageError


@pytest.mark.parametrize('name', ['a.png', 'b/c.SVG', 'a.b.pdf', 'a.jpg'])
def test_what_matplotlib_writes(name, tmp_path):
    check_picture(name)
    check_picture(tmp_path / name)


@pytest.mark.parametrize('name', ['a', 'a.', 'a.md', 'folder.png/a', 'a.pngg', ''])
def test_other_files_are_refused(name):
    with pytest.raises(UsageError, match=r'--out .*: the suffix .* must be one of .*\.png, '):
        check_picture(name)


def test_what_else_a_tool_writes():
    check_picture('a.md', others=('.md',))
    with pytest.raises(UsageError, match=r'one of .*\.md, .*\.png, '):
        check_picture('a.txt', others=('.md',))
