"""Every public object is documented by the numpydoc standard, and every solver says what a user must know."""

import inspect
import pkgutil
from importlib import import_module

import pytest
from numpydoc.docscrape import get_doc_object
from numpydoc.validate import validate

import optlib
from optlib.backend.capabilities import SOLVERS

# Checks of numpydoc that are not asked for.
IGNORED = {
    "EX01",  # an example, where one is natural
    "SA01",  # See Also
    "ES01",  # an extended summary
    "GL01",  # the summary stands on the line of the quotes
    "PR06",  # types are in words
    "PR07",  # a name and a type may say it all; solvers describe every parameter, see below
    "PR08",  # a description may begin with a symbol
    "SS05",  # "The loss of ..." is a good first line
    "RT02",  # returned values may be named
    "RT04",
    "YD01",
}
# A sentence is enough for a method, and for what only developers call.
SENTENCE_MAY_OMIT = {"PR01", "RT01", "RT03"}
DEVELOPERS = ("optlib.backend", "optlib._core", "optlib.experiments")


def public_modules():
    """Yield the modules of the API reference: the top level, those directly below, and modules that they export."""
    yield optlib
    for info in pkgutil.iter_modules(optlib.__path__, "optlib."):
        module = import_module(info.name)
        yield module
        yield from (obj for name in module.__all__ if inspect.ismodule(obj := getattr(module, name)))


def members(module):
    """Yield the public classes and functions of a module: those in `__all__`, else those that it defines."""
    names = getattr(module, "__all__", None)
    for name in sorted(names or vars(module)):
        obj = getattr(module, name)
        own = getattr(obj, "__module__", None) == module.__name__ and not name.startswith("_")
        if (names or own) and (inspect.isclass(obj) or inspect.isfunction(obj)):
            yield obj


def public_objects():
    found = {}
    for module in public_modules():
        found[module.__name__] = module
        for obj in members(module):
            name = f"{obj.__module__}.{obj.__qualname__}"
            if not name.startswith("optlib."):
                continue
            found[name] = obj
            if inspect.isclass(obj):
                for key, value in vars(obj).items():
                    value = getattr(value, "__func__", value)
                    if not key.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                        found[f"{name}.{key}"] = value
    return found


OBJECTS = public_objects()


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_numpydoc(name):
    obj = OBJECTS[name]
    if inspect.ismodule(obj):
        assert inspect.getdoc(obj), "a module says what it holds"
        return
    found = {code: text for code, text in validate(get_doc_object(obj))["errors"] if code not in IGNORED}
    is_method = not inspect.isclass(obj) and "." in getattr(obj, "__qualname__", ".")
    if is_method or name.startswith(DEVELOPERS) or documents_its_parameters(obj):
        found = {code: text for code, text in found.items() if code not in SENTENCE_MAY_OMIT}
    assert not found


def documents_its_parameters(obj):
    """Whether a class documents its constructor elsewhere: fields as attributes, or in the class that defines it."""
    fields = getattr(obj, "__dataclass_fields__", getattr(obj, "_fields", None))
    if fields is None:
        return inspect.isclass(obj) and "__init__" not in vars(obj)
    return set(fields) <= {name for entry in get_doc_object(obj)["Attributes"] for name in entry.name.split(", ")}


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_solver_sections(name):
    solver = SOLVERS[name].solver
    doc = get_doc_object(solver)
    for section in ("Parameters", "Returns", "Notes", "References"):
        assert doc[section], f"{name} lacks the section {section}"
    undescribed = [entry.name for entry in doc["Parameters"] if not entry.desc]
    assert not undescribed, f"{name} does not describe {undescribed}"
    notes = "\n".join(doc["Notes"])
    for word in ("Stopping", "Cost"):
        assert word in notes, f"the Notes of {name} lack a paragraph '{word}'"
