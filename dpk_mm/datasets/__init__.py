"""The generated shapes set, for trying things out where no data can be downloaded."""

from .shapes import METAINFO, SHAPES_CLASSES, generate_shapes, render_scene

__all__ = ['METAINFO', 'SHAPES_CLASSES', 'generate_shapes', 'render_scene']
