"""The cluster file is one that Ray takes."""

from pathlib import Path

import yaml

TOP = Path(__file__).parents[1]


def test_the_cluster_file_fits_rays_own_schema() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((TOP / "cluster.yaml").read_text())
    validate_config(prepare_config(config))
    assert config["head_node_type"] in config["available_node_types"]


def test_every_node_installs_the_locked_versions_by_hash() -> None:
    config = yaml.safe_load((TOP / "cluster.yaml").read_text())
    commands = " ".join(config["setup_commands"])
    assert "--require-hashes -r requirements.lock" in commands
    assert "0.0.0.0" not in (TOP / "cluster.yaml").read_text()
