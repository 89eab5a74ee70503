"""Functions of the user's are imported by their path, from where and when they may be."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysearch.config import custom_code
from raysearch.config.code_importer import CodeFile, CodeImporter, CodeNotAllowedError
from raysearch.config.custom_code import HASH_VARIABLE, NO_CODE, UserCode, load_function
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


def test_nothing_is_imported_that_is_not_allowed(importer: CodeImporter, tmp_path: Path) -> None:
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
    importer.trust_stored()
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


def test_a_plan_whose_code_has_changed_is_not_run(importer: CodeImporter, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    allowed = UserCode(("codelater:run",), (CodeFile("codelater.py", "def run(): pass\n"),))
    text = f"open({str(marker)!r}, 'w').close()\ndef run(): pass\n"
    changed = UserCode(("codelater:run",), (CodeFile("codelater.py", text),))
    for code in (changed, NO_CODE):
        with pytest.raises(CodeNotAllowedError, match="not the code that the launch has allowed"):
            code.allow(allowed.sha256)
    assert not importer.is_allowed("codelater:run")
    allowed.allow(allowed.sha256)
    NO_CODE.allow("")
    assert not marker.exists()


def test_a_command_runs_only_the_code_that_its_caller_knows(
    importer: CodeImporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = UserCode(("codelater:run",), (CodeFile("codelater.py", "def run(): pass\n"),))
    importer.trust_stored()
    monkeypatch.setenv(HASH_VARIABLE, "0" * 64)
    with pytest.raises(CodeNotAllowedError, match="has other code than when it was allowed"):
        code.require("study 'x'")
    monkeypatch.setenv(HASH_VARIABLE, code.content_hash)
    code.require("study 'x'")
    code.only(["codelater:run"]).require("study 'x'")


def test_trust_ends_with_its_block(importer: CodeImporter) -> None:
    code = UserCode(("codelater:run",), (CodeFile("codelater.py", "def run(): pass\n"),))
    with importer.trusting(is_trusted=True):
        pass
    with pytest.raises(CodeNotAllowedError):
        code.require("study 'x'")


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_module_that_others_may_replace_is_rejected(
    importer: CodeImporter, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "place"
    folder.mkdir()
    write_modules(folder)
    if kind == "folder":
        folder.chmod(0o777)
    else:
        (folder / "codemain.py").unlink()
        if kind == "pipe":
            os.mkfifo(folder / "codemain.py")
        else:
            (tmp_path / "open.py").write_text("def double(x): pass\n")
            (tmp_path / "open.py").chmod(0o666)
            (folder / "codemain.py").symlink_to(tmp_path / "open.py")
    importer.allow_folders([folder], ["codemain:double"])
    message = {
        "folder": "others may replace files in it",
        "link": "every account may write it",
        "pipe": "there is no module 'codemain'",
    }
    with pytest.raises(SpaceError, match=message[kind]):
        load_function("codemain:double")


def test_the_code_of_a_model_stays_beside_a_source(importer: CodeImporter, tmp_path: Path) -> None:
    stored = (CodeFile("codehelper.py", "FACTOR = 5\n"), CodeFile("codemodel.py", TEXT))
    UserCode(("codemodel:double",), stored).allow()
    write_modules(tmp_path, 2)
    importer.allow_folders([tmp_path], ["codemain:double"], keeps_stored=True)
    assert load_function("codemodel:double")(2) == 10
    with pytest.raises(SpaceError, match="module codehelper is also stored with the model"):
        importer.allow_folders([tmp_path], ["codehelper:FACTOR"], keeps_stored=True)
