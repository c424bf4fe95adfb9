"""One choice of device and precision, and what stays in fp32 whatever it is: at bf16 on the CPU, cast and autocast."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from melody_cm.autoencoders import GriffinLim, HiFiGANVocoder, ISTFTVocoder, MelAutoencoder
from melody_cm.autoencoders.codec import WaveformCodec
from melody_cm.autoencoders.waveform import WaveformAutoencoder
from melody_cm.diffusion.process import ddim_step, diffuse
from melody_cm.encoders.kmeans import LogMelKMeans
from melody_cm.interfaces import Network
from melody_cm.language_models import CausalTokenLM, Stream
from melody_cm.nn import AngleEmbedding
from melody_cm.placement import (
    Placement,
    allow_tf32,
    apply_keeping_fp32,
    check_quantization,
    keep_fp32,
    refuse_unlike_placements,
)

CPU = torch.device("cpu")
MEL = {"sample_rate": 8000, "n_fft": 256, "hop_length": 80, "num_mels": 16, "f_min": 0.0, "f_max": 4000.0}
HIFIGAN = {
    "upsampling": [5, 4, 2, 2], "upsampling_kernels": [11, 8, 4, 4], "first_channels": 32, "residual_kernels": [3],
    "residual_dilations": [1, 3],
}  # fmt: skip
RATES = {"sample_rate": 800, "downsampling": [2, 4], "residual_kernels": [3], "residual_dilations": [1]}
WAVES = {"encoder_channels": [4, 6], "decoder_channels": [6, 4], "decoder_first_channels": 8}
KERNELS = {"encoder_kernels": [5, 9], "decoder_kernels": [9, 5], "latent_channels": 3}


def mel_vae():
    sizes = {"block_out_channels": [8, 16], "latent_channels": 2, "layers_per_block": 1, "norm_num_groups": 4}
    return MelAutoencoder(GriffinLim(**MEL), **MEL, **sizes)


def codec():
    made = WaveformCodec(**RATES, **WAVES, width=6, num_codebooks=2, codebook_size=8)
    made.quantizer.learn(torch.randn(64, 6), seed=0)
    return made


# Each generator of sound, what it is called with, its last layer, and what is done with that one's output.
GENERATORS = {
    "hifigan": (lambda: HiFiGANVocoder(**MEL, **HIFIGAN), lambda net: net(torch.randn(2, 12, 16)),
                lambda net: net.model.conv_post, torch.tanh),
    "istft": (lambda: ISTFTVocoder(**MEL, width=24, hidden_width=48, num_blocks=2),
              lambda net: net(torch.randn(2, 12, 16)), lambda net: net.output, None),
    "audio VAE": (lambda: WaveformAutoencoder(**RATES, **WAVES, **KERNELS),
                  lambda net: net.decode(torch.randn(2, 3, 20)), lambda net: net.decoder.layers[-2], torch.tanh),
    "codec": (codec, lambda net: net.decode_codes(torch.randint(8, (2, 2, 20))),
              lambda net: net.decoder.layers[-2], torch.tanh),
    "mel VAE": (mel_vae, lambda net: net.decode_mel(torch.randn(2, 2, 6, 8)), lambda net: net.vae.decoder.conv_out,
                lambda image: image * 4 - 4),
}  # fmt: skip


def in_double(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    weight, bias = layer.weight.double(), layer.bias.double()
    if isinstance(layer, nn.Linear):
        return F.linear(x.double(), weight, bias)
    return (F.conv1d if isinstance(layer, nn.Conv1d) else F.conv2d)(x.double(), weight, bias, padding=layer.padding)


@pytest.mark.parametrize("cast", [True, False], ids=["to(bf16)", "autocast in training"])
@pytest.mark.parametrize("name", GENERATORS)
def test_the_last_layer_of_every_generator_of_sound_is_fp32(name, cast):
    build, call, last, then = GENERATORS[name]
    network = build()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)  # Nothing stays zero, and no weight a number of bf16.
    whole = [parameter.clone() for parameter in last(network).parameters()]
    if cast:
        network.to(torch.bfloat16)
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float32, torch.bfloat16}
    assert all(map(torch.equal, whole, last(network).parameters()))
    seen = []
    last(network).register_forward_hook(lambda layer, given, out: seen.append((in_double(layer, given[0]), out)))
    computing = Placement(CPU, "bf16").computing() if cast else torch.autocast("cpu", torch.bfloat16)
    with computing:
        sound = call(network)
    expected, made = seen[0]
    assert sound.dtype == made.dtype == torch.float32
    assert (made - expected).abs().max() < 1e-5 * expected.abs().max(), "a factor was rounded to bf16"
    assert (sound != sound.bfloat16().float()).float().mean() > 0.9, "what comes out has the digits of bf16"
    if then is not None:
        sound = sound.flatten(1)
        assert (sound - then(expected).flatten(1)[:, : sound.shape[1]]).abs().max() < 1e-4
    if not cast:
        sound.square().sum().backward()
        assert all(parameter.grad.dtype == torch.float32 for parameter in last(network).parameters())


def test_half_precision_halves_weights_but_not_norms_and_buffers():
    class Net(Network):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.BatchNorm1d(3), keep_fp32(nn.Linear(3, 3)))
            self.table = nn.Embedding(4, 3)
            self.register_buffer("angles", torch.rand(3))

    for halve in (
        lambda net: net.to(torch.bfloat16),
        lambda net: net.half(),
        lambda net: nn.Sequential(net).bfloat16(),
    ):
        net = Net()
        buffers = {name: value.clone() for name, value in net.named_buffers()}
        halve(net)
        halved = {name for name, value in net.named_parameters() if value.itemsize == 2}
        assert halved == {"body.0.weight", "body.0.bias", "table.weight"}
        assert all(torch.equal(value, buffers[name]) for name, value in net.named_buffers())
    assert {value.dtype for value in net.double().state_dict().values()} == {torch.float64, torch.int64}
    assert {value.device.type for value in net.to("meta").state_dict().values()} == {"meta"}


def test_angles_rotary_frequencies_and_centroids_stay_fp32():
    embedding, model = AngleEmbedding(8, 4), CausalTokenLM([Stream("semantic", 1, 8)], 16, 1, 2, 24)
    kmeans = LogMelKMeans(sample_rate=8000, codebook_size=4, num_mels=16, n_fft=256)
    kmeans.fit(torch.randn(64, 16), seed=0)
    angles, features = torch.linspace(1.0, 1.001, 5), torch.randn(1, 50, 16)
    known, codes, mel = embedding(angles), kmeans.quantize(features), kmeans.mel(torch.randn(1, 1, 800))
    frequencies = model.body.model.rotary_emb.inv_freq.clone()
    for network in (model, kmeans):
        network.to(torch.bfloat16)
    apply_keeping_fp32(embedding, lambda x: x.to(torch.bfloat16))
    torch.manual_seed(0)
    with Placement(CPU, "bf16").computing():
        assert torch.equal(embedding(angles), known)
        assert len(known.unique(dim=0)) == 5
        assert torch.equal(kmeans.quantize(features), codes)
        assert kmeans.mel(torch.randn(1, 1, 800)).dtype == mel.dtype == torch.float32
    assert torch.equal(model.body.model.rotary_emb.inv_freq, frequencies)


def test_the_diffusion_process_and_mels_do_not_feel_autocast():
    latent, noise, wave = torch.randn(2, 3, 5), torch.randn(2, 3, 5), torch.randn(2, 1, 800)
    angle, front_end = torch.rand(2), LogMelKMeans(8000, codebook_size=4, num_mels=16, n_fft=256).mel
    found = []
    for context in (nullcontext(), torch.autocast("cpu", torch.bfloat16)):
        with context:
            found.append([ddim_step(latent, noise, angle, angle / 2), diffuse(latent, noise, angle), front_end(wave)])
    assert all(map(torch.equal, *found))


def test_a_placement_is_chosen_by_names_and_refused_in_one_line():
    assert Placement.choose() == Placement(torch.device("cuda:0" if torch.cuda.is_available() else "cpu"), "fp32")
    assert Placement.choose("cpu", "bf16").dtype == torch.bfloat16
    for device, precision in (("cuda:99", "fp32"), ("tpu", "fp32"), ("cpu", "int8"), ("", "fp32")):
        with pytest.raises(ValueError, match=r"devices: auto, .*cpu$|fp32, bf16, fp16; give one of them$") as told:
            Placement.choose(device, precision)
        assert repr(device if precision == "fp32" else precision) in str(told.value)


def test_where_networks_are_is_read_from_them():
    assert Placement.of([nn.Linear(1, 1), nn.Linear(1, 1).bfloat16()]) == Placement(CPU, "bf16")
    assert Placement.of([nn.Linear(1, 1, device="meta")]).device.type == "meta"
    assert Placement.of([]) == Placement(CPU, "fp32")
    model = CausalTokenLM([Stream("semantic", 1, 8)], 16, 1, 2, 24)
    for placement in (Placement(CPU, "bf16", "int4"), Placement(CPU, "bf16")):
        placement.put([nn.Linear(1, 1), model])
        assert Placement.of([nn.Linear(1, 1), model]) == placement
        for dtype in (torch.float16, "fp16"):
            assert placement.moved("cpu", dtype) == Placement(CPU, "fp16", placement.quantization)
        with pytest.raises(ValueError, match=r"dtype int8 is none of fp32, bf16, fp16; give one of them"):
            placement.moved("cpu", "int8")


def test_results_of_unlike_placements_are_refused():
    cpu, half = ({"placement": Placement(CPU, precision).facts()} for precision in ("fp32", "bf16"))
    refuse_unlike_placements(cpu, cpu)
    refuse_unlike_placements({}, cpu)  # Older results, which knew nothing but fp32 on a CPU.
    with pytest.raises(ValueError, match="precision 'fp32' against 'bf16'"):
        refuse_unlike_placements({}, half)
    with pytest.raises(ValueError, match="'bf16' against 'bf16 with int4 language models'"):
        refuse_unlike_placements(half, {"placement": Placement(CPU, "bf16", "int4").facts()})


def test_a_quantization_is_chosen_by_name_and_only_on_a_cpu():
    assert Placement.choose("cpu", "fp32", "int8").quantization == "int8"
    with pytest.raises(ValueError, match="quantization 'int2' is none of int8, int4"):
        Placement.choose("cpu", "fp32", "int2")
    with pytest.raises(ValueError, match="int4 works on a CPU, not on cuda:1"):
        check_quantization("int4", torch.device("cuda:1"))


def test_tf32_is_allowed_on_gpus_alone(monkeypatch):
    said = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", said.append)
    allow_tf32(CPU)
    assert said == []
    allow_tf32(torch.device("cuda", 1))
    assert said == ["high"]
