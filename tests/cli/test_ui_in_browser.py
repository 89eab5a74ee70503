"""Pages of the MLflow UI and of a report in headless Chromium."""

import json
import os
import shutil
import signal
import threading
import time
import webbrowser
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import uvicorn
from mlflow.tracking import MlflowClient
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from conftest import Commands, await_answer
from raysearch.cli import run as main
from raysearch.cli.login_page import open_privately
from raysearch.search.tracking.study_view import study_links
from raysearch.search.tracking.ui_access import UiAccess
from support.free_ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run"
    " --disable-background-networking --disable-component-update --disable-sync"
    " --window-size=1600,1200"
)
SPACE = """
epochs: 1
trials: 10
sampler: tpe
stopping: {rule: asha, paired_alpha: 0}
repeats: 0
space:
  folds: 2
  architecture: cnn
  convolutions: 1
  width: {choice: [4, 8]}
  learning_rate: {loguniform: [1.0e-3, 1.0e-2]}
  batch_size: {choice: [16, 32]}
"""


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if not driver or not chromium:
        pytest.skip("Chromium and its driver are not installed (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=Service(driver))
    yield browser
    browser.quit()


def page_text(browser: webdriver.Chrome, address: str, texts: list[str]) -> str:
    """The text of the page at `address` as soon as it contains all of `texts`."""
    browser.get(address)
    deadline = time.monotonic() + 180
    content = ""
    while time.monotonic() < deadline:
        with suppress(NoSuchElementException, StaleElementReferenceException):  # the page changes
            content = str(browser.find_element(By.TAG_NAME, "body").text)
        if all(text in content for text in texts):
            return content
        time.sleep(0.5)
    missing = [text for text in texts if text not in content]
    pytest.fail(f"{missing} did not appear on {address}:\n{content}")


def test_the_ui_shows_the_runs_of_a_study_and_their_comparison(
    run_on_cluster: Commands, shards: Path, browser: webdriver.Chrome
) -> None:
    raysearch = run_on_cluster
    (raysearch.folder / "seen.yaml").write_text(SPACE)
    raysearch("launch", "seen.yaml", "--data", str(shards))
    port = free_port()
    server = raysearch.start("ui", "--port", str(port))
    assert server.stdout is not None
    address = server.stdout.readline().split("mlflow.db: ")[1].split()[0]
    comparison = server.stdout.readline().strip()
    try:
        await_answer(f"http://127.0.0.1:{port}/health")
        store = f"sqlite:///{raysearch.folder}/mlflow.db"
        client = MlflowClient(tracking_uri=store)
        experiment = client.get_experiment_by_name("seen")
        assert experiment is not None
        number = experiment.experiment_id
        runs = client.search_runs([number])
        trials = [run for run in runs if run.data.tags["kind"] == "trial"]
        assert len(trials) == 10
        top = f"http://127.0.0.1:{port}/#"
        runs_page = f"{top}/experiments/{number}/runs"
        page_text(browser, runs_page, ["Not logged in"])
        browser.get(address)
        (cookie,) = browser.get_cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert "token" not in browser.current_url
        page_text(browser, runs_page, ["benchmark", "majority", "13 matching"])
        ((name, link),) = study_links(store, address)
        assert name == "seen"
        # MLflow titles a chart by its metrics.
        charts = ["Parallel Coordinates", "train_seconds vs. objective"]
        curves = ["objective", "fold_0/auroc vs fold_1/auroc"]
        sections = ["Model training", "10 matching runs", "Search", "Learning curves"]
        shown = [*sections, *charts, *curves]
        text = page_text(browser, link, shown)
        # The table draws only the columns that fit.
        browser.set_window_size(4000, 1200)
        assert "benchmark" not in text
        columns = [
            "objective_finished",
            "objective_low",
            "objective_high",
            "learning_rate",
            "state",
        ]
        table = link.replace("compareRunsMode=CHART", "compareRunsMode=TABLE")
        text = page_text(browser, table, [*columns, "selection", "champion", "10 matching runs"])
        assert "convolutions" not in text
        ids = json.dumps([trial.info.run_id for trial in trials])
        text = page_text(
            browser,
            f"{top}/compare-runs?runs={ids}&experiments={json.dumps([number])}",
            ["Comparing 10 Runs", "learning_rate", "objective", "t0009 cnn"],
        )
        assert "Parallel Coordinates" in text
        for trial in trials:
            assert trial.info.run_name in text
        values = {f"{trial.data.metrics['objective']:.3f}".rstrip("0") for trial in trials}
        WebDriverWait(browser, 180).until(
            lambda driver: all(value in driver.page_source for value in values),
            f"not all of {values} appeared",
        )
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.communicate(timeout=120)
    assert comparison == f"Compare   seen: {link}"


def test_the_page_of_open_logs_a_browser_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: webdriver.Chrome
) -> None:
    token, port = "a" * 24, free_port()

    async def first_page(_request: Request) -> HTMLResponse:
        return HTMLResponse("<script>document.write('logged in at ' + location.hash)</script>")

    routes = [Route("/", first_page), Route("/health", first_page)]
    app = UiAccess(Starlette(routes=routes), [f"127.0.0.1:{port}"], token)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(
        webbrowser,
        "open",
        lambda page: page_text(browser, page, ["logged in at #/experiments/1?a=b&c=d"]),
    )
    try:
        await_answer(f"http://127.0.0.1:{port}/health")
        address = f"http://127.0.0.1:{port}/?token={token}#/experiments/1?a=b&c=d"
        open_privately(address, lambda: False)
        assert "token" not in browser.current_url
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.usefixtures("champion_study")
def test_a_report_fits_a_narrow_screen(tmp_path: Path, browser: webdriver.Chrome) -> None:
    assert main(["test", "first"]) == 0
    assert main(["report", "first"]) == 0
    size = {"width": 340, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page_text(
        browser,
        (tmp_path / "first.html").as_uri(),
        ["Out of fold", "Held-out test set", "Model card"],
    )
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 340
