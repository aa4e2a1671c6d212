"""Picture files, still and animated: upright, in sRGB, on white."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from kinecast.errors import KinecastError, KinecastWarning, one_line
from kinecast.media.colour import HDR
from kinecast.media.display import Display, on_white
from kinecast.media.times import DEFAULT_FPS

# Listed, because Pillow otherwise takes text files for XBM, video for MPEG stubs, and runs Ghostscript on PostScript.
PICTURE_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "TIFF", "PPM", "JPEG2000")
PICTURE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".avif", ".heic", ".heif", ".hif"),
    *(".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2"),
)
_ANIMATED = ("PNG", "WEBP", "AVIF")  # further pictures in tiff and mpo are not frames
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1")  # of pictures; sequences are video
_MOST_PIXELS = 64_000_000  # a larger JPEG is decoded at 1/2, 1/4 or 1/8, which needs no extra memory
_LARGEST = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)  # errors of Pillow for other kinds
_MEANT = "transfer and primaries"  # in a picture's info, by their codes in ITU-T H.273
_SHORTEST = 0.011  # seconds: shorter delays are replaced, as in browsers
_UNTIMED = 0.1  # seconds, their replacement


def open_picture(path: Path) -> np.ndarray | None:
    """Read a picture file as an upright frame (H, W, 3), or return None if the file is not a picture.

    EXIF orientation and colour profiles are applied, transparent parts become white, 16-bit grey is scaled to 8 bits.
    Animated pictures give their first frame. A JPEG of more than 64 megapixels is read at reduced size.

    Raises:
        KinecastError: a damaged or too large picture.
    """
    frames = open_pictures(path)
    return None if frames is None else next(frames)[1]


def open_pictures(path: Path) -> Iterator[tuple[float, np.ndarray]] | None:
    """Return the frames of a picture file, as `open_picture`, each with its duration in seconds.

    None if the file is not a picture. A still lasts 1 / DEFAULT_FPS.

    Raises:
        KinecastError: as `open_picture`.
    """
    with _told(path):
        image = _opened(path)
    return None if image is None else _frames(path, image)


def picture_delays(path: Path) -> list[float] | None:
    """Return the duration of each frame of a picture file in seconds; None if the file is not a picture.

    Raises:
        KinecastError: as `open_picture`.
    """
    with _told(path):
        image = _opened(path)
    if image is None:
        return None
    if _count(image) > 1:
        return [seconds for seconds, _ in _frames(path, image)]
    image.close()
    return [1 / DEFAULT_FPS]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except KinecastError:
        raise
    # Pillow's readers raise SyntaxError, ValueError and EOFError on damaged data as well as OSError.
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise KinecastError(f"{path}: expected a complete picture, found {one_line(error)}: export it again") from error


def _opened(path: Path) -> Any:
    """Open a file with Pillow or libheif, without decoding it; None if it is not a picture."""
    with path.open("rb") as file:
        head = file.read(64)
    if _is_heif(head):
        return _heif(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=PICTURE_FORMATS)
    except UnidentifiedImageError as error:
        if head[4:12] == b"ftypavif":  # libav would call it an mp4
            raise ValueError("a truncated one") from error
        return None
    except Image.DecompressionBombError as error:
        if not head.startswith(b"\xff\xd8"):
            raise _too_large(path) from error
        image = JpegImageFile(path)
    if image.format == "AVIF":
        image.info[_MEANT] = _avif_meant(path)
    if image.format in ("JPEG", "MPO") and image.width * image.height > _MOST_PIXELS:
        part = next((n for n in (2, 4) if image.width * image.height <= _MOST_PIXELS * n * n), 8)
        image.draft(None, (image.width // part, image.height // part))
    return image


def _too_large(path: Path) -> KinecastError:
    return KinecastError(
        f"{path}: expected a picture of at most {_LARGEST // 10**6} megapixels, found a larger one: save it smaller, "
        "or as JPEG, which can be read at reduced size"
    )


def _is_heif(head: bytes) -> bool:
    """Distinguish HEIC from AVIF and from video by the brands at the start of the file: both may use mif1."""
    brands = [head[8:12], *(head[i : i + 4] for i in range(16, min(int.from_bytes(head[:4], "big"), len(head)), 4))]
    return head[4:8] == b"ftyp" and brands[0] in _HEIF_BRANDS and b"avif" not in brands


def _heif(path: Path) -> Any:
    import pi_heif  # rarely needed

    file = pi_heif.open_heif(path)
    if not len(file):
        raise ValueError("a truncated one")
    if file.size[0] * file.size[1] > _LARGEST:
        raise _too_large(path)
    image = file.to_pillow()
    meant = file.info.get("nclx_profile") or {}
    image.info[_MEANT] = meant.get("transfer_characteristics"), meant.get("color_primaries")
    return image


def _avif_meant(path: Path) -> tuple[int, int] | None:
    """Return transfer and primaries of an AVIF, which Pillow does not report."""
    with suppress(av.error.FFmpegError), av.open(f"file:{path}", options={"format_whitelist": "mov"}) as container:
        return next(((s.color_trc, s.color_primaries) for s in container.streams.video), None)
    return None


def _frames(path: Path, image: Any) -> Iterator[tuple[float, np.ndarray]]:
    count = _count(image)
    first = 1 if image.info.get("default_image") and count > 1 else 0  # for viewers without animation
    with image:
        for index in range(first, count):
            try:
                with _told(path):
                    if count > 1:
                        image.seek(index)
                    frame = _upright_rgb(path, image)
            except KinecastError:
                if index == first:
                    raise
                text = f"the file is cut off or damaged: the first {index - first} frames are used"
                warnings.warn(KinecastWarning(f"{path}: {text}"), stacklevel=2)
                return
            yield _seconds(image) if count > 1 else 1 / DEFAULT_FPS, frame


def _count(image: Any) -> int:
    return getattr(image, "n_frames", 1) if image.format in _ANIMATED else 1


def _seconds(image: Any) -> float:
    seconds = float(image.info.get("duration", 0)) / 1000
    return seconds if seconds >= _SHORTEST else _UNTIMED


def _upright_rgb(path: Path, image: Any) -> np.ndarray:
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # it copies all others too
        image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        image = _eight_bits(image)
    if (image.info.get(_MEANT) or (None,))[0] in HDR:
        return _tone_mapped(path, image)
    image = _in_srgb(path, image)
    if image.has_transparency_data:
        return on_white(image)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _eight_bits(image: Any) -> Any:
    """Scale grey of 16 bits or of floats, where Pillow's own conversion clips; its colour profile stays."""
    white = 1.0 if image.mode == "F" else 65535.0  # some 16-bit files open as "I"
    grey = np.clip(np.asarray(image, dtype=np.float64) / white, 0, 1)
    scaled = Image.fromarray(np.rint(grey * 255).astype(np.uint8))
    scaled.info = {key: image.info[key] for key in ("icc_profile", _MEANT) if key in image.info}
    return scaled


def _tone_mapped(path: Path, image: Any) -> np.ndarray:
    mode = "RGBA" if image.has_transparency_data else "RGB"
    frame: Any = av.VideoFrame.from_ndarray(np.array(image.convert(mode)), format="rgba" if mode == "RGBA" else "rgb24")
    frame.color_trc, frame.color_primaries = image.info[_MEANT]
    return Display(path, None)(frame)


def _in_srgb(path: Path, image: Any) -> Any:
    """Apply a picture's embedded colour profile, if it is not sRGB."""
    data = image.info.get("icc_profile")
    if not data:
        return image
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(data))
        if ImageCms.getProfileDescription(profile).startswith("sRGB"):
            return image
        converted = _through_profile(image, profile)
    except (ImageCms.PyCMSError, OSError) as error:
        text = f"the colour profile does not fit the picture ({one_line(error)}): colours are used unchanged"
        warnings.warn(KinecastWarning(f"{path}: {text}"), stacklevel=2)
        return image
    return converted


def _through_profile(image: Any, profile: Any) -> Any:
    """Return a picture in sRGB, with its transparency.

    Raises:
        ImageCms.PyCMSError: the profile is of another kind, grey for colours or colours for grey.
    """
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if image.mode != "CMYK":
        image = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
    converted: Any = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    if alpha is not None:
        converted.putalpha(alpha)
    return converted
