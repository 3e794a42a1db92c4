"""From a detector to a version that can be served: SavedModel, warm-up requests, ONNX."""

# The number of fields, and of slots, that explanations of local and served detectors name.
NUM_TOP = 5
