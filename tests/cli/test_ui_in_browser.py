"""The MLflow UI as a person sees it, in headless Chromium."""

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from conftest import Commands, await_answer
from raysearch.cli import run as main
from raysearch.search.tracking.ui_columns import study_links

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run"
    " --disable-background-networking --disable-component-update --disable-sync"
    " --window-size=4000,3000"
)
SPACE = """
epochs: 1
trials: 10
sampler: tpe
stopping: {rule: asha, paired: 0}
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
        pytest.skip("there is no Chromium with its driver here (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def page(browser: webdriver.Chrome, address: str, wanted: list[str]) -> str:
    """The text of the page at `address` once all of `wanted` is in it."""
    browser.get(address)
    until = time.monotonic() + 60
    text = ""
    while time.monotonic() < until:
        text = str(browser.find_element(By.TAG_NAME, "body").text)
        if all(word in text for word in wanted):
            return text
        time.sleep(0.5)
    missing = [word for word in wanted if word not in text]
    pytest.fail(f"{missing} never came on {address}:\n{text}")


def test_the_studys_runs_and_their_comparison_are_seen_in_a_browser(
    run_on_cluster: Commands, shards: Path, browser: webdriver.Chrome
) -> None:
    run = run_on_cluster
    (run.folder / "seen.yaml").write_text(SPACE)
    run("launch", "seen.yaml", "--data", str(shards))
    port = free_port()
    server = run.start("ui", "--port", str(port))
    try:
        await_answer(f"http://127.0.0.1:{port}/health")
        client = MlflowClient(tracking_uri=f"sqlite:///{run.folder}/mlflow.db")
        experiment = client.get_experiment_by_name("seen")
        assert experiment is not None
        number = experiment.experiment_id
        found = client.search_runs([number])
        trials = [one for one in found if one.data.tags["kind"] == "trial"]
        assert len(trials) == 10
        top = f"http://127.0.0.1:{port}/#"
        page(browser, f"{top}/experiments/{number}/runs", ["benchmark", "majority", "13 matching"])
        ((name, link),) = study_links(f"sqlite:///{run.folder}/mlflow.db", top.removesuffix("/#"))
        assert name == "seen"
        wanted = ["Model training", "objective_finished", "learning_rate", "state", "13 matching"]
        text = page(browser, link, wanted)
        assert text.index("Runs") < text.index("t0")
        ids = json.dumps([one.info.run_id for one in trials])
        text = page(
            browser,
            f"{top}/compare-runs?runs={ids}&experiments={json.dumps([number])}",
            ["Comparing 10 Runs", "learning_rate", "objective", "t0009 cnn"],
        )
        assert "Parallel Coordinates" in text
        for one in trials:
            assert one.info.run_name in text
        shown = {f"{one.data.metrics['objective']:.3f}".rstrip("0") for one in trials}
        WebDriverWait(browser, 60).until(
            lambda seen: all(value in seen.page_source for value in shown),
            f"not all of {shown} came",
        )
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        said, _ = server.communicate(timeout=30)
    assert f"Compare   seen: {link}" in said


@pytest.mark.usefixtures("crowned")
def test_a_report_fits_a_narrow_screen(tmp_path: Path, browser: webdriver.Chrome) -> None:
    assert main(["test", "first"]) == 0
    assert main(["report", "first"]) == 0
    size = {"width": 340, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page(browser, (tmp_path / "first.html").as_uri(), ["Out of fold", "Sealed", "Card"])
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 340
