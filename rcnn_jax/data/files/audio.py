"""Recordings as log-mel frames: logarithms of the energy in bands of the mel scale, every 10 ms.

The frames are those of Kaldi, computed by kaldi-native-fbank: windows of 25 ms without dither, so
that the same recording always gives the same frames.
"""

from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax.data.files import wav
from rcnn_jax.data.notices import Notices

SUFFIX = ".wav"
_FULL = 32768.0  # Kaldi expects samples in the range of 16 bits.
# Nobody means floating samples beyond this as parts of full scale, which is 1.
_LOUDEST = 8.0
_FEWEST_BINS, _LOWEST = 3, 20.0  # bands, and their lower end in Hz, in Kaldi
_HIGHEST_RATE = 1_000_000
# A channel this many dB below the loudest one is silent.
_SILENT = 40.0
# How many dB more than n independent channels, equally loud, an average may take away.
_MORE = 2.5
MEAN = "mean"
_CHANNELS = {"left": 0, "right": 1}


def notices() -> tuple[Notices, Notices]:
    """Returns the warnings about recordings: of channels that averaging weakens, and of levels."""
    return (
        Notices("recordings lose much by averaging their channels"),
        Notices("recordings of 32 bits or more are as quiet as if they held fewer bits"),
    )


_NOTICES = notices()


def channel_number(channel: str) -> int | None:
    """Returns the number of the channel that an option names.

    Args:
        channel: `mean`, `left`, `right` or the number of a channel, counted from 0.

    Returns:
        The number; None for the average of all channels.

    Raises:
        ValueError: If the text is something else.
    """
    if channel == MEAN:
        return None
    if channel in _CHANNELS:
        return _CHANNELS[channel]
    if channel.isascii() and channel.isdecimal():
        return int(channel)
    raise ValueError(
        f"channel={channel} is no channel: allowed are mean, left, right and a number from 0"
    )


def read_wav(
    path: Path,
    rate: int,
    channel: int | None = None,
    warnings: tuple[Notices, Notices] = _NOTICES,
) -> np.ndarray:
    """Reads a recording.

    Integer samples count as parts of the full scale of their type, floating samples as parts of 1.
    One line on stderr says so if averaging makes the loudest channel much quieter: by more than
    2.5 dB above what it does to as many equally loud, independent channels, 3 dB for two, or if a
    channel is silent, 40 dB below the loudest. Another one says so if integer samples of 32 or 64
    bits are so small, 48 dB below full scale, and so finely graded that they may be 16 or 24 bits
    which nobody has scaled.

    Args:
        path: Path of a wav file; see `rcnn_jax.data.files.wav.read` for what it may hold.
        rate: Sampling rate of the result in Hz; a recording of another rate is resampled.
        channel: Number of the channel to read, from 0. None averages all channels.
        warnings: Where warnings about channels and about levels are counted, as `notices` makes
            them; by default, once in a process.

    Returns:
        Samples `float32[samples]` in `[-32768, 32768)`; floating samples may go beyond.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, holds no samples or has no such channel, or if
            floating samples are no numbers or are beyond 8.
    """
    import scipy.signal

    recorded_rate, samples = wav.read(path)
    if not len(samples):
        raise ValueError(f"{path} holds no samples")
    values = samples.astype(np.float64)
    if samples.dtype == np.uint8:
        values -= 128
        values /= 128
    elif samples.dtype.kind == "i":
        values /= -float(np.iinfo(samples.dtype).min)
        _warn_of_levels(path, samples, warnings[1])
    else:
        _check_levels(path, values)
    del samples  # an hour is large
    if channel is not None:
        channels = values.shape[1] if values.ndim > 1 else 1
        if channel >= channels:
            has = f"{channels} channels" if channels > 1 else "one channel"
            raise ValueError(f"{path} has {has}, counted from 0, and no channel {channel}")
        values = values[:, channel] if channels > 1 else values
    elif values.ndim > 1:
        several, values = values, values.mean(axis=1)
        _warn_of_channels(path, several, values, warnings[0])
    if recorded_rate != rate:
        divisor = np.gcd(recorded_rate, rate)
        values = scipy.signal.resample_poly(values, rate // divisor, recorded_rate // divisor)
    values *= _FULL
    return values.astype(np.float32)


def _check_levels(path: Path, values: np.ndarray) -> None:
    """Refuses floating samples that are no numbers, or that are numbers of 16 or more bits."""
    peak = max(float(values.max()), -float(values.min()))  # NaN if there is one
    if not np.isfinite(peak):
        raise ValueError(f"{path} holds samples that are no numbers")
    if peak > _LOUDEST:
        raise ValueError(
            f"{path} holds floating samples up to {peak:,.0f}, full scale is 1: integers of 16 "
            "bits were probably written as they were; write x / 32768 or x.astype('int16')"
        )


def _warn_of_levels(path: Path, samples: np.ndarray, notices: Notices) -> None:
    """Warns of wide integers that may be narrow ones in the wrong place."""
    bits = 8 * samples.dtype.itemsize
    if bits < 32:
        return
    # A recorder of 24 bits leaves the bits below them 0.
    peak = max(int(samples.max()), -int(samples.min()))
    if 0 < peak < 1 << (bits - 9) and (samples & ((1 << (bits - 24)) - 1)).any():
        notices.warn(
            path,
            f"{path} holds integers of {bits} bits, none of them beyond {peak:,}: it is read as "
            f"{20 * np.log10(peak / 2.0 ** (bits - 1)):.0f} dB of full scale; if they are 16 or 24 "
            "bits, write them as such or scale them up",
        )


def _energies(values: np.ndarray) -> np.ndarray:
    """Returns the mean square of each channel without its constant part, `[channels]`."""
    squares = np.einsum("tc,tc->c", values, values) / len(values)
    return np.maximum(squares - values.mean(axis=0) ** 2, 0)


def _warn_of_channels(path: Path, values: np.ndarray, mean: np.ndarray, notices: Notices) -> None:
    """Warns if the average of channels is much quieter than the loudest of them."""
    energies, count = _energies(values), values.shape[1]
    loudest, left = float(energies.max()), float(_energies(mean[:, None])[0])
    if loudest < 1e-12:  # all are silent
        return
    with np.errstate(divide="ignore"):
        levels = 10 * np.log10(energies)
        lost = 10 * np.log10(loudest) - 10 * np.log10(left)
    silent = int((levels < levels.max() - _SILENT).sum())
    if not silent and lost <= 10 * np.log10(count) + _MORE:
        return
    what = f"lowers the loudest of them by {lost:.1f} dB" if lost < 60 else "cancels them out"
    shown = ", ".join(f"{level:.0f}" if level > -120 else "silent" for level in levels[:8])
    more = ", ..." if count > 8 else ""
    notices.warn(
        path,
        f"{path}: averaging its {count} channels {what} (levels in dB of full scale: "
        f"{shown}{more}); one alone is read by the option channel of recordings:PATH, such as "
        f"recordings:PATH?channel={int(energies.argmax())}",
    )


def _transformed(rate: int) -> int:
    """Returns the number of samples that are transformed for a frame: 25 ms and zeros."""
    return 1 << max(int(rate * 0.025) - 1, 0).bit_length()


def _mel(hertz: np.ndarray | float) -> np.ndarray:
    return 1127 * np.log1p(np.asarray(hertz) / 700)


def bins_fit(rate: int, bins: int) -> bool:
    """Returns whether each of a number of bands holds a frequency of the transform of a frame.

    Args:
        rate: Sampling rate in Hz, at least 1.
        bins: Number of bands of the mel scale, at least 0.
    """
    size = _transformed(rate)
    if bins < _FEWEST_BINS or rate <= 2 * _LOWEST or size < 4:
        return False
    places = _mel(np.arange(size // 2) * rate / size)
    edges = np.linspace(_mel(_LOWEST), _mel(rate / 2), bins + 2)
    # The next frequency above the lower end of each band lies below its upper end.
    above = np.append(places, np.inf)[np.searchsorted(places, edges[:-2], side="right")]
    return bool((above < edges[2:]).all())


def check_bins(rate: int, bins: int) -> None:
    """Checks the options from which frames are computed.

    Args:
        rate: Sampling rate in Hz.
        bins: Number of bands of the mel scale.

    Raises:
        ValueError: If there are no frames of such a rate or of so many bands. The message names the
            option and what is allowed.
    """
    if not 1 <= rate <= _HIGHEST_RATE or not bins_fit(rate, _FEWEST_BINS):
        raise ValueError(f"rate={rate} is no sampling rate in Hz for frames, such as 8000 or 16000")
    if not bins_fit(rate, bins):
        most = _FEWEST_BINS
        while bins_fit(rate, most + 1):
            most += 1
        raise ValueError(
            f"bins={bins}: at rate={rate} there are {_FEWEST_BINS} to {most} bands of the mel "
            "scale, each of which must hold a frequency of the transform of 25 ms"
        )


def log_mel(samples: np.ndarray, rate: int, bins: int) -> np.ndarray:
    """Computes the log-mel frames of a recording.

    Args:
        samples: Samples `[samples]` in the range of 16 bits, as `read_wav` returns them.
        rate: Sampling rate of the samples in Hz.
        bins: Number of bands of the mel scale, between 20 Hz and half the rate.

    Returns:
        Frames `float32[time, bins]`, one per 10 ms.

    Raises:
        ValueError: If there are too few samples for one frame, or the library is not installed.
    """
    try:
        import kaldi_native_fbank
    except ImportError as error:
        raise ValueError(
            f"log-mel frames need kaldi-native-fbank ({error}): pip install 'rcnn-jax[audio]'"
        ) from error
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = rate
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = bins
    fbank = kaldi_native_fbank.OnlineFbank(options)
    values: Any = np.asarray(samples, np.float32)
    fbank.accept_waveform(rate, values)
    fbank.input_finished()
    frames = [fbank.get_frame(number) for number in range(fbank.num_frames_ready)]
    if not frames:
        raise ValueError(f"{len(samples)} samples at {rate} a second are too few for one frame")
    return np.stack(frames).astype(np.float32)


def read_frames(
    path: Path,
    rate: int,
    bins: int,
    channel: int | None = None,
    warnings: tuple[Notices, Notices] = _NOTICES,
) -> np.ndarray:
    """Reads the log-mel frames of a wav file.

    Args:
        path: Path of a wav file; see `rcnn_jax.data.files.wav.read` for what it may hold.
        rate: Sampling rate in Hz at which frames are computed; other recordings are resampled.
        bins: Number of bands of the mel scale, between 20 Hz and half the rate.
        channel: Number of the channel to read, from 0. None averages all channels.
        warnings: Where warnings about channels and about levels are counted; see `read_wav`.

    Returns:
        Frames `float32[time, bins]`, one per 10 ms.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read or is too short for one frame.
    """
    samples = read_wav(path, rate, channel, warnings)
    try:
        return log_mel(samples, rate, bins)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
