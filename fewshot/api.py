"""The methods in Python: load a checkpoint, adapt it to a few annotated images, segment any others.

    from fewshot.api import load

    segmenter = load("runs/panet/checkpoint.safetensors").adapt(images, masks)
    masks = segmenter.masks(new_images)

Images are paths, arrays or Pillow's, of any size; everything is computed as in the benchmark. `adapt_folder` takes a
folder of annotated images, and `predict` says more of each image than its mask.
"""

from fewshot.inference.adaptable import Adaptable, build, load
from fewshot.inference.segmenter import Segmenter

__all__ = ["Adaptable", "Segmenter", "build", "load"]
