"""From a detector to a version that can be served: SavedModel, warm-up requests, ONNX."""
