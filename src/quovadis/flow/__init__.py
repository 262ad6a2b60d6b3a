"""Optical flow: TV-L1 and other methods, stored flow, and visualization.

Example::

    flow = estimate_flow(clip.frames)  # float32 (T - 1, 2, H, W) in pixels
"""

from typing import TYPE_CHECKING

from quovadis.runtime.lazy import attach

if TYPE_CHECKING:
    from quovadis.flow.codec import PAPER as PAPER
    from quovadis.flow.codec import FlowPreset as FlowPreset
    from quovadis.flow.codec import decode_flow as decode_flow
    from quovadis.flow.codec import encode_flow as encode_flow
    from quovadis.flow.codec import preset_for as preset_for
    from quovadis.flow.codec import repeat_last as repeat_last
    from quovadis.flow.draw import draw_flow as draw_flow
    from quovadis.flow.draw import draw_legend as draw_legend
    from quovadis.flow.estimate import estimate_flow as estimate_flow
    from quovadis.flow.estimate import flow_for_clip as flow_for_clip
    from quovadis.flow.flow_files import FlowFileWriter as FlowFileWriter
    from quovadis.flow.flow_files import FlowHeader as FlowHeader
    from quovadis.flow.flow_files import FlowWriter as FlowWriter
    from quovadis.flow.flow_files import VideoFingerprint as VideoFingerprint
    from quovadis.flow.flow_files import read_flow as read_flow
    from quovadis.flow.flow_files import read_header as read_header
    from quovadis.flow.folder import FlowFolderWriter as FlowFolderWriter
    from quovadis.flow.parameters import FAST as FAST
    from quovadis.flow.parameters import FlowMethod as FlowMethod
    from quovadis.flow.parameters import TVL1Parameters as TVL1Parameters
    from quovadis.flow.source import FlowSource as FlowSource
    from quovadis.flow.source import store_flow as store_flow

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "codec": ["FlowPreset", "PAPER", "decode_flow", "encode_flow", "preset_for", "repeat_last"],
        "draw": ["draw_flow", "draw_legend"],
        "estimate": ["estimate_flow", "flow_for_clip"],
        "flow_files": ["FlowFileWriter", "FlowHeader", "FlowWriter", "VideoFingerprint", "read_flow", "read_header"],
        "folder": ["FlowFolderWriter"],
        "parameters": ["FAST", "FlowMethod", "TVL1Parameters"],
        "source": ["FlowSource", "store_flow"],
    },
)
