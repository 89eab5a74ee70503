"""Which hyperparameters a training, or a network, reads."""

from raysearch.config.hyperparameter_readers import hparams_read_by, network_hparams


def test_hyperparameters_are_read_by_their_components_only() -> None:
    assert "momentum" in hparams_read_by({"optimizer": "sgd"})
    assert "momentum" not in hparams_read_by({})
    assert {"learning_rate", "batch_size", "head_dropout", "zoom"} <= hparams_read_by({})
    assert network_hparams("benchmark") == {"head_hidden_units", "head_batch_norm", "head_dropout"}
    assert "dropout" in network_hparams("timm:resnetv2_50")
    assert "stages" not in network_hparams("p4m")
