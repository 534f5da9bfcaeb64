"""Wav files of pipes, telephones and recorders: all samples that are there, or a sentence."""

import io
import struct
import wave

import numpy as np
import pytest
import scipy.io.wavfile

from rcnn_jax.data.files import sound_formats, wav
from rcnn_jax.data.files.audio import read_frames, read_wav

pytestmark = pytest.mark.one_row

RATE = 8_000
SOUND = (9_000 * np.sin(np.arange(401) / 4) + np.arange(401)).astype(np.int16)
RAW = SOUND.astype("<i2").tobytes()
PCM = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
STREAMED = (0, 0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0x7FFF0000, 0xFFFFFFDB)


def part(name, content, size=None, order="<"):
    length = len(content) if size is None else size
    return struct.pack(f"{order}4sI", name, length) + content + b"\0" * (len(content) % 2)


def riff(*parts, size=None, name=b"RIFF", order="<"):
    body = b"WAVE" + b"".join(parts)
    return struct.pack(f"{order}4sI", name, len(body) if size is None else size) + body


def samples_of(tmp_path, content, rate=RATE):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    found, samples = wav.read(path)
    assert found == rate
    return samples


@pytest.mark.parametrize("size", STREAMED)
def test_files_of_pipes_are_read_to_their_end(tmp_path, size):
    """As Python's `wave`, sox and ffmpeg read them; the length of RIFF says nothing either."""
    for whole in (0, 36, size, min(size + 36, 0xFFFFFFFF), len(RAW) + 44):
        content = riff(part(b"fmt ", PCM), part(b"data", RAW, size), size=whole)
        np.testing.assert_array_equal(samples_of(tmp_path, content), SOUND)
    with wave.open(io.BytesIO(riff(part(b"fmt ", PCM), part(b"data", RAW, size)))) as file:
        other = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    if size:  # `wave` takes 0 by its word
        np.testing.assert_array_equal(other, SOUND)
    # What the pipe was cut off within is left out.
    for cut in (1, 2, 3):
        content = riff(part(b"fmt ", PCM), part(b"data", RAW, size))[:-cut]
        np.testing.assert_array_equal(samples_of(tmp_path, content), SOUND[: -((cut + 1) // 2)])


def test_a_pipe_without_samples_holds_none(tmp_path):
    for size in STREAMED:
        (tmp_path / "a.wav").write_bytes(riff(part(b"fmt ", PCM), part(b"data", b"", size)))
        with pytest.raises(ValueError, match=r"a\.wav holds no samples"):
            read_wav(tmp_path / "a.wav", RATE)
    # 0 samples and a title are no samples of a pipe.
    for title in (b"INFOINAM\6\0\0\0hello\0", b"odd"):
        content = riff(part(b"fmt ", PCM), part(b"data", b""), part(b"LIST", title))
        assert samples_of(tmp_path, content).shape == (0,)
        assert samples_of(tmp_path, content[:-1] if len(title) % 2 else content).shape == (0,)
    # Digital silence looks like no title.
    content = riff(part(b"fmt ", PCM), part(b"data", bytes(800), 0))
    np.testing.assert_array_equal(samples_of(tmp_path, content), np.zeros(400, np.int16))


def test_what_else_a_file_holds_is_passed_over(tmp_path):
    fmt, data = part(b"fmt ", PCM), part(b"data", RAW)
    texts = [part(name, b"odd") for name in (b"LIST", b"bext", b"id3 ", b"JUNK", b"smpl")]
    # Some programs leave out the byte that makes a length even.
    unpadded = struct.pack("<4sI", b"LIST", 3) + b"odd"
    for content in (
        riff(*texts, fmt, data),
        riff(fmt, *texts, data),
        riff(fmt, data, *texts),
        riff(fmt, unpadded, data),
        riff(unpadded, fmt, unpadded, data),
        riff(data, fmt),
        riff(fmt, data, part(b"data", b"more")),
        riff(fmt, part(b"fact", bytes(4)), data),
        *(riff(fmt, data) + bytes([7]) * count for count in (1, 2, 3, 7, 9, 512, 513)),
        *(riff(fmt, data, size=len(RAW) + size) for size in (0, 36, 44, 1000, -500)),
        riff(fmt, data, part(b"LIST", b"cut")[:-3]),
    ):
        np.testing.assert_array_equal(samples_of(tmp_path, content), SOUND)
    # The number of bytes a second follows from the rest, and programs write it wrongly.
    wrong = struct.pack("<HHIIHH", 1, 1, RATE, RATE, 2, 16)
    np.testing.assert_array_equal(samples_of(tmp_path, riff(part(b"fmt ", wrong), data)), SOUND)
    # Not all of a sample of two channels.
    two = struct.pack("<HHIIHH", 1, 2, RATE, 4 * RATE, 4, 16)
    found = samples_of(tmp_path, riff(part(b"fmt ", two), data))
    np.testing.assert_array_equal(found, SOUND[:-1].reshape(-1, 2))


def test_long_files_of_64_bits(tmp_path):
    fmt = part(b"fmt ", PCM)
    for name in (b"RF64", b"BW64"):
        for size in (len(RAW), 0, 0xFFFFFFFFFFFFFFFF):
            ds64 = part(b"ds64", struct.pack("<QQQI", 0, size, 0, 0))
            content = riff(ds64, fmt, part(b"data", RAW, 0xFFFFFFFF), name=name, size=0xFFFFFFFF)
            np.testing.assert_array_equal(samples_of(tmp_path, content), SOUND)
        ds64 = part(b"ds64", struct.pack("<QQQI", 0, 0x7FFF0000, 0, 0))
        with pytest.raises(ValueError, match=r"truncated.* 2,147,418,112 .* 2,147,417,310 of them"):
            samples_of(tmp_path, riff(ds64, fmt, part(b"data", RAW, 0xFFFFFFFF), name=name))


def test_every_format_of_samples_is_that_of_scipy(tmp_path, monkeypatch):
    """In either order of bytes and behind the longer header, also where they come in parts."""
    rng = np.random.default_rng(0)
    for order, name, guid in (
        ("<", b"RIFF", "0000 1000 8000 00aa00389b71"),
        (">", b"RIFX", "0000 0010 8000 00aa00389b71"),
    ):
        for codec, bits, width, channels in (
            (1, 8, 1, 2), (1, 5, 1, 5), (1, 12, 2, 4), (1, 16, 2, 1), (1, 20, 3, 1), (1, 24, 3, 3),
            (1, 24, 4, 2), (1, 32, 4, 1), (1, 36, 5, 3), (1, 45, 6, 1), (1, 53, 7, 3),
            (1, 64, 8, 2), (3, 32, 4, 2), (3, 64, 8, 1),
        ):  # fmt: skip
            block = width * channels
            raw = rng.integers(0, 256, 9 * block, np.uint8).tobytes()
            if codec == 3:
                raw = rng.normal(size=9 * channels).astype(f"{order}f{width}").tobytes()
            head = (channels, RATE, RATE * block, block, bits)
            plain = struct.pack(f"{order}HHIIHH", codec, *head)
            long = struct.pack(f"{order}HHIIHHHHII", 0xFFFE, *head, 22, bits, 0, codec)
            long += bytes.fromhex(guid)
            for fmt in (plain, long):
                parts = part(b"fmt ", fmt, order=order), part(b"data", raw, order=order)
                content = riff(*parts, name=name, order=order)
                expected = scipy.io.wavfile.read(io.BytesIO(content))[1]
                for size in (1 << 30, 3 * block + 1):
                    monkeypatch.setattr(wav, "_PART", size)
                    found = samples_of(tmp_path, content)
                    assert found.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
                    assert found.shape == expected.shape
                    np.testing.assert_array_equal(found, expected)


def g711():
    """Both laws: positive values from the smallest, in 16 bits."""
    mu, step = [0], 2
    while len(mu) < 128:
        if len(mu) % 16 == 0:
            mu.append(mu[-1] + step + step // 2)
            step *= 2
        else:
            mu.append(mu[-1] + step)
    a, step = [1], 2
    while len(a) < 128:
        if len(a) % 16 == 0 and len(a) > 16:
            a.append(a[-1] + step + step // 2)
            step *= 2
        else:
            a.append(a[-1] + step)
    return np.array(mu) * 4, np.array(a) * 8


def test_the_laws_of_telephones():
    """As the tables of ITU-T G.711 list them: 16 values a segment, segments twice as wide."""
    mu, a = g711()
    assert (mu[-1], a[-1]) == (32_124, 32_256)  # 8,031 and 4,032 in the tables
    found = wav.mu_law()
    np.testing.assert_array_equal(found[255:127:-1], mu)
    np.testing.assert_array_equal(found[127::-1], -mu)
    even = np.arange(128) ^ 0x55
    np.testing.assert_array_equal(wav.a_law()[even + 128], a)
    np.testing.assert_array_equal(wav.a_law()[even], -a)


@pytest.mark.parametrize(("codec", "law"), [(7, wav.mu_law), (6, wav.a_law)])
def test_telephone_recordings(tmp_path, codec, law):
    coded = np.abs(law()[None].astype(int) - SOUND[:, None]).argmin(axis=1).astype(np.uint8)
    fmt = part(b"fmt ", struct.pack("<HHIIHHH", codec, 1, RATE, RATE, 1, 8, 0))
    for size in (None, 0xFFFFFFFF, 0):
        content = riff(fmt, part(b"fact", bytes(4)), part(b"data", coded.tobytes(), size))
        (tmp_path / "a.wav").write_bytes(content[: len(content) - (size is not None)])
        found = read_wav(tmp_path / "a.wav", RATE)
        assert (found.dtype, found.shape) == (np.float32, SOUND.shape)
        noise = np.mean((found - SOUND) ** 2) / np.mean(SOUND.astype(float) ** 2)
        assert 10 * np.log10(noise) < -30
        np.testing.assert_array_equal(found, law()[coded])
    fmt = part(b"fmt ", struct.pack("<HHIIHH", codec, 2, RATE, 2 * RATE, 2, 8))
    found = samples_of(tmp_path, riff(fmt, part(b"data", coded[:400].tobytes())))
    np.testing.assert_array_equal(found, law()[coded[:400]].reshape(-1, 2))


@pytest.mark.parametrize(
    ("name", "start", "says"),
    [
        ("a.flac", b"fLaC\0\0\0\x22", "a.flac is a FLAC file, .* ffmpeg -i .*a.flac .*a.wav"),
        ("a.wav", b"fLaC\0\0\0\x22", "FLAC file, .* mv .*a.wav .*a.flac && ffmpeg -i .*flac .*wav"),
        ("a.mp3", b"ID3\3\0", "is an MP3 file.* ffmpeg -i .*a.mp3 .*a.wav"),
        ("a.mp3", b"\xff\xfb\x90\0", "is an MP3 file"),
        ("a.mp3", b"\xff\xf3\x90\0", "is an MP3 file"),
        ("a.aac", b"\xff\xf1\x50\x80", "is an AAC file"),
        ("a.ogg", b"OggS\0\2" + bytes(22) + b"\1\x1e\1vorbis", "is an Ogg Vorbis file"),
        ("a.opus", b"OggS\0\2" + bytes(22) + b"\1\x13OpusHead", "is an Opus file"),
        ("a.m4a", b"\0\0\0\x1cftypM4A ", "is an MPEG-4 file"),
        ("a.aiff", b"FORM\0\0\1\0AIFFCOMM", "is an AIFF file"),
        ("a.aifc", b"FORM\0\0\1\0AIFCFVER", "is an AIFF file"),
        ("a.au", b".snd\0\0\0\x18", "is an AU file"),
        ("a.w64", b"riff\x2e\x91\xcf\x11\xa5\xd6", "is a Wave64 file"),
        ("a.WAV", b"NIST_1A\n   1024\n", "SPHERE file, .* mv .*a.WAV .*a.sph && ffmpeg -i .*sph"),
        ("a.wma", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "is a Windows Media file"),
        ("a.avi", b"RIFF\0\1\0\0AVI LIST", "is an AVI file"),
        ("a.wav", b"RIFF\0\1\0\0WEBPVP8 ", "it is b'WEBP' in RIFF, not 'WAVE'"),
        ("a.wav", b"version https://git-lfs.github.com/spec/v1", "pointer of Git LFS"),
        ("a.wav", b"<!doctype html>", "it is a web page"),
        ("a.wav", b"/annex/objects/SHA256E-s1--0.wav", "a pointer of git-annex"),
        ("a.wav", bytes(1_000), "it begins with 128 bytes of zeros"),
        ("a.wav", b"hello", "cannot be read as a wav file: it begins with b'hell'"),
        ("a.wav", b"", "is empty: it has 0 bytes"),
        ("a.wav", b"R", "cannot be read as a wav file"),
        ("a.wav", b"RIFF", "cannot be read as a wav file: it has no part with its format"),
        ("two words.mp3", b"ID3\3\0", "ffmpeg -i '.*two words.mp3' '.*two words.wav'"),
    ],
)
def test_another_format_is_named_with_the_way_out(tmp_path, name, start, says):
    (tmp_path / name).write_bytes(start)
    with pytest.raises(ValueError, match=f"^{tmp_path}.*{says}|^{tmp_path}/{says}"):
        read_wav(tmp_path / name, RATE)


@pytest.mark.parametrize(
    ("codec", "says"),
    [
        (0x11, "IMA ADPCM"), (2, "Microsoft ADPCM"), (0x31, "GSM 6.10"), (0x55, "MP3"),
        (0x1234, "the codec 0x1234"), (0xFFFE, "a codec that its header names by a GUID"),
    ],
)  # fmt: skip
def test_another_codec_is_named_with_the_way_out(tmp_path, codec, says):
    path = tmp_path / "a.wav"
    fmt = struct.pack("<HHIIHHHH", codec, 1, RATE, 4_055, 256, 4, 2, 505)
    path.write_bytes(riff(part(b"fmt ", fmt), part(b"data", bytes(256))))
    with pytest.raises(ValueError, match=f"a.wav is a wav file with {says}, .* ffmpeg -i .*_pcm.w"):
        read_wav(path, RATE)
    assert sound_formats.codec(7) == "the codec 0x0007"  # never asked for


@pytest.mark.parametrize(
    ("fmt", "says"),
    [
        ((1, 0, RATE, 0, 0, 16), "integer samples of 16 bits and 0 channels in 0 bytes"),
        ((1, 1, 0, 0, 2, 16), "1 channels in 2 bytes, 0 times a second"),
        ((1, 1, RATE, RATE, 1, 16), "integer samples of 16 bits and 1 channels in 1 bytes"),
        ((1, 2, RATE, RATE, 3, 12), "integer samples of 12 bits and 2 channels in 3 bytes"),
        ((1, 1, RATE, RATE, 2, 0), "integer samples of 0 bits"),
        ((1, 1, RATE, RATE, 9, 65), "integer samples of 65 bits"),
        ((3, 1, RATE, RATE, 2, 16), "floating samples of 16 bits"),
        ((3, 1, RATE, RATE, 8, 32), "floating samples of 32 bits and 1 channels in 8 bytes"),
        ((7, 1, RATE, RATE, 2, 16), "logarithmic samples of 16 bits"),
    ],
)
def test_a_header_that_contradicts_itself(tmp_path, fmt, says):
    content = riff(part(b"fmt ", struct.pack("<HHIIHH", *fmt)), part(b"data", RAW))
    with pytest.raises(ValueError, match=f"a.wav cannot be read as a wav file: .*{says}"):
        samples_of(tmp_path, content)


def test_truncated_files_say_how_much_is_missing(tmp_path):
    whole = riff(part(b"fmt ", PCM), part(b"data", RAW))
    for cut, missing in ((1, "1"), (300, "300"), (len(RAW), "802")):
        with pytest.raises(ValueError, match=f"is truncated, .* 802 bytes .* {missing} of"):
            samples_of(tmp_path, whole[:-cut])
    with pytest.raises(ValueError, match="promises 2,147,418,111 bytes of samples, 2,147,417,309"):
        samples_of(tmp_path, riff(part(b"fmt ", PCM), part(b"data", RAW, 0x7FFF0000 - 1)))
    with pytest.raises(ValueError, match=r"no part with its samples \('data'\)$"):
        samples_of(tmp_path, whole[:36])
    with pytest.raises(ValueError, match=r"no part with its samples .*ends 92 bytes too early"):
        samples_of(tmp_path, riff(part(b"fmt ", PCM), part(b"LIST", b"cut off", 100)))
    with pytest.raises(ValueError, match="part 'fmt ' is too short"):
        samples_of(tmp_path, whole[:30])
    with pytest.raises(ValueError, match=r"no part with its format \('fmt '\)"):
        samples_of(tmp_path, riff(part(b"data", RAW)))
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(ValueError, match=r"folder.wav cannot be read: Is a directory"):
        wav.read(tmp_path / "folder.wav")


def test_short_files(tmp_path):
    """A frame needs half of the 10 ms to the next: 40 samples at 8 kHz."""
    path = tmp_path / "a.wav"
    for count, says in (
        (0, "holds no samples"),
        (1, "1 samples at 8000 a second are too few for one frame"),
        (39, "39 samples at 8000 a second are too few for one frame"),
    ):
        path.write_bytes(riff(part(b"fmt ", PCM), part(b"data", RAW[: 2 * count])))
        with pytest.raises(ValueError, match=f"a.wav.* {says}"):
            read_frames(path, RATE, 12)
    path.write_bytes(riff(part(b"fmt ", PCM), part(b"data", RAW[:80])))
    assert read_frames(path, RATE, 12).shape == (1, 12)
