"""A client of PubMed and PubMed Central: searches papers and downloads open-access PDFs.

The Open Access service (oa.fcgi) and its FTP folders were closed in August 2026
(https://pmc.ncbi.nlm.nih.gov/tools/cloud/); the files are in a public bucket.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, TypeVar
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from pydantic import BaseModel, Field, ValidationError

from raysearch.config.names import reject_login
from raysearch.data.harvest.http_client import DownloadError, HttpClient
from raysearch.errors import DataError

TOOL = "raysearch"
PMID = re.compile(r"[1-9][0-9]{0,8}")
PMCID = re.compile(r"PMC\d+")
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
BUCKET = "s3://pmc-oa-opendata/"
# Limits of the services: ids per request of the converter, and results of one search.
MAX_CONVERTED_IDS, MAX_SEARCH_RESULTS = 200, 9_999
MAX_ANSWER_BYTES = 16 * 2**20
KEYED_INTERVAL_S, DEFAULT_INTERVAL_S = 1 / 10, 1 / 3


@dataclass(frozen=True)
class Contact:
    """The e-mail address that NCBI requires, and an optional API key that allows a higher rate.

    https://www.ncbi.nlm.nih.gov/books/NBK25497/ ("Usage Guidelines and Requirements")
    """

    email: str
    key: str = field(default="", repr=False)

    @property
    def min_interval_s(self) -> float:
        """The smallest number of seconds between two requests."""
        return KEYED_INTERVAL_S if self.key else DEFAULT_INTERVAL_S

    @classmethod
    def checked(cls, email: str | None, key: str) -> Contact:
        """Return a contact.

        Raises:
            DataError: If the address is missing or invalid.
        """
        if not email:
            raise DataError(
                "no contact address, which NCBI requires; give --email, or set RAYSEARCH_EMAIL"
            )
        if not EMAIL.fullmatch(email):
            raise DataError(f"--email {email!r}: not an e-mail address; give e.g. me@uni.edu")
        return cls(email, key)


@dataclass(frozen=True)
class ServiceUrls:
    """The URLs of NCBI's search (E-utilities), id converter and bucket."""

    search: str = "https://eutils.ncbi.nlm.nih.gov/entrez/eutils/esearch.fcgi"
    converter: str = "https://pmc.ncbi.nlm.nih.gov/tools/idconv/api/v1/articles/"
    bucket: str = "https://pmc-oa-opendata.s3.amazonaws.com/"

    @classmethod
    def at(cls, base: str | None) -> ServiceUrls:
        """Return all services under one base URL, such as a mirror's; NCBI's own without one.

        Raises:
            DataError: If `base` is not a URL, or contains a password.
        """
        if not base:
            return cls()
        reject_login(base)
        try:
            parts = urlsplit(base)
            is_valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            is_valid = False
        if not is_valid:
            raise DataError(f"--ncbi {base!r}: not a URL; give e.g. http://host:8080")
        base = base.rstrip("/")
        return cls(
            f"{base}/entrez/eutils/esearch.fcgi",
            f"{base}/tools/idconv/api/v1/articles/",
            f"{base}/",
        )


class _SearchResult(BaseModel):
    ids: Annotated[list[object] | None, Field(alias="idlist")] = None
    error: Annotated[object, Field(alias="ERROR")] = None


class _SearchAnswer(BaseModel):
    result: Annotated[_SearchResult, Field(alias="esearchresult")] = _SearchResult()


class _ConvertedId(BaseModel):
    requested_id: Annotated[object, Field(alias="requested-id")] = None
    pmid: object = None
    pmcid: object = None


class _ConverterAnswer(BaseModel):
    records: list[_ConvertedId] = []


class _VersionMetadata(BaseModel):
    pdf_url: object = None
    is_pmc_openaccess: object = None


Answer = TypeVar("Answer", bound=BaseModel)


class NcbiClient:
    """Sends requests to NCBI's services, with the user's contact address."""

    def __init__(self, http: HttpClient, contact: Contact, urls: ServiceUrls) -> None:
        self._http, self._contact, self._urls = http, contact, urls

    def search(self, query: str, limit: int) -> list[str]:
        """Return up to `limit` PubMed ids that match `query`, in the order of ESearch.

        https://www.ncbi.nlm.nih.gov/books/NBK25499/#chapter4.ESearch

        Raises:
            DataError: If PubMed rejects the query.
        """
        parameters = {"db": "pubmed", "term": query, "retmode": "json", "retmax": str(limit)}
        if self._contact.key:
            parameters["api_key"] = self._contact.key
        result = self._query(self._urls.search, parameters, _SearchAnswer).result
        if result.error is not None or result.ids is None:
            raise DataError(f"PubMed rejects the query ({result.error or 'no reason given'})")
        return [pmid for pmid in map(str, result.ids[:limit]) if PMID.fullmatch(pmid)]

    def find_pmcids(self, pmids: Sequence[str]) -> dict[str, str]:
        """Return the PubMed Central id, such as PMC3531190, of each PubMed id that has one.

        https://pmc.ncbi.nlm.nih.gov/tools/id-converter-api/
        """
        pmcids: dict[str, str] = {}
        for start in range(0, len(pmids), MAX_CONVERTED_IDS):
            batch = pmids[start : start + MAX_CONVERTED_IDS]
            parameters = {
                "ids": ",".join(batch),
                "idtype": "pmid",
                "format": "json",
                "versions": "no",
            }
            answer = self._query(self._urls.converter, parameters, _ConverterAnswer)
            for record in answer.records:
                pmid, pmcid = str(record.requested_id or record.pmid), str(record.pmcid)
                if pmid in batch and PMCID.fullmatch(pmcid):
                    pmcids[pmid] = pmcid
        return pmcids

    def download_pdf(self, pmcid: str, max_bytes: int) -> bytes:
        """Download the PDF of the newest version of a paper that has one.

        A version is a folder of the bucket; its links are in `metadata/<version>.json`:
        https://pmc.ncbi.nlm.nih.gov/tools/pmcaws/.

        Raises:
            DownloadError: If there is no open-access PDF.
        """
        for version in reversed(self._version_names(pmcid)):
            content = self._get_from_bucket(f"metadata/{version}.json", MAX_ANSWER_BYTES)
            metadata = _parse(content, _VersionMetadata)
            if metadata.is_pmc_openaccess in (False, "no"):
                raise DownloadError("not open access", permanent=True)
            if isinstance(metadata.pdf_url, str) and metadata.pdf_url.startswith(BUCKET):
                return self._download_verified(metadata.pdf_url, max_bytes)
        raise DownloadError("no open-access PDF in PubMed Central", permanent=True)

    def _version_names(self, pmcid: str) -> list[str]:
        """Return the names of a paper's versions, such as PMC3531190.1, the newest last."""
        parameters = {"list-type": "2", "prefix": f"{pmcid}.", "delimiter": "/"}
        listing = self._get_from_bucket(f"?{urlencode(parameters)}", MAX_ANSWER_BYTES)
        text = listing.decode("utf-8", "replace")
        numbers = re.findall(rf"<Prefix>{pmcid}\.(\d+)/</Prefix>", text)
        return [f"{pmcid}.{number}" for number in sorted(map(int, numbers))]

    def _download_verified(self, link: str, max_bytes: int) -> bytes:
        """Download the object that an s3:// link names, and check the MD5 in the link's query."""
        parts = urlsplit(link.removeprefix(BUCKET))
        content = self._get_from_bucket(quote(parts.path, safe="/%"), max_bytes)
        md5 = parse_qs(parts.query).get("md5", [""])[0]
        if md5 and hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            raise DownloadError("its MD5 differs from that in PubMed Central")
        return content

    def _get_from_bucket(self, path: str, max_bytes: int) -> bytes:
        return self._http.get(self._urls.bucket + path, max_bytes)

    def _query(self, url: str, parameters: Mapping[str, str], answer: type[Answer]) -> Answer:
        """Query a service whose answer the whole harvest needs.

        Raises:
            DataError: If the service rejects the request.
        """
        query = urlencode({**parameters, "tool": TOOL, "email": self._contact.email})
        try:
            return _parse(self._http.get(f"{url}?{query}", MAX_ANSWER_BYTES), answer)
        except DownloadError as error:
            raise DataError(
                f"a request to NCBI failed: {error}; check SOURCE, and NCBI_API_KEY if it is set"
            ) from None


def _parse(content: bytes, answer: type[Answer]) -> Answer:
    """Parse the JSON of an answer.

    Raises:
        DownloadError: If it has another structure.
    """
    try:
        return answer.model_validate_json(content)
    except ValidationError:
        raise DownloadError("an answer with an unexpected structure") from None
