"""Bad input is refused before any work by a named error: which argument, what was got, what is expected."""

import re
from importlib import import_module
from pathlib import Path

import pytest

CASES = [
    pytest.param(call, kind, pattern, id=f"{path.parent.name}-{name}")
    for path in sorted(Path(__file__).parent.glob("*/bad_inputs.py"))
    for name, call, kind, pattern in import_module(f"tests.{path.parent.name}.bad_inputs").CASES
]


@pytest.mark.parametrize(("call", "kind", "pattern"), CASES)
def test_named_error(call, kind, pattern):
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert "`" in text and "got" in text and "expected" in text, text
    assert re.search(pattern, text), text
