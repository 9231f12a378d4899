"""Pictures of a forecast: the history, then what happened beside what was forecast.

Pictures turn forward up and left left: image rows run down x, columns run down y.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy import ndimage

from forecast.evaluation.counts import mask_centres
from forecast.storage.atomic import staged_file
from forecast.visualization.colours import (
    ACCENT,
    FAINT,
    GROUND,
    INK,
    MAP_TONES,
    PAPER,
    class_colour,
    dim,
    id_colour,
    probability_shades,
)
from forecast.visualization.view import View, of_any_class

PANEL = 520  # pixels of a panel's longer side
MARGIN = 22
SHEET_COLUMNS = 4
HEADER = 64
FOOTER = 46
RIM = 2  # cells around a mask, into which its smoothed edge may reach
HOLD_S = 1.5  # how long the last frame stays

Layer = Literal["labels", "probability", "both"]
"""What is drawn of a forecast: its label maps, the probability of any class, or one over the other.

Of a view whose probability was not read it is always the label maps.
"""


def write_gif(
    path: str, views: Sequence[View], *, layer: Layer = "labels", overwrite: bool = False
) -> None:
    """Animates sequences, one after the other, in real time.

    Realizations are fans: the path of each agent in each of them, and a dot where it is.

    Args:
        path: Local path or fsspec URL.
        views: At least one.
        layer: What is drawn of forecasts.
        overwrite: Whether an existing file is replaced.

    Raises:
        DataError: The path exists or cannot be written.
    """
    images, durations = [], []
    for view in views:
        renderer = _Renderer(view, layer)
        palette = renderer.palette()
        images += [_indexed(renderer.frame(offset), palette) for offset in view.frames]
        durations += [max(round(1000 * view.dt_s), 40)] * len(view.frames)
        durations[-1] += round(1000 * HOLD_S)
    _save(
        path,
        images[0],
        overwrite,
        format="GIF",
        save_all=True,
        append_images=images[1:],
        duration=durations,
        loop=0,
        optimize=False,
    )


def write_png(path: str, view: View, *, layer: Layer = "labels", overwrite: bool = False) -> None:
    """A contact sheet: the present and a few leads up to the last, truth above forecast.

    Args:
        path: Local path or fsspec URL.
        view: What is seen in it.
        layer: What is drawn of the forecast.
        overwrite: Whether an existing file is replaced.

    Raises:
        DataError: The path exists or cannot be written.
    """
    _save(path, _Renderer(view, layer).sheet(), overwrite, format="PNG", optimize=True)


def _save(path: str, image: Image.Image, overwrite: bool, **options: Any) -> None:
    with staged_file(path, overwrite=overwrite) as file:
        image.save(file, **options)


def to_picture(raster: NDArray[Any]) -> NDArray[Any]:
    """Turns ``(y, x)``, both ascending, to rows and columns with forward up and left left."""
    return raster.T[::-1, ::-1]


class _Renderer:
    """Draws the frames of one view; panels are drawn large and shrunk, which smooths them."""

    def __init__(self, view: View, layer: Layer) -> None:
        self.view = view
        self.labels = layer != "probability" or view.probability is None
        self.probability = None if layer == "labels" else view.probability
        grid = view.grid
        self.zoom = max(1, round(2 * PANEL / max(grid.shape)))
        # Rows of a picture run along x and columns along y.
        self.size = grid.height * self.zoom, grid.width * self.zoom
        shrink = PANEL / max(self.size)
        self.panel = round(self.size[0] * shrink), round(self.size[1] * shrink)
        self.ground = self._ground()

    def frame(self, offset: int) -> Image.Image:
        """One frame of the animation: header, panels, time line."""
        view = self.view
        panels = [("truth", view.truth)] if len(view.truth) or not len(view.forecast) else []
        if len(view.forecast):
            panels.append((f"forecast: {view.model}", view.forecast))
        width = MARGIN + len(panels) * (self.panel[0] + MARGIN)
        canvas = Image.new("RGB", (width, HEADER + self.panel[1] + FOOTER), PAPER)
        pen = ImageDraw.Draw(canvas)
        for column, (title, leads) in enumerate(panels):
            left = MARGIN + column * (self.panel[0] + MARGIN)
            forecast = leads is view.forecast
            canvas.paste(self._panel_at(offset, leads, forecast), (left, HEADER))
            colour = ACCENT if forecast and offset > 0 else INK
            text = title if offset > 0 else "observed"
            pen.text((left, HEADER - 10), text, colour, _font(19), anchor="ls")
            box = left - 1, HEADER - 1, left + self.panel[0], HEADER + self.panel[1]
            pen.rectangle(box, outline=ACCENT if colour == ACCENT else GROUND)
            if forecast and 0 < offset <= len(view.truth):
                corner = box[2] - 8, box[3] - 8
                pen.text(corner, "white outline: truth", FAINT, _font(12), anchor="rs")
        pen.text((MARGIN, 24), view.scene, FAINT, _font(13), anchor="ls")
        pen.text(
            (width - MARGIN, HEADER - 10), _lead_text(offset * view.dt_s), INK, _font(30), "rs"
        )
        self._time_line(pen, offset, width, HEADER + self.panel[1] + FOOTER // 2)
        return canvas

    def palette(self) -> Image.Image:
        """One palette for every frame, so that unchanged pixels compress to nothing.

        The ground covers most of a picture; the ids have entries of their own, which keep their
        colours exact unless they are very many.
        """
        view = self.view
        of_ids = [view.forecast] if view.classes else [view.history, view.truth, view.forecast]
        ids = np.unique(np.concatenate(of_ids))
        shades = [id_colour(id_) for id_ in ids[ids > 0].tolist()]
        agents = [shade for one in shades for shade in (one, dim(one))]
        agents += [class_colour(k) for k in range(1, len(view.classes) + 1)]
        ink = np.array([[PAPER, INK, FAINT, ACCENT, (255, 255, 255), *agents]], np.uint8)
        if self.probability is None:
            entries = _reduced(Image.fromarray(ink), 176) + _reduced(self.ground, 80)
        else:
            likely = self.ground.copy()
            self._likely(likely, self.probability.max(axis=0))
            entries = _reduced(Image.fromarray(ink), 128) + _reduced(self.ground, 48)
            entries += _reduced(likely, 80)
        palette = Image.new("P", (1, 1))
        palette.putpalette(entries)
        return palette

    def sheet(self) -> Image.Image:
        """The contact sheet: a column per time, a row each for truth and forecast."""
        view = self.view
        last = view.frames[-1]
        offsets = np.unique(np.linspace(0, last, SHEET_COLUMNS).round().astype(int)).tolist()
        rows = [("truth", view.truth), (view.model, view.forecast)]
        rows = [row for row in rows if len(row[1])] or rows[:1]
        width, height = 2 * self.panel[0] // 3, 2 * self.panel[1] // 3
        size = (
            MARGIN + len(offsets) * (width + MARGIN),
            HEADER + len(rows) * (height + HEADER // 2),
        )
        canvas = Image.new("RGB", size, PAPER)
        pen = ImageDraw.Draw(canvas)
        pen.text((MARGIN, 22), view.scene, FAINT, _font(13), anchor="ls")
        for row, (title, leads) in enumerate(rows):
            top = HEADER + row * (height + HEADER // 2)
            for column, offset in enumerate(offsets):
                left = MARGIN + column * (width + MARGIN)
                panel = self._panel_at(offset, leads, leads is view.forecast)
                canvas.paste(panel.resize((width, height), Image.Resampling.LANCZOS), (left, top))
                text = _lead_text(offset * view.dt_s)
                pen.text((left + width, top - 7), text, FAINT, _font(14), anchor="rs")
                if column == 0:
                    pen.text((left, top - 7), title, INK, _font(15), anchor="ls")
        return canvas

    def _panel_at(self, offset: int, leads: NDArray[Any], forecast: bool) -> Image.Image:
        """The map, the trails, the agents and the ego at one time, by truth or by forecast."""
        history, present = self.view.history, len(self.view.history) - 1
        by_class = bool(self.view.classes) and not (forecast and offset > 0)
        canvas = self.ground.copy()
        if offset > len(leads):
            middle = canvas.width // 2, canvas.height // 2
            ImageDraw.Draw(canvas).text(middle, "not known yet", FAINT, _font(40), anchor="mm")
            return canvas.resize(self.panel, Image.Resampling.LANCZOS)
        ahead = leads[: max(offset, 0)]
        frames = np.concatenate([history, ahead])[: present + offset + 1]
        future = forecast and offset > 0
        labels = self.labels or not future
        if future and self.probability is not None:
            self._likely(canvas, self.probability[offset - 1])
        if not by_class and labels:
            self._trails(canvas, ahead if self.view.classes else frames)
        for value, mask, corner in self._masks(frames[-1]) if labels else ():
            canvas.paste(class_colour(value) if by_class else id_colour(value), corner, mask)
        if future:
            self._fans(canvas, offset)
        if forecast and 0 < offset <= len(self.view.truth):
            self._outlines(canvas, self.view.truth[offset - 1])
        # The forecaster does not know where the ego will be: its present place is outlined.
        known = not forecast or offset <= 0
        self._ego(canvas, self.view.ego_pose[present + (offset if known else 0)], known)
        if by_class:
            self._legend(canvas)
        return canvas.resize(self.panel, Image.Resampling.LANCZOS)

    def _ground(self) -> Image.Image:
        """The map's layers in quiet tones, the present frame's."""
        colours = np.empty((*self.view.grid.shape[::-1], 3), np.uint8)
        colours[:] = GROUND
        for layer, tone in MAP_TONES.items():
            if layer in self.view.map:
                colours[to_picture(self.view.map[layer]) != 0] = tone
        large = Image.fromarray(colours).resize(self.size, Image.Resampling.BICUBIC)
        return large.filter(ImageFilter.GaussianBlur(self.zoom / 3))

    def _outlines(self, canvas: Image.Image, instance: NDArray[Any]) -> None:
        """A thin line around each true segment, to see by how much the forecast is off."""
        for _, mask, (left, top) in self._masks(instance):
            solid = np.asarray(mask) > 127
            inner = solid.copy()
            for axis in (0, 1):
                for shift in (-2, -1, 1, 2):
                    inner &= np.roll(solid, shift, axis=axis)
            line = Image.fromarray((255 * (solid & ~inner)).astype(np.uint8))
            canvas.paste(INK, (left, top), line)

    def _masks(self, instance: NDArray[Any]) -> list[tuple[int, Image.Image, tuple[int, int]]]:
        """Each id's or class's mask, enlarged with smooth edges, and its upper left corner."""
        picture = to_picture(instance)
        found = []
        for index, window in enumerate(ndimage.find_objects(picture)):
            if window is not None:
                rows, columns = window
                mask = Image.fromarray(_enlarged(picture[window] == index + 1, self.zoom))
                corner = (columns.start - RIM) * self.zoom, (rows.start - RIM) * self.zoom
                found.append((index + 1, mask, corner))
        return found

    def _trails(self, canvas: Image.Image, frames: NDArray[Any]) -> None:
        """The past path of each agent."""
        ids = np.unique(frames[-1][frames[-1] > 0]).astype(np.int64)
        centres = np.stack([mask_centres(frame, ids, self.view.grid) for frame in frames], axis=1)
        pen = ImageDraw.Draw(canvas)
        for id_, path in zip(ids.tolist(), centres, strict=True):
            points = [self._pixel(*point) for point in path if np.isfinite(point).all()]
            pen.line(points, dim(id_colour(id_)), max(round(0.7 * self.zoom), 2), joint="curve")

    def _likely(self, canvas: Image.Image, probability: NDArray[np.uint8]) -> None:
        """Shades of the probability that a cell is of any class, and a scale of them."""
        shades = np.array(probability_shades(), np.uint8)
        picture = Image.fromarray(np.ascontiguousarray(to_picture(of_any_class(probability))))
        large = np.asarray(picture.resize(self.size, Image.Resampling.BILINEAR))
        layer = Image.fromarray(shades[large])
        canvas.paste(layer, (0, 0), layer)
        line = canvas.height // 30
        scale = Image.fromarray(np.tile(shades[None], (line // 2, 1, 1)))
        scale = scale.resize((canvas.width // 4, line // 2))
        left, low = line // 2, canvas.height - line // 2
        canvas.paste(scale, (left, low - line // 2), scale)
        pen, font = ImageDraw.Draw(canvas), _font(2 * line // 3)
        pen.text((left, low - line), "probability: 0 to 100 %", INK, font, anchor="ls")

    def _fans(self, canvas: Image.Image, offset: int) -> None:
        """The path of each agent in each realization, and a dot where it is at a lead."""
        futures = self.view.realizations
        if futures is None:
            return
        pen, line = ImageDraw.Draw(canvas), max(round(0.25 * self.zoom), 1)
        radius = 2 * line
        for track, start in enumerate(futures.present):
            colour = id_colour(track + 1)
            for path in futures.pose[:, :, track, :2]:
                points = [self._pixel(*at) for at in (start, *path) if np.isfinite(at).all()]
                pen.line(points, dim(colour), line, joint="curve")
            for place in futures.pose[:, offset - 1, track, :2]:
                if np.isfinite(place).all():
                    x, y = self._pixel(*place)
                    box = x - radius, y - radius, x + radius, y + radius
                    pen.ellipse(box, colour, GROUND)

    def _ego(self, canvas: Image.Image, pose: NDArray[Any], known: bool) -> None:
        """An arrow head along the ego's heading."""
        x, y, yaw = pose
        size = max(self.view.grid.resolution_m * 3, 1.4)
        corners = [
            self._pixel(
                x + size * reach * np.cos(yaw + turn), y + size * reach * np.sin(yaw + turn)
            )
            for reach, turn in ((1.3, 0.0), (1.1, 2.5), (0.45, np.pi), (1.1, -2.5))
        ]
        fill = (255, 255, 255) if known else None
        ImageDraw.Draw(canvas).polygon(corners, fill, (255, 255, 255), width=2)

    def _legend(self, canvas: Image.Image) -> None:
        """The names of the classes in their colours."""
        pen, line = ImageDraw.Draw(canvas), canvas.height // 30
        for k, name in enumerate(self.view.classes, start=1):
            corner = line // 2, canvas.height - (len(self.view.classes) - k + 0.5) * line
            pen.text(corner, name, class_colour(k), _font(line), anchor="ls")

    def _pixel(self, x_m: float, y_m: float) -> tuple[float, float]:
        """Column and row of a point in the large panel."""
        grid = self.view.grid
        per_metre = self.zoom / grid.resolution_m
        return (grid.y_max_m - y_m) * per_metre, (grid.x_max_m - x_m) * per_metre

    def _time_line(self, pen: ImageDraw.ImageDraw, offset: int, width: int, y: int) -> None:
        """A dot per frame: filled up to the frame shown, larger at the present."""
        frames = self.view.frames
        span = max(len(frames) - 1, 1)
        for index, at in enumerate(frames):
            x = MARGIN + 8 + index * (width - 2 * MARGIN - 16) / span
            radius = 6 if at == 0 else 4
            reached = ACCENT if at > 0 else INK
            fill = reached if at <= offset else GROUND
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill, FAINT)


def _enlarged(cells: NDArray[np.bool_], zoom: int) -> NDArray[np.uint8]:
    """A mask of 0 and 255 with ``RIM`` cells around it, stairs smoothed away, area kept."""
    soft = ndimage.gaussian_filter(np.pad(cells, RIM).astype(np.float32), 0.6)
    large = ndimage.zoom(soft, zoom, order=1, grid_mode=True, mode="grid-constant")
    area = int(cells.sum()) * zoom**2
    threshold = np.partition(large, -area, axis=None)[-area]
    return np.where(large >= threshold, 255, 0).astype(np.uint8)


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _lead_text(lead_s: float) -> str:
    return "now" if lead_s == 0 else f"{lead_s:+.1f} s"


def _reduced(image: Image.Image, colours: int) -> list[int]:
    """A palette of at most ``colours`` colours for an image, red, green, blue in turn."""
    few = image.quantize(colours, method=Image.Quantize.MEDIANCUT)
    return (few.getpalette() or [])[: 3 * colours]


def _indexed(image: Image.Image, palette: Image.Image) -> Image.Image:
    """Indexed without dither, whose noise would not compress and would flicker."""
    return image.quantize(palette=palette, dither=Image.Dither.NONE)
