"""From what is heard to what is written: the likeliest token after each, window after window of a recording.

Whisper: Radford et al. 2022, arXiv:2212.04356: times by rules, section 3.8 and its code's; a long recording goes on
where the last whole segment of a window ended. Always the likeliest token, with nothing of the window before in the
prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from zoo.core import Layout, Model
from zoo_speech.seq2seq.model import LogMelEmbed, Writer
from zoo_speech.seq2seq.spec import FRAMES_PER_TOKEN, HOP, SAMPLE_RATE_HZ, TOKEN_SECONDS
from zoo_speech.seq2seq.tokens import Tokens
from zoo_speech.seq2seq.windows import Frames

FRAME_SECONDS = HOP / SAMPLE_RATE_HZ


class Segment(NamedTuple):
    """What is said between two times, in seconds from the beginning; tokens of times are among its tokens."""

    start: float
    end: float
    tokens: list[int]


@dataclass
class Progress:
    """How far a recording is written down.

    Args:
        language: Its token, once it is known; None for good where the model knows but one.
        stop: The frame that silence begins with, in which nothing is said; without it, all are heard.
        seek: The frame that the next window begins with.
    """

    frames: Frames
    language: int | None = None
    stop: int | None = None
    seek: int = 0
    segments: list[Segment] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        return self.seek >= (self.frames.count if self.stop is None else self.stop)


class Rules:
    """Which tokens may follow.

    Args:
        times: Segments are to be enclosed by times, which never go back.
    """

    def __init__(self, tokens: Tokens, vocab_size: int, device: torch.device, *, times: bool) -> None:
        self.first_time, self.latest_first, self.end = tokens.first_time, tokens.latest_first_time, tokens.end
        self.times = times
        self.numbers = torch.arange(vocab_size, device=device)
        self.never = self._among(tokens.suppressed)
        self.not_first = self.never | self._among(tokens.suppressed_first)
        if times:
            self.never = self.never | (self.numbers == tokens.no_times)
            self.not_first = self.not_first | (self.numbers == tokens.no_times)

    def __call__(self, scores: Float[Tensor, "b vocab"], said: Int[Tensor, "b t"]) -> Float[Tensor, "b vocab"]:
        """Scores, minus infinity where a token may not be.

        Args:
            said: After the prompt.
        """
        scores = scores.masked_fill(self.not_first if said.shape[1] == 0 else self.never, -torch.inf)
        if not self.times:
            return scores
        assert self.first_time is not None
        scores = scores.masked_fill(self._out_of_time(said, self.first_time), -torch.inf)
        # Where all times together are likelier than any other token, it is a time.
        likely = scores.log_softmax(-1)
        is_time = self.numbers >= self.first_time
        together, other = likely[:, is_time].logsumexp(-1), likely[:, ~is_time].amax(-1)
        return scores.masked_fill((together > other)[:, None] & ~is_time, -torch.inf)

    def _out_of_time(self, said: Int[Tensor, "b t"], first: int) -> Bool[Tensor, "b vocab"]:
        is_time = self.numbers >= first
        if said.shape[1] == 0:  # a window begins with a time, and not with a late one
            late = torch.zeros_like(is_time) if self.latest_first is None else self.numbers > first + self.latest_first
            return (~is_time | late).expand(len(said), -1)
        last = said[:, -1] >= first
        before = said[:, -2] >= first if said.shape[1] > 1 else torch.ones_like(last)
        # Times come in pairs, the end of one segment and the beginning of the next; after the last may stand the end.
        out = (last & before)[:, None] & is_time
        out |= (last & ~before)[:, None] & (self.numbers < self.end)
        # None goes back; only the second of a pair may be as the one before.
        latest = said.masked_fill(said < first, -1).amax(1)
        least = torch.where(latest < 0, first, torch.where(last & ~before, latest, latest + 1))
        return out | (is_time & (self.numbers < least[:, None]))

    def _among(self, numbers: Sequence[int]) -> Bool[Tensor, " vocab"]:
        return torch.isin(self.numbers, torch.tensor(numbers, dtype=torch.long, device=self.numbers.device))


class Transcriber:
    """Writes recordings down.

    Args:
        task: For the prompt.
        times: Ask the model for times. Without, a window is one segment, unless the model writes times unasked.
        max_new_tokens: Of a window, at most.
    """

    def __init__(
        self, model: Model, tokens: Tokens, *, task: str, times: bool, max_new_tokens: int | None = None
    ) -> None:
        assert isinstance(model.embed, LogMelEmbed)
        assert isinstance(model.head, Writer)
        self.embed, self.core, self.head = model.embed, model.core, model.head
        self.tokens, self.task, self.times, self.max_new_tokens = tokens, task, times, max_new_tokens
        table = self.head.table.weight
        self.device = table.device
        self.rules = Rules(tokens, len(table), table.device, times=times)

    def __call__(self, recordings: Sequence[Progress]) -> None:
        """Go on with each to its end, a window of all at a time."""
        while left := [each for each in recordings if not each.is_over]:
            ends = [min(each.seek + self.window, each.frames.count) for each in left]
            heard, layout = self._hear(left, ends)
            if self.tokens.languages:
                self._tell_languages(left, heard, layout)
            prompts = [self.tokens.prompt(each.language, self.task, times=self.times) for each in left]
            said = self._say(torch.tensor(prompts, device=self.device), heard, layout)
            for each, end, own in zip(left, ends, said, strict=True):
                found, advance = self.segments(own, each.seek, end - each.seek)
                each.segments += found
                each.seek += advance

    @property
    def window(self) -> int:
        """Frames that are heard at once."""
        return self.embed.max_tokens * FRAMES_PER_TOKEN

    def _hear(self, recordings: Sequence[Progress], ends: Sequence[int]) -> tuple[Tensor, Layout]:
        """What the core makes of the next window of each."""
        counts = [end - each.seek for each, end in zip(recordings, ends, strict=True)]
        frames = torch.zeros(len(recordings), self.embed.conv1.in_channels, self.window, device=self.device)
        for row, each, end, count in zip(frames, recordings, ends, counts, strict=True):
            row[:, :count] = each.frames.cut(each.seek, end)
        if self.embed.padded:
            lengths = [self.embed.max_tokens] * len(counts)
        else:
            lengths = [-(-count // FRAMES_PER_TOKEN) for count in counts]
            frames = frames[..., : max(counts)]
        layout = Layout.from_lengths(lengths, self.device)
        x = self.embed.tokens(frames, torch.tensor(counts, device=self.device), layout, sum(lengths))
        return self.core(x, layout), layout

    def _tell_languages(self, recordings: Sequence[Progress], heard: Tensor, layout: Layout) -> None:
        """The likeliest language of each that none is known of, from its first window."""
        if all(each.language is not None for each in recordings):
            return
        start = torch.full((len(recordings), 1), self.tokens.start, device=self.device)
        scores = self.head.next(start, self.head.decoder.new_cache(), heard, layout)
        known = torch.tensor(list(self.tokens.languages.values()), device=self.device)
        for each, number in zip(recordings, known[scores[:, known].argmax(-1)].tolist(), strict=True):
            each.language = number if each.language is None else each.language

    def _say(self, prompts: Int[Tensor, "b t"], heard: Tensor, layout: Layout) -> list[list[int]]:
        """The tokens after each prompt, up to the end of what is said, which is not among them."""
        room = self.head.position.weight.shape[0] - prompts.shape[1]
        cache, said, given = self.head.decoder.new_cache(), prompts[:, :0], prompts
        ended = torch.zeros(len(prompts), dtype=torch.bool, device=self.device)
        for step in range(min(room, self.max_new_tokens or room)):
            scores = self.head.next(given, cache, heard if step == 0 else None, layout)
            following = self.rules(scores, said).argmax(-1).masked_fill(ended, self.tokens.end)
            said = torch.cat([said, following[:, None]], 1)
            ended = ended | (following == self.tokens.end)
            if ended.all():
                break
            given = following[:, None]
        rows = said.tolist()
        return [row[: row.index(self.tokens.end)] if self.tokens.end in row else row for row in rows]

    def segments(self, said: list[int], seek: int, num_frames: int) -> tuple[list[Segment], int]:
        """The segments of a window, and how many frames the recording goes on by.

        Where times stand in pairs, a segment ends between them, and what follows the last pair is left to the next
        window; unless all ends with a single time, after which nothing is said. Without pairs all is one segment.

        Args:
            seek: The window's first frame.
        """
        begin, first = seek * FRAME_SECONDS, self.tokens.first_time
        is_time = [first is not None and each >= first for each in said]
        cuts = [i + 1 for i in range(len(said) - 1) if is_time[i] and is_time[i + 1]]
        if first is None or not cuts:
            last = next((each for each, time in zip(reversed(said), reversed(is_time), strict=True) if time), None)
            length = num_frames // FRAMES_PER_TOKEN if last in (None, first) else last - (first or 0)
            return [Segment(begin, begin + length * TOKEN_SECONDS, said)], num_frames
        single = is_time[-2:] == [False, True]
        bounds = [0, *cuts, *([len(said)] if single else [])]
        found: list[Segment] = []
        for start, stop in pairwise(bounds):
            own = said[start:stop]
            found.append(Segment(begin + self._seconds(own[0]), begin + self._seconds(own[-1]), own))
        if single:
            return found, num_frames
        found[-1].tokens.append(said[cuts[-1]])  # the pair is kept together
        return found, FRAMES_PER_TOKEN * (said[cuts[-1] - 1] - first) or num_frames  # never nowhere

    def _seconds(self, time: int) -> float:
        assert self.tokens.first_time is not None
        return (time - self.tokens.first_time) * TOKEN_SECONDS
