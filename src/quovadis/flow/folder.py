"""Flow as folders of images: JPEG pairs for other tools, and color images for viewing."""

import json
from os import PathLike
from pathlib import Path

from PIL import Image
from torch import Tensor

from quovadis.errors import StorageError
from quovadis.flow.codec import PAPER, FlowPreset, encode_flow
from quovadis.flow.draw import draw_flow
from quovadis.flow.flow_files import FlowHeader, FlowWriter, VideoFingerprint
from quovadis.runtime.atomic import PartialFile

HEADER_NAME = "flow.json"
JPEG_QUALITY = 95


class FlowFolderWriter(FlowWriter):
    """Write flow as images into a folder.

    ``flow_x_00001.jpg`` and ``flow_y_00001.jpg`` contain the two components from frame 1 to frame 2 in the 256 levels
    of the preset, with the file names of denseflow and related tools. ``flow.json`` contains the header. With
    ``longest_px``, the folder contains color images ``flow_00001.jpg`` instead.

    Args:
        path: Folder to write.
        video: Fingerprint of the video.
        preset: Settings with which the flow was computed.
        longest_px: Write color images in which vectors of this length are fully saturated.

    Raises:
        StorageError: If the folder cannot be written, or contains other files.
        TooFewFramesError: If no flow was written.

    Example:
        >>> import torch
        >>> folder = getfixture("tmp_path") / "v"
        >>> with FlowFolderWriter(folder, VideoFingerprint(1, "0")) as writer:
        ...     writer.write(torch.zeros(1, 2, 32, 40))
        >>> sorted(file.name for file in folder.iterdir())
        ['flow.json', 'flow_x_00001.jpg', 'flow_y_00001.jpg']
    """

    def __init__(
        self,
        path: str | PathLike[str],
        video: VideoFingerprint,
        preset: FlowPreset = PAPER,
        *,
        longest_px: float | None = None,
    ):
        super().__init__(path, video, preset)
        self._longest_px = longest_px
        if self.path.is_dir() and read_folder_header(self.path) is None and any(self.path.iterdir()):
            raise StorageError(f"{self.path} exists and is not a flow folder; move it, or choose another folder")
        self._partial = PartialFile(self.path, folder=True)

    def _append(self, flow: Tensor) -> None:
        levels = encode_flow(flow, self.preset.clip_px).numpy() if self._longest_px is None else None
        colors = None if self._longest_px is None else draw_flow(flow, self._longest_px).permute(0, 2, 3, 1).numpy()
        for t in range(len(flow)):
            number = f"{self.num_flows + t + 1:05d}.jpg"
            if levels is not None:
                for component, name in enumerate("xy"):
                    image = Image.fromarray(levels[t, component])
                    image.save(self._partial.path / f"flow_{name}_{number}", quality=JPEG_QUALITY)
            elif colors is not None:
                Image.fromarray(colors[t]).save(self._partial.path / f"flow_{number}", quality=JPEG_QUALITY)

    def _close(self, complete: bool) -> None:
        if complete:
            header = {**self._header, "size": self.size, "num_flows": self.num_flows}
            (self._partial.path / HEADER_NAME).write_text(json.dumps(header, indent=1))
            self._partial.commit()

    def _discard(self) -> None:
        self._partial.discard()


def read_folder_header(path: str | PathLike[str]) -> FlowHeader | None:
    """Read the header of a flow folder; return None if there is no valid header."""
    try:
        values = json.loads((Path(path) / HEADER_NAME).read_text())
        preset, video = FlowPreset.from_dict(values["preset"]), VideoFingerprint(**values["clip"])
        return FlowHeader(preset, video, values["num_flows"], *values["size"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
