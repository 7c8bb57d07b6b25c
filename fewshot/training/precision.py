"""Numbers that a device computes in: float32, or half as many bits where that is faster."""

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolved_precision(precision: str, device: torch.device) -> str:
    """What `auto` stands for on a device: bfloat16 where it has instructions for it, float32 elsewhere.

    Without them bfloat16 is correct, but slower than float32. Any other precision stands for itself.

    >>> resolved_precision("float16", torch.device("cpu"))
    'float16'
    """
    if precision != "auto":
        return precision
    return "bfloat16" if _computes_in_bfloat16(device) else "float32"


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context in which a network computes in a precision; float32 leaves it as it is."""
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "float32")


def _computes_in_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Private, but the only questions of torch 2.6 to 2.14 that ask for instructions and not for an emulation.
    asked = (torch.cpu._is_avx512_bf16_supported, torch.cpu._is_amx_tile_supported)
    return device.type == "cpu" and any(supported() for supported in asked)
