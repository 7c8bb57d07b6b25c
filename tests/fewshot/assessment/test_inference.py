"""From probabilities to masks of lesions and of their kinds."""

import numpy as np

from fewshot.assessment.inference import ImagePrediction


def test_every_pixel_of_a_lesion_has_a_kind_and_no_other_pixel_has() -> None:
    """The first pixel is a lesion of undecided kind, although background alone is its most probable class."""
    background, benign, malignant = [0.4, 0.6, 0.1], [0.35, 0.35, 0.1], [0.25, 0.05, 0.8]
    classes = np.array([[background], [benign], [malignant]], np.float32)
    none, zeros = np.zeros(0, np.float32), np.zeros((1, 3), np.float32)
    prediction = ImagePrediction(classes, 1 - classes[0], none, zeros, zeros, 1)
    assert prediction.mask.tolist() == [[True, False, True]]
    assert prediction.class_map.tolist() == [[1, 0, 2]]
    assert prediction.class_map.dtype == np.uint8
