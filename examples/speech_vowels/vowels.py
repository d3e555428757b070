"""Sequences of vowels spoken by made-up voices, as log-mel features: made by NumPy and SciPy, the same each time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

RATE = 8000
HOP, WINDOW, BANDS, FRAMES = 128, 256, 32, 80
VOWELS = "aeiou"
FORMANTS = {"a": (750, 1250), "e": (500, 1900), "i": (300, 2300), "o": (450, 850), "u": (320, 700)}
"""The first two resonances of the mouth in Hz, for a voice of middle size."""
MOST = 7
"""The most vowels of a sequence."""

Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def speak(count: int, seed: int) -> tuple[Array, Labels]:
    """Return features float32[count, 80, 32] in whole dB, and int64[count, 7]: vowels from 1 on, padded with -1."""
    generator = np.random.default_rng(seed)
    features = np.empty((count, FRAMES, BANDS), np.float32)
    labels = np.full((count, MOST), -1, np.int64)
    for feature, label in zip(features, labels, strict=True):
        wanted = generator.integers(len(VOWELS), size=generator.integers(3, MOST + 1))
        label[: len(wanted)] = wanted + 1
        feature[:] = log_mel(_utterance(generator, [VOWELS[number] for number in wanted]))
    return features.round(), labels


def calibration() -> dict[str, Array]:
    """Features without labels, for `--calib vowels:calibration`."""
    return {"features": speak(32, seed=2)[0]}


def evaluation() -> dict[str, Array | Labels]:
    """Features of other sequences and their vowels, for `--eval vowels:evaluation`."""
    features, labels = speak(240, seed=3)
    return {"features": features, "labels": labels}


def _utterance(generator: np.random.Generator, vowels: list[str]) -> Array:
    """Return the samples of one sequence in noise."""
    pitch, size = generator.uniform(90, 240), generator.uniform(0.85, 1.2)
    parts = [np.zeros(generator.integers(200, 900))]
    for vowel in vowels:
        length = int(RATE * generator.uniform(0.08, 0.15))
        parts += [_vowel(generator, vowel, length, pitch, size), np.zeros(int(RATE * generator.uniform(0.01, 0.05)))]
    sound = np.concatenate(parts)[: FRAMES * HOP]
    sound = np.pad(sound, (0, FRAMES * HOP + WINDOW - len(sound)))
    noise = generator.normal(size=len(sound)) * generator.uniform(0.02, 0.12)
    return np.asarray(sound + noise, np.float32)


def _vowel(
    generator: np.random.Generator, vowel: str, length: int, pitch: float, size: float
) -> npt.NDArray[np.float64]:
    """Return a train of pulses that went through two resonances, as loud as 1 in the mean square."""
    glide = np.linspace(1, generator.uniform(0.85, 1.15), length)
    phase = np.cumsum(pitch * glide / RATE)
    sound = np.diff(np.floor(phase), prepend=0.0)
    for centre in FORMANTS[vowel]:
        frequency = centre * size * generator.normal(1, 0.05)
        radius = np.exp(-np.pi * generator.uniform(60, 140) / RATE)
        sound = lfilter([1.0], [1.0, -2 * radius * np.cos(2 * np.pi * frequency / RATE), radius**2], sound)
    sound *= np.sin(np.linspace(0, np.pi, length)) ** 0.5
    return np.asarray(sound / (np.sqrt(np.mean(sound**2)) + 1e-9))


def log_mel(sound: Array) -> Array:
    """Return the energies of 32 bands of the mel scale in 80 frames, in dB."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP][:FRAMES]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW))) ** 2
    return np.asarray(10 * np.log10(power @ _bands().T + 1e-3), np.float32)


def _bands() -> npt.NDArray[np.float64]:
    """Return triangles over the bins of the spectrum, of equal width in mel."""
    mel = np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), BANDS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    bins = np.arange(WINDOW // 2 + 1) * RATE / WINDOW
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.asarray(np.clip(np.minimum(rising, falling), 0, None))
