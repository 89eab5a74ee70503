"""Which hyperparameters a network reads."""

from raysearch.config.hyperparameter_readers import network_hparams


def test_hyperparameters_are_read_by_their_components_only() -> None:
    read_by_all = {"head_hidden_units", "head_batch_norm", "head_dropout", "input_size", "resize"}
    read_by_all |= {"head_hidden_layers", "adaptation", "features", "classifier", "num_neighbors"}
    assert network_hparams("benchmark") == read_by_all
    assert "dropout" in network_hparams("timm:resnetv2_50")
    assert "stages" not in network_hparams("p4m")
