"""Drawn scenes of three Kinetics classes, which networks that were trained on real videos recognize.

They need no download and no license, and serve as examples in tutorials and in the web demo.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter

from quovadis.errors import InvalidInputError, UnknownNameError
from quovadis.video.clip import Clip

_WIDTH_PX, _HEIGHT_PX = 340, 256
_OVERSAMPLING = 3
_FPS = 25
_SKIN, _HAIR, _WHITE = (208, 162, 132), (55, 38, 25), (248, 248, 248)

Color = tuple[int, int, int]
Point = tuple[float, float]


def draw_scene(label: str, *, seconds: float = 5.0, seed: int = 0) -> Clip:
    """Draw a short video of an action: a person who juggles, puts a golf ball, or two who play tennis.

    The official Kinetics-400 RGB network recognizes each with a probability above 99 %, although it has only seen real
    videos: it knows the surroundings of an action at least as well as the motion.

    Args:
        label: A class of :data:`SCENE_LABELS`.
        seconds: Length of the video, above 0.
        seed: Seed of the noise and of the moment at which the video begins.

    Returns:
        A clip of 25 frames per second, 340 pixels wide and 256 high.

    Raises:
        UnknownNameError: If there is no such scene.
        InvalidInputError: If ``seconds`` is not above 0.

    Example:
        >>> clip = draw_scene("juggling balls", seconds=0.4)
        >>> clip.frames.shape, clip.frames.dtype
        (torch.Size([10, 3, 256, 340]), torch.uint8)
    """
    if label not in _SCENES:
        raise UnknownNameError.among("scene", label, _SCENES)
    if not seconds > 0:
        raise InvalidInputError(f"seconds must be above 0; got {seconds}")
    rng = np.random.default_rng(seed)
    begin = rng.uniform(0, 4)
    turf = _turf(rng)
    times = np.arange(max(round(seconds * _FPS), 1)) / _FPS
    frames = np.empty((len(times), _HEIGHT_PX, _WIDTH_PX, 3), np.uint8)
    for frame, time in zip(frames, times, strict=True):
        canvas = _Canvas(turf)
        _SCENES[label](canvas, begin + time)
        frame[:] = canvas.pixels(rng)
    return Clip(torch.from_numpy(frames).movedim(-1, 1), torch.from_numpy(times), source=f"scene/{label}")


class _Canvas:
    """A frame to draw on, in pixels from the top left corner."""

    def __init__(self, turf: Image.Image):
        self._image = Image.new("RGB", (_WIDTH_PX * _OVERSAMPLING, _HEIGHT_PX * _OVERSAMPLING))
        self._draw = ImageDraw.Draw(self._image)
        self._turf = turf

    def fill(self, color: Color, top: float = 0, bottom: float = _HEIGHT_PX) -> None:
        self._draw.rectangle(self._scaled([(0, top), (_WIDTH_PX, bottom)]), color)

    def line(self, points: Sequence[Point], color: Color, width: float) -> None:
        self._draw.line(self._scaled(points), color, max(round(width * _OVERSAMPLING), 1))

    def polygon(self, points: Sequence[Point], color: Color) -> None:
        self._draw.polygon(self._scaled(points), color)

    def ellipse(self, center: Point, rx: float, ry: float, color: Color, *, outline: float = 0) -> None:
        (x, y), width = center, round(outline * _OVERSAMPLING)
        box = self._scaled([(x - rx, y - ry), (x + rx, y + ry)])
        self._draw.ellipse(box, None if width else color, color if width else None, max(width, 1))

    def head(self, center: Point, radius: float, hair: Color) -> None:
        (x, y), r = center, radius
        self.ellipse(center, r, 1.2 * r, _SKIN)
        self._draw.pieslice(self._scaled([(x - 1.07 * r, y - 1.3 * r), (x + 1.07 * r, y + 0.5 * r)]), 180, 360, hair)

    def grass(self, top: float) -> None:
        """Cover everything below with turf."""
        y = round(top * _OVERSAMPLING)
        self._image.paste(self._turf.crop((0, y, *self._turf.size)), (0, y))

    def pixels(self, rng: np.random.Generator) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """uint8 (H, W, 3) with the noise of a camera."""
        small = np.asarray(self._image.resize((_WIDTH_PX, _HEIGHT_PX), Image.Resampling.LANCZOS), np.float32)
        noisy = small + rng.normal(0, 3, (_HEIGHT_PX, _WIDTH_PX, 1))
        return noisy.clip(0, 255).astype(np.uint8)

    @staticmethod
    def _scaled(points: Sequence[Point]) -> list[Point]:
        return [(_OVERSAMPLING * x, _OVERSAMPLING * y) for x, y in points]


def _turf(rng: np.random.Generator) -> Image.Image:
    size = _HEIGHT_PX * _OVERSAMPLING, _WIDTH_PX * _OVERSAMPLING
    noise = rng.integers(0, 256, size, np.uint8)
    soft = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(4)), np.float32)[..., None] - 128
    return Image.fromarray((np.array([70, 140, 50]) + soft).clip(0, 255).astype(np.uint8))


def _juggling(canvas: _Canvas, seconds: float) -> None:
    """A person with three balls. Each flies in an arc from one hand to the other, then is carried inward."""
    period, carried = 1.2, 0.25
    canvas.fill((205, 200, 190))
    canvas.fill((120, 90, 60), top=218)
    shirt, x, hands_y = (30, 60, 120), 170.0, 180.0
    canvas.line([(x, 243), (x, 176)], shirt, 50)
    canvas.line([(x, 210), (x, 133)], shirt, 60)
    canvas.line([(x, 136), (x, 118)], _SKIN, 16)
    canvas.head((x, 103), 20, _HAIR)
    for side, phase in ((-1, 0.0), (1, math.pi)):
        hand = (x + 35 * side, hands_y - 3 + 8 * math.sin(4 * math.pi * seconds / period + phase))
        elbow = (x + 43 * side, hands_y + 13)
        canvas.line([(x + 30 * side, 140), elbow], shirt, 17)
        canvas.line([elbow, hand], _SKIN, 12)
        canvas.ellipse(hand, 8, 8, _SKIN)
    for number, color in enumerate(((220, 30, 30), (240, 200, 30), (40, 170, 60))):
        turn = (seconds / period + 2 * number / 3) % 2
        side, part = (1 if turn < 1 else -1), turn % 1
        if part < carried:
            ball = (x - side * (35 + 7 * math.sin(math.pi * part / carried)), hands_y - 13)
        else:
            flight = (part - carried) / (1 - carried)
            ball = (x - side * 35 * (1 - 2 * flight), hands_y - 13 - 490 * flight * (1 - flight))
        canvas.ellipse(ball, 8, 8, color)


def _golf(canvas: _Canvas, seconds: float) -> None:
    """A person who swings a putter; the ball rolls into the hole. Repeats every four seconds."""
    canvas.fill((150, 190, 230))
    for number in range(14):
        canvas.ellipse((number * 26, 54), 20, 23, (30, 80 + 5 * (number % 3), 30))
    canvas.grass(top=64)
    canvas.ellipse((190, 200), 210, 75, (112, 178, 84))
    hole = (265.0, 159.0)
    canvas.ellipse(hole, 5, 2, (20, 30, 20))
    canvas.line([hole, (265, 72)], _WHITE, 2)
    canvas.polygon([(265, 72), (242 + 3 * math.sin(5 * seconds), 79), (265, 87)], (210, 30, 30))
    x, y, moment = 75.0, 205.0, seconds % 4
    swing = 0.25 * math.sin(2 * math.pi * moment) if moment < 1 else 0
    canvas.line([(x - 8, y), (x - 5, y - 43)], (40, 40, 60), 11)
    canvas.line([(x + 10, y), (x + 3, y - 43)], (45, 45, 70), 11)
    canvas.line([(x, y - 40), (x + 10, y - 90)], (230, 230, 240), 27)
    canvas.head((x + 17, y - 103), 10, _WHITE)
    hands, club = (x + 37 + 20 * swing, y - 50), (x + 47 + 87 * swing, y - 2)
    canvas.line([(x + 12, y - 83), hands], _SKIN, 7)
    canvas.line([hands, club], (120, 120, 130), 2.3)
    canvas.line([(club[0] - 3, y - 2), (club[0] + 9, y - 2)], (60, 60, 60), 4)
    rolled = 1 - (1 - min(max(moment - 0.5, 0) / 1.6, 1)) ** 2
    if rolled < 1:
        start = (x + 63, y)
        canvas.ellipse(
            (start[0] + rolled * (hole[0] - start[0]), start[1] + rolled * (hole[1] - start[1])), 3, 3, _WHITE
        )


def _tennis(canvas: _Canvas, seconds: float) -> None:
    """Two players on a hard court, seen from behind one of them. The ball takes 1.3 s from one to the other."""
    canvas.fill((34, 60, 40))
    canvas.fill((25, 70, 50), bottom=77)
    canvas.polygon([_on_court(x, z) for x, z in ((-30, 34), (30, 34), (30, -3), (-30, -3))], (60, 110, 80))
    canvas.polygon([_on_court(x, z) for x, z in ((-5.5, 24), (5.5, 24), (5.5, 0.2), (-5.5, 0.2))], (50, 90, 160))
    for x in (-5.5, -4.1, 4.1, 5.5):
        canvas.line([_on_court(x, 0.2), _on_court(x, 24)], _WHITE, 1.3)
    for z, x in ((0.2, 5.5), (24, 5.5), (5.7, 4.1), (18.5, 4.1)):
        canvas.line([_on_court(-x, z), _on_court(x, z)], _WHITE, 1)
    canvas.line([_on_court(0, 5.7), _on_court(0, 18.5)], _WHITE, 1)
    _player(canvas, 2.6 * math.sin(1.7 * seconds + 1), 23.5, _WHITE, 9 * seconds, 0.5 + 0.9 * math.sin(2.1 * seconds))
    (left, bottom), (right, _), height = _on_court(-6, 12), _on_court(6, 12), _px_per_m(12)
    for number in range(81):
        x = left + (right - left) * number / 80
        canvas.line([(x, bottom - height), (x, bottom)], (30, 40, 40), 0.3)
    for number in range(6):
        y = bottom - height * number / 6
        canvas.line([(left, y), (right, y)], (30, 40, 40), 0.3)
    canvas.line([(left, bottom - height), (right, bottom - height)], _WHITE, 1.7)
    _player(canvas, 2.2 * math.sin(1.3 * seconds), 0.4, (200, 40, 40), 8 * seconds, 0.6 + 1.2 * math.sin(2.4 * seconds))
    shot = (seconds / 1.3) % 2
    z = 1 + 22 * (shot if shot < 1 else 2 - shot)
    x, y = _on_court(2 * math.sin(0.8 * seconds), z)
    radius = 0.09 * _px_per_m(z) + 0.7
    canvas.ellipse((x, y - (1.2 + 1.6 * math.sin(math.pi * (shot % 1))) * _px_per_m(z)), radius, radius, (220, 250, 60))


def _on_court(x: float, z: float) -> Point:
    """Project a point of the ground: meters to the right, and from the near baseline to the far one."""
    return _WIDTH_PX / 2 + x * _px_per_m(z), 0.28 * _HEIGHT_PX + 2.4 * _HEIGHT_PX / _WIDTH_PX * 1.47 * _px_per_m(z)


def _px_per_m(z: float) -> float:
    return 1.15 * _WIDTH_PX / (z + 6)


def _player(canvas: _Canvas, x: float, z: float, shirt: Color, stride: float, arm: float) -> None:
    """A tennis player of 1.8 m. ``stride`` and ``arm`` are angles: the phase of the legs, and the arm with racket."""
    (foot_x, foot_y), scale = _on_court(x, z), _px_per_m(z)

    def at(right: float, up: float) -> Point:
        return foot_x + right * scale, foot_y - up * scale

    for side in (-1, 1):
        canvas.line([at(0, 0.85), at(0.35 * side * math.sin(stride), 0)], (65, 47, 37), 0.13 * scale)
    canvas.line([at(0, 0.8), at(0, 1.4)], shirt, 0.34 * scale)
    canvas.line([at(-0.15, 0.75), at(0.15, 0.75)], _WHITE, 0.25 * scale)
    canvas.head(at(0, 1.62), 0.13 * scale, _HAIR)
    across, up = math.cos(arm), math.sin(arm)
    canvas.line([at(0.1, 1.32), at(0.45 * across, 1.3 + 0.45 * up)], _SKIN, 0.09 * scale)
    canvas.line([at(-0.1, 1.32), at(-0.35, 1)], _SKIN, 0.09 * scale)
    canvas.line([at(0.45 * across, 1.3 + 0.45 * up), at(0.8 * across, 1.3 + 0.8 * up)], (30, 30, 30), 0.04 * scale)
    canvas.ellipse(at(0.95 * across, 1.3 + 0.95 * up), 0.15 * scale, 0.17 * scale, (230, 230, 40), outline=0.03 * scale)


_SCENES: dict[str, Callable[[_Canvas, float], None]] = {
    "juggling balls": _juggling,
    "golf putting": _golf,
    "playing tennis": _tennis,
}

SCENE_LABELS = tuple(_SCENES)
"""Classes of :func:`draw_scene`."""
