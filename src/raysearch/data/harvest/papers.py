"""Where the PDFs of a harvest come from: a folder, or PubMed by way of a cache."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysearch.data.files import Folder
from raysearch.data.harvest.http import AnswerError
from raysearch.data.harvest.ncbi import MAX_FOUND, PMID, Ncbi
from raysearch.data.harvest.pdf import RejectedPdfError
from raysearch.data.sources.listing import UNREADABLE, Rejected
from raysearch.errors import DataError

LIST_BYTES = 4 * 2**20
ANSWERS = "answers.json"


@dataclass(frozen=True)
class Paper:
    """A PDF: `name` is its PubMed id, or its path without `.pdf`; `file` is what tables call it."""

    name: str
    file: str
    path: Path


@dataclass(frozen=True)
class Papers:
    """All papers, and `fetch`, which sees that one is at its path (RefusedPdfError, DataError)."""

    papers: Sequence[Paper]
    rejected: Sequence[Rejected] = ()
    fetch: Callable[[Paper], None] = lambda _paper: None


def folder_papers(source: Path) -> Papers:
    """The PDFs anywhere in the folder `source`; every other file is rejected by name.

    DataError where there are no files at all.
    """
    papers: dict[str, Paper] = {}
    rejected: list[Rejected] = []
    for path in _files(source, rejected):
        file = path.relative_to(source).as_posix()
        name = file[: -len(".pdf")]
        reason = _error(path, file, source)
        if reason is None and name in papers:
            reason = f"its name without .pdf is that of {papers[name].file}"
        if reason is None:
            papers[name] = Paper(name, file, path)
        else:
            rejected.append(Rejected(file, reason))
    if not papers and not rejected:
        raise DataError(f"{source}: no files in it; give the folder that holds the PDFs")
    return Papers(list(papers.values()), rejected)


def _files(source: Path, rejected: list[Rejected]) -> Iterator[Path]:
    """Every file in `source`, by name; a folder that is not entered is rejected."""

    def unread(error: OSError) -> None:
        file = os.path.relpath(error.filename, source)
        rejected.append(Rejected(file, f"cannot be read: {error.strerror}"))

    for place, folders, files in os.walk(source, onerror=unread):
        folders.sort()
        for folder in map(Path(place).joinpath, folders):
            if folder.is_symlink():
                file = folder.relative_to(source).as_posix()
                rejected.append(Rejected(file, "a link to a folder, which is not followed"))
        yield from (Path(place, file) for file in sorted(files))


def _error(path: Path, file: str, source: Path) -> str | None:
    """Why a file is not read; None where it is."""
    try:
        file.encode()
    except UnicodeEncodeError:
        return UNREADABLE
    if any(part.startswith(".") for part in file.split("/")):
        return "its name, or its folder's, starts with a dot"
    if not file.lower().endswith(".pdf"):
        return "not named .pdf"
    try:
        if not path.resolve(strict=True).is_relative_to(source.resolve()):
            return "a link that leads out of the folder"
        # A pipe or a device would never end.
        return None if stat.S_ISREG(path.stat().st_mode) else "not a file"
    except (OSError, RuntimeError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or 'a link in a circle'}"


def read_ids(path: Path) -> list[str]:
    """The PubMed ids in the text file `path`, one a line, each once; `#` starts a remark.

    DataError for a file that is not that.
    """
    if path.stat().st_size > LIST_BYTES:
        raise DataError(f"{path}: larger than {LIST_BYTES // 2**20} MB; a list of ids is shorter")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text; give a file with one PubMed id a line") from None
    ids: dict[str, None] = {}
    for number, line in enumerate(lines, start=1):
        word = line.partition("#")[0].strip()
        if word and not PMID.fullmatch(word):
            raise DataError(f"{path}: line {number}: {word[:40]!r} is no PubMed id; one a line")
        if word:
            ids[word] = None
    if not ids:
        raise DataError(f"{path}: no PubMed id in it; write one a line")
    return list(ids)


class PubMed:
    """Fetches papers into `folder`, once: what was found, or is not to be had, is kept there."""

    def __init__(self, ncbi: Ncbi, folder: Folder, max_bytes: int) -> None:
        self._ncbi, self._folder, self._max_bytes = ncbi, folder, max_bytes
        folder.sweep()
        self._answers = self._stored()
        self._pmcids: dict[str, str] = {}

    def found(self, query: str, most: int) -> list[str]:
        """The PubMed ids of `query`, up to `most`; those of last time where it was asked before."""
        if not 1 <= most <= MAX_FOUND:
            raise DataError(f"--limit {most}: PubMed gives 1 to {MAX_FOUND:,} papers a query")
        key = f"{most} {query}"
        if key not in self._answers["searches"]:
            ids = self._ncbi.search(query, most)
            if not ids:
                raise DataError(f"PubMed finds nothing for {query!r}; widen the query")
            self._answers["searches"][key] = ids
            self._store()
        return list(self._answers["searches"][key])

    def papers(self, pmids: Sequence[str]) -> Papers:
        """The papers of `pmids`, fetched one by one."""
        there, without = set(self._folder.names()), self._answers["without"]
        new = [one for one in pmids if f"{one}.pdf" not in there and one not in without]
        self._pmcids = self._ncbi.pmcids(new)
        absent = {one: "not in PubMed Central" for one in new if one not in self._pmcids}
        if absent:
            without.update(absent)
            self._store()
        name = self._folder.local.name
        listed = [
            Paper(one, f"{name}/{one}.pdf", self._folder.local / f"{one}.pdf") for one in pmids
        ]
        return Papers(listed, fetch=self._fetch)

    def _fetch(self, paper: Paper) -> None:
        if paper.path.exists():
            return
        if paper.name in self._answers["without"]:
            raise RejectedPdfError(self._answers["without"][paper.name])
        try:
            content = self._ncbi.pdf(self._pmcids[paper.name], self._max_bytes)
        except AnswerError as error:
            if error.lasting:
                self._answers["without"][paper.name] = str(error)
                self._store()
            raise RejectedPdfError(str(error)) from None
        if b"%PDF-" not in content[:1024]:
            raise RejectedPdfError("what PubMed Central gives is not a PDF")
        self._folder.write(paper.path.name, content)

    def _stored(self) -> dict[str, dict[str, Any]]:
        try:
            answers = json.loads(self._folder.read(ANSWERS))
            return {"searches": dict(answers["searches"]), "without": dict(answers["without"])}
        except FileNotFoundError:
            return {"searches": {}, "without": {}}
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{self._folder.path(ANSWERS)}: damaged; remove it") from None

    def _store(self) -> None:
        self._folder.write(ANSWERS, json.dumps(self._answers, indent=1).encode())
