"""One picture from a file to pixels: every mode a file may have, one size, and a clear word when it cannot be read."""

import math
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as F

from zoo.data.folder import require_file
from zoo.errors import UserError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded, whatever a file is called: Pillow would start other programs for some of its formats."""
LONGEST = 8
"""Times as long as wide; what is beyond is cut off before a picture is resized, or it would take all memory."""
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""Pillow's mode for a number of channels; the last of 2 and of 4 is opacity."""

Pixels: TypeAlias = UInt8[np.ndarray, "c h w"]


def read_picture(path: Path, channels: int) -> Pixels:
    """Decode a file of any of `FORMATS`, turned as its EXIF data says.

    Raises:
        UserError: The file is not there or cannot be read; it is named.
    """
    require_file(path, SUFFIXES)
    try:
        with path.open("rb") as file:
            return decode(file, channels)
    except Exception as error:  # decoders raise whatever a malformed file leads them to
        reason = "it is no picture" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise UserError(f"cannot read the picture '{path}': {reason or type(error).__name__}") from error


def decode(file: IO[bytes], channels: int) -> Pixels:
    """The pixels of an encoded picture. Without a channel for opacity, what is transparent becomes white; 16 bits a
    channel become 8.

    Raises:
        UserError: No picture file has so many channels.
    """
    if channels not in MODES:
        raise UserError(
            f"picture files give 1 to {max(MODES)} channels, not {channels}; set embed.channels to one of them"
        )
    with Image.open(file, formats=FORMATS) as opened:
        picture = ImageOps.exif_transpose(opened)
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = _eight_bits(picture)
    elif picture.has_transparency_data and not MODES[channels].endswith("A"):
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    pixels = np.array(picture.convert(MODES[channels]))
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], channels).transpose(2, 0, 1))


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Grey of 16 bits, 32 bits (of which PNG and TIFF writers fill 16) or floats (to 1, else to 255) as 8 bits."""
    values = np.nan_to_num(np.asarray(picture).astype(np.float64))
    if picture.mode != "F":
        values = values / 257
    elif values.max() <= 1:
        values = values * 255
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


def fit_channels(picture: Pixels, channels: int) -> Pixels:
    """Grey as colour or colour as grey (ITU-R 601 luma); anything else must have the right number already.

    Raises:
        UserError: There is no way from the one to the other.
    """
    if picture.shape[0] == channels:
        return picture
    if {picture.shape[0], channels} == {1, 3}:
        if channels == 3:
            return np.repeat(picture, 3, axis=0)
        return F.rgb_to_grayscale(torch.from_numpy(picture)).numpy()
    raise UserError(
        f"a picture has {picture.shape[0]} channels, the model reads {channels}; set embed.channels={picture.shape[0]}"
    )


def fit_size(
    picture: Pixels,
    size: int,
    *,
    crop_fraction: float = 1.0,
    crop_mode: str = "center",
    interpolation: str = "bicubic",
    resizer: str = "torch",
) -> Pixels:
    """The centre square of a picture that was resized with antialiasing.

    Args:
        size: Of the square, pixels.
        crop_fraction: The square's side as a share of what is resized.
        crop_mode: `center` resizes the shorter side, `squash` each side by itself.
        interpolation: `bicubic`, `bilinear` or `nearest`.
        resizer: `torch`, with which the result is transformers' to the last bit, or `pillow`, with which it is timm's.
    """
    whole = math.floor(size / crop_fraction)
    if picture.shape[1:] == (whole, whole) == (size, size):
        return picture
    if crop_mode == "center":
        most = LONGEST * min(picture.shape[1:])
        top, left = (max(0, (side - most) // 2) for side in picture.shape[1:])
        picture = picture[:, top : picture.shape[1] - top, left : picture.shape[2] - left]
    shape = picture.shape[1:]
    height, width = (int(whole * side / min(shape)) if crop_mode == "center" else whole for side in shape)
    if resizer == "torch":
        mode = F.InterpolationMode(interpolation)
        resized = F.resize(torch.from_numpy(picture), [height, width], mode, antialias=True).numpy()
        top, left = ((side - size) // 2 for side in (height, width))
    else:
        way = Image.Resampling[interpolation.upper()]
        channels = [np.asarray(Image.fromarray(channel).resize((width, height), way)) for channel in picture]
        resized = np.stack(channels)
        top, left = (round((side - size) / 2) for side in (height, width))
    return resized[:, top : top + size, left : left + size]
