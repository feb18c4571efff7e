"""The sound of a written video: carried over from the source, or cut like its pictures."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import av
import numpy as np

from blurgate.io.encode import ANEW_S, Clock, VideoWriter, pictures_of

if TYPE_CHECKING:
    from av.audio.resampler import AudioResampler
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet

_COPIED: Final = frozenset(("aac", "mp3", "mp3float", "opus", "libopus", "flac", "alac"))
"""Decoders of sound that may stand in an MP4 file as it is; anything else becomes AAC."""
_LEAST_MP3_RATE: Final = 16_000
"""FFmpeg writes no slower MP3 into an MP4 file: no standard says how."""
_AAC_RATES: Final = (48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000)
_JOINED: Final = 20
"""Sound that begins less than this part of a second beside the end of what came before is joined
to it: containers round times, Matroska to milliseconds, and a sample is much shorter."""
_BAD_MEDIA: Final = (av.FFmpegError, OSError, ValueError)


class SoundCopy:
    """Carries the sound of a source over, packet for packet where MP4 allows.

    Args:
        source: The source, opened for this alone.
        writer: Where to; no picture has been written yet.
        clock: The source's times.
    """

    def __init__(self, source: InputContainer, writer: VideoWriter, clock: Clock) -> None:
        self._target = writer.container
        self._clock = clock
        self._outs: dict[int, Any] = {}
        self._encoders: dict[int, SoundEncoder] = {}
        for stream in filter(_is_known, source.streams.audio):
            if _is_copied(stream):
                self._outs[stream.index] = self._target.add_stream_from_template(stream)
            else:
                self._encoders[stream.index] = SoundEncoder(stream, writer)
        wanted = [s for s in source.streams.audio if s.index in {*self._outs, *self._encoders}]
        self._packets = _packets(source, wanted, clock)
        self._last: dict[int, int] = {}  # of what was copied, in ticks
        self._next: Packet[Any] | None = None

    def until(self, at_s: float) -> None:
        """Carry over what is heard before a time of the source."""
        while (packet := self._peek()) is not None:
            if packet.dts is not None and packet.time_base is not None:
                if float(packet.dts * packet.time_base) >= at_s:
                    return
                self._carry(packet)
            self._next = None

    def finish(self) -> None:
        """Carry over the rest."""
        self.until(float("inf"))
        for encoder in self._encoders.values():
            encoder.finish()

    def _peek(self) -> Packet[Any] | None:
        if self._next is None:
            try:
                self._next = next(self._packets, None)
            except _BAD_MEDIA:  # damage: the reader of the pictures tells of it
                self._packets = iter(())
        return self._next

    def _carry(self, packet: Packet[Any]) -> None:
        index = packet.stream_index
        shift_s = self._clock.shift_s
        if index in self._outs:
            assert packet.dts is not None, "checked by the caller"
            if packet.dts <= self._last.get(index, packet.dts - 1):
                return  # it lies over what came before, as the first one behind a joint may
            self._last[index] = packet.dts
            _move(packet, -shift_s)
            packet.stream = self._outs[index]
            self._target.mux(packet)
            return
        encoder = self._encoders[index]
        for at_s, samples in encoder.decoded(packet):
            encoder.write(at_s - shift_s, samples)


def _is_copied(stream: AudioStream) -> bool:
    """Tell whether sound may stand in an MP4 file as it is."""
    context = stream.codec_context
    slow = context.name.startswith("mp3") and context.sample_rate < _LEAST_MP3_RATE
    return context.name in _COPIED and not slow


def _is_known(stream: AudioStream) -> bool:
    """Tell whether sound can be written: it has a decoder, and begins where FFmpeg looks for it."""
    context: Any = stream.codec_context
    return context is not None and context.sample_rate > 0


def _packets(
    source: InputContainer, streams: list[AudioStream], clock: Clock
) -> Iterator[Packet[Any]]:
    """Read sound; where the times of the pictures begin anew, its own go on by what theirs do.

    Of what was joined a part may have no sound, so that the sound alone does not tell of which part
    it is: it is of the one that brings it nearest to the pictures beside it in the file.
    """
    if not (streams and clock.joints):
        yield from source.demux(streams) if streams else ()
        return
    pictures = pictures_of(source)
    passed, last_s, now_s = 0, float("-inf"), 0.0
    for packet in source.demux([pictures, *streams]):
        if packet.dts is None or packet.time_base is None:
            if packet.stream_index != pictures.index:
                yield packet
            continue
        at_s = float(packet.dts * packet.time_base)
        if packet.stream_index == pictures.index:
            passed += at_s < last_s - ANEW_S
            last_s, now_s = at_s, at_s + clock.offset_s(passed)
            continue
        near = (clock.offset_s(n) for n in range(max(0, passed - 1), passed + 2))
        _move(packet, min(near, key=lambda offset_s: abs(at_s + offset_s - now_s)))
        yield packet


def _move(packet: Packet[Any], by_s: float) -> None:
    assert packet.time_base is not None, "checked by the caller"
    ticks = round(by_s / packet.time_base)
    packet.dts = None if packet.dts is None else packet.dts + ticks
    packet.pts = None if packet.pts is None else packet.pts + ticks


class SoundEncoder:
    """Encodes one sound stream as AAC; gaps become silence, so that sound and picture stay joined.

    Args:
        stream: The stream whose sound it will be.
        writer: Where to; no picture has been written yet.
    """

    def __init__(self, stream: AudioStream, writer: VideoWriter) -> None:
        self._target = writer.container
        wanted = stream.codec_context.sample_rate
        self.rate = wanted if wanted in _AAC_RATES else 48_000
        layout = stream.codec_context.layout.name
        channels = min(2, stream.codec_context.layout.nb_channels)
        if stream.codec_context.layout.nb_channels > 2 or "channels" in layout:
            layout = "stereo" if channels == 2 else "mono"  # AAC knows no nameless layouts
        self._out: Any = self._target.add_stream("aac", rate=self.rate)
        self._out.layout = layout
        self._layout = layout
        self.channels = channels
        self._done = 0  # samples
        self._begun = False
        self._kind: tuple[str, str, int] | None = None  # of what the resampler takes
        self._resampler: AudioResampler | None = None

    def decoded(self, packet: Packet[Any]) -> Iterator[tuple[float, np.ndarray]]:
        """Decode a packet: (time in seconds, (channels, n) float32 at `rate`) for every piece."""
        try:
            frames: list[Any] = list(packet.decode())
        except _BAD_MEDIA:
            return
        for frame in frames:
            for piece in self._resampled(frame):
                at_s = piece.time if piece.pts is not None else frame.time
                if at_s is not None:
                    yield float(at_s), piece.to_ndarray()

    def _resampled(self, frame: Any) -> list[Any]:
        # In broadcasts, and in what was joined, mono, stereo and 5.1 follow each other; a resampler
        # takes one kind, and one that has nothing to do lets the others through as they are.
        kind = frame.format.name, frame.layout.name, frame.sample_rate
        if self._resampler is None or kind != self._kind:
            self._kind = kind
            self._resampler = av.AudioResampler("fltp", self._layout, self.rate)
        return self._resampler.resample(frame)

    def write(self, at_s: float, samples: np.ndarray) -> None:
        """Add sound.

        Args:
            at_s: When it begins; less than 50 ms beside the end of what came before counts as
                joined, what overlaps it is left out. What comes first begins when it does.
            samples: (channels, n) float32.
        """
        at = round(at_s * self.rate)
        slack = self.rate // _JOINED if self._begun else 0  # joined to nothing, it would be early
        self._begun = True
        if at < self._done - slack:
            samples = samples[:, self._done - at :]
        elif at > self._done + slack:
            self._encode(np.zeros((self.channels, at - self._done), np.float32))
        self._encode(samples)

    def finish(self) -> None:
        """Give out what the encoder still holds."""
        self._target.mux(self._out.encode(None))

    def _encode(self, samples: np.ndarray) -> None:
        for start in range(0, samples.shape[1], self.rate):  # a long silence in pieces
            piece = np.ascontiguousarray(samples[:, start : start + self.rate], np.float32)
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=self._layout)
            frame.sample_rate, frame.pts = self.rate, self._done
            frame.time_base = Fraction(1, self.rate)
            self._done += piece.shape[1]
            self._target.mux(self._out.encode(frame))


class SoundCut:
    """Carries pieces of the sound of a source over, sample for sample.

    Args:
        source: The source, opened for this alone; its first sound stream is taken.
        writer: Where to; no picture has been written yet.
        clock: The source's times.
    """

    def __init__(self, source: InputContainer, writer: VideoWriter, clock: Clock) -> None:
        self._encoder: SoundEncoder | None = None
        self._pieces: Iterator[tuple[int, np.ndarray]] = iter(())
        self._held: list[tuple[int, np.ndarray]] = []
        stream = next(filter(_is_known, source.streams.audio), None)
        if stream is not None:
            self._encoder = SoundEncoder(stream, writer)
            packets = _packets(source, [stream], clock)
            self._pieces = self._read(packets, self._encoder)

    @staticmethod
    def _read(
        packets: Iterator[Packet[Any]], encoder: SoundEncoder
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Give the pieces of the source's sound, each after the number of its first sample."""
        after: int | None = None
        try:
            for packet in packets:
                for at_s, samples in encoder.decoded(packet):
                    at = round(at_s * encoder.rate)
                    if after is not None and abs(at - after) <= encoder.rate // _JOINED:
                        at = after  # by its time it would overlap what came before, or gape
                    yield at, samples
                    after = at + samples.shape[1]
        except _BAD_MEDIA:  # damage: the reader of the pictures tells of it
            return

    def carry(self, from_s: float, to_s: float, at_s: float) -> None:
        """Carry over what is heard between two times; calls go forward in time.

        Args:
            from_s: Begin in the source.
            to_s: End in the source.
            at_s: When it is to be heard in the file.
        """
        if self._encoder is None:
            return
        rate = self._encoder.rate
        first, end = round(at_s * rate), round((at_s + to_s - from_s) * rate)
        # Whole samples, and the same for all pictures of a stretch, whatever sums of floats say.
        begin = first - round(round((at_s - from_s) * rate, 3))
        out = np.zeros((self._encoder.channels, end - first), np.float32)
        kept = []
        for start, samples in self._between(begin + end - first):
            offset, stop = start - begin, start - begin + samples.shape[1]
            low, high = max(0, offset), min(end - first, stop)
            if low < high:
                out[:, low:high] = samples[:, low - offset : high - offset]
            if stop > end - first:
                kept.append((start, samples))  # the next call may begin inside it
        self._held = kept
        self._encoder.write(first / rate, out)

    def _between(self, end: int) -> Iterator[tuple[int, np.ndarray]]:
        yield from self._held
        if self._held and self._held[-1][0] >= end:
            return
        for piece in self._pieces:
            yield piece
            if piece[0] >= end:
                return

    def finish(self) -> None:
        """Give out what the encoder still holds."""
        if self._encoder is not None:
            self._encoder.finish()
