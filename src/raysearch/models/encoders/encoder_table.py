"""The table of pretrained encoders of pathology that timm or transformers build by themselves.

Arguments, licenses and training data are those of the model cards. The tests build each row without
weights, and compare its numbers of parameters and entries.
"""

from __future__ import annotations

from collections.abc import Mapping

from raysearch.models.encoders.encoder import Argument, Encoder

SWIGLU: Mapping[str, Argument] = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}
# The mean and standard deviation of H-optimus, and of Lunit's encoders.
OPTIMUS_MEAN, OPTIMUS_STD = (0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517)
LUNIT_MEAN, LUNIT_STD = (0.70322989, 0.53606487, 0.66096631), (0.21716536, 0.26081574, 0.20723464)
HALF = (0.5, 0.5, 0.5)
MASS_GENERAL = "slides of Mass General Brigham"
MEMORIAL = "slides of the Memorial Sloan Kettering Cancer Center"
TCGA = "TCGA"

_ROWS = (
    Encoder(
        name="uni",
        library="timm",
        model="vit_large_patch16_224",
        arguments={"init_values": 1e-5},
        num_parameters=303_350_784,
        num_entries=342,
        repository="MahmoodLab/UNI",
        license="cc-by-nc-nd-4.0",
        is_gated=True,
        pretrained_on=f"{MASS_GENERAL} and GTEx",
    ),
    Encoder(
        name="uni2-h",
        library="timm",
        model="vit_giant_patch14_224",
        arguments={
            **SWIGLU,
            "patch_size": 14,
            "depth": 24,
            "num_heads": 24,
            "embed_dim": 1536,
            "mlp_ratio": 2.66667 * 2,
            "reg_tokens": 8,
            "no_embed_class": True,
            "init_values": 1e-5,
        },
        num_parameters=681_394_176,
        num_entries=343,
        repository="MahmoodLab/UNI2-h",
        license="cc-by-nc-nd-4.0",
        is_gated=True,
        pretrained_on=f"{MASS_GENERAL} and GTEx",
    ),
    Encoder(
        name="virchow",
        library="timm",
        model="vit_huge_patch14_224",
        arguments={**SWIGLU, "mlp_ratio": 5.3375, "init_values": 1e-5, "global_pool": ""},
        pooling="class_mean",
        num_parameters=631_229_184,
        num_entries=454,
        repository="paige-ai/Virchow",
        license="apache-2.0",
        is_gated=True,
        pretrained_on=MEMORIAL,
    ),
    Encoder(
        name="virchow2",
        library="timm",
        model="vit_huge_patch14_224",
        arguments={
            **SWIGLU,
            "mlp_ratio": 5.3375,
            "init_values": 1e-5,
            "reg_tokens": 4,
            "global_pool": "",
        },
        pooling="class_mean",
        num_parameters=631_239_424,
        num_entries=455,
        repository="paige-ai/Virchow2",
        license="cc-by-nc-nd-4.0",
        is_gated=True,
        pretrained_on=f"{MEMORIAL} and of hospitals that consult it",
    ),
    *(
        Encoder(
            name=f"h-optimus-{version}",
            library="timm",
            model="vit_giant_patch14_reg4_dinov2",
            arguments={"init_values": 1e-5},
            mean=OPTIMUS_MEAN,
            std=OPTIMUS_STD,
            num_parameters=1_134_774_272,
            num_entries=567,
            repository=f"bioptimus/H-optimus-{version}",
            license=license_name,
            is_gated=True,
            pretrained_on="slides of clinical centers that are not published",
        )
        for version, license_name in ((0, "apache-2.0"), (1, "cc-by-nc-nd-4.0"))
    ),
    Encoder(
        name="h0-mini",
        library="timm",
        model="vit_base_patch14_reg4_dinov2",
        arguments={**SWIGLU, "mlp_ratio": 2.66667 * 2, "init_values": 1e-5, "global_pool": ""},
        pooling="class_mean",
        mean=OPTIMUS_MEAN,
        std=OPTIMUS_STD,
        num_parameters=85_739_520,
        num_entries=175,
        repository="bioptimus/H0-mini",
        is_gated=True,
        pretrained_on=f"{TCGA}, distilled from H-optimus-0",
    ),
    Encoder(
        name="gigapath",
        library="timm",
        model="vit_giant_patch14_dinov2",
        arguments={"patch_size": 16, "depth": 40, "mlp_ratio": 5.33334, "init_values": 1e-5},
        num_parameters=1_134_953_984,
        num_entries=566,
        repository="prov-gigapath/prov-gigapath",
        is_gated=True,
        pretrained_on="slides of Providence Health",
    ),
    Encoder(
        name="phikon",
        library="transformers",
        model="vit",
        num_parameters=85_798_656,
        num_entries=198,
        pooling="class",
        repository="owkin/phikon",
        license="owkin non-commercial",
        pretrained_on=TCGA,
    ),
    Encoder(
        name="phikon-v2",
        library="transformers",
        model="dinov2",
        arguments={
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "patch_size": 16,
            "image_size": 224,
        },
        pooling="class",
        num_parameters=303_351_808,
        num_entries=439,
        repository="owkin/phikon-v2",
        license="owkin non-commercial",
        pretrained_on=f"{TCGA}, CPTAC, GTEx and other public cohorts",
    ),
    Encoder(
        name="midnight-12k",
        library="transformers",
        model="dinov2",
        arguments={
            "hidden_size": 1536,
            "num_hidden_layers": 40,
            "num_attention_heads": 24,
            "patch_size": 14,
            "image_size": 224,
            "use_swiglu_ffn": True,
        },
        pooling="class_mean",
        mean=HALF,
        std=HALF,
        num_parameters=1_134_771_200,
        num_entries=807,
        repository="kaiko-ai/midnight",
        license="mit",
        pretrained_on=TCGA,
    ),
    *(
        Encoder(
            name=f"lunit-s{patch_size}",
            library="timm",
            model=f"vit_small_patch{patch_size}_224",
            mean=LUNIT_MEAN,
            std=LUNIT_STD,
            num_parameters=num_parameters,
            num_entries=150,
            repository=f"1aurent/vit_small_patch{patch_size}_224.lunit_dino",
            license="lunit non-commercial",
            pretrained_on=f"{TCGA} and slides of Lunit",
        )
        for patch_size, num_parameters in ((16, 21_665_664), (8, 21_670_272))
    ),
)

ENCODERS: Mapping[str, Encoder] = {encoder.name: encoder for encoder in _ROWS}
