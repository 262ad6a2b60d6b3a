"""File to :class:`~quovadis.video.clip.Clip` and back: reader, sampling (pure arithmetic), writer."""
