"""The PDFs of a harvest: the files of a folder, or downloads from PubMed Central."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from raysearch.data.files import Folder
from raysearch.data.harvest.http_client import DownloadError
from raysearch.data.harvest.ncbi import MAX_SEARCH_RESULTS, PMID, NcbiClient
from raysearch.data.harvest.pdf_images import RejectedPdfError
from raysearch.data.sources.listing import NOT_UTF8, Rejected
from raysearch.errors import DataError

MAX_LIST_BYTES = 4 * 2**20
ANSWERS = "answers.json"
PDF_HEADER = b"%PDF-"
PDF_HEADER_BYTES = 1024


@dataclass(frozen=True)
class Paper:
    """A PDF.

    Attributes:
        name: Its PubMed id, or its path without `.pdf`.
        file: Its name in tables.
        path: Its location.
    """

    name: str
    file: str
    path: Path


@dataclass(frozen=True)
class Papers:
    """The papers of a harvest, the rejected files, and a function that downloads a paper.

    `fetch` downloads a paper to its path if it is not there. It raises `RejectedPdfError` if the
    paper is not available, and `DataError` if the network is not.
    """

    papers: Sequence[Paper]
    rejected: Sequence[Rejected] = ()
    fetch: Callable[[Paper], None] = lambda _paper: None


def papers_in_folder(source: Path) -> Papers:
    """List the PDFs in a folder and its subfolders; every other file is rejected by name.

    Raises:
        DataError: If there are no files at all.
    """
    papers: dict[str, Paper] = {}
    rejected: list[Rejected] = []
    for path in _list_files(source, rejected):
        file = path.relative_to(source).as_posix()
        name = file[: -len(".pdf")]
        reason = _rejection_reason(path, file, source)
        if reason is None and name in papers:
            reason = f"its name without .pdf is that of {papers[name].file}"
        if reason is None:
            papers[name] = Paper(name, file, path)
        else:
            rejected.append(Rejected(file, reason))
    if not papers and not rejected:
        raise DataError(f"{source}: the folder is empty; give a folder with PDFs")
    return Papers(list(papers.values()), rejected)


def _list_files(source: Path, rejected: list[Rejected]) -> Iterator[Path]:
    """Iterate over the files by name; add folders that are not entered to `rejected`."""

    def reject_folder(error: OSError) -> None:
        file = os.path.relpath(error.filename, source)
        rejected.append(Rejected(file, f"cannot be read: {error.strerror}"))

    for parent, folders, files in os.walk(source, onerror=reject_folder):
        folders.sort()
        for folder in map(Path(parent).joinpath, folders):
            if folder.is_symlink():
                file = folder.relative_to(source).as_posix()
                rejected.append(Rejected(file, "a link to a folder, which is not followed"))
        yield from (Path(parent, file) for file in sorted(files))


def _rejection_reason(path: Path, file: str, source: Path) -> str | None:
    """Return why a file is not read; None if it is."""
    try:
        file.encode()
    except UnicodeEncodeError:
        return NOT_UTF8
    if any(part.startswith(".") for part in file.split("/")):
        return "its name, or its folder's, starts with a dot"
    if not file.lower().endswith(".pdf"):
        return "not named .pdf"
    try:
        if not path.resolve(strict=True).is_relative_to(source.resolve()):
            return "a link to a file outside the folder"
        # Reading a pipe or a device could block forever.
        return None if stat.S_ISREG(path.stat().st_mode) else "not a regular file"
    except (OSError, RuntimeError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or 'a circular link'}"


def read_pubmed_ids(path: Path) -> list[str]:
    """Read the distinct PubMed ids of a text file with one id a line; `#` starts a comment.

    Raises:
        DataError: If the file has another format.
    """
    if path.stat().st_size > MAX_LIST_BYTES:
        raise DataError(
            f"{path}: larger than {MAX_LIST_BYTES // 2**20} MB; give a file with PubMed ids only"
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file; give one PubMed id a line") from None
    ids: dict[str, None] = {}
    for number, line in enumerate(lines, start=1):
        word = line.partition("#")[0].strip()
        if word and not PMID.fullmatch(word):
            raise DataError(
                f"{path}: line {number}: {word[:40]!r} is not a PubMed id; give one a line"
            )
        if word:
            ids[word] = None
    if not ids:
        raise DataError(f"{path}: no PubMed ids; give one a line")
    return list(ids)


class _StoredAnswers(BaseModel):
    """The answers of NCBI that a second run does not request again.

    Attributes:
        searches: Limit and query -> PubMed ids.
        unavailable: PubMed id -> reason why there is no PDF.
    """

    searches: dict[str, list[str]] = {}
    unavailable: dict[str, str] = {}


class PubMed:
    """Downloads each paper once into a folder, and stores the answers of NCBI there."""

    def __init__(self, ncbi: NcbiClient, folder: Folder, max_bytes: int) -> None:
        self._ncbi, self._folder, self._max_bytes = ncbi, folder, max_bytes
        folder.remove_partial_files()
        self._answers = self._read_answers()
        self._pmcids: dict[str, str] = {}

    def search(self, query: str, limit: int) -> list[str]:
        """Return up to `limit` PubMed ids that match `query`; a repeated search is not sent again.

        Raises:
            DataError: If there are none.
        """
        if not 1 <= limit <= MAX_SEARCH_RESULTS:
            raise DataError(
                f"--limit {limit}: PubMed returns 1 to {MAX_SEARCH_RESULTS:,} papers per query"
            )
        key = f"{limit} {query}"
        if key not in self._answers.searches:
            ids = self._ncbi.search(query, limit)
            if not ids:
                raise DataError(f"PubMed finds nothing for {query!r}; give a broader query")
            self._answers.searches[key] = ids
            self._write_answers()
        return list(self._answers.searches[key])

    def papers(self, pmids: Sequence[str]) -> Papers:
        """Return the papers of PubMed ids, to be downloaded one by one."""
        stored_files, unavailable = set(self._folder.names()), self._answers.unavailable
        new = [
            pmid for pmid in pmids if f"{pmid}.pdf" not in stored_files and pmid not in unavailable
        ]
        self._pmcids = self._ncbi.find_pmcids(new)
        absent = {pmid: "not in PubMed Central" for pmid in new if pmid not in self._pmcids}
        if absent:
            unavailable.update(absent)
            self._write_answers()
        folder = self._folder.local
        papers = [
            Paper(pmid, f"{folder.name}/{pmid}.pdf", folder / f"{pmid}.pdf") for pmid in pmids
        ]
        return Papers(papers, fetch=self._fetch)

    def _fetch(self, paper: Paper) -> None:
        if paper.path.exists():
            return
        if paper.name in self._answers.unavailable:
            raise RejectedPdfError(self._answers.unavailable[paper.name])
        try:
            content = self._ncbi.download_pdf(self._pmcids[paper.name], self._max_bytes)
        except DownloadError as error:
            if error.permanent:
                self._answers.unavailable[paper.name] = str(error)
                self._write_answers()
            raise RejectedPdfError(str(error)) from None
        if PDF_HEADER not in content[:PDF_HEADER_BYTES]:
            raise RejectedPdfError("the file in PubMed Central is not a PDF")
        self._folder.write(paper.path.name, content)

    def _read_answers(self) -> _StoredAnswers:
        try:
            return _StoredAnswers.model_validate_json(self._folder.read(ANSWERS))
        except FileNotFoundError:
            return _StoredAnswers()
        except ValidationError:
            raise DataError(f"{self._folder.path(ANSWERS)}: damaged; remove it") from None

    def _write_answers(self) -> None:
        self._folder.write(ANSWERS, self._answers.model_dump_json(indent=1).encode())
