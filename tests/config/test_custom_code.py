"""Functions of the user's are imported by their path, from where and when they may be."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysearch.config import custom_code
from raysearch.config.custom_code import (
    NO_CODE,
    CodeFile,
    CodeImporter,
    CodeNotAllowedError,
    UserCode,
    load_function,
)
from raysearch.errors import SpaceError

TEXT = "from codehelper import FACTOR\n\ndef double(x):\n    return FACTOR * x\n\nBROKEN = 1\n"


@pytest.fixture
def importer(monkeypatch: pytest.MonkeyPatch) -> Iterator[CodeImporter]:
    """A process that has not imported anything of the user's."""
    importer = CodeImporter()
    monkeypatch.setattr(custom_code, "CODE_IMPORTER", importer)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    before = set(sys.modules)
    yield importer
    for name in set(sys.modules) - before:
        if name.startswith("code"):
            del sys.modules[name]


def write_modules(folder: Path, factor: int = 2) -> Path:
    (folder / "codemain.py").write_text(TEXT)
    (folder / "codehelper.py").write_text(f"FACTOR = {factor}\n")
    return folder


def test_a_module_beside_the_space_is_imported_with_what_it_imports(
    importer: CodeImporter, tmp_path: Path
) -> None:
    importer.allow_folders([write_modules(tmp_path)], ["codemain:double"])
    assert load_function("codemain:double")(4) == 8
    assert [file.path for file in importer.files()] == ["codehelper.py", "codemain.py"]
    assert all((tmp_path / file.path).read_text() == file.text for file in importer.files())


def test_a_package_in_the_folder_is_imported(importer: CodeImporter, tmp_path: Path) -> None:
    package = tmp_path / "codepackage"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text("from codepackage.parts import two\n")
    (package / "parts.py").write_text("def two():\n    return 2\n")
    importer.allow_folders([tmp_path], ["codepackage.nets:two"])
    assert load_function("codepackage.nets:two")() == 2
    files = {file.path: file.module for file in importer.files()}
    assert files == {
        "codepackage/__init__.py": "codepackage",
        "codepackage/nets.py": "codepackage.nets",
        "codepackage/parts.py": "codepackage.parts",
    }


def test_installed_modules_precede_those_of_the_folder(
    importer: CodeImporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("def dumps(x):\n    raise RuntimeError\n")
    monkeypatch.setitem(sys.modules, "json", sys.modules["json"])
    del sys.modules["json"]
    importer.allow_folders([tmp_path], ["json:dumps"])
    assert load_function("json:dumps")([1]) == "[1]"
    assert importer.files() == ()


@pytest.mark.usefixtures("importer")
def test_stored_files_are_imported_without_the_folder(tmp_path: Path) -> None:
    files = tuple(
        CodeFile(path.name, path.read_text())
        for path in sorted(write_modules(tmp_path / ".", 5).glob("*.py"))
    )
    UserCode(("codemain:double",), files).allow()
    assert load_function("codemain:double")(4) == 20
    changed = (CodeFile("codehelper.py", "FACTOR = 7\n"), files[1])
    UserCode(("codemain:double",), changed).allow()
    assert load_function("codemain:double")(4) == 28
    assert UserCode(("codemain:double",), files).sha256 != UserCode((), files).sha256 == ""


@pytest.mark.usefixtures("importer")
def test_nothing_is_imported_that_is_not_allowed(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    file = CodeFile("codemarker.py", f"open({str(marker)!r}, 'w').close()\ndef run(): pass\n")
    code = UserCode(("codemarker:run",), (file,))
    with pytest.raises(CodeNotAllowedError, match=r"codemarker:run.*add --allow-code"):
        load_function("codemarker:run")
    with pytest.raises(CodeNotAllowedError, match="study 'x' runs code of its own"):
        code.require("study 'x'")
    with pytest.raises(CodeNotAllowedError, match="os:system"):
        load_function("os:system")
    assert not marker.exists()
    custom_code.CODE_IMPORTER.trust_stored()
    code.require("study 'x'")
    load_function("codemarker:run")
    assert marker.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no function 'double'"),
        ("def dubble(): pass", "has no function 'double'; did you mean `dubble`"),
        ("double = 3", "has no function 'double'"),
        ("1 / 0", "its module raises ZeroDivisionError: division by zero"),
        (
            "import nosuchmodule",
            "its module raises ModuleNotFoundError: No module named 'nosuchmodule'",
        ),
        ("def double(:", "its module raises SyntaxError"),
        ("import sys; sys.exit(3)", "its module raises SystemExit"),
    ],
)
def test_what_is_wrong_with_a_module_is_one_line(
    importer: CodeImporter, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "codewrong.py").write_text(text)
    importer.allow_folders([tmp_path], ["codewrong:double"])
    with pytest.raises(SpaceError) as error:
        load_function("codewrong:double")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_module_and_those_of_notebooks_are_named(
    importer: CodeImporter, tmp_path: Path
) -> None:
    importer.allow_folders([tmp_path], ["codenone:x", "__main__:x"])
    with pytest.raises(SpaceError, match="there is no module 'codenone', neither installed nor"):
        load_function("codenone:x")
    with pytest.raises(SpaceError, match="%%writefile"):
        load_function("__main__:x")


def test_a_module_that_every_account_may_write_is_rejected(
    importer: CodeImporter, tmp_path: Path
) -> None:
    write_modules(tmp_path)
    (tmp_path / "codemain.py").chmod(0o666)
    importer.allow_folders([tmp_path], ["codemain:double"])
    with pytest.raises(SpaceError, match="every account may write it; run `chmod o-w"):
        load_function("codemain:double")


def test_a_package_must_be_installed_in_its_version() -> None:
    with pytest.raises(CodeNotAllowedError, match=r"package nosuchpackage 1\.0.*not installed"):
        UserCode(("nosuchpackage:x",), distributions=("nosuchpackage 1.0",)).allow()
    with pytest.raises(CodeNotAllowedError, match=r"components of pytest 0\.1, and .* installed"):
        UserCode(("pytest:main",), distributions=("pytest 0.1",)).allow()
    NO_CODE.allow()
    NO_CODE.require("nothing")


def test_a_changed_module_is_imported_anew(importer: CodeImporter, tmp_path: Path) -> None:
    importer.allow_folders([write_modules(tmp_path, 2)], ["codemain:double"])
    assert load_function("codemain:double")(4) == 8
    write_modules(tmp_path, 3)
    importer.allow_folders([tmp_path], ["codemain:double"])
    assert load_function("codemain:double")(4) == 12


def test_libraries_get_no_module_of_the_folder(importer: CodeImporter, tmp_path: Path) -> None:
    write_modules(tmp_path)
    (tmp_path / "codeplanted.py").write_text("PLANTED = True\n")
    importer.allow_folders([tmp_path], ["codemain:double"])
    load_function("codemain:double")
    # As a library that looks for an optional module.
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("codeplanted")


def test_a_stored_file_replaces_no_installed_module() -> None:
    for path in ("json.py", "raysearch/workflow.py", "torch/extra.py", "ray.py"):
        code = UserCode(("x:y",), (CodeFile(path, ""),))
        with pytest.raises(CodeNotAllowedError, match="would replace the installed module"):
            code.allow()


def test_exceptions_of_the_users_code_are_known(importer: CodeImporter, tmp_path: Path) -> None:
    (tmp_path / "codefails.py").write_text("def fail():\n    return object().nothing\n")
    importer.allow_folders([tmp_path], ["codefails:fail"])
    function = load_function("codefails:fail")
    with pytest.raises(AttributeError) as error:
        function()
    assert importer.has_raised(error.value)
    with pytest.raises(AttributeError) as other:
        _ = object().nothing  # type: ignore[attr-defined]
    assert not importer.has_raised(other.value)
