"""Recordings: samples of every type, frames against their formulas, and strings of digits."""

import numpy as np
import pytest
import scipy.io.wavfile

from rcnn_jax.data import notices
from rcnn_jax.data.datasets.draws import Draws
from rcnn_jax.data.datasets.lines import spoken_digits
from rcnn_jax.data.files import audio
from rcnn_jax.data.files.audio import log_mel, read_frames, read_wav
from rcnn_jax.data.text.alphabet import decoded

RATE = 8_000
RNG = np.random.default_rng(0)
SOUND = (RNG.normal(0, 3_000, 1_300) + 9_000 * np.sin(np.arange(1_300) / 4)).astype(np.int16)


def mel(hertz):
    return 1127 * np.log1p(np.asarray(hertz) / 700)


def frames_by_hand(samples, rate, bins):
    """Windows of 25 ms each 10 ms, mirrored at the ends, and triangles on the mel scale."""
    length, shift = rate // 40, rate // 100
    count = (len(samples) + shift // 2) // shift
    index = np.arange(length) + shift * np.arange(count)[:, None] + (shift - length) // 2
    index = np.where(index < 0, -1 - index, index)
    index = np.where(index >= len(samples), 2 * len(samples) - 1 - index, index)
    frames = samples[index].astype(np.float64)
    frames -= frames.mean(axis=1, keepdims=True)
    frames -= 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames *= (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))) ** 0.85
    size = 1 << (length - 1).bit_length()
    power = np.abs(np.fft.rfft(frames, size)) ** 2
    edges = np.linspace(mel(20), mel(rate / 2), bins + 2)
    place = mel(np.arange(size // 2) * rate / size)[:, None]
    rising, falling = place - edges[:-2], edges[2:] - place
    triangles = np.maximum(0, np.minimum(rising, falling) / (edges[1] - edges[0]))
    return np.log(np.maximum(power[:, : size // 2] @ triangles, np.finfo(np.float32).eps))


def test_frames_are_those_of_the_formulas():
    found = log_mel(SOUND, RATE, 12)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, frames_by_hand(SOUND, RATE, 12), atol=2e-3)
    np.testing.assert_array_equal(found, log_mel(SOUND, RATE, 12))


def test_samples_of_every_type_are_the_same_sound(tmp_path):
    for name, samples in (
        ("int16", SOUND),
        ("int32", SOUND.astype(np.int32) << 16),
        ("float", (SOUND / 32768).astype(np.float32)),
        ("stereo", np.stack([SOUND, SOUND], axis=1)),
    ):
        scipy.io.wavfile.write(tmp_path / f"{name}.wav", RATE, samples)
        found = read_wav(tmp_path / f"{name}.wav", RATE)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, SOUND)
    scipy.io.wavfile.write(tmp_path / "a.wav", RATE, ((SOUND >> 8) + 128).astype(np.uint8))
    np.testing.assert_array_equal(read_wav(tmp_path / "a.wav", RATE), (SOUND >> 8) * 256)


def test_what_else_a_file_says_is_passed_over(tmp_path):
    path = tmp_path / "a.wav"
    scipy.io.wavfile.write(path, RATE, SOUND)
    whole = path.read_bytes() + b"mine\x04\0\0\0text"
    path.write_bytes(whole[:4] + (len(whole) - 8).to_bytes(4, "little") + whole[8:])
    np.testing.assert_array_equal(read_wav(path, RATE), SOUND)


def test_a_recording_with_another_rate_sounds_the_same(tmp_path):
    tone = (9_000 * np.sin(2 * np.pi * 440 * np.arange(4_800) / 48_000)).astype(np.int16)
    scipy.io.wavfile.write(tmp_path / "a.wav", 48_000, tone)
    found = read_wav(tmp_path / "a.wav", RATE)
    assert found.shape == (800,)
    expected = 9_000 * np.sin(2 * np.pi * 440 * np.arange(800) / RATE)
    np.testing.assert_allclose(found[50:-50], expected[50:-50], atol=60)


def test_what_is_no_recording(tmp_path):
    whole = tmp_path / "whole.wav"
    scipy.io.wavfile.write(whole, RATE, SOUND)
    scipy.io.wavfile.write(tmp_path / "silent.wav", RATE, SOUND[:0])
    scipy.io.wavfile.write(tmp_path / "short.wav", RATE, SOUND[:20])
    scipy.io.wavfile.write(tmp_path / "nan.wav", RATE, np.full(400, np.nan, np.float32))
    (tmp_path / "cut.wav").write_bytes(whole.read_bytes()[:-1001])
    (tmp_path / "text.wav").write_bytes(b"hello")
    for name, says in (
        ("silent", "holds no samples"),
        ("short", "20 samples at 8000 a second are too few for one frame"),
        ("nan", "samples that are no numbers"),
        ("cut", "cannot be read as a wav file"),
        ("text", "cannot be read as a wav file"),
    ):
        with pytest.raises(ValueError, match=f"{name}.wav.*{says}"):
            read_frames(tmp_path / f"{name}.wav", RATE, 12)
    with pytest.raises(FileNotFoundError):
        read_wav(tmp_path / "gone.wav", RATE)


def test_one_channel_or_the_average_of_all(tmp_path):
    path = tmp_path / "a.wav"
    channels = np.stack([SOUND, SOUND[::-1], np.zeros_like(SOUND)], axis=1)
    scipy.io.wavfile.write(path, RATE, channels)
    for number in range(3):
        np.testing.assert_array_equal(read_wav(path, RATE, number), channels[:, number])
    np.testing.assert_allclose(read_wav(path, RATE), channels.mean(axis=1), atol=1e-3)
    with pytest.raises(ValueError, match=r"a\.wav has 3 channels, counted from 0, .* no channel 3"):
        read_wav(path, RATE, 3)
    scipy.io.wavfile.write(path, RATE, SOUND)
    np.testing.assert_array_equal(read_wav(path, RATE, 0), SOUND)
    with pytest.raises(
        ValueError, match=r"a\.wav has one channel, counted from 0, and no channel 1"
    ):
        read_wav(path, RATE, 1)
    names = ("mean", "left", "right", "0", "12")
    assert [audio.channel_number(name) for name in names] == [None, 0, 1, 0, 12]
    for name in ("", "middle", "-1", "1.0", "\u0663"):
        with pytest.raises(
            ValueError, match=f"^channel={name} is no channel: allowed are mean, le"
        ):
            audio.channel_number(name)


def test_channels_that_averaging_weakens(tmp_path, capsys):
    """Each file is named once with its levels; others, such as two microphones, are not."""
    noise = np.random.default_rng(1).normal(0, 3_000, (6, 4_000))
    one, other, silent = noise[0], noise[1], np.zeros(4_000)
    path, warnings = tmp_path / "a.wav", audio.notices()
    for channels, says in (
        ((one, -one), "averaging its 2 channels cancels them out (levels in dB of full scale: -21"),
        ((one, silent), "averaging its 2 channels lowers the loudest of them by 6.0 dB (levels in"),
        ((one, silent), "-21, silent); one alone is read by the option channel of recordings:PATH"),
        ((silent, one), "such as recordings:PATH?channel=1"),
        ((silent, one + 900), "such as recordings:PATH?channel=1"),
        ((one, other / 200), "by 6.0 dB (levels in dB of full scale: -21, -67)"),
        ((one, 0.6 * other - 0.8 * one), "lowers the loudest of them by 10."),
        ((silent, silent, one, silent, silent, silent), "its 6 channels lowers the loudest of them "
         "by 15.6 dB"),
        ((*noise[:2] / 30, one, *noise[3:] / 30), "(levels in dB of full scale: -50, -50, -21,"),
        ((one, one), ""),
        ((one, one / 2), ""),
        ((one, other), ""),
        ((one, 0.9 * other - 0.4 * one), ""),
        (tuple(noise), ""),
        ((one, silent + 500, one), "by 3.5 dB"),
        ((silent, silent), ""),
        ((silent + 500, silent - 500), ""),
        ((one,), ""),
    ):  # fmt: skip
        samples = np.round(np.stack(channels, axis=1)).astype(np.int16)
        scipy.io.wavfile.write(path, RATE, samples if len(channels) > 1 else samples[:, 0])
        warnings = audio.notices()
        for _ in range(2):
            read_wav(path, RATE, None, warnings)
        shown = capsys.readouterr().err
        assert says in shown
        assert shown.count("\n") == shown.count(f"warning: {path}") == bool(says), says
        read_wav(path, RATE, 0, audio.notices())
        assert capsys.readouterr().err == ""


def test_warnings_about_many_files_are_counted(tmp_path, capsys):
    both = np.stack([SOUND, 0 * SOUND], axis=1)
    warnings = audio.notices()
    for number in range(24):
        scipy.io.wavfile.write(tmp_path / f"{number}.wav", RATE, both)
    for last in (5, 24, 24):
        for number in range(last):
            read_wav(tmp_path / f"{number}.wav", RATE, None, warnings)
        notices.sum_up()
        notices.sum_up()
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": averaging")[0] for line in lines[:3]] == [
        f"warning: {tmp_path / f'{number}.wav'}" for number in range(3)
    ]
    assert lines[3:] == [
        f"warning: {count} recordings lose much by averaging their channels; the first 3 are named "
        "above"
        for count in (5, 24)
    ]


def test_floating_samples_beyond_full_scale(tmp_path):
    path = tmp_path / "a.wav"
    for scale in (32768, 8 * 32768 / 9_000, 1 << 31):
        values = SOUND * (scale / 32768)
        scipy.io.wavfile.write(path, RATE, values.astype(np.float32))
        peak = np.abs(values).max()
        if peak <= 8:
            continue
        with pytest.raises(ValueError, match=rf"a.wav holds .* to {peak:,.0f}, .* x / 32768"):
            read_wav(path, RATE)
    # Parts of full scale may well be beyond it.
    for loudest in (1.5, 7.9):
        values = (SOUND / np.abs(SOUND).max() * loudest).astype(np.float32)
        scipy.io.wavfile.write(path, RATE, values)
        np.testing.assert_allclose(read_wav(path, RATE), values * 32768, rtol=1e-6)
    for value in (np.nan, np.inf, -np.inf):
        values = np.where(np.arange(len(SOUND)) == 7, value, SOUND / 32768)
        scipy.io.wavfile.write(path, RATE, np.stack([SOUND / 32768, values], axis=1))
        for channel in (None, 1):
            with pytest.raises(ValueError, match="holds samples that are no numbers"):
                read_wav(path, RATE, channel)


def test_integers_of_few_bits_in_many(tmp_path, capsys):
    """Read by the type that they have, and a warning says how quiet that is."""
    path = tmp_path / "a.wav"
    peak = int(np.abs(SOUND.astype(int)).max())
    for values, says in (
        (SOUND.astype(np.int32), f"holds integers of 32 bits, none of them beyond {peak:,}: it is"),
        (SOUND.astype(np.int32) * 251, f"none of them beyond {peak * 251:,}: it is read as -5"),
        (SOUND.astype(np.int64), "holds integers of 64 bits"),
        (SOUND.astype(np.int32) << 16, ""),
        (SOUND.astype(np.int32) * 65_521, ""),
        (SOUND.astype(np.int32) // 64 << 8, ""),  # a quiet recording of 24 bits
        (SOUND.astype(np.int32) * 0, ""),
        (SOUND // 300, ""),
    ):
        scipy.io.wavfile.write(path, RATE, values)
        found = read_wav(path, RATE, None, audio.notices())
        np.testing.assert_array_equal(
            found, (values * (32768 / -float(np.iinfo(values.dtype).min))).astype(np.float32)
        )
        shown = capsys.readouterr().err
        assert says in shown
        assert shown.count("\n") == bool(says)


@pytest.mark.parametrize(("rate", "most"), [(8_000, 95), (16_000, 126), (44_100, 267)])
def test_how_many_bands_there_are(rate, most):
    """The rule is that of the library, for every number."""
    silence = np.zeros(rate // 50, np.float32)

    def made(bins):
        try:
            return log_mel(silence, rate, bins).shape == (2, bins)
        except ValueError:
            return False

    for bins in (-1, *range(5), *range(60, 300, 7), most - 1, most, most + 1):
        assert audio.bins_fit(rate, bins) == (bins >= 3 and made(bins)) == (3 <= bins <= most)
    audio.check_bins(rate, most)
    for bins in (-1, 0, 2, most + 1, 100_000):
        says = f"^bins={bins}: at rate={rate} there are 3 to {most} bands"
        with pytest.raises(ValueError, match=says):
            audio.check_bins(rate, bins)


@pytest.mark.parametrize("rate", [-8_000, 0, 1, 40, 100, 8_000_000_000])
def test_rates_that_are_none(rate):
    with pytest.raises(ValueError, match=f"^rate={rate} is no sampling rate"):
        audio.check_bins(rate, 40)


@pytest.fixture
def root(tmp_path):
    """Constant recordings whose value says which they are: 100 a digit, 10 a speaker, 1 a take."""
    folder = tmp_path / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    for digit in range(3):
        for number, speaker in enumerate(("ann", "bob")):
            for take in (0, 4, 5, 6, 11):
                value = 1000 + 100 * digit + 20 * number + take
                name = f"{digit}_{speaker}_{take}.wav"
                scipy.io.wavfile.write(folder / name, RATE, np.full(400, value, np.int16))
    return tmp_path


def test_a_string_is_spoken_by_one_speaker_and_has_short_gaps():
    samples = {
        speaker: [(str(d), np.full(50, 1000 * (s + 1) + d, np.float32)) for d in range(4)]
        for s, speaker in enumerate(("ann", "bob"))
    }
    counts, speakers = set(), set()
    for index in range(60):
        values, digits = spoken_digits.string(Draws(0, 0, index), samples)
        loud = np.abs(values) > 500
        own = values[loud].reshape(len(digits), 50)
        assert (own == own[:, :1]).all()
        assert [f"{int(value) % 1000}" for value in own[:, 0]] == digits
        (speaker,) = set(own[:, 0] // 1000)
        starts = np.flatnonzero(loud)[::50]
        gaps = np.diff([-50, *starts, len(values)]) - 50
        assert ((gaps >= 320) & (gaps <= 1600)).all()
        assert np.abs(values[~loud]).max() <= 3
        counts.add(len(digits))
        speakers.add(speaker)
    assert counts == {1, 2, 3, 4, 5}
    assert speakers == {1, 2}


def test_takes_divide_the_recordings(root):
    found = {split: spoken_digits.find(root, split) for split in spoken_digits.SPLITS}
    takes = {s: {int(p.stem.split("_")[2]) for p in paths} for s, paths in found.items()}
    assert takes == {"train": {6, 11}, "validation": {5}, "test": {0, 4}}
    sizes = {"train": 3, "validation": 2, "test": 2}
    columns = spoken_digits.spoken_digits(splits=sizes).columns(root, "test")
    again = spoken_digits.spoken_digits(splits=sizes).columns(root, "test")
    for one, other in zip(columns["frames"], again["frames"], strict=True):
        np.testing.assert_array_equal(one, other)
    assert set("".join(decoded(text) for text in columns["text"])) <= set("012 ")
    for path in found["validation"]:
        path.unlink()
    with pytest.raises(ValueError, match="no recording of the takes of 'validation'"):
        spoken_digits.SPOKEN_DIGITS.columns(root / "fsdd", "validation")
    stray = root / "fsdd" / "recordings" / "seven.wav"
    stray.write_bytes(b"")
    with pytest.raises(ValueError, match=r"seven.wav is not called DIGIT_SPEAKER_TAKE.wav"):
        spoken_digits.find(root, "test")
    with pytest.raises(FileNotFoundError, match=r"recordings/\*.wav not found .*--data_dir"):
        spoken_digits.find(root / "elsewhere", "test")


@pytest.mark.realdata
def test_real_recordings(real_data):
    found = {split: spoken_digits.find(real_data, split) for split in spoken_digits.SPLITS}
    assert {s: len(paths) for s, paths in found.items()} == {
        "train": 360, "validation": 60, "test": 300,
    }  # fmt: skip
    assert not set(found["train"]) & set(found["test"])
    sizes = dict.fromkeys(spoken_digits.SPLITS, 20)
    for split in sizes:
        columns = spoken_digits.spoken_digits(splits=sizes).columns(real_data, split)
        for frames, text in zip(columns["frames"], columns["text"], strict=True):
            words = decoded(text).split(" ")
            assert set(words) <= set("0123456789")
            assert np.isfinite(frames).all()
            # A spoken digit lasts 0.1 to 1.5 s, with a gap 0.14 to 1.9 s.
            assert 14 < len(frames) / len(words) < 190
