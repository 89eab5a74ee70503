"""Pages in a browser: nothing is clipped on wide and narrow screens, and a report is short."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from raysearch.analysis.search_figures import study_figures
from raysearch.analysis.stored_importances import importances_by_folds
from raysearch.data.audit.shard_audit import audit_shards
from raysearch.data.pseudonyms import DisplayedNames
from raysearch.metrics.evaluation import ScoredRows
from raysearch.reports.audit_page import write_audit_page
from raysearch.reports.evaluation_page import evaluation_page
from raysearch.reports.html_page import Picture
from raysearch.reports.model_card import model_card
from raysearch.reports.report_page import report_page
from raysearch.reports.report_pictures import ReportPictures
from raysearch.reports.search_page import search_page
from raysearch.reports.study_report import evaluate_set, study_report
from raysearch.search.study.study import Study
from support.audit_sets import ImageSet, distinct_patches
from support.figure_studies import figure_study

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
]
MAX_SCREENS = 6
WIDE, NARROW = (1200, 800), (390, 844)
# Elements that end right of the screen, or whose content is wider than they are.
CLIPPED = """
document.querySelectorAll('details').forEach(element => element.open = true);
return [...document.querySelectorAll('main *')].filter(element =>
  !element.closest('svg') && (element.getBoundingClientRect().right > innerWidth + 1
    || (element.clientWidth && element.scrollWidth > element.clientWidth + 1))
).map(element => element.tagName + ': ' + element.textContent.slice(0, 60));
"""
LONG = "a_class_with_a_name_that_is_as_long_as_a_file_name"


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = Options()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(
    small_champion_study: Study, shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A report, and pages of a search, of scores of three and of two classes, and of an audit.

    The names of classes and patients are long.
    """
    folder, names = tmp_path_factory.mktemp("pages"), DisplayedNames(None)
    report = study_report(small_champion_study.folder)
    importances = importances_by_folds(report.plan, report.history)
    uri = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
    errors = tuple(Picture(uri, f"true a, predicted b, patient {LONG}") for _ in range(24))
    pictures = ReportPictures(errors)
    searched = figure_study(shards, folder / "searched")
    figures = study_figures(searched.plan, searched.history)
    rng = np.random.default_rng(0)
    patients = np.array([f"{LONG}_{number % 12}" for number in range(120)])
    of_three, of_two = (
        ScoredRows(
            np.arange(120) % len(classes),
            rng.dirichlet(np.ones(len(classes)), 120),
            patients,
            classes,
        )
        for classes in ((LONG, f"{LONG}_2", "b"), (LONG, f"{LONG}_2"))
    )
    image_set = ImageSet(folder)
    for number, patch in enumerate(distinct_patches()[:16]):
        image_set.add(patch, f"{LONG}_{number // 4}", (LONG, f"{LONG}_2")[number % 2])
    write_audit_page(audit_shards(image_set.shard(), "label", 0), folder / "audit.html", names)
    contents = {
        "report": report_page(report, importances, pictures, model_card(report, {}, names), names),
        "search": search_page(searched.plan, searched.history, figures),
        "scores": evaluation_page("Scores", [evaluate_set("a set", "text", of_three)], names),
        "two-classes": evaluation_page("Scores", [evaluate_set("a set", "text", of_two)], names),
    }
    for name, content in contents.items():
        (folder / f"{name}.html").write_text(content)
    return {name: folder / f"{name}.html" for name in (*contents, "audit")}


def show(browser: webdriver.Chrome, page: Path, size: tuple[int, int]) -> None:
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())


@pytest.mark.parametrize("name", ["report", "search", "scores", "two-classes", "audit"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_nothing_of_a_page_is_clipped(
    browser: webdriver.Chrome, pages: dict[str, Path], name: str, size: tuple[int, int]
) -> None:
    show(browser, pages[name], size)
    assert browser.execute_script(CLIPPED) == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]


def test_the_details_of_a_report_begin_after_six_screens_at_most(
    browser: webdriver.Chrome, pages: dict[str, Path]
) -> None:
    show(browser, pages["report"], WIDE)
    script = "return document.querySelector('#details').getBoundingClientRect().top"
    assert 0 < browser.execute_script(script) <= MAX_SCREENS * WIDE[1]
    is_open = "return [...document.querySelectorAll('details')].some(element => element.open)"
    assert not browser.execute_script(is_open)


def test_the_policy_of_a_page_blocks_nothing_that_it_contains(
    browser: webdriver.Chrome, pages: dict[str, Path]
) -> None:
    show(browser, pages["report"], WIDE)
    messages = [entry["message"] for entry in browser.get_log("browser")]
    assert [message for message in messages if "Content Security Policy" in message] == []
    color = "return getComputedStyle(document.querySelector('svg text')).fill"
    assert browser.execute_script(color) == "rgb(95, 90, 107)"
    mode = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", mode)
    assert browser.execute_script(color) == "rgb(169, 163, 181)"
