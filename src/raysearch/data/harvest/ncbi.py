"""PubMed and PubMed Central: from a query to ids, from ids to the PDFs of open-access papers.

The Open Access service (oa.fcgi) and the FTP folders that papers were fetched from have been gone
since August 2026 (https://pmc.ncbi.nlm.nih.gov/tools/cloud/); the files lie in a public bucket now.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from raysearch.data.files import reject_login
from raysearch.data.harvest.http import AnswerError, Web
from raysearch.errors import DataError

TOOL = "raysearch"
PMID = re.compile(r"[1-9][0-9]{0,8}")
MAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
BUCKET = "s3://pmc-oa-opendata/"
# What the converter takes at once, and what PubMed gives of one search.
CONVERTED, MAX_FOUND = 200, 9_999
ANSWER_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Contact:
    """Who asks: NCBI wants an address to write to; a key of theirs allows ten requests a second.

    https://www.ncbi.nlm.nih.gov/books/NBK25497/ ("Usage Guidelines and Requirements")
    """

    email: str
    key: str = field(default="", repr=False)

    @property
    def gap_s(self) -> float:
        """The seconds from one request to the next."""
        return 1 / 10 if self.key else 1 / 3


def contact_of(email: str | None, key: str) -> Contact:
    """The contact, checked; DataError where the address is missing or none."""
    if not email:
        raise DataError("no contact address: NCBI wants one; give --email, or set RAYSEARCH_EMAIL")
    if not MAIL.fullmatch(email):
        raise DataError(f"--email {email!r} is not an e-mail address; give one such as me@uni.edu")
    return Contact(email, key)


@dataclass(frozen=True)
class Services:
    """Where NCBI answers: the E-utilities, the id converter and the bucket of PMC."""

    search: str = "https://eutils.ncbi.nlm.nih.gov/entrez/eutils/esearch.fcgi"
    converter: str = "https://pmc.ncbi.nlm.nih.gov/tools/idconv/api/v1/articles/"
    bucket: str = "https://pmc-oa-opendata.s3.amazonaws.com/"


def services_at(base: str | None) -> Services:
    """All services at one address, such as a mirror's; NCBI's own without one."""
    if not base:
        return Services()
    reject_login(base)
    try:
        parts = urlsplit(base)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise DataError(f"--ncbi {base!r} is no address; give one such as http://host:8080")
    base = base.rstrip("/")
    return Services(
        f"{base}/entrez/eutils/esearch.fcgi", f"{base}/tools/idconv/api/v1/articles/", f"{base}/"
    )


class Ncbi:
    """Asks NCBI's services, by `web` and in the name of `contact`."""

    def __init__(self, web: Web, contact: Contact, services: Services) -> None:
        self._web, self._contact, self._services = web, contact, services

    def search(self, query: str, most: int) -> list[str]:
        """Up to `most` PubMed ids that `query` finds, as ESearch orders them.

        https://www.ncbi.nlm.nih.gov/books/NBK25499/#chapter4.ESearch
        """
        words = {"db": "pubmed", "term": query, "retmode": "json", "retmax": str(most)}
        if self._contact.key:
            words["api_key"] = self._contact.key
        found = self._ask(self._services.search, words).get("esearchresult")
        ids = found.get("idlist") if isinstance(found, dict) else None
        if not isinstance(found, dict) or "ERROR" in found or not isinstance(ids, list):
            reason = found.get("ERROR") if isinstance(found, dict) else None
            raise DataError(f"PubMed rejects the query ({reason or 'no reason given'})")
        return [one for one in map(str, ids[:most]) if PMID.fullmatch(one)]

    def pmcids(self, pmids: Sequence[str]) -> dict[str, str]:
        """PubMed id -> PMC id, such as PMC3531190, of those of `pmids` that PMC has.

        https://pmc.ncbi.nlm.nih.gov/tools/id-converter-api/
        """
        found: dict[str, str] = {}
        for start in range(0, len(pmids), CONVERTED):
            some = pmids[start : start + CONVERTED]
            words = {"ids": ",".join(some), "idtype": "pmid", "format": "json", "versions": "no"}
            records = self._ask(self._services.converter, words).get("records", [])
            for record in filter(_is_record, records):
                pmid = str(record.get("requested-id") or record.get("pmid"))
                pmcid = str(record.get("pmcid"))
                if pmid in some and re.fullmatch(r"PMC\d+", pmcid):
                    found[pmid] = pmcid
        return found

    def pdf(self, pmcid: str, max_bytes: int) -> bytes:
        """The PDF of the newest version of `pmcid` that has one.

        A version is a folder of the bucket, and has its links in `metadata/<version>.json`:
        https://pmc.ncbi.nlm.nih.gov/tools/pmcaws/. AnswerError where there is no open-access PDF.
        """
        for version in reversed(self._versions(pmcid)):
            told = _parsed(self._get(f"metadata/{version}.json", ANSWER_BYTES))
            link = told.get("pdf_url")
            if told.get("is_pmc_openaccess") in (False, "no"):
                raise AnswerError("not open access", lasting=True)
            if isinstance(link, str) and link.startswith(BUCKET):
                return self._linked(link, max_bytes)
        raise AnswerError("no open-access PDF in PubMed Central", lasting=True)

    def _versions(self, pmcid: str) -> list[str]:
        """The names of its versions, such as PMC3531190.1, the newest last."""
        words = {"list-type": "2", "prefix": f"{pmcid}.", "delimiter": "/"}
        listing = self._get(f"?{urlencode(words)}", ANSWER_BYTES).decode("utf-8", "replace")
        numbers = re.findall(rf"<Prefix>{pmcid}\.(\d+)/</Prefix>", listing)
        return [f"{pmcid}.{number}" for number in sorted(map(int, numbers))]

    def _linked(self, link: str, max_bytes: int) -> bytes:
        """What the s3:// `link` names, by its https:// form; the link has the MD5 of it."""
        parts = urlsplit(link.removeprefix(BUCKET))
        content = self._get(quote(parts.path, safe="/%"), max_bytes)
        told = parse_qs(parts.query).get("md5", [""])[0]
        if told and hashlib.md5(content, usedforsecurity=False).hexdigest() != told:
            raise AnswerError("its MD5 is not the one that PubMed Central tells")
        return content

    def _get(self, place: str, max_bytes: int) -> bytes:
        return self._web.get(self._services.bucket + place, max_bytes)

    def _ask(self, address: str, words: dict[str, str]) -> dict[str, Any]:
        """What a service says of a list, without which nothing goes on; DataError for a refusal."""
        told = {**words, "tool": TOOL, "email": self._contact.email}
        try:
            return _parsed(self._web.get(f"{address}?{urlencode(told)}", ANSWER_BYTES))
        except AnswerError as error:
            raise DataError(
                f"NCBI does not help: {error}; see SOURCE, and NCBI_API_KEY if it is set"
            ) from None


def _is_record(record: object) -> bool:
    return isinstance(record, dict)


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        tree = json.loads(content)
    except ValueError:
        tree = None
    if not isinstance(tree, dict):
        raise AnswerError("an answer that is not JSON")
    return tree
