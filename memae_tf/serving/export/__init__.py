"""From a detector to a version that can be served: SavedModel, warm-up requests, ONNX."""

# How many fields, and slots, an explanation names, by a detector that is here as by a served one.
NUM_TOP = 5
