"""A fixture's name says which it is: no two folders share one, and no module hides what it could ask for."""

import ast
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
# What other fixtures are made of, and these modules give them another of.
OVERRIDDEN = {("browser/test_page_many.py", "site"), ("contract/test_documents_opensearch3.py", "documents_settings")}


def fixtures(path):
    """Return the names of the fixtures that a module defines."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        for decorator in getattr(node, "decorator_list", []):
            call = decorator if isinstance(decorator, ast.Call) else None
            if ast.unparse(call.func if call else decorator) == "pytest.fixture":
                options = {option.arg: option.value for option in call.keywords} if call else {}
                names.add(ast.literal_eval(options["name"]) if "name" in options else node.name)
    return names


SHARED = {path.parent: fixtures(path) for path in TESTS.rglob("conftest.py")}


def test_no_two_folders_share_a_fixture_s_name():
    times = Counter(name for names in SHARED.values() for name in names)
    assert {"client", "documents", "server"} <= times.keys()
    assert [name for name, count in times.items() if count > 1] == []


def test_no_module_hides_a_fixture_that_it_could_ask_for():
    hidden = {
        (str(path.relative_to(TESTS)), name)
        for path in TESTS.rglob("test_*.py")
        for folder in path.parents
        for name in fixtures(path) & SHARED.get(folder, set())
    }
    assert hidden == OVERRIDDEN
