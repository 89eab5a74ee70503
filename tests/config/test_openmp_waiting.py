"""How long threads of OpenMP wait in a loop: not long, unless the user says so."""

import os
import subprocess
import sys

import pytest

CODE = "import os, raysearch; print(os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("settings", "spin_count"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_the_settings_of_the_user_take_precedence(
    settings: dict[str, str], spin_count: str
) -> None:
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=environment | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == spin_count


def test_openmp_reads_it_when_torch_is_imported() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    environment.pop("OMP_WAIT_POLICY", None)
    done = subprocess.run(
        [sys.executable, "-c", "import raysearch, torch; torch.ones(2) @ torch.ones(2)"],
        env=environment | {"OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "GOMP_SPINCOUNT = '10000'" in done.stderr
