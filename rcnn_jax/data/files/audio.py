"""Recordings as log-mel frames: logarithms of the energy in bands of the mel scale, every 10 ms.

The frames are those of Kaldi, computed by kaldi-native-fbank: windows of 25 ms without dither, so
that the same recording always gives the same frames.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

SUFFIX = ".wav"
_FULL = 32768.0  # Kaldi expects samples in the range of 16 bits.


def read_wav(path: Path, rate: int) -> np.ndarray:
    """Reads a recording.

    Args:
        path: Path of a wav file with integer or floating samples; channels are averaged.
        rate: Sampling rate of the result in Hz; a recording of another rate is resampled.

    Returns:
        Samples `float32[samples]` in `[-32768, 32768)`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a wav file, is truncated, or holds no samples.
    """
    import scipy.io.wavfile
    import scipy.signal

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", scipy.io.wavfile.WavFileWarning)
            # Chunks without audio, such as a title, are not an error.
            warnings.filterwarnings("ignore", "Chunk .non-data. not understood")
            recorded_rate, samples = scipy.io.wavfile.read(path)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{path} cannot be read as a wav file: {error}") from error
    if not len(samples) or recorded_rate < 1:
        raise ValueError(f"{path} holds {len(samples)} samples at {recorded_rate} a second")
    if samples.dtype == np.uint8:
        values = (samples.astype(np.float64) - 128) / 128
    elif samples.dtype.kind == "i":
        values = samples / -float(np.iinfo(samples.dtype).min)
    else:
        values = samples.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{path} holds samples that are no numbers")
    if values.ndim > 1:
        values = values.mean(axis=1)
    if recorded_rate != rate:
        divisor = np.gcd(recorded_rate, rate)
        values = scipy.signal.resample_poly(values, rate // divisor, recorded_rate // divisor)
    return (values * _FULL).astype(np.float32)


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


def read_frames(path: Path, rate: int, bins: int) -> np.ndarray:
    """Reads the log-mel frames of a wav file.

    Args:
        path: Path of a wav file with integer or floating samples; channels are averaged.
        rate: Sampling rate in Hz at which frames are computed; other recordings are resampled.
        bins: Number of bands of the mel scale, between 20 Hz and half the rate.

    Returns:
        Frames `float32[time, bins]`, one per 10 ms.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read or is too short for one frame.
    """
    samples = read_wav(path, rate)
    try:
        return log_mel(samples, rate, bins)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
