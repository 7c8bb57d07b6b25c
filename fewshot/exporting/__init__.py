"""A method with what it took from its support set, as one ONNX file: it runs without this toolkit and without PyTorch.

Its input `images` is (n, 3, H, W) at the working size, float32 in [0, 1], three equal channels of grey; n is free. Its
outputs are `probabilities` and `logits`, (n, 1 + n_classes, H, W) with background first, and `labels`, the probability
of each label of the whole image, (n, n_labels), of a network that gives them. What else has to be known (the classes,
the size, what it was made from) stands in the file's metadata.
"""
