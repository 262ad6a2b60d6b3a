"""File to :class:`~quovadis.types.Clip` and back: reader, sampling (pure arithmetic), writer."""
