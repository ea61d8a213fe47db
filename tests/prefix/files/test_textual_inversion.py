"""Prefixes reach other programs, and theirs us, bit for bit."""

from __future__ import annotations

import dataclasses
import json
import struct

import pytest
import safetensors.torch
import torch

from anonymize_faces.prefix import (
    Prefix,
    PrefixFileError,
    PrefixFileExistsError,
    PrefixMismatchError,
    PrefixRecord,
    load_prefix,
    save_prefix,
    save_textual_inversion,
)

SD1 = {"l": 768}
SDXL = {"l": 768, "g": 1280}


@pytest.fixture(scope="session")
def pipelines(host):
    """diffusers' own pipelines around text encoders of the real widths and one layer, and small other parts."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
    from diffusers import StableDiffusionPipeline as Sd1
    from diffusers import StableDiffusionXLPipeline as Sdxl
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    def encoder(cls, width):
        sizes = {"num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 8, "projection_dim": 8}
        return cls(CLIPTextConfig(hidden_size=width, **sizes))

    def make(family):
        tokenizer = CLIPTokenizer.from_pretrained(host / "comfy" / "sd1_tokenizer")
        parts = {
            "vae": AutoencoderKL(block_out_channels=(32,)),
            "unet": UNet2DConditionModel(
                block_out_channels=(32,),
                down_block_types=("DownBlock2D",),
                up_block_types=("UpBlock2D",),
                cross_attention_dim=8,
            ),
            "scheduler": EulerDiscreteScheduler(steps_offset=1),
            "tokenizer": tokenizer,
            "text_encoder": encoder(CLIPTextModel, 768),
        }
        if family == "sd1":
            return Sd1(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
        second = CLIPTokenizer.from_pretrained(host / "comfy" / "sd1_tokenizer")
        return Sdxl(**parts, tokenizer_2=second, text_encoder_2=encoder(CLIPTextModelWithProjection, 1280))

    return make


def learned_rows(encoder, tokenizer, count: int) -> torch.Tensor:
    """What diffusers put behind the word `<anonymous>`."""
    words = tokenizer.tokenize(" ".join(["<anonymous>", *(f"<anonymous>_{n}" for n in range(1, count))]))
    rows = encoder.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids(words)]
    assert len(words) == count
    return rows.detach()


def test_diffusers_loads_an_sd1_export_bit_for_bit(pipelines, make_prefix, tmp_path):
    prefix = make_prefix(10, **SD1)
    path = save_textual_inversion(prefix, tmp_path / "anonymous.safetensors")
    pipeline = pipelines("sd1")
    pipeline.load_textual_inversion(path, token="<anonymous>")
    rows = learned_rows(pipeline.text_encoder, pipeline.tokenizer, 10)
    assert torch.equal(rows, prefix.vectors["l"])


def test_diffusers_loads_an_sdxl_export_bit_for_bit_in_two_goes(pipelines, make_prefix, tmp_path):
    prefix = make_prefix(4, **SDXL)
    path = save_textual_inversion(prefix, tmp_path / "anonymous.safetensors")
    pipeline = pipelines("sdxl")
    tensors = safetensors.torch.load_file(path)
    for key, encoder, tokenizer in (
        ("l", pipeline.text_encoder, pipeline.tokenizer),
        ("g", pipeline.text_encoder_2, pipeline.tokenizer_2),
    ):
        pipeline.load_textual_inversion(
            tensors[f"clip_{key}"], token="<anonymous>", text_encoder=encoder, tokenizer=tokenizer
        )
        assert torch.equal(learned_rows(encoder, tokenizer, 4), prefix.vectors[key])


@pytest.mark.parametrize("widths", [SD1, SDXL], ids=["sd1", "sdxl"])
def test_comfyui_loads_an_export_bit_for_bit(comfy, make_prefix, tmp_path, widths):
    prefix = make_prefix(10, **widths)
    save_textual_inversion(prefix, tmp_path / "anonymous.safetensors")
    for key, width in widths.items():
        loaded = comfy.sd1_clip.load_embed("anonymous", str(tmp_path), width, f"clip_{key}")
        assert loaded.dtype == torch.float32 and torch.equal(loaded, prefix.vectors[key])


def test_an_sd1_export_is_the_one_tensor_that_a1111_wants(make_prefix, tmp_path):
    path = save_textual_inversion(make_prefix(3, **SD1), tmp_path / "anonymous.safetensors")
    assert [(name, list(t.shape)) for name, t in safetensors.torch.load_file(path).items()] == [
        ("emb_params", [3, 768])
    ]


@pytest.mark.parametrize("widths", [{"h": 1024}, {"l": 192}, {"l": 768, "t5xxl": 4096}, {"g": 1280}])
def test_a_prefix_that_no_other_program_takes_is_not_exported(make_prefix, tmp_path, widths):
    with pytest.raises(PrefixMismatchError, match=r"Only prefixes for SD1 and SDXL.*: save it as safetensors"):
        save_textual_inversion(make_prefix(2, **widths), tmp_path / "p.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_prefix_learned_at_no_usual_layer_is_not_exported_where_nothing_could_say_so(make_prefix, tmp_path):
    def learned_at(widths, **layers):
        made = make_prefix(2, **widths)
        return Prefix(made.vectors, dataclasses.replace(made.record, layers=layers))

    for number, prefix in enumerate((learned_at(SD1, l=[-2, -1]), learned_at(SDXL, l=[-2], g=[-2, -1]))):
        assert save_textual_inversion(prefix, tmp_path / f"{number}.safetensors").is_file()
    for prefix in (learned_at(SD1, l=[-2]), learned_at(SDXL, l=[-1])):
        with pytest.raises(PrefixMismatchError, match="which a textual inversion cannot say: save it as safetensors"):
            save_textual_inversion(prefix, tmp_path / "p.safetensors")
    assert not (tmp_path / "p.safetensors").exists()


def test_an_export_overwrites_nothing(make_prefix, tmp_path):
    path = save_textual_inversion(make_prefix(2, **SD1), tmp_path / "p.safetensors")
    before = path.read_bytes()
    with pytest.raises(PrefixFileExistsError):
        save_textual_inversion(make_prefix(2, seed=1, **SD1), path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("widths", [SD1, SDXL], ids=["sd1", "sdxl"])
def test_an_export_comes_back_with_the_same_vectors_and_a_record_that_says_what_is_not_known(
    make_prefix, tmp_path, widths
):
    prefix = make_prefix(10, **widths)
    loaded = load_prefix(save_textual_inversion(prefix, tmp_path / "anonymous.safetensors"))
    assert loaded.widths == prefix.widths
    assert all(torch.equal(loaded.vectors[key], prefix.vectors[key]) for key in widths)
    assert loaded.record.family == ("sdxl" if "g" in widths else "sd1")
    assert (loaded.record.fingerprint, loaded.record.steps, loaded.record.name) == ("", 0, "anonymous")
    assert "Imported from the textual inversion 'anonymous.safetensors'" in loaded.record.notes
    assert "Not known: the checkpoint" in loaded.record.notes


def test_an_import_can_be_saved_as_a_prefix_file_and_keeps_that_record(make_prefix, tmp_path):
    imported = load_prefix(save_textual_inversion(make_prefix(10, **SD1), tmp_path / "anonymous.safetensors"))
    again = load_prefix(save_prefix(imported, tmp_path / "kept.safetensors"))
    assert again.record == imported.record and torch.equal(again.vectors["l"], imported.vectors["l"])


def apl_file(vectors: torch.Tensor):
    """What `EmbeddingManager.save` of the APL authors' code saves."""
    parameters = torch.nn.ParameterDict({"alz": torch.nn.Parameter(vectors)})
    return {"string_to_token": {"alz": torch.tensor(1985)}, "string_to_param": parameters}


def a1111_file(vectors: torch.Tensor):
    name = {"name": "anonymous", "step": 500, "sd_checkpoint": "cc6cb27103", "sd_checkpoint_name": "v1-5"}
    return {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, **name}


def old_parameter_dict_file(vectors: torch.Tensor):
    """A `ParameterDict` as torch before 1.12 pickled it: no list of keys, all in `_parameters`."""
    content = apl_file(vectors)
    del content["string_to_param"].__dict__["_keys"]
    return content


FILES = {
    "apl.pt": apl_file,
    "apl_of_old_torch.pt": old_parameter_dict_file,
    "plain_dictionary.pt": lambda v: {"string_to_token": {"alz": 1985}, "string_to_param": {"alz": v}},
    "a1111.pt": a1111_file,
    "a1111_parameter.pt": lambda v: a1111_file(torch.nn.Parameter(v)),
    "learned_embeds.bin": lambda v: {"<anonymous>": v},
    "LEARNED.BIN": lambda v: {"<anonymous>": v},
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("key", "width"), [("l", 768), ("g", 1280), ("h", 1024)])
def test_vectors_that_torch_saved_come_in_bit_for_bit(tmp_path, name, key, width):
    vectors = torch.randn(10, width)
    torch.save(FILES[name](vectors), tmp_path / name)
    loaded = load_prefix(tmp_path / name)
    assert loaded.widths == {key: width} and torch.equal(loaded.vectors[key], vectors)
    assert name in loaded.record.notes


def test_both_encoders_of_sdxl_come_in_from_torch_as_well(tmp_path):
    tensors = {"clip_l": torch.randn(2, 768), "clip_g": torch.randn(2, 1280)}
    torch.save(tensors, tmp_path / "p.pt")
    loaded = load_prefix(tmp_path / "p.pt")
    assert all(torch.equal(loaded.vectors[key], tensors[f"clip_{key}"]) for key in ("l", "g"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["p.pt", "p.safetensors"])
def test_half_precision_becomes_float32_with_the_same_values(tmp_path, dtype, name):
    vectors = torch.randn(3, 768).to(dtype)
    save = safetensors.torch.save_file if name.endswith("safetensors") else torch.save
    save({"anything": vectors}, tmp_path / name)
    assert torch.equal(load_prefix(tmp_path / name).vectors["l"], vectors.float())


def test_a_single_vector_may_be_a_bare_row(tmp_path):
    torch.save({"<anonymous>": torch.ones(768)}, tmp_path / "p.bin")
    assert load_prefix(tmp_path / "p.bin").vectors["l"].shape == (1, 768)


@pytest.mark.parametrize(
    ("content", "reason"),
    {
        "a table of no known width": ({"x": torch.zeros(2, 500)}, "500 numbers.*SD1 have 768"),
        "a name that does not fit the width": ({"clip_l": torch.zeros(2, 1280)}, "1280 numbers"),
        "vectors of two words": ({"string_to_param": {"a": torch.zeros(1, 768), "b": torch.zeros(1, 768)}}, "several"),
        "a model": ({"conv.weight": torch.zeros(2, 768), "conv.bias": torch.zeros(768)}, "no textual inversion"),
        "a bare list": ([torch.zeros(2, 768)], "no vectors by name"),
        "nothing": ({}, "no vectors"),
        "text": ({"x": "vectors"}, "something else"),
        "three dimensions": ({"x": torch.zeros(1, 2, 768)}, r"table \[m, d\]"),
        "no vector": ({"x": torch.zeros(0, 768)}, r"table \[m, d\]"),
        "whole numbers": ({"x": torch.zeros(2, 768, dtype=torch.int64)}, "int64, and must be float32"),
        "double precision": ({"x": torch.zeros(2, 768, dtype=torch.float64)}, "float64"),
        "not a number": ({"x": torch.full((2, 768), torch.nan)}, "not finite"),
        "infinite": ({"x": torch.full((2, 768), torch.inf).half()}, "not finite"),
        "one row ten million times": ({"x": torch.zeros(768).expand(10_000_000, 768)}, "10000000 vectors, and no"),
        "columns for rows": ({"x": torch.zeros(768, 10)}, "768 rows and 10 columns lies on its side.*transposed"),
        "too many": ({"x": torch.zeros(2000, 768)}, "2000 vectors, and no prompt has room"),
        "other lengths": ({"clip_l": torch.zeros(2, 768), "clip_g": torch.zeros(3, 1280)}, "as many vectors"),
    }.values(),
)
def test_what_is_no_textual_inversion_is_refused_with_the_reason(tmp_path, content, reason):
    torch.save(content, tmp_path / "p.pt")
    with pytest.raises(PrefixFileError, match=rf"'p\.pt' cannot be used as a prefix: .*{reason}.*Choose another file"):
        load_prefix(tmp_path / "p.pt")


def tables(**names: int) -> dict[str, torch.Tensor]:
    """Vectors by name, of these widths."""
    return {name: torch.randn(3, width) for name, width in names.items()}


FOREIGN = {
    "Flux, by ComfyUI": (tables(clip_l=768, t5xxl=4096), {"l": "clip_l", "t5xxl": "t5xxl"}, "flux"),
    "Flux, by OneTrainer": (tables(clip_l=768, t5=4096), {"l": "clip_l", "t5xxl": "t5"}, "flux"),
    "SD3": (tables(clip_l=768, clip_g=1280, t5xxl=4096), {"l": "clip_l", "g": "clip_g", "t5xxl": "t5xxl"}, "sd3"),
    "SD1, by diffusers": (tables(text_encoders_0=768), {"l": "text_encoders_0"}, "sd1"),
    "SDXL, by diffusers": (
        tables(text_encoders_0=768, text_encoders_1=1280),
        {"l": "text_encoders_0", "g": "text_encoders_1"},
        "sdxl",
    ),
    "the other way round": (
        tables(text_encoders_0=1280, text_encoders_1=768),
        {"g": "text_encoders_0", "l": "text_encoders_1"},
        "sdxl",
    ),
    "Flux, by diffusers": (
        tables(text_encoders_0=768, text_encoders_1=4096),
        {"l": "text_encoders_0", "t5xxl": "text_encoders_1"},
        "flux",
    ),
    "a T5 alone": (tables(t5xxl=4096), {"t5xxl": "t5xxl"}, ""),
}


@pytest.mark.parametrize(("content", "names", "family"), FOREIGN.values(), ids=list(FOREIGN))
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_names_that_others_give_are_read_where_the_widths_tell_the_encoder(tmp_path, content, names, family, suffix):
    path = tmp_path / f"p{suffix}"
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(content, path)
    loaded = load_prefix(path)
    assert loaded.record.family == family and loaded.widths.keys() == names.keys()
    assert all(torch.equal(loaded.vectors[key], content[name]) for key, name in names.items())


@pytest.mark.parametrize(
    ("content", "reason"),
    {
        "output embeddings": (tables(clip_l_out=768, clip_g_out=1280), "output embeddings of OneTrainer"),
        "both kinds": (tables(clip_l=768, clip_l_out=768), "output embeddings of OneTrainer"),
        "output embedding of SD1": (tables(emb_params_out=768), "output embeddings of OneTrainer"),
        "two for one encoder": (tables(text_encoders_0=768, text_encoders_1=768), "two sets of vectors"),
        "4096 of somebody": (tables(x=4096), "4096 under the name t5xxl"),
        "a LoRA of kohya": (
            {f"lora_unet_down_{n}.lora_{kind}.weight": torch.zeros(4, 8) for n in range(99) for kind in ("up", "down")},
            "it is a LoRA, not a prefix",
        ),
        "a small LoRA of peft": (
            {"unet.q.lora_A.weight": torch.zeros(4, 8), "unet.q.lora_B.weight": torch.zeros(4, 8)},
            "it is a LoRA, not a prefix",
        ),
        "a LyCORIS": ({f"lora_te_{n}.hada_w1_a": torch.zeros(4, 8) for n in range(99)}, "it is a LoRA, not a prefix"),
        "a checkpoint": (
            {f"model.diffusion_model.input_blocks.{n}.weight": torch.zeros(4, 8) for n in range(99)},
            "it is a checkpoint, not a prefix",
        ),
        "a text encoder": (
            {f"text_model.encoder.layers.{n}.mlp.fc1.weight": torch.zeros(4, 8) for n in range(99)},
            "it is a text encoder, not a prefix",
        ),
        "a VAE": ({f"decoder.up.{n}.weight": torch.zeros(4, 8) for n in range(99)}, "it is a VAE, not a prefix"),
    }.values(),
)
@pytest.mark.parametrize("name", ["p.safetensors", "p.pt"])
def test_what_holds_something_else_is_called_what_it_is(tmp_path, content, reason, name):
    (safetensors.torch.save_file if name.endswith("safetensors") else torch.save)(content, tmp_path / name)
    with pytest.raises(PrefixFileError, match=reason):
        load_prefix(tmp_path / name)


@pytest.mark.parametrize("name", ["p.safetensors", "p.pt"])
def test_a_lora_too_large_to_be_read_is_called_one(tmp_path, name):
    content = {f"lora_unet_{n}.lora_up.weight": torch.zeros(2**20) for n in range(17)}
    (safetensors.torch.save_file if name.endswith("safetensors") else torch.save)(content, tmp_path / name)
    with pytest.raises(PrefixFileError, match="it is a LoRA, not a prefix"):
        load_prefix(tmp_path / name)


def test_a_table_that_torch_keeps_by_columns_is_read_by_rows(tmp_path):
    vectors = torch.randn(768, 8).T
    torch.save({"x": vectors}, tmp_path / "p.pt")
    assert torch.equal(load_prefix(tmp_path / "p.pt").vectors["l"], vectors)


@pytest.mark.parametrize(("name", "other"), [("p.safetensors", "p.pt"), ("p.pt", "p.safetensors")])
def test_a_file_is_read_by_what_is_in_it_and_not_by_its_name(make_prefix, tmp_path, name, other):
    vectors = torch.randn(3, 768)
    (safetensors.torch.save_file if name.endswith("safetensors") else torch.save)({"x": vectors}, tmp_path / name)
    (tmp_path / name).rename(tmp_path / other)
    assert torch.equal(load_prefix(tmp_path / other).vectors["l"], vectors)
    own = save_prefix(make_prefix(3, **SD1), tmp_path / "own.safetensors")
    assert load_prefix(own.rename(tmp_path / "own.bin")).record.fingerprint == "0" * 16


def test_a_prefix_file_that_lost_its_record_is_not_taken_for_a_textual_inversion(tmp_path):
    safetensors.torch.save_file({"l": torch.zeros(2, 768)}, tmp_path / "p.safetensors")
    with pytest.raises(PrefixFileError, match="no record"):
        load_prefix(tmp_path / "p.safetensors")


def test_ten_million_vectors_are_refused(tmp_path):
    for shape, body in (([10_000_000, 1], 40_000_000), ([10_000_000, 768], 64)):
        entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, body]}
        record = PrefixRecord(family="sd1", fingerprint="").to_json()
        header = json.dumps({"__metadata__": {"record": record}, "l": entry}).encode()
        (tmp_path / "p.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(body))
        with pytest.raises(PrefixFileError, match="cannot be used as a prefix"):
            load_prefix(tmp_path / "p.safetensors")
