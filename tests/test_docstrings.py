"""Rules of docstrings and of error sentences that a parser can check."""

import ast
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'dpk_mm'
# Folders whose docstrings do not follow the rules yet; to be emptied.
NOT_YET: set[str] = set()

ENTRY = re.compile(r'    (\*{0,2}\w+)( \(.*\))?:( |$)')
ONE_BACKTICK = re.compile(r'(?<![`:\w])`(?!`)[^`\n]+`(?!`)')


def public_definitions(body, in_class=False):
    """Functions and classes of a module with their names, and the public methods of public classes."""
    for node in body:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if node.name.startswith('_'):
            continue
        yield node, in_class
        if isinstance(node, ast.ClassDef):
            # what overrides a method of a base class has the docstring of that one
            yield from public_definitions(node.body, in_class=bool(node.bases) and 'overrides')


def entries(docstring, section):
    """(name, type in parentheses) of each entry of a section such as ``Args``."""
    found, inside = [], False
    for line in inspect.cleandoc(docstring).splitlines():
        if line.strip() and not line.startswith(' '):
            inside = line == f'{section}:'
        elif inside and (match := ENTRY.match(line)):
            found.append((match[1], match[2]))
    return found


def parameters(node):
    """Names of a signature as ``Args`` gives them; of a class, of its constructor, if it has one."""
    if isinstance(node, ast.ClassDef):
        node = next((n for n in node.body if getattr(n, 'name', '') == '__init__'), None)
        if node is None:
            return None
    arguments = node.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
    names += [f'*{arguments.vararg.arg}'] if arguments.vararg else []
    names += [a.arg for a in arguments.kwonlyargs]
    names += [f'**{arguments.kwarg.arg}'] if arguments.kwarg else []
    return names


def without_owner(names):
    return names[1:] if names[:1] in (['self'], ['cls']) else names


def problems_of_docstring(node):
    text = ast.get_docstring(node)
    if not text:
        return
    if match := ONE_BACKTICK.search(text):
        yield f'{match[0]} has single backticks'
    for section in ('Args', 'Attributes'):
        for name, kind in entries(text, section):
            if kind:
                yield f'{section}: {name} has a type,{kind}; types stand in the signature'
    named = [name for name, _ in entries(text, 'Args')]
    if named and not isinstance(node, ast.Module):
        expected = parameters(node)
        if expected is not None and named not in (expected, without_owner(expected)):
            yield f'Args: names {named}, but the signature has {without_owner(expected)}'


def last_words(node):
    """The end of a string or f-string, if it is not the value of an expression."""
    if isinstance(node, ast.JoinedStr) and node.values:
        node = node.values[-1]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def problems(source, needs_docstrings=True):
    """(line, sentence) for each rule that a file breaks."""
    tree = ast.parse(source)
    for node, in_class in public_definitions(tree.body):
        if needs_docstrings and in_class != 'overrides' and not ast.get_docstring(node):
            yield node.lineno, f'{node.name} has no docstring'
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            for problem in problems_of_docstring(node):
                yield getattr(node, 'lineno', 1), f'{getattr(node, "name", "module")}: {problem}'
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            words = last_words(node.exc.args[0])
            if words is not None and not words.endswith(('.', '?')):
                yield node.lineno, f'the error does not end with a period: {words!r}'


def parts():
    folders = {path.parent.name for path in PACKAGE.glob('*/__init__.py')}
    return ['.', *sorted(folders - NOT_YET)]


def report(files, **kwargs):
    return [
        f'{path.relative_to(ROOT)}:{line}: {sentence}'
        for path in sorted(files)
        for line, sentence in problems(path.read_text(encoding='utf-8'), **kwargs)
    ]


@pytest.mark.parametrize('part', parts())
def test_package(part):
    files = PACKAGE.glob('*.py') if part == '.' else (PACKAGE / part).rglob('*.py')
    assert report(files) == []


def test_tools():
    files = [*(ROOT / 'tools').glob('*.py'), *(ROOT / 'tools' / 'analysis').glob('*.py')]
    assert report(files, needs_docstrings=False) == []


BROKEN = '''
class Public(Base):
    """What `it` is.

    Attributes:
        a (int): One.

    Args:
        one: First.
        three: Third.
    """

    def __init__(self, one, *two):
        raise ValueError(f'{one} is bad, but good was expected')

    def overrides(self):
        pass

def function(a, b=1, *, c, **d):
    """Fine.

    Args:
        a: With a colon: inside.
            And a continuation: here.
        b (int, optional): With its type.
        c: Fine.
        **d: Fine.

    Returns:
        x (y): Not an argument.
    """
    raise ValueError('Did you mean x?') if a else KeyError(a)

def bare(): pass

def _private(): pass
'''


def test_the_rules_find_what_breaks_them():
    assert sorted(problems(BROKEN)) == [
        (
            2,
            "Public: Args: names ['one', 'three'], but the signature has ['one', '*two']",
        ),
        (2, 'Public: Attributes: a has a type, (int); types stand in the signature'),
        (2, 'Public: `it` has single backticks'),
        (14, "the error does not end with a period: ' is bad, but good was expected'"),
        (19, 'function: Args: b has a type, (int, optional); types stand in the signature'),
        (34, 'bare has no docstring'),
    ]
